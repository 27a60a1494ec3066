"""Names outside the documented API that published packages import."""

import importlib.metadata
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Sampler

import d2ext  # noqa: F401
import detectron2
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.data.datasets.builtin import _PREDEFINED_SPLITS_COCO
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from detectron2.data.transforms import AugInput, HFlipTransform, RandomFlip
from detectron2.data.transforms.augmentation import (
    Augmentation,
    _check_img_dtype,
    _get_aug_input_args,
    _transform_to_aug,
)
from detectron2.engine.defaults import _highlight, _try_get_key
from detectron2.engine.launch import _distributed_worker, _find_free_port
from detectron2.evaluation import panoptic_evaluation
from detectron2.layers import DeformConv, ModulatedDeformConv, ShapeSpec, paste_masks_in_image
from detectron2.layers.mask_ops import (
    BYTES_PER_FLOAT,
    GPU_MEM_LIMIT,
    _do_paste_mask,
    _paste_masks_tensor_shape,
)
from detectron2.layers.wrappers import _NewEmptyTensorOp
from detectron2.model_zoo import get_checkpoint_url
from detectron2.model_zoo.model_zoo import _ModelZooUrls
from detectron2.modeling import GeneralizedRCNN, ProposalNetwork
from detectron2.modeling.anchor_generator import (
    BufferList,
    DefaultAnchorGenerator,
    RotatedAnchorGenerator,
    _create_grid_offsets,
)
from detectron2.modeling.backbone.fpn import _assert_strides_are_log2_contiguous
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock, DeformBottleneckBlock
from detectron2.modeling.meta_arch.retinanet import permute_to_N_HWA_K
from detectron2.modeling.poolers import _create_zeros
from detectron2.modeling.proposal_generator.proposal_utils import _is_tracing
from detectron2.modeling.proposal_generator.rpn import StandardRPNHead
from detectron2.modeling.roi_heads import FastRCNNConvFCHead, MaskRCNNConvUpsampleHead
from detectron2.solver import WarmupCosineLR, WarmupMultiStepLR
from detectron2.solver.build import _create_gradient_clipper
from detectron2.solver.lr_scheduler import _get_warmup_factor_at_iter
from detectron2.structures import BitMasks, Boxes, ROIMasks, RotatedBoxes
from detectron2.utils import collect_env
from detectron2.utils.env import _import_file, fixup_module_metadata
from detectron2.utils.memory import _ignore_torch_cuda_oom
from detectron2.utils.visualizer import _SMALL_OBJECT_AREA_THRESH, _PanopticPrediction


def test_pyramid_strides_that_do_not_double_are_an_error():  # detrex
    _assert_strides_are_log2_contiguous([4, 8, 16])
    with pytest.raises((AssertionError, ValueError), match="12"):
        _assert_strides_are_log2_contiguous([4, 12])


def test_warm_up_factors_by_hand():  # unbiased-teacher, kMaX-DeepLab
    assert _get_warmup_factor_at_iter("linear", 2, 10, 0.1) == pytest.approx(0.28)
    assert _get_warmup_factor_at_iter("constant", 2, 10, 0.1) == 0.1
    assert _get_warmup_factor_at_iter("linear", 10, 10, 0.1) == 1.0


def test_an_empty_tensor_op_keeps_the_graph():  # TridentNet
    x = torch.zeros(0, 3, requires_grad=True)
    y = _NewEmptyTensorOp.apply(x, (0, 5, 2))
    y.sum().backward()
    assert y.shape == (0, 5, 2)
    assert x.grad is not None


def test_predictions_are_permuted_to_rows_of_anchors():  # TensorMask
    assert permute_to_N_HWA_K(torch.zeros(2, 3 * 4, 5, 6), 4).shape == (2, 5 * 6 * 3, 4)


def test_a_transform_is_wrapped_as_an_augmentation():  # CutLER
    flip = HFlipTransform(4)
    augmentation = _transform_to_aug(flip)
    assert isinstance(augmentation, Augmentation)
    assert _transform_to_aug(augmentation) is augmentation


