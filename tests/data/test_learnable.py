"""Training data that have nothing to learn from."""

import pytest

from d2ext.data import register_coco
from d2ext.data.learnable import check_learnable
from d2ext.errors import DataError
from tests.helpers.dataset_folders import save_image, voc_xml, write

CROWD, DIFFICULT = {"iscrowd": 1}, {"difficult": 1}
HIDDEN = {"keypoints": [1, 1, 0], "num_keypoints": 0}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (CROWD, "no annotations to learn from, crowd regions aside"),
        (DIFFICULT, "all 2 objects are marked difficult"),
        (HIDDEN, "no keypoint is labelled"),
        (None, "no annotations to learn from"),
    ],
)
@pytest.mark.parametrize("all_of_them", [True, False])
def test_nothing_to_learn_from_is_refused(cfg, coco, changes, said, all_of_them):
    for item in coco.document["annotations"][: 2 if all_of_them else 1]:
        item.update(changes or {})
    if changes is HIDDEN and not all_of_them:
        coco.document["annotations"][1] |= {"keypoints": [1, 1, 2], "num_keypoints": 1}
    if changes is None:
        coco.document["annotations"] = [] if all_of_them else coco.document["annotations"]
    coco.write()
    register_coco("learnable", coco.annotations, coco.images)
    cfg.DATASETS.TRAIN, cfg.MODEL.KEYPOINT_ON = ("learnable",), changes is HIDDEN
    if all_of_them:
        with pytest.raises(DataError, match=f"learnable: .*{said}"):
            check_learnable(cfg)
    else:
        check_learnable(cfg)


def test_a_set_without_objects_is_no_fault_where_it_only_evaluates(coco):
    from d2ext.data.statistics import dataset_stats

    coco.document["annotations"] = []
    coco.write()
    register_coco("learnable", coco.annotations, coco.images)
    assert dataset_stats(["learnable"]).empty_images == 3


def test_a_format_that_lists_no_classes_may_have_no_objects(tmp_path):
    from d2ext.data.catalog import DatasetSpec, register_dataset
    from d2ext.data.statistics import dataset_stats

    save_image(tmp_path / "a.png")
    write(tmp_path / "a.xml", voc_xml("", "a.png"))
    register_dataset("learnable", DatasetSpec(str(tmp_path)))
    stats = dataset_stats(["learnable"])
    assert (stats.class_names, stats.num_objects, stats.empty_images) == ((), 0, 1)
