import pytest
import torch

from d2ext.errors import ConfigError
from d2ext.modeling.dense_heads import ATSSHead, build_dense_head
from detectron2.layers import ShapeSpec
from detectron2.structures import Instances
from tests.helpers.models import some_input, tiny_config

NAMES = ("p3", "p4", "p5", "p6", "p7")


def build(num_convs: int = 0, **changes: object) -> ATSSHead:
    torch.manual_seed(0)
    cfg = tiny_config()
    cfg.MODEL.ATSS.NUM_CONVS = num_convs
    cfg.MODEL.ATSS.CHANNELS = 32
    for key, value in changes.items():
        cfg.MODEL.ATSS[key] = value
    shapes = {name: ShapeSpec(channels=32, stride=8 * 2**i) for i, name in enumerate(NAMES)}
    return build_dense_head("ATSSHead", cfg, shapes)


def features(batch: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(batch, 32, max(8 >> i, 1), max(8 >> i, 1), generator=generator)
        for i, name in enumerate(NAMES)
    }


def truth(*counts: int) -> list[Instances]:
    return [some_input(64, 64, n, seed=i)["instances"] for i, n in enumerate(counts)]


@pytest.mark.parametrize("num_convs", [0, 2])
def test_one_prediction_for_each_anchor(num_convs: int):
    found = build(num_convs)(features(2))
    for anchors, logits, deltas, centers in zip(
        found.anchors, found.logits, found.deltas, found.centerness, strict=True
    ):
        assert logits.shape == (2, len(anchors), 3)
        assert deltas.shape == (2, len(anchors), 4)
        assert centers.shape == (2, len(anchors))


def test_training_starts_from_the_prior_probability():
    probability = torch.cat(build()(features(1)).logits, dim=1).sigmoid()
    torch.testing.assert_close(probability.mean(), torch.tensor(0.01), atol=0.003, rtol=0)


@pytest.mark.parametrize("size", [1, 3])
def test_predictors_are_as_large_as_the_config_says(size: int):
    head = build(2, PREDICTOR_SIZE=size, NORM="")
    assert head.cls_logits.kernel_size == head.centerness.kernel_size == (size, size)
    assert head(features(1)).logits[0].shape == (1, 64, 3)


@pytest.mark.parametrize("counts", [(4, 2), (3, 0), (0, 0)])
def test_losses_and_gradients_are_finite_with_and_without_boxes(counts: tuple[int, ...]):
    head = build(1)
    losses = head.losses(head(features(2)), truth(*counts))
    assert set(losses) == {"loss_cls", "loss_box_reg", "loss_centerness"}
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_images_without_boxes_have_a_class_loss_only():
    head = build()
    losses = head.losses(head(features(1)), truth(0))
    assert losses["loss_cls"] > 0
    assert losses["loss_box_reg"] == 0
    assert losses["loss_centerness"] == 0


def test_the_losses_of_perfect_predictions_vanish():
    head = build()
    found, instances = head(features(1)), truth(3)
    targets = head.criterion.targets(found.anchors, instances)
    wanted = torch.full((1, targets.positive.shape[1], 3), -20.0)
    wanted[targets.positive, targets.classes] = 20.0
    deltas = torch.zeros(1, targets.positive.shape[1], 4)
    transform = head.criterion.box_transform
    deltas[targets.positive] = transform.get_deltas(targets.anchors, targets.boxes)
    found.logits, found.deltas = [wanted], [deltas]
    losses = head.losses(found, instances)
    torch.testing.assert_close(losses["loss_cls"], torch.tensor(0.0))
    torch.testing.assert_close(losses["loss_box_reg"], torch.tensor(0.0), atol=1e-5, rtol=0)


def test_the_box_loss_does_not_depend_on_repeating_the_batch():
    head = build()
    once = head.losses(head(features(1)), truth(3))
    maps = {name: value.repeat(2, 1, 1, 1) for name, value in features(1).items()}
    twice = head.losses(head(maps), truth(3) * 2)
    for name in once:
        torch.testing.assert_close(once[name], twice[name])


def test_decoding_keeps_boxes_inside_the_image_best_first():
    head = build(SCORE_THRESH_TEST=0.001)
    (found,) = head.decode(head(features(1)), [(50, 60)])
    assert 0 < len(found) <= 100
    assert found.image_size == (50, 60)
    assert (found.pred_boxes.tensor >= 0).all()
    assert (found.pred_boxes.tensor <= torch.tensor([60, 50, 60, 50])).all()
    assert torch.equal(found.scores, found.scores.sort(descending=True).values)


def test_nothing_above_the_threshold_gives_empty_instances():
    head = build(SCORE_THRESH_TEST=0.99)
    (found,) = head.decode(head(features(1)), [(64, 64)])
    assert len(found) == 0
    assert found.pred_boxes.tensor.shape == (0, 4)


def test_more_than_one_anchor_a_cell_is_refused():
    cfg = tiny_config()
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[0.5, 1.0]]
    shapes = {name: ShapeSpec(channels=32, stride=8 * 2**i) for i, name in enumerate(NAMES)}
    with pytest.raises(ConfigError, match=r"one anchor per cell.*MODEL\.ANCHOR_GENERATOR"):
        build_dense_head("ATSSHead", cfg, shapes)
