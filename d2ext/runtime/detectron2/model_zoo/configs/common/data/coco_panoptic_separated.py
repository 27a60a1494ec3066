"""COCO instances and stuff in separate annotations."""

from detectron2.config import LazyCall
from detectron2.evaluation import COCOEvaluator, COCOPanopticEvaluator, SemSegEvaluator

from .loaders import coco_loaders

dataloader = coco_loaders(
    train="coco_2017_train_panoptic_separated",
    test="coco_2017_val_panoptic_separated",
    evaluator=[
        LazyCall(kind)(dataset_name="${...test.dataset.names}")
        for kind in (COCOEvaluator, SemSegEvaluator, COCOPanopticEvaluator)
    ],
    filtering={"filter_empty": False},
    mapper={"use_instance_mask": True},
)
