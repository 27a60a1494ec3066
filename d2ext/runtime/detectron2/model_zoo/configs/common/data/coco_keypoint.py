"""COCO person keypoints."""

from detectron2.config import LazyCall
from detectron2.data.detection_utils import create_keypoint_hflip_indices
from detectron2.evaluation import COCOEvaluator

from .loaders import coco_loaders

dataloader = coco_loaders(
    train="keypoints_coco_2017_train",
    test="keypoints_coco_2017_val",
    evaluator=LazyCall(COCOEvaluator)(dataset_name="${..test.dataset.names}"),
    filtering={"min_keypoints": 1},
    mapper={
        "use_instance_mask": False,
        "use_keypoint": True,
        "keypoint_hflip_indices": create_keypoint_hflip_indices("keypoints_coco_2017_train"),
    },
)
