import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from d2ext.visualization.drawing import draw
from d2ext.visualization.marks import annotate, marks_of_annotations, marks_of_results
from detectron2.structures import Boxes, BoxMode, Instances

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


@pytest.mark.parametrize("form", ["polygons", "uncompressed", "compressed"])
def test_all_forms_of_a_ground_truth_mask_give_the_same_pixels(form):
    polygons = coco_mask.frPyObjects([SQUARE], 60, 100)
    uncompressed = {"size": [60, 100], "counts": [610, *[20, 40] * 19, 20, 4230]}
    segmentation = {
        "polygons": [SQUARE],
        "uncompressed": uncompressed,
        "compressed": polygons[0],
    }[form]
    item = {
        "bbox": [10, 10, 20, 20],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": 1,
        "segmentation": segmentation,
    }
    (mark,) = marks_of_annotations({"height": 60, "width": 100, "annotations": [item]}, COLORED)
    expected = np.zeros((60, 100), dtype=bool)
    expected[10:30, 10:30] = True
    np.testing.assert_array_equal(mark.mask, expected)
    assert (tuple(mark.box), mark.text, mark.color) == ((10, 10, 30, 30), "blue", BLUE)


def test_crowds_are_labelled_as_such():
    item = {"bbox": [0, 0, 9, 9], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, "iscrowd": 1}
    (mark,) = marks_of_annotations({"height": 60, "width": 100, "annotations": [item]}, COLORED)
    assert mark.text == "red (crowd)"


def test_results_are_named_by_their_data_set_ids():
    metadata = {**COLORED, "thing_dataset_id_to_contiguous_id": {7: 1}}
    result = {"category_id": 7, "bbox": [10, 20, 30, 5], "score": 0.456}
    (mark,) = marks_of_results([result], metadata, 60, 100)
    assert (mark.box, mark.text, mark.color) == ((10, 20, 40, 25), "blue 0.46", BLUE)


def test_classes_without_names_are_numbered():
    (mark,) = marks_of_results([{"category_id": 3, "bbox": [0, 0, 5, 5], "score": 1.0}], {}, 60, 99)
    assert mark.text == "class 3 1.00"


def test_keypoints_lie_where_they_were_found_or_labelled():
    instances = found((20, 10, 80, 55, 0, 0.9))
    instances.pred_keypoints = torch.tensor([[[30.0, 40.0, 0.7], [60.0, 20.0, 0.2]]])
    item = {"bbox": [20, 10, 80, 55], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    item["keypoints"] = [30.0, 40.0, 2, 60.0, 20.0, 1, 0.0, 0.0, 0]
    result = {"bbox": [20, 10, 60, 45], "category_id": 0, "score": 0.9}
    result["keypoints"] = [29.5, 39.5, 1, 59.5, 19.5, 1]  # COCO names pixels, not their centres
    record = {"annotations": [item], "height": 60, "width": 100}
    drawings = [
        annotate(GREY, instances, COLORED),
        draw(GREY, marks_of_annotations(record, COLORED)),
        draw(GREY, marks_of_results([result], COLORED, 60, 100)),
    ]
    for drawn in drawings:
        assert tuple(drawn[40, 30]) == RED
        assert tuple(drawn[20, 60]) == RED
        assert tuple(drawn[1, 1]) == (128, 128, 128)


def test_an_object_without_a_box_is_marked_by_its_mask_or_keypoints():
    record = {"height": 60, "width": 100}
    mask = {"category_id": 1, "segmentation": [SQUARE]}
    pose = {"category_id": 0, "keypoints": [30.0, 40.0, 2, 60.0, 20.0, 1, 0.0, 0.0, 0]}
    in_space = {"category_id": 0, "bbox_3d": [0.0] * 9}
    marks = marks_of_annotations({**record, "annotations": [mask, pose, in_space]}, COLORED)
    assert [tuple(mark.box) for mark in marks] == [(10, 10, 30, 30), (30, 20, 60, 40)]
    assert [mark.text for mark in marks] == ["blue", "red"]
