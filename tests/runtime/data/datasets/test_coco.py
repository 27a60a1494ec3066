import json

import numpy as np
import pycocotools.mask as mask_util
import pytest

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import (
    convert_to_coco_json,
    load_coco_json,
    load_sem_seg,
    register_coco_instances,
)
from detectron2.structures import BoxMode


@pytest.fixture
def content():
    return {
        "images": [
            {"id": 7, "file_name": "b ü.jpg", "width": 6, "height": 4},
            {"id": 3, "file_name": "a.jpg", "width": 6, "height": 4},
            {"id": 5, "file_name": "empty.jpg", "width": 6, "height": 4},
        ],
        "categories": [{"id": 30, "name": "käse"}, {"id": 4, "name": "brot"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 3,
                "bbox": [1, 1, 2, 2],
                "area": 4,
                "iscrowd": 0,
                "category_id": 30,
                "segmentation": [[1, 1, 3, 1, 3, 3, 1, 3], [1, 1, 2, 2]],
            },
            {
                "id": 2,
                "image_id": 7,
                "bbox": [0, 1, 2, 2],
                "area": 4,
                "iscrowd": 1,
                "category_id": 4,
                "segmentation": {"size": [4, 6], "counts": [1, 2, 2, 2, 17]},
            },
        ],
    }


@pytest.fixture
def load(tmp_path, content):
    names = []

    def load(name=None, **options):
        names.append(name)
        path = tmp_path / "annotations ö.json"
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        return load_coco_json(str(path), str(tmp_path / "im ages"), name, **options)

    yield load
    for name in names:
        MetadataCatalog.pop(name, None)


def test_images_are_sorted_by_id_also_without_annotations(load, tmp_path):
    found = load()
    assert [image["image_id"] for image in found] == [3, 5, 7]
    assert found[1]["annotations"] == []
    assert found[2]["file_name"] == str(tmp_path / "im ages" / "b ü.jpg")
    assert (found[0]["width"], found[0]["height"]) == (6, 4)


def test_categories_are_numbered_in_the_order_of_their_ids(load):
    found = load("coco_test_set")
    meta = MetadataCatalog.get("coco_test_set")
    assert meta.thing_classes == ["brot", "käse"]
    assert meta.thing_dataset_id_to_contiguous_id == {4: 0, 30: 1}
    assert found[0]["annotations"][0]["category_id"] == 1


def test_without_a_name_categories_keep_their_ids(load):
    assert load()[0]["annotations"][0]["category_id"] == 30


def test_polygons_of_less_than_three_points_are_dropped(load):
    annotation = load()[0]["annotations"][0]
    assert annotation["segmentation"] == [[1, 1, 3, 1, 3, 3, 1, 3]]
    assert annotation["bbox_mode"] == BoxMode.XYWH_ABS


def test_an_object_without_any_valid_polygon_is_dropped(load, content):
    content["annotations"][0]["segmentation"] = [[1, 1, 2, 2]]
    assert load()[0]["annotations"] == []


def test_an_uncompressed_rle_is_compressed(load):
    rle = load()[2]["annotations"][0]["segmentation"]
    expected = np.zeros((4, 6), dtype=np.uint8)
    expected[1:3, 0] = 1
    expected[1:3, 1] = 1
    np.testing.assert_array_equal(mask_util.decode(rle), expected)


def test_keypoints_are_moved_from_pixels_to_coordinates(load, content):
    content["annotations"][0]["keypoints"] = [1, 2, 2, 3, 4, 0]
    assert load()[0]["annotations"][0]["keypoints"] == [1.5, 2.5, 2, 3.5, 4.5, 0]


def test_extra_keys_of_annotations_are_kept(load, content):
    content["annotations"][0]["depth"] = 5
    assert load(extra_annotation_keys=["depth"])[0]["annotations"][0]["depth"] == 5


def test_a_file_without_annotations_gives_its_images(load, content):
    del content["annotations"]
    assert [image["annotations"] for image in load()] == [[], [], []]


def test_an_error_names_an_unknown_category(load, content):
    content["annotations"][0]["category_id"] = 99
    with pytest.raises(KeyError, match="99"):
        load("coco_test_set")


def test_an_empty_box_is_refused(load, content):
    content["annotations"][0]["bbox"] = []
    with pytest.raises(ValueError, match="bbox"):
        load()


def test_annotation_ids_must_be_unique(load, content):
    content["annotations"][1]["id"] = 1
    with pytest.raises(AssertionError, match="not unique"):
        load()


@pytest.fixture
def registered(tmp_path, content):
    (tmp_path / "a.json").write_text(json.dumps(content), encoding="utf-8")
    register_coco_instances("coco_test_reg", {"extra": 1}, str(tmp_path / "a.json"), "images")
    yield "coco_test_reg"
    DatasetCatalog.pop("coco_test_reg")
    MetadataCatalog.pop("coco_test_reg")


def test_a_registered_file_is_loaded_on_demand(tmp_path, registered):
    meta = MetadataCatalog.get(registered)
    assert (meta.evaluator_type, meta.extra, meta.image_root) == ("coco", 1, "images")
    assert not hasattr(meta, "thing_classes")
    assert len(DatasetCatalog.get(registered)) == 3
    assert meta.thing_classes == ["brot", "käse"]


def test_registering_again_changes_nothing(tmp_path, registered):
    register_coco_instances(registered, {"extra": 1}, str(tmp_path / "a.json"), "images")
    assert len(DatasetCatalog.get(registered)) == 3


def test_conversion_to_coco_round_trips(tmp_path, registered, content):
    written = tmp_path / "out" / "converted.json"
    convert_to_coco_json(registered, str(written))
    found = json.loads(written.read_text(encoding="utf-8"))
    assert found["categories"] == [{"id": 4, "name": "brot"}, {"id": 30, "name": "käse"}]
    assert [image["id"] for image in found["images"]] == [3, 5, 7]
    polygon, crowd = found["annotations"]
    assert polygon["bbox"] == [1.0, 1.0, 2.0, 2.0]
    assert polygon["area"] == 4.0
    assert polygon["category_id"] == 30
    assert (crowd["iscrowd"], crowd["area"], crowd["image_id"]) == (1, 4.0, 7)
    assert isinstance(crowd["segmentation"]["counts"], str)
    assert not list(written.parent.glob("*.tmp"))


def test_a_converted_file_is_reused(tmp_path, registered):
    written = tmp_path / "converted.json"
    written.write_text("cached", encoding="utf-8")
    convert_to_coco_json(registered, str(written))
    assert written.read_text(encoding="utf-8") == "cached"
    convert_to_coco_json(registered, str(written), allow_cached=False)
    assert written.read_text(encoding="utf-8") != "cached"


def test_images_and_labels_are_paired_by_name(tmp_path):
    for name in ("labels/b.png", "labels/a.png", "images/a.jpg", "images/b.jpg", "images/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = load_sem_seg(str(tmp_path / "labels"), str(tmp_path / "images"))
    assert found == [
        {
            "file_name": str(tmp_path / "images" / f"{stem}.jpg"),
            "sem_seg_file_name": str(tmp_path / "labels" / f"{stem}.png"),
        }
        for stem in "ab"
    ]
