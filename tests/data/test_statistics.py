"""What is known of data sets before training."""

import json

import numpy as np
import pytest
from PIL import Image

from d2ext.data import dataset_stats, register_coco, statistics
from d2ext.data.statistics import register_annotation
from d2ext.errors import DataError
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode


def register(coco, name: str, categories: list[dict] | None = None) -> str:
    document = coco.document | ({"categories": categories} if categories else {})
    path = coco.folder / f"{name}.json"
    path.write_text(json.dumps(document))
    register_coco(name, path, coco.images)
    return name


def test_statistics_of_one_set_are_counted_by_hand(coco):
    coco.add_box(2, [0, 0, 32, 24], iscrowd=1)
    stats = dataset_stats([register(coco, "one")])
    assert stats.class_names == ("cat", "dog")
    assert stats.image_sizes.tolist() == [[32, 24]] * 3
    assert stats.object_sizes.tolist() == [[10, 12], [20, 8]]
    assert stats.class_counts.tolist() == [1, 1]
    assert len(stats.object_images) == 2
    assert (stats.num_images, stats.num_objects, stats.empty_images) == (3, 2, 1)


def test_statistics_of_several_sets_are_summed(coco):
    stats = dataset_stats([register(coco, "one"), register(coco, "two")])
    assert (stats.num_images, stats.num_objects, stats.empty_images) == (6, 4, 2)
    assert stats.class_counts.tolist() == [2, 2]
    first, second = stats.object_images.reshape(2, 2).tolist()
    assert second == [image + 3 for image in first]


def test_sets_of_other_classes_are_refused_with_the_difference(coco):
    other = [{"id": 1, "name": "cat"}, {"id": 2, "name": "cow"}]
    names = [register(coco, "one"), register(coco, "two", other)]
    with pytest.raises(DataError, match="only in one: dog; only in two: cow"):
        dataset_stats(names)


def test_sets_with_the_classes_in_another_order_are_refused(coco):
    other = [{"id": 2, "name": "cat"}, {"id": 1, "name": "dog"}]
    names = [register(coco, "one"), register(coco, "two", other)]
    with pytest.raises(DataError, match="the order differs: cat, dog and dog, cat"):
        dataset_stats(names)


def test_a_set_is_loaded_once_a_process(coco):
    calls = []

    def load() -> list[dict]:
        calls.append(1)
        return DatasetCatalog.get("one")

    register(coco, "one")
    DatasetCatalog.register("counted", load)
    MetadataCatalog.get("counted").set(thing_classes=["cat", "dog"])
    dataset_stats(["counted"])
    dataset_stats(["counted"])
    assert len(calls) == 1


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(DataError, match=r"shape_train: no data set.*shapes_train"):
        dataset_stats(["shape_train"])


def test_no_name_at_all_names_the_flags():
    with pytest.raises(DataError, match="--train"):
        dataset_stats([])


def test_a_set_without_class_names_says_how_to_give_them():
    DatasetCatalog.register("nameless", lambda: [])
    with pytest.raises(DataError, match="thing_classes"):
        dataset_stats(["nameless"])


def test_objects_may_have_no_box_and_other_annotations(monkeypatch):
    monkeypatch.setattr(statistics, "_ANNOTATION_WORDS", dict(statistics._ANNOTATION_WORDS))
    register_annotation("bbox3d", "3D boxes")
    objects = [
        {"category_id": 1, "bbox3d": np.zeros(7)},
        {"category_id": 0, "bbox": [0, 0, 4, 2], "bbox_mode": BoxMode.XYXY_ABS},
    ]
    image = {"width": 8, "height": 6, "annotations": objects}
    DatasetCatalog.register("space", lambda: [image, {**image, "annotations": []}])
    MetadataCatalog.get("space").set(thing_classes=["cat", "dog"])
    stats = dataset_stats(["space"])
    assert stats.annotated == {"boxes", "3D boxes"}
    assert (stats.num_objects, stats.empty_images) == (2, 1)
    assert stats.class_counts.tolist() == [1, 1]
    assert stats.object_sizes.tolist() == [[4, 2]]
    assert stats.object_images.tolist() == [0]


def test_sizes_that_dicts_lack_are_read_from_the_images(tmp_path):
    Image.new("RGB", (12, 7)).save(tmp_path / "a.png")
    item = {"file_name": str(tmp_path / "a.png"), "sem_seg_file_name": "a.png"}
    DatasetCatalog.register("sizeless", lambda: [item])
    MetadataCatalog.get("sizeless").set(stuff_classes=["road"])
    assert dataset_stats(["sizeless"]).image_sizes.tolist() == [[12, 7]]
