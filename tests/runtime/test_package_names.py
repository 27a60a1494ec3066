"""Names outside the documented API that published packages import."""

import importlib.metadata
import re
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import Sampler

import d2ext  # noqa: F401
import detectron2
from detectron2.config import CfgNode
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from detectron2.data.transforms import HFlipTransform
from detectron2.data.transforms.augmentation import Augmentation, _transform_to_aug
from detectron2.engine.defaults import _highlight, _try_get_key
from detectron2.layers import DeformConv, ModulatedDeformConv
from detectron2.layers.wrappers import _NewEmptyTensorOp
from detectron2.modeling import GeneralizedRCNN, ProposalNetwork
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator, RotatedAnchorGenerator
from detectron2.modeling.backbone.fpn import _assert_strides_are_log2_contiguous
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock, DeformBottleneckBlock
from detectron2.modeling.meta_arch.retinanet import permute_to_N_HWA_K
from detectron2.solver import WarmupCosineLR, WarmupMultiStepLR
from detectron2.solver.lr_scheduler import _get_warmup_factor_at_iter
from detectron2.structures import BitMasks, Boxes, ROIMasks, RotatedBoxes
from detectron2.utils import collect_env
from detectron2.utils.env import fixup_module_metadata
from detectron2.utils.visualizer import _PanopticPrediction


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
