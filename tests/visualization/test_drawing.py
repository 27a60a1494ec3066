import numpy as np
import pytest
import torch

from d2ext.visualization.drawing import Mark, color_of, draw
from d2ext.visualization.marks import annotate
from detectron2.structures import Boxes, Instances

GREY = np.full((60, 100, 3), 128, dtype=np.uint8)
RED, BLUE = (255, 0, 0), (0, 0, 255)
COLORED = {"thing_classes": ["red", "blue"], "thing_colors": [RED, BLUE]}
SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]  # a polygon


def found(*rows, size=(60, 100)):
    """Instances of (x0, y0, x1, y1, class, score)."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    instances = Instances(size)
    instances.pred_boxes = Boxes(table[:, :4])
    instances.pred_classes, instances.scores = table[:, 4].long(), table[:, 5]
    return instances


def test_an_image_without_instances_is_a_copy():
    drawn = annotate(GREY, found(), COLORED)
    np.testing.assert_array_equal(drawn, GREY)
    assert drawn is not GREY


def test_a_box_has_its_class_color_on_its_border_and_the_image_inside():
    drawn = annotate(GREY, found((20, 30, 80, 55, 1, 0.9)), COLORED)
    for y, x in ((30, 50), (54, 50), (40, 20), (40, 79)):
        assert tuple(drawn[y, x]) == BLUE
    assert tuple(drawn[50, 40]) == (128, 128, 128)
    assert tuple(drawn[58, 40]) == (128, 128, 128)


def test_the_label_stands_above_the_box():
    drawn = annotate(GREY, found((20, 30, 80, 55, 1, 0.9)), COLORED)
    above = drawn[14:30]
    assert (above == BLUE).all(-1).mean() > 0.2
    assert (above == (255, 255, 255)).all(-1).any()


def test_a_scaled_picture_has_boxes_at_scaled_places():
    drawn = annotate(GREY, found((20, 30, 80, 55, 0, 0.9)), COLORED, scale=3)
    assert drawn.shape == (180, 300, 3)
    assert tuple(drawn[120, 60]) == RED
    assert tuple(drawn[164, 150]) == RED


@pytest.mark.parametrize(
    "box", [(-50, -50, 500, 500), (90, 50, 90, 50), (99.9, 59.9, 120, 80), (150, 150, 160, 170)]
)
def test_boxes_of_no_area_or_beyond_the_image_do_no_harm(box):
    assert annotate(GREY, found((*box, 0, 0.5)), COLORED).shape == GREY.shape


def test_a_mask_tints_its_pixels_only():
    instances = found((10, 10, 30, 30, 0, 0.9))
    instances.pred_masks = torch.zeros(1, 60, 100, dtype=torch.bool)
    instances.pred_masks[0, 10:30, 10:30] = True
    inside = annotate(GREY, instances, COLORED)[27, 22]
    assert inside[0] > 150 > 100 > inside[2]
    assert tuple(annotate(GREY, instances, COLORED)[55, 90]) == (128, 128, 128)


def test_labels_on_one_spot_do_not_hide_each_other():
    marks = [Mark((40, 30, 60, 50), RED, "one"), Mark((40, 30, 60, 50), BLUE, "two")]
    drawn = draw(np.full((100, 100, 3), 128, dtype=np.uint8), marks)
    for color in (RED, BLUE):
        assert (drawn == color).all(-1).sum() > 150


def test_a_crowded_place_keeps_boxes_and_loses_labels():
    marks = [Mark((10 + i, 10, 14 + i, 14), RED, "long name", f"{i}") for i in range(60)]
    drawn = draw(GREY, marks)
    assert (drawn != RED).any(-1).mean() > 0.3


def test_the_first_hundred_classes_have_a_hundred_colors():
    assert len({color_of(i, {}) for i in range(100)}) == 100
    assert color_of(1, {"thing_colors": [RED, BLUE]}) == BLUE


@pytest.mark.parametrize("name", ["треугольник", "三角形", "$x^2$", "a" * 300, ""])
def test_names_in_any_script_and_length_are_drawn(name):
    drawn = annotate(GREY, found((20, 30, 80, 55, 0, 0.9)), {"thing_classes": [name]})
    assert drawn.shape == GREY.shape
