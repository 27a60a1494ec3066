"""COCO's panoptic JSON, as training gets it."""

import json

import pytest

from d2ext.data.dataset_paths import register_specs
from d2ext.data.formats import load_split
from d2ext.data.statistics import dataset_stats
from d2ext.errors import DataError
from detectron2.data import DatasetCatalog, MetadataCatalog
from tests.helpers.panoptic_data import write_panoptic


def test_segments_have_class_indices_and_their_kind(tmp_path):
    dataset = load_split(write_panoptic(tmp_path))
    assert (dataset.task, dataset.classes) == ("panoptic", ("sky", "cat", "grass", "dog"))
    assert dataset.metadata["isthing"] == [False, True, False, True]
    segments = {s["id"]: s for s in dataset.images[0]["segments_info"]}
    assert segments[1]["category_id"] == 1
    assert segments[1]["isthing"]
    assert segments[70000] == {
        "bbox": [0, 24, 64, 24],
        "area": 64 * 24 - 60 - 240,
        "id": 70000,
        "category_id": 2,
        "iscrowd": 0,
        "isthing": False,
    }


def test_entries_that_cannot_be_read_are_issues(tmp_path):
    path = write_panoptic(tmp_path)
    document = json.loads(path.read_text())
    first, second, third = document["annotations"]
    first["segments_info"][0] |= {"category_id": 77}
    first["segments_info"][1] |= {"id": None}
    first["segments_info"].append("oops")
    del second["segments_info"]
    third["image_id"] = 99
    path.write_text(json.dumps(document))
    dataset = load_split(path)
    codes = sorted(issue.code for issue in dataset.issues)
    assert len(dataset.images) == 1
    assert len(dataset.images[0]["segments_info"]) == 3
    assert codes == [
        *("class-unknown", "class-unknown", "labels-missing", "labels-missing"),
        *("object-orphan", "record-broken", "record-broken"),
    ]


def test_maps_that_are_nowhere_are_named(tmp_path):
    path = write_panoptic(tmp_path)
    (tmp_path / "panoptic_train").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"segment maps \(train_0.png"):
        load_split(path)


def test_registered_data_can_be_learned_as_any_kind_of_masks(tmp_path):
    path = write_panoptic(tmp_path)
    register_specs([{"name": "panoptic_any_kind", "path": str(path)}])
    dicts = DatasetCatalog.get("panoptic_any_kind")
    assert {"pan_seg_file_name", "segments_info"} <= dicts[0].keys()
    metadata = MetadataCatalog.get("panoptic_any_kind")
    assert metadata.thing_classes == ["cat", "dog"]
    assert metadata.stuff_classes == ["sky", "cat", "grass", "dog"]
    assert metadata.evaluator_type == "panoptic"
    stats = dataset_stats(["panoptic_any_kind"])
    assert stats.annotated == {"boxes", "masks", "semantic masks", "panoptic masks"}
    assert stats.class_counts.tolist() == [3, 6]
    assert stats.thing_ids == (1, 3)


def test_images_whose_map_is_missing_are_dropped(tmp_path):
    path = write_panoptic(tmp_path)
    (tmp_path / "panoptic_train" / "train_1.png").unlink()
    register_specs([{"name": "panoptic_missing_map", "path": str(path)}])
    assert len(DatasetCatalog.get("panoptic_missing_map")) == 2
