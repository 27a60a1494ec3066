import numpy as np
import pytest
import torch

from detectron2.data import Metadata
from detectron2.structures import Boxes, Instances
from detectron2.utils.video_visualizer import VideoVisualizer
from detectron2.utils.visualizer import ColorMode

FRAME = np.full((60, 80, 3), 128, dtype=np.uint8)


@pytest.fixture
def visualizer():
    classes = {"thing_classes": ["a", "b"], "stuff_classes": ["c", "d"]}
    return VideoVisualizer(Metadata(name="video", **classes))


def detections(*boxes, masks=False):
    instances = Instances((60, 80))
    instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.scores = torch.full((len(boxes),), 0.9)
    instances.pred_classes = torch.zeros(len(boxes), dtype=torch.int64)
    if masks:
        instances.pred_masks = torch.zeros(len(boxes), 60, 80, dtype=torch.bool)
        for mask, (left, top, right, bottom) in zip(instances.pred_masks, boxes, strict=True):
            mask[top:bottom, left:right] = True
    return instances


def colors(visualizer):
    """Return the colours of the objects in the last frame."""
    return {
        tuple(np.round(found.color, 6)) for found in visualizer._old_instances if found.ttl == 8
    }


@pytest.mark.parametrize("masks", [False, True])
def test_an_object_keeps_its_colour_in_the_next_frame(visualizer, masks):
    drawn = visualizer.draw_instance_predictions(FRAME, detections([5, 5, 30, 30], masks=masks))
    assert drawn.get_image().shape == FRAME.shape
    assert (drawn.get_image() != FRAME).any()
    before = colors(visualizer)
    visualizer.draw_instance_predictions(
        FRAME, detections([40, 30, 70, 50], [6, 5, 31, 30], masks=masks)
    )
    assert len(before) == 1
    assert len(colors(visualizer)) == 2
    assert before < colors(visualizer)


def test_colours_follow_identities(visualizer):
    first = detections([5, 5, 30, 30], [40, 30, 70, 50])
    first.ID = [7, 8]
    one, two = visualizer._assign_colors_by_id(first)
    second = detections([40, 30, 70, 50])
    second.ID = [8]
    np.testing.assert_array_equal(visualizer._assign_colors_by_id(second)[0], two)
    assert (one != two).any()


def test_a_frame_without_objects_is_unchanged(visualizer):
    drawn = visualizer.draw_instance_predictions(FRAME, detections())
    np.testing.assert_array_equal(drawn.get_image(), FRAME)


def test_semantic_labels_are_drawn(visualizer):
    labels = np.zeros((60, 80), dtype=np.uint8)
    labels[:, 40:] = 1
    assert (visualizer.draw_sem_seg(FRAME, labels).get_image() != FRAME).any()


def test_segmentation_color_mode_is_refused():
    with pytest.raises(AssertionError, match="not supported"):
        VideoVisualizer(Metadata(name="video"), ColorMode.SEGMENTATION)
