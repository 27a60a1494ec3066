"""Settings that follow from the data."""

import numpy as np
import pytest

from d2ext.config import load_config
from d2ext.data.statistics import DatasetStats
from d2ext.engine.auto import Machine, resolve_auto
from d2ext.engine.compatibility import check_training_data
from d2ext.errors import ConfigError
from d2ext.projects.maskformer.tests.conftest import CONFIG

CPU = Machine("cpu", 1, 1, False)
AUTO = ["MODEL.MASK_FORMER.NUM_QUERIES", "auto", "MODEL.MASK_FORMER.THING_IDS", "auto"]


def stats(*objects: int) -> DatasetStats:
    """Images of 200 x 100 pixels with so many objects; a thing, and three classes of stuff."""
    images = np.repeat(np.arange(len(objects)), objects)
    return DatasetStats(
        class_names=("thing",),
        image_sizes=np.tile([200, 100], (len(objects), 1)),
        object_sizes=np.full((len(images), 2), 9.0),
        object_images=images,
        class_counts=np.array([len(images)]),
        empty_images=0,
        stuff_names=("a", "thing", "b", "c"),
        thing_ids=(1,),
    )


@pytest.mark.parametrize(
    ("task", "objects", "tile", "expected"),
    [
        ("instance", (3, 30), 0, 50),
        ("instance", (3, 70), 0, 150),
        ("instance", (3, 900), 0, 300),
        ("instance", (3, 70), 100, 100),
        ("panoptic", (3, 64), 0, 150),
        ("semantic", (3, 900), 0, 50),
    ],
)
def test_there_are_queries_for_the_masks_of_every_image(task, objects, tile, expected):
    options = [*AUTO, "MODEL.MASK_FORMER.TASK", task, "INPUT.SLICE_SIZE", str(tile)]
    cfg = load_config(CONFIG, options)
    cfg.AUTO = [key for key in cfg.AUTO if "MASK_FORMER" in key]
    resolve_auto(cfg, stats(*objects), CPU)
    assert expected == cfg.MODEL.MASK_FORMER.NUM_QUERIES


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.SEM_SEG_HEAD.NUM_CLASSES", "3", "NUM_CLASSES is 3, the data have 4 classes"),
        ("MODEL.MASK_FORMER.THING_IDS", "[0, 1, 7]", "THING_IDS lists 0, 1, of the data 1 are"),
    ],
)
def test_numbers_that_contradict_panoptic_data_are_refused(key, value, message):
    good = ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", "4", "MODEL.MASK_FORMER.THING_IDS", "[1, 80]"]
    good += ["MODEL.MASK_FORMER.TASK", "panoptic"]
    assert check_training_data(load_config(CONFIG, good), stats(3)) == []
    with pytest.raises(ConfigError, match=message):
        check_training_data(load_config(CONFIG, [*good, key, value]), stats(3))


def test_the_data_say_which_classes_are_things():
    cfg = load_config(CONFIG, AUTO)
    cfg.AUTO = ["MODEL.MASK_FORMER.THING_IDS"]
    resolve_auto(cfg, stats(1), CPU)
    assert cfg.MODEL.MASK_FORMER.THING_IDS == [1]
