"""COCO detection and instance segmentation."""

from detectron2.config import LazyCall
from detectron2.evaluation import COCOEvaluator

from .loaders import coco_loaders

dataloader = coco_loaders(
    train="coco_2017_train",
    test="coco_2017_val",
    evaluator=LazyCall(COCOEvaluator)(dataset_name="${..test.dataset.names}"),
    filtering={},
    mapper={"use_instance_mask": True},
)
