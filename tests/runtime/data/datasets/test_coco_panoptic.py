import json

import pytest

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_panoptic, register_coco_panoptic_separated
from detectron2.data.datasets.coco_panoptic import merge_to_panoptic

META = {
    "thing_dataset_id_to_contiguous_id": {1: 0},
    "stuff_dataset_id_to_contiguous_id": {92: 80},
}


@pytest.fixture
def folder(tmp_path):
    for name in ("images/1.jpg", "images/2.jpg", "panoptic/1.png", "stuff/1.png", "stuff/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    segments = [{"id": 5, "category_id": 1, "iscrowd": 0}, {"id": 6, "category_id": 92}]
    annotations = [{"image_id": 1, "file_name": "1.png", "segments_info": segments}]
    (tmp_path / "panoptic.json").write_text(json.dumps({"annotations": annotations}))
    box = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 1, 1], "iscrowd": 0}
    images = [{"id": n, "file_name": f"{n}.jpg", "height": 4, "width": 5} for n in (2, 1)]
    instances = {"images": images, "categories": [{"id": 3, "name": "a"}], "annotations": [box]}
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    return tmp_path


@pytest.fixture
def names():
    """Return names whose registration is undone after the test."""
    names = ["panoptic_test", "panoptic_test_separated", "panoptic_test_stuffonly"]
    yield names
    for name in names:
        DatasetCatalog.pop(name, None)
        MetadataCatalog.pop(name, None)


def register(folder, meta=META):
    register_coco_panoptic(
        "panoptic_test",
        meta,
        str(folder / "images"),
        str(folder / "panoptic"),
        str(folder / "panoptic.json"),
        str(folder / "instances.json"),
    )


def test_segments_get_contiguous_ids_and_isthing(folder, names):
    register(folder)
    (image,) = DatasetCatalog.get("panoptic_test")
    assert image == {
        "file_name": str(folder / "images" / "1.jpg"),
        "image_id": 1,
        "pan_seg_file_name": str(folder / "panoptic" / "1.png"),
        "segments_info": [
            {"id": 5, "category_id": 0, "iscrowd": 0, "isthing": True},
            {"id": 6, "category_id": 80, "isthing": False},
        ],
    }
    meta = MetadataCatalog.get("panoptic_test")
    assert (meta.evaluator_type, meta.ignore_label) == ("coco_panoptic_seg", 255)
    assert meta.label_divisor == 1000


@pytest.mark.parametrize("missing", ["images/1.jpg", "panoptic/1.png"])
def test_a_missing_folder_is_an_error_at_the_first_image(folder, names, missing):
    register(folder)
    (folder / missing).unlink()
    with pytest.raises(AssertionError, match=missing.rsplit("/", 1)[1]):
        DatasetCatalog.get("panoptic_test")


def test_objects_and_stuff_come_from_their_own_annotations(folder, names):
    register_coco_panoptic_separated(
        "panoptic_test",
        {"thing_classes": ["a"]},
        str(folder / "images"),
        str(folder / "panoptic"),
        str(folder / "panoptic.json"),
        str(folder / "stuff"),
        str(folder / "instances.json"),
    )
    first, second = DatasetCatalog.get("panoptic_test_separated")
    assert first["sem_seg_file_name"] == str(folder / "stuff" / "1.png")
    assert [box["category_id"] for box in first["annotations"]] == [0]
    assert second["annotations"] == []
    stuff = DatasetCatalog.get("panoptic_test_stuffonly")
    assert sorted(stuff[0]) == ["file_name", "sem_seg_file_name"]
    assert MetadataCatalog.get("panoptic_test_stuffonly").evaluator_type == "sem_seg"
    assert MetadataCatalog.get("panoptic_test_separated").evaluator_type == "coco_panoptic_seg"


def test_images_are_merged_by_their_files():
    labels = [{"file_name": "b", "y": 2}, {"file_name": "a", "y": 3}, {"file_name": "c"}]
    merged = merge_to_panoptic([{"file_name": "a", "x": 1}, {"file_name": "b"}], labels)
    assert merged == [{"file_name": "a", "x": 1, "y": 3}, {"file_name": "b", "y": 2}]


def test_an_error_names_an_image_without_labels():
    with pytest.raises(KeyError, match="a"):
        merge_to_panoptic([{"file_name": "a"}], [{"file_name": "b"}])
