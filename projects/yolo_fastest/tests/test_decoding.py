import pytest
import torch
from torchvision.ops import box_iou

from d2ext.modeling.dense_heads import PostProcess
from d2ext.projects.yolo_fastest.modeling import RawLevel, decode, detect
from d2ext.projects.yolo_fastest.modeling.decoding import suppress

ANCHORS = torch.tensor([[[10.0, 20.0], [30.0, 30.0]], [[64.0, 64.0], [100.0, 50.0]]])
STRIDES = (16, 32)


def some_levels(batch: int = 2, classes: int = 3) -> list[RawLevel]:
    generator = torch.Generator().manual_seed(0)

    def maps(channels: int, side: int) -> torch.Tensor:
        return torch.randn(batch, channels, side, side + 2, generator=generator)

    return [RawLevel(maps(8, side), maps(2, side), maps(classes, side)) for side in (4, 2)]


def test_zeros_decode_to_the_anchor_in_the_middle_of_its_cell():
    level = RawLevel(torch.zeros(1, 8, 2, 3), torch.zeros(1, 2, 2, 3), torch.zeros(1, 4, 2, 3))
    found = decode([level], ANCHORS[:1], STRIDES[:1])
    assert found.boxes.shape == (1, 12, 4)
    # Row 1, column 2, second anchor: the last one.
    assert found.boxes[0, -1].tolist() == [40 - 15, 24 - 15, 40 + 15, 24 + 15]
    assert found.scores[0, -1] == pytest.approx(0.5 / 4)


def test_detect_equals_decoding_and_nms():
    levels = some_levels()
    everything = decode(levels, ANCHORS, STRIDES)
    limits = PostProcess(0.25, None, nms_thresh=0.4, max_detections=20)
    for image, found in enumerate(detect(levels, ANCHORS, STRIDES, limits)):
        boxes, scores, classes = (part[image] for part in everything)
        good = scores > 0.25
        boxes, scores, classes = boxes[good], scores[good], classes[good]
        kept = suppress(boxes, scores, classes, 0.4)[:20]
        assert len(kept) > 3
        for ours, expected in zip(found, (boxes, scores, classes), strict=True):
            torch.testing.assert_close(ours, expected[kept])


def test_a_threshold_that_nothing_reaches_finds_nothing():
    limits = PostProcess(1.0, None, nms_thresh=0.4, max_detections=20)
    for boxes, scores, classes in detect(some_levels(), ANCHORS, STRIDES, limits):
        assert boxes.shape == (0, 4)
        assert scores.shape == classes.shape == (0,)


def test_nms_is_per_class_for_boxes_beyond_the_border_too():
    boxes = torch.tensor([[-50.0, -50, 50, 50], [-48, -50, 50, 50], [-50, -50, 50, 50]])
    kept = suppress(boxes, torch.tensor([0.5, 0.9, 0.8]), torch.tensor([1, 1, 0]), 0.4)
    assert kept.tolist() == [1, 2]
    assert box_iou(boxes, boxes).min() > 0.9


def test_decoding_exports_with_any_batch():
    class Decoder(torch.nn.Module):
        def forward(self, levels: list[RawLevel]) -> tuple[torch.Tensor, ...]:
            return tuple(decode([RawLevel(*level) for level in levels], ANCHORS, STRIDES))

    levels = [tuple(level) for level in some_levels()]
    batch = torch.export.Dim("batch", min=1, max=8)
    shapes = ([tuple({0: batch} for _ in level) for level in levels],)
    program = torch.export.export(Decoder(), (levels,), dynamic_shapes=shapes)
    other = [tuple(level) for level in some_levels(batch=3)]
    for ours, expected in zip(program.module()(other), Decoder()(other), strict=True):
        torch.testing.assert_close(ours, expected)
