"""`detectron2.projects.panoptic_deeplab`: the model and its mapper."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import d2ext  # noqa: F401
from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model

# The official project imports panopticapi, which is not on PyPI.
project: Any = pytest.importorskip("detectron2.projects.panoptic_deeplab", exc_type=ImportError)

FEATURES = ["res2", "res3", "res5"]
STUFF, PERSON, CAR = 0, 1, 2


@pytest.fixture
def config():
    """Return a function that builds the config of a model of few channels and three classes."""
    name = "made_up_panoptic_set"
    ids = {24: PERSON, 26: CAR}
    MetadataCatalog.get(name).set(
        ignore_label=255, label_divisor=1000, thing_dataset_id_to_contiguous_id=ids
    )
    yield lambda *overrides: _config(name, *overrides)
    MetadataCatalog.remove(name)


def _config(name: str, *overrides: Any) -> CfgNode:
    cfg = get_cfg()
    project.add_panoptic_deeplab_config(cfg)
    cfg.DATASETS.TRAIN, cfg.MODEL.DEVICE = (name,), "cpu"
    cfg.MODEL.META_ARCHITECTURE = "PanopticDeepLab"
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.FREEZE_AT = "build_resnet_deeplab_backbone", 0
    resnet, semantic = cfg.MODEL.RESNETS, cfg.MODEL.SEM_SEG_HEAD
    resnet.OUT_FEATURES, resnet.NORM, resnet.RES5_DILATION = FEATURES, "BN", 2
    resnet.STEM_OUT_CHANNELS, resnet.RES2_OUT_CHANNELS, resnet.WIDTH_PER_GROUP = 8, 16, 4
    semantic.NAME, semantic.NUM_CLASSES = "PanopticDeepLabSemSegHead", 3
    semantic.IN_FEATURES, semantic.PROJECT_FEATURES = FEATURES, FEATURES[:2]
    semantic.CONVS_DIM, semantic.HEAD_CHANNELS = 16, 16
    for head in (semantic, cfg.MODEL.INS_EMBED_HEAD):
        head.PROJECT_CHANNELS, head.ASPP_CHANNELS, head.NORM = [4, 8], 16, "BN"
        head.ASPP_DROPOUT = 0.0
    cfg.MODEL.INS_EMBED_HEAD.CONVS_DIM, cfg.MODEL.INS_EMBED_HEAD.HEAD_CHANNELS = 8, 8
    cfg.MODEL.PANOPTIC_DEEPLAB.STUFF_AREA = 10
    cfg.merge_from_list(list(overrides))
    return cfg


SEPARABLE = [
    item
    for section in ("SEM_SEG_HEAD", "PANOPTIC_DEEPLAB")
    for item in (f"MODEL.{section}.USE_DEPTHWISE_SEPARABLE_CONV", True)
]


def annotated() -> dict[str, Any]:
    """Return the targets of a street with a person, a car and a void patch, 64 x 96 pixels."""
    from detectron2.projects.panoptic_deeplab.target_generator import PanopticDeepLabTargetGenerator

    ids = np.full((64, 96), 7)
    ids[10:40, 20:30], ids[30:50, 50:90], ids[:8, :8] = 8, 9, 0
    categories = {7: STUFF, 8: PERSON, 9: CAR}
    segments = [{"id": i, "category_id": c, "iscrowd": 0} for i, c in categories.items()]
    generator = PanopticDeepLabTargetGenerator(
        255, [PERSON, CAR], sigma=4, small_instance_area=400, small_instance_weight=3
    )
    return generator(ids, segments)


def fill(model: nn.Module) -> None:
    """Fill a model with numbers that depend on the names of its parameters alone."""
    for index, (name, value) in enumerate(sorted(model.state_dict().items())):
        wave = torch.arange(value.numel()).add(index).mul(0.7).sin().view(value.shape)
        if value.dim() == 4:
            value.copy_(wave * (3 / value[0].numel()) ** 0.5)
        elif value.is_floating_point():
            value.copy_(wave * 0.1 + (0.9 if name.endswith(("weight", "running_var")) else 0.0))


def image(height: int = 64, width: int = 96) -> Tensor:
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    return torch.stack(
        [((rows * a + columns * b) % 255).float() for a, b in ((3, 5), (7, 2), (1, 9))]
    )


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], (2.5373075, 34.008873, 0.038374823, 2949980.3)),
        (SEPARABLE, (2.2340956, 49.462982, 0.058156848, 2072555.6)),
    ],
    ids=["plain", "separable"],
)
def test_losses_and_gradients_are_the_original_ones(config, overrides, expected):
    # The numbers are those of the official package with the same weights and targets.
    model = build_model(config(*overrides))
    fill(model)
    losses = model([{"image": image(), **annotated()}])
    sum(losses.values()).backward()
    found = [losses[f"loss_{name}"].item() for name in ("sem_seg", "center", "offset")]
    found.append(sum(p.grad.abs().sum().item() for p in model.parameters()))
    assert found == pytest.approx(expected, rel=1e-3)


class _Fixed(nn.Module):
    """A head that returns what it is built with."""

    ignore_value = 255

    def __init__(self, *outputs: Any) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, *_: Any) -> tuple[Any, ...]:
        return self.outputs


def grouped(cfg: CfgNode, **item: Any) -> dict[str, Any]:
    """Run a model whose heads predict the targets, the person with a logit of 1 above others."""
    truth, model = annotated(), build_model(cfg).eval()
    labels = truth["sem_seg"].where(truth["sem_seg"] != 255, 0)
    scores = nn.functional.one_hot(labels, 3).permute(2, 0, 1)[None].float()
    model.sem_seg_head = _Fixed(scores, {})
    model.ins_embed_head = _Fixed(truth["center"][None, None], truth["offset"][None], {}, {})
    return model([{"image": image(), **item}])[0]


def test_maps_that_equal_the_targets_give_the_annotated_segments(config):
    result = grouped(config(), height=64, width=96)
    ids, segments = result["panoptic_seg"]
    assert segments is None
    assert ids[20, 25] == 1001
    assert ids[40, 70] == 2001
    assert sorted(ids.unique().tolist()) == [0, 1001, 2001]
    found = result["instances"]
    assert found.pred_classes.tolist() == [PERSON, CAR]
    assert found.pred_boxes.tensor.tolist() == [[20, 10, 30, 40], [50, 30, 90, 50]]
    assert found.pred_masks.sum(dim=(1, 2)).tolist() == [300, 800]
    # A softmax of 1, 0, 0, times the heatmap half a pixel from the centre, where it is cut off.
    assert found.scores[1].item() == pytest.approx(np.e / (np.e + 2) * float(found_center()))


def found_center() -> float:
    return float(annotated()["center"][39, 69])


def test_predictions_have_the_size_that_is_asked_for(config):
    result = grouped(config(), height=32, width=48)
    assert result["sem_seg"].shape == (3, 32, 48)
    assert result["panoptic_seg"][0].shape == (32, 48)


def test_instances_and_all_results_may_be_left_out(config):
    key = "MODEL.PANOPTIC_DEEPLAB."
    assert "instances" not in grouped(config(f"{key}PREDICT_INSTANCES", False), height=64, width=96)
    model = build_model(config(f"{key}BENCHMARK_NETWORK_SPEED", True)).eval()
    assert model([{"image": image(), "height": 64, "width": 96}]) == []


def test_images_are_padded_to_the_multiple_of_the_config(config):
    model = build_model(config("MODEL.PANOPTIC_DEEPLAB.SIZE_DIVISIBILITY", 48)).eval()
    sizes = []
    model.backbone.register_forward_pre_hook(lambda _, given: sizes.append(given[0].shape[-2:]))
    model([{"image": image(50, 60), "height": 50, "width": 60}])
    assert sizes == [(96, 96)]


def test_the_names_of_the_parameters_are_those_of_published_checkpoints(config):
    names = {name: tuple(v.shape) for name, v in build_model(config()).state_dict().items()}
    expected = {
        "backbone.stem.conv3.norm.running_var": (8,),
        "sem_seg_head.decoder.res5.project_conv.convs.4.1.bias": (16,),
        "sem_seg_head.decoder.res2.fuse_conv.1.weight": (16, 16, 3, 3),
        "sem_seg_head.head.0.norm.weight": (16,),
        "sem_seg_head.head.1.weight": (16, 16, 3, 3),
        "sem_seg_head.predictor.bias": (3,),
        "ins_embed_head.decoder.res3.project_conv.weight": (8, 32, 1, 1),
        "ins_embed_head.center_head.1.weight": (8, 8, 3, 3),
        "ins_embed_head.center_predictor.weight": (1, 8, 1, 1),
        "ins_embed_head.offset_head.0.norm.running_mean": (8,),
        "ins_embed_head.offset_predictor.bias": (2,),
    }
    assert expected.items() <= names.items()
    assert not any("pixel_mean" in name for name in names)


def test_separable_convolutions_of_one_head_alone_are_refused(config):
    with pytest.raises((AssertionError, ValueError)):
        build_model(config(*SEPARABLE[:2]))


def test_the_mapper_makes_targets_of_the_augmented_segments(config, tmp_path):
    ids = np.zeros((40, 60), np.uint8)
    ids[10:20, 30:50] = 9
    Image.fromarray(np.stack([ids, ids // 9, 0 * ids], axis=-1)).save(tmp_path / "segments.png")
    Image.new("RGB", (60, 40), (10, 20, 30)).save(tmp_path / "image.png")
    item = {
        "file_name": str(tmp_path / "image.png"),
        "pan_seg_file_name": str(tmp_path / "segments.png"),
        "segments_info": [{"id": 9 + 256, "category_id": CAR, "iscrowd": 0}],
    }
    crop = ("INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", [64, 96])
    cfg = config("INPUT.MIN_SIZE_TRAIN", (80,), "INPUT.FORMAT", "RGB", *crop)
    mapped = project.PanopticDeeplabDatasetMapper(cfg)(item)
    assert "pan_seg_file_name" in item
    assert mapped["image"].shape == (3, 64, 96)
    assert mapped["image"][:, 0, 0].tolist() == [10, 20, 30]
    assert mapped["sem_seg"].unique().tolist() == [CAR, 255]
    assert mapped["offset"].shape == (2, 64, 96)
    assert len(mapped["center_points"]) == 1
