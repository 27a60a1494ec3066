import pytest
import torch

from d2ext.errors import ConfigError
from d2ext.modeling.dense_heads import FCOSHead, build_dense_head
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, Instances, pairwise_iou
from tests.helpers.models import some_input, tiny_config

NAMES = ("p3", "p4", "p5", "p6", "p7")


def build(**changes: object) -> FCOSHead:
    torch.manual_seed(0)
    cfg = tiny_config()
    cfg.MODEL.FCOS.NUM_CLASSES, cfg.MODEL.FCOS.CHANNELS = 3, 64
    cfg.MODEL.FCOS.NUM_CLS_CONVS = cfg.MODEL.FCOS.NUM_BOX_CONVS = 1
    for key, value in changes.items():
        cfg.MODEL.FCOS[key] = value
    shapes = {name: ShapeSpec(channels=32, stride=8 * 2**i) for i, name in enumerate(NAMES)}
    return build_dense_head("FCOSHead", cfg, shapes)


def features(batch: int, side: int = 8) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(batch, 32, max(side >> i, 1), max(side >> i, 1), generator=generator)
        for i, name in enumerate(NAMES)
    }


def truth(*counts: int) -> list[Instances]:
    return [some_input(64, 64, n, seed=i)["instances"] for i, n in enumerate(counts)]


@pytest.mark.parametrize("quality", ["centerness", "iou"])
@pytest.mark.parametrize("box_loss", ["giou", "iou", "linear_iou"])
@pytest.mark.parametrize("counts", [(4, 2), (0, 0)])
def test_losses_and_gradients_are_finite_with_and_without_boxes(quality, box_loss, counts):
    head = build(QUALITY=quality, BOX_LOSS=box_loss, QUALITY_BRANCH="class")
    losses = head.losses(head(features(2)), truth(*counts))
    assert set(losses) == {"loss_cls", "loss_box_reg", f"loss_{quality}"}
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    "changes",
    [
        {"LEVEL_SCALES": False},
        {"NUM_SHARED_CONVS": 1, "NUM_CLS_CONVS": 2, "NUM_BOX_CONVS": 0},
        {"NUM_CLS_CONVS": 0, "QUALITY_BRANCH": "class"},
        {"NORM": "BN"},
        {"NORM": ""},
        {"DEFORMABLE_TOWER": True},
        {"CENTER_RADIUS": 0.0},
    ],
)
def test_every_variant_of_the_head_learns(changes):
    head = build(**changes)
    losses = head.losses(head(features(2)), truth(4, 2))
    sum(losses.values()).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_a_head_without_level_scales_predicts_as_with_scales_of_one():
    scaled, plain = build(), build(LEVEL_SCALES=False)
    assert not any(name.startswith("scales") for name in plain.state_dict())
    plain.load_state_dict(scaled.state_dict(), strict=False)
    levels = features(1)
    torch.testing.assert_close(plain(levels).ltrb, scaled(levels).ltrb)


def test_every_level_has_batch_norms_of_its_own():
    head = build(NORM="BN")
    head(features(2))
    means = [norm.running_mean for norm in head.cls_tower[1]]
    assert len(means) == 5
    assert not torch.allclose(means[0], means[4])


@pytest.mark.parametrize("boxes", [[[5, 5, 6, 6]], [[0, 0, 64, 64]], [[1, 1, 60, 60]] * 500])
def test_tiny_whole_and_very_many_boxes_are_finite(boxes):
    instances = Instances((64, 64))
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32))
    instances.gt_classes = torch.zeros(len(boxes), dtype=torch.int64)
    head = build()
    losses = head.losses(head(features(1)), [instances])
    assert all(loss.isfinite() for loss in losses.values())


def test_targets_decode_to_the_boxes():
    head, instances = build(SCORE_THRESH_TEST=0.5), truth(4)
    found = head(features(1))
    targets = head.criterion.targets(found.locations, instances)
    logits = torch.full((1, targets.positive.shape[1], 3), -20.0)
    logits[targets.positive, targets.classes] = 20.0
    ltrb = torch.zeros(1, targets.positive.shape[1], 4)
    ltrb[targets.positive] = targets.ltrb
    counts = [len(level) for level in found.locations]
    found.logits, found.ltrb = list(logits.split(counts, 1)), list(ltrb.split(counts, 1))
    (detections,) = head.decode(found, [(64, 64)])
    learnt = targets.classes.unique()
    iou = pairwise_iou(detections.pred_boxes, instances[0].gt_boxes).amax(1)
    torch.testing.assert_close(iou, torch.ones_like(iou), atol=1e-4, rtol=0)
    assert set(detections.pred_classes.tolist()) == set(learnt.tolist())


def test_the_quality_can_decide_on_the_threshold():
    found = build()(features(1))
    found.logits = [torch.full_like(logits, 3.0) for logits in found.logits]  # 0.95
    found.quality = [torch.full_like(quality, -5.0) for quality in found.quality]  # 0.007
    found.ltrb = [torch.ones_like(ltrb) for ltrb in found.ltrb]
    assert len(build(SCORE_THRESH_TEST=0.5).decode(found, [(64, 64)])[0]) > 0
    strict = build(SCORE_THRESH_TEST=0.5, THRESH_WITH_QUALITY=True)
    assert len(strict.decode(found, [(64, 64)])[0]) == 0


def test_quality_is_predicted_from_the_configured_tower():
    levels = features(1)
    on_box, on_class = build(), build(QUALITY_BRANCH="class")
    on_class.load_state_dict(on_box.state_dict())
    torch.testing.assert_close(on_box(levels).logits, on_class(levels).logits)
    assert not torch.allclose(on_box(levels).quality[0], on_class(levels).quality[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"QUALITY": "score"}, r"MODEL\.FCOS\.QUALITY: 'score' is none of centerness, iou"),
        ({"QUALITY_BRANCH": "mask"}, "QUALITY_BRANCH"),
        ({"BOX_LOSS": "l1"}, "BOX_LOSS"),
        ({"SIZES_OF_INTEREST": [64]}, "5 levels need 4 limits"),
    ],
)
def test_options_that_do_not_exist_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        build(**changes)