def test_fixup_module_metadata_changes_no_module_outside_of_documentation_builds():  # CutLER
    inner = type("Inner", (), {"__module__": "package.private"})
    namespace = {"Inner": inner}
    assert fixup_module_metadata("package", namespace, ["Inner"]) is None
    assert namespace == {"Inner": inner}
    assert inner.__module__ == "package.private"


def test_panoptic_segments_are_masks_the_largest_first():  # Mask2Former, detrex
    ids = torch.tensor([[1, 1, 2], [3, 3, 3]])
    facts = [
        {"id": 1, "isthing": True, "category_id": 4, "score": 0.5},
        {"id": 3, "isthing": True, "category_id": 7},
        {"id": 9, "isthing": False, "category_id": 0},
    ]
    prediction = _PanopticPrediction(ids, facts)
    assert prediction.non_empty_mask().astype(int).tolist() == [[1, 1, 0], [1, 1, 1]]
    masks = [(mask.sum(), info["category_id"]) for mask, info in prediction.instance_masks()]
    assert masks == [(3, 7), (2, 4)]
    assert list(prediction.semantic_masks()) == []


def test_panoptic_ids_may_hold_the_category():
    metadata = SimpleNamespace(label_divisor=10, thing_dataset_id_to_contiguous_id={77: 2})
    prediction = _PanopticPrediction(torch.tensor([[21, 21, 30, -1]]), None, metadata)
    assert [info["category_id"] for _, info in prediction.instance_masks()] == [2]
    assert [info["category_id"] for _, info in prediction.semantic_masks()] == [3]


def test_the_first_key_that_a_config_has_is_read():
    cfg = CfgNode({"A": {"B": 5}, "SEED": 7})
    assert _try_get_key(cfg, "train.seed", "SEED") == 7
    assert _try_get_key(cfg, "A.B") == 5
    assert _try_get_key(cfg, "NONE", "A.NONE", default=3) == 3


def test_highlighted_code_keeps_its_text():
    colours = re.compile(r"\x1b\[[0-9;]*m")
    assert colours.sub("", _highlight("a: 1\n", "x.yaml")) == "a: 1\n"


def test_the_environment_is_collected_in_parts(monkeypatch):
    monkeypatch.setenv("DETECTRON2_ENV_MODULE", "my.module")
    assert collect_env.get_env_module() == ("DETECTRON2_ENV_MODULE", "my.module")
    assert "built with" in collect_env.collect_torch_env()
    assert "cuobjdump" in collect_env.detect_compute_compatibility("nowhere", "lib.so")


def test_importlib_knows_the_version_of_detectron2():  # LayoutParser
    assert importlib.metadata.version("detectron2") == detectron2.__version__


@pytest.mark.parametrize(
    ("cls", "base"),
    [
        (GeneralizedRCNN, nn.Module),
        (ProposalNetwork, nn.Module),
        (DefaultAnchorGenerator, nn.Module),
        (RotatedAnchorGenerator, nn.Module),
        (DeformConv, nn.Module),
        (ModulatedDeformConv, nn.Module),
        (TrainingSampler, Sampler),
        (RepeatFactorTrainingSampler, Sampler),
    ],
)
def test_subclasses_may_call_the_constructor_of_the_official_base(cls, base):
    class Custom(cls):
        def __init__(self) -> None:
            super(cls, self).__init__()
            self.mine = 3

    custom = Custom()
    assert custom.mine == 3
    assert isinstance(custom, base)


@pytest.mark.parametrize("cls", [BasicBlock, BottleneckBlock, DeformBottleneckBlock])
def test_subclasses_of_blocks_may_call_the_constructor_of_their_base(cls):
    class Custom(cls):
        def __init__(self) -> None:
            super(cls, self).__init__(8, 16, 2)

    assert (Custom().in_channels, Custom().stride) == (8, 2)


