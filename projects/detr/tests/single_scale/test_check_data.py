"""What is said about the data before training."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from d2ext.data import DatasetStats
from d2ext.engine.compatibility import check_annotations, check_training_data
from d2ext.errors import ConfigError


def stats(images: int, most: int) -> DatasetStats:
    """Statistics of images without objects but for the last one, which has `most`."""
    return DatasetStats(
        class_names=("a", "b", "c"),
        image_sizes=np.full((images, 2), 64),
        object_sizes=np.full((most, 2), 9.0),
        object_images=np.full(most, images - 1),
        class_counts=np.array([most, 0, 0]),
        empty_images=images - 1,
        annotated=frozenset({"boxes"}),
    )


@pytest.mark.parametrize("variant", ["detr", "conditional", "dab"])
def test_more_objects_than_queries_are_refused_with_count_and_key(variant, config):
    with pytest.raises(ConfigError, match=r"has 8 objects.* 7 queries.*NUM_QUERIES to 8 or more"):
        check_training_data(config(variant), stats(20_000, 8))
    assert check_training_data(config(variant), stats(20_000, 7)) == []


@pytest.mark.parametrize(
    ("classes", "things", "message"),
    [
        ("2", "[0, 2]", r"NUM_CLASSES is 2, but the data have 3 classes"),
        ("3", "[0, 1]", r"THING_IDS lists 0, 1, but of the data 0, 2 are things"),
    ],
)
def test_panoptic_models_of_other_classes_or_things_are_refused(config, classes, things, message):
    panoptic = replace(stats(20_000, 5), stuff_names=("a", "b", "c"), thing_ids=(0, 2))
    options = ["MODEL.DETR.PANOPTIC.ENABLED", "True", "MODEL.DETR.PANOPTIC.THING_IDS", things]
    with pytest.raises(ConfigError, match=message):
        check_training_data(
            config("detr", *options, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", classes), panoptic
        )


def test_images_without_objects_are_no_reason_to_refuse(config):
    assert check_training_data(config("dab"), stats(3, 0)) == []


def test_plain_detr_from_scratch_on_few_images_is_warned_about(config):
    (note,) = check_training_data(config("detr"), stats(300, 5))
    assert "300 images" in note
    assert "dino_regnetx200m.yaml" in note
    assert check_training_data(config("conditional"), stats(300, 5)) == []


def test_fine_tuning_detr_on_few_images_is_not(config, tmp_path):
    weights = tmp_path / "detr.pth"
    torch.save({"model": {"query_embed.weight": torch.zeros(7, 4)}}, weights)
    assert check_training_data(config("detr", "MODEL.WEIGHTS", str(weights)), stats(300, 5)) == []


def test_a_set_without_boxes_is_refused(config):
    with pytest.raises(ConfigError, match="learns boxes, and the data have only semantic masks"):
        check_annotations(config("detr"), {"semantic masks"})
