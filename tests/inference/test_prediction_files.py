import numpy as np
import torch
from pycocotools import mask as coco_mask

from d2ext.inference.prediction_files import detections_of
from detectron2.structures import Boxes, Instances


def test_masks_and_keypoints_are_written_beside_the_box():
    found = Instances((20, 30))
    found.pred_boxes = Boxes(torch.tensor([[2.0, 3.0, 10.0, 8.0]]))
    found.scores, found.pred_classes = torch.tensor([0.75]), torch.tensor([1])
    found.pred_masks = torch.zeros(1, 20, 30, dtype=torch.bool)
    found.pred_masks[0, 3:8, 2:10] = True
    found.pred_keypoints = torch.tensor([[[4.0, 5.5, 0.25], [9.0, 7.0, 0.5]]])
    (detection,) = detections_of(found, ["cat", "dog"])
    np.testing.assert_array_equal(coco_mask.decode(detection.pop("mask")), found.pred_masks[0])
    assert detection == {
        "box": [2.0, 3.0, 10.0, 8.0],
        "score": 0.75,
        "class_id": 1,
        "class_name": "dog",
        "keypoints": [[4.0, 5.5, 0.25], [9.0, 7.0, 0.5]],
    }