@pytest.mark.parametrize("cls", [WarmupCosineLR, WarmupMultiStepLR])
def test_subclasses_of_schedules_may_call_pytorchs_constructor(cls):
    class Constant(cls):
        def __init__(self, optimizer: torch.optim.Optimizer) -> None:
            super(cls, self).__init__(optimizer, -1)

        def get_lr(self) -> list[float]:
            return [0.125 for _ in self.base_lrs]

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    Constant(optimizer)
    assert optimizer.param_groups[0]["lr"] == 0.125


def test_rotated_boxes_are_boxes():
    assert isinstance(RotatedBoxes(torch.zeros(1, 5)), Boxes)


def test_bit_masks_from_roi_masks_need_boxes():
    roi_masks = ROIMasks(torch.ones(1, 4, 4))
    with pytest.raises(TypeError):  # as in the original, whose method has no place for the boxes
        BitMasks.from_roi_masks(roi_masks, 5, 6)


def test_running_out_of_gpu_memory_leaves_a_block_silently():  # CAT-Seg
    with _ignore_torch_cuda_oom():
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. ")
    with pytest.raises(RuntimeError, match="other"), _ignore_torch_cuda_oom():
        raise RuntimeError("other")


def test_inputs_of_augmentations_are_those_that_they_name():  # open-vocabulary packages
    image = np.zeros((4, 6, 3), np.uint8)
    _check_img_dtype(image)
    with pytest.raises(AssertionError):
        _check_img_dtype(image.tolist())
    assert _get_aug_input_args(RandomFlip(), AugInput(image))[0] is image


def test_masks_are_pasted_as_probabilities_into_the_window_of_their_boxes():
    mask = torch.arange(16.0).view(1, 1, 4, 4) / 15
    box = torch.tensor([[3.0, 2.0, 11.0, 10.0]])
    part, (rows, columns) = _do_paste_mask(mask, box, 12, 20)
    whole, nothing = _do_paste_mask(mask, box, 12, 20, skip_empty=False)
    assert (rows, columns, nothing) == (slice(1, 11), slice(2, 12), ())
    assert torch.equal(whole[:, rows, columns], part)
    expected = paste_masks_in_image(mask[:, 0], box, (12, 20))
    assert torch.equal(whole >= 0.5, expected)
    size = torch.tensor(12), torch.tensor(20)
    assert torch.equal(_paste_masks_tensor_shape(mask[:, 0], box, size, 0.5), expected)


def test_positions_of_a_map_are_cells_times_the_stride():  # FCOS packages
    x, y = _create_grid_offsets([2, 3], 8, 0.5, torch.zeros(1))
    assert x.tolist() == [4, 12, 20, 4, 12, 20]
    assert y.tolist() == [4, 4, 4, 12, 12, 12]


def test_pooled_zeros_are_as_many_as_the_boxes():
    like = torch.ones(2, dtype=torch.float64)
    assert _create_zeros(torch.zeros(3, 5), 2, 4, 6, like).shape == (3, 2, 4, 6)
    assert _create_zeros(None, 2, 4, 6, like).dtype == torch.float64


def test_tracing_is_known_where_proposals_are_selected():
    assert not _is_tracing()
    found = []
    torch.jit.trace(lambda x: (found.append(_is_tracing()), x + 1)[1], torch.zeros(1))
    assert found[0] is True


def test_a_file_is_imported_by_a_name_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imported_for_a_test", None)
    (tmp_path / "a.py").write_text("value = 3\n")
    module = _import_file("imported_for_a_test", str(tmp_path / "a.py"), make_importable=True)
    assert module.value == 3
    assert sys.modules["imported_for_a_test"] is module


def test_predefined_splits_of_coco_name_images_and_annotations():  # OWOD packages
    splits = _PREDEFINED_SPLITS_COCO
    assert splits["coco"]["coco_2017_val"] == (
        "coco/val2017",
        "coco/annotations/instances_val2017.json",
    )
    assert splits["coco_person"]["keypoints_coco_2017_train"][1].endswith(
        "person_keypoints_train2017.json"
    )
    assert splits["coco"].keys() | splits["coco_person"].keys() <= set(DatasetCatalog.list())


