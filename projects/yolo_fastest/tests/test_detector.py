import pytest
import torch

from d2ext.errors import ConfigError
from d2ext.projects.yolo_fastest.modeling import decode
from detectron2.structures import Boxes, Instances
from tests.helpers.models import some_input


def test_it_has_the_published_number_of_parameters(build):
    model = build(NUM_CLASSES=80)
    assert sum(p.numel() for p in model.parameters()) == 243_095
    assert sum(p.numel() for p in model.backbone.bottom_up.parameters()) == 143_136


def test_outputs_have_a_map_per_level_with_three_anchors(build):
    levels = build().eval().raw(torch.zeros(2, 3, 64, 96))
    shapes = [[tuple(part.shape) for part in level] for level in levels]
    assert shapes == [
        [(2, 12, 4, 6), (2, 3, 4, 6), (2, 3, 4, 6)],
        [(2, 12, 2, 3), (2, 3, 2, 3), (2, 3, 2, 3)],
    ]


@torch.no_grad()
def test_detections_are_in_pixels_of_the_output(build):
    torch.manual_seed(0)
    model = build(SCORE_THRESH_TEST=0.0, NMS_THRESH_TEST=1.0).eval()
    model.head.postprocess.max_detections = 10_000
    image = some_input(64, 96, 0)["image"]
    (found,) = model([{"image": image, "height": 128, "width": 288}])
    dense = decode(model.raw(image[None]), model.head.anchors, model.head.strides)
    best = dense.scores[0].argmax()
    expected = dense.boxes[0, best] * torch.tensor([3.0, 2, 3, 2])
    torch.testing.assert_close(found["instances"].pred_boxes.tensor[0], expected)
    assert found["instances"].image_size == (128, 288)


@torch.no_grad()
def test_detections_are_clipped_only_with_clip_boxes(build):
    torch.manual_seed(0)
    free = build(SCORE_THRESH_TEST=0.0).eval()
    clipped = build(SCORE_THRESH_TEST=0.0, CLIP_BOXES=True).eval()
    clipped.load_state_dict(free.state_dict())
    item = some_input(64, 96, 0)
    beyond, inside = (model([item])[0]["instances"].pred_boxes.tensor for model in (free, clipped))
    assert beyond.min() < 0
    assert inside.min() >= 0
    assert inside.amax(0).tolist()[2] <= 96


@torch.no_grad()
def test_an_image_beside_a_larger_one_is_padded_with_grey(build):
    model = build().eval()
    images = model.preprocess([some_input(50, 60, 0), some_input(64, 96, 0)])
    assert images.tensor.shape == (2, 3, 64, 96)
    assert images.image_sizes == [(50, 60), (64, 96)]
    assert images.tensor[0, :, 50:].unique().tolist() == pytest.approx([114 / 255])


def test_each_channel_is_normalised_by_its_own_mean_and_std(build):
    model = build().eval()
    model.pixel_mean.copy_(torch.tensor([1.0, 2, 3]).view(3, 1, 1))
    model.pixel_std.copy_(torch.tensor([4.0, 5, 6]).view(3, 1, 1))
    items = [some_input(64, 96, 0), some_input(64, 96, 0)]
    for batch in (items, items[:1], [{"image": items[0]["image"].float()}]):
        pixels = torch.stack([item["image"] for item in batch])
        expected = (pixels - model.pixel_mean) / model.pixel_std
        torch.testing.assert_close(model.preprocess(batch).tensor, expected, rtol=0, atol=0)
        torch.testing.assert_close(pixels, torch.stack([item["image"] for item in batch]))


@pytest.mark.parametrize("count", [0, 1, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_and_gradients_are_finite(build, count, dtype):
    model = build().train()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        losses = model([some_input(64, 96, count), some_input(64, 96, 0)])
    assert set(losses) == {"loss_box", "loss_obj", "loss_cls"}
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_boxes_of_zero_size_have_finite_losses(build):
    model = build().train()
    torch.nn.init.constant_(model.head.box.bias, -200.0)
    losses = model([some_input(64, 96, 5)])
    sum(losses.values()).backward()
    assert losses["loss_box"].isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_training_and_evaluation_shuffle_alike(build):
    model = build()
    unit = model.backbone.bottom_up.stage2[1]
    x = torch.randn(2, 48, 8, 8)
    expected = unit.eval()(x)
    unit.training = True  # of the unit alone: its norms go on with their statistics
    torch.testing.assert_close(unit(x), expected)


def test_one_class_has_nothing_to_tell_apart(build):
    losses = build(NUM_CLASSES=1).train()([some_input(64, 96, 5, num_classes=1)])
    assert losses["loss_cls"] == 0
    assert losses["loss_box"] > 0


def item_of(box: list[float], size: int = 128) -> dict:
    truth = Instances((size, size), gt_boxes=Boxes(torch.tensor([box])))
    truth.gt_classes = torch.tensor([1])
    return {"image": torch.full((3, size, size), 99, dtype=torch.uint8), "instances": truth}


def test_training_scales_resize_images_and_boxes_alike(build, monkeypatch):
    model = build(TRAIN_SCALES=[0.5]).train()
    seen = {}
    monkeypatch.setattr(
        model.head,
        "losses",
        lambda raw, truth: seen.update(shape=raw[0].box.shape, boxes=truth[0].gt_boxes.tensor),
    )
    item = item_of([10.0, 20.0, 50.0, 60.0])
    model([item])
    assert seen["shape"][-2:] == (4, 4)
    assert seen["boxes"].tolist() == [[5.0, 10.0, 25.0, 30.0]]
    assert item["instances"].gt_boxes.tensor.tolist() == [[10.0, 20.0, 50.0, 60.0]]


def test_it_learns_one_picture(build):
    torch.manual_seed(0)
    model = build().train()
    items = [item_of([20.0, 30.0, 58.0, 82.0]), item_of([64.0, 8.0, 102.0, 60.0])]
    for item in items:
        x0, y0, x1, y1 = item["instances"].gt_boxes.tensor[0].int().tolist()
        item["image"][:, y0:y1, x0:x1] = 220
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        sum(model(items).values()).backward()
        optimizer.step()
    with torch.no_grad():
        found = model.eval()(items)
    for item, output in zip(items, found, strict=True):
        best = output["instances"][0]
        assert best.pred_classes.tolist() == [1]
        assert best.scores.item() > 0.5
        distance = best.pred_boxes.tensor - item["instances"].gt_boxes.tensor
        assert distance.abs().max() < 10


def test_settings_that_do_not_fit_the_levels_are_named(build):
    with pytest.raises(ConfigError, match=r"MODEL\.YOLO_FASTEST\.ANCHORS: 2 levels"):
        build(ANCHORS=[[[1.0, 2.0]]])
    with pytest.raises(ConfigError, match=r"OBJECTNESS_BALANCE: 2 levels"):
        build(OBJECTNESS_BALANCE=[1.0])
