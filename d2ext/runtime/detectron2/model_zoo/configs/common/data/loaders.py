"""Data loaders shared by the COCO tasks."""

from detectron2.config import LazyCall
from detectron2.data import (
    DatasetMapper,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data import transforms as T


def coco_loaders(train: str, test: str, evaluator: object, filtering: dict, mapper: dict) -> dict:
    """Build the section `dataloader`: train, test and evaluator.

    Args:
        train, test: names of datasets.
        filtering: arguments of `get_detection_dataset_dicts` for training.
        mapper: arguments of the training mapper.
    """
    resize = LazyCall(T.ResizeShortestEdge)
    several = resize(
        short_edge_length=(640, 672, 704, 736, 768, 800), sample_style="choice", max_size=1333
    )
    flip = LazyCall(T.RandomFlip)(horizontal=True)
    fixed = resize(short_edge_length=800, max_size=1333)
    dicts = LazyCall(get_detection_dataset_dicts)
    return {
        "train": LazyCall(build_detection_train_loader)(
            dataset=dicts(names=train, **filtering),
            mapper=_mapper(True, [several, flip], **mapper),
            total_batch_size=16,
            num_workers=4,
        ),
        "test": LazyCall(build_detection_test_loader)(
            dataset=dicts(names=test, filter_empty=False),
            mapper=_mapper(False, [fixed]),
            num_workers=4,
        ),
        "evaluator": evaluator,
    }


def _mapper(is_train: bool, augmentations: list, **options: object) -> object:
    image_format = "${...train.mapper.image_format}" if not is_train else "BGR"
    return LazyCall(DatasetMapper)(
        is_train=is_train, augmentations=augmentations, image_format=image_format, **options
    )