def test_the_published_checkpoints_are_listed_by_config():
    suffixes = _ModelZooUrls.CONFIG_PATH_TO_URL_SUFFIX
    assert suffixes["COCO-Detection/faster_rcnn_R_50_C4_1x"] == "137257644/model_final_721ade.pkl"
    name = "Misc/cascade_mask_rcnn_X_152_32x8d_FPN_IN5k_gn_dconv"
    assert get_checkpoint_url(f"{name}.yaml") == f"{_ModelZooUrls.S3_PREFIX}{name}/{suffixes[name]}"


def test_ports_clipping_and_sizes_have_the_original_names():
    assert 0 < int(_find_free_port()) < 65536
    assert callable(_distributed_worker)
    assert _SMALL_OBJECT_AREA_THRESH == 1000
    assert (BYTES_PER_FLOAT, GPU_MEM_LIMIT) == (4, 2**30)
    cfg = CfgNode({"CLIP_TYPE": "value", "CLIP_VALUE": 0.5, "NORM_TYPE": 2.0})
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, -0.25])
    _create_gradient_clipper(cfg)(weight)
    assert weight.grad.tolist() == [0.5, -0.25]


class _PerStride(DefaultAnchorGenerator):
    """Anchors that depend on the stride, as corner-based packages have them."""

    def _calculate_anchors(self, sizes, aspect_ratios):
        cells = zip(sizes, aspect_ratios, self.strides, strict=True)
        return BufferList([self.generate_cell_anchors(s, r) + stride for s, r, stride in cells])

    def _grid_anchors(self, grid_sizes):
        return [2 * level for level in super()._grid_anchors(grid_sizes)]


def test_subclasses_of_anchor_generators_change_cells_and_grids():
    options = {"sizes": [[8], [16]], "aspect_ratios": [[1.0]], "strides": [4, 8], "offset": 0.0}
    maps = [torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 1)]
    first, second = _PerStride(**options)(maps)
    assert first.tensor.tolist() == [[0, 0, 16, 16], [8, 0, 24, 16]]
    assert second.tensor.tolist() == [[0, 0, 32, 32]]


class _NormedRPNHead(StandardRPNHead):
    def _get_rpn_conv(self, in_channels, out_channels):
        return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.ReLU())


def test_subclasses_of_rpn_heads_change_the_convolution():  # PanoRadar
    head = _NormedRPNHead(in_channels=4, num_anchors=2)
    assert head.conv[0].weight.shape == (4, 4, 1, 1)
    logits, deltas = head([torch.zeros(1, 4, 3, 5)])
    assert (logits[0].shape, deltas[0].shape) == ((1, 2, 3, 5), (1, 8, 3, 5))


def test_layers_of_box_and_mask_heads_are_listed_for_subclasses():  # bottom-up attention
    shape = ShapeSpec(channels=3, height=4, width=4)
    box = FastRCNNConvFCHead(shape, conv_dims=[5], fc_dims=[6, 7])
    assert box.conv_norm_relus == [box.conv1]
    assert box.fcs == [box.fc1, box.fc2]
    mask = MaskRCNNConvUpsampleHead(shape, num_classes=2, conv_dims=[5, 5])
    assert mask.conv_norm_relus == [mask.mask_fcn1]


def test_panoptic_evaluators_convert_categories_by_two_tables(monkeypatch):
    metadata = SimpleNamespace(
        thing_dataset_id_to_contiguous_id={7: 0}, stuff_dataset_id_to_contiguous_id={9: 0}
    )
    monkeypatch.setattr(
        panoptic_evaluation, "MetadataCatalog", SimpleNamespace(get=lambda _: metadata)
    )
    evaluator = panoptic_evaluation.COCOPanopticEvaluator("made up")
    assert evaluator._thing_contiguous_id_to_dataset_id == {0: 7}
    evaluator._stuff_contiguous_id_to_dataset_id = {0: 11}  # a subclass with its own numbering
    for isthing, expected in ((True, 7), (False, 11)):
        segment = {"id": 1, "category_id": 0, "isthing": isthing}
        assert evaluator._convert_category_id(segment)["category_id"] == expected
