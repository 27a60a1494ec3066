import json

import pytest

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import get_lvis_instances_meta, load_lvis_json
from detectron2.data.datasets.lvis_v0_5_categories import LVIS_CATEGORIES as V0_5
from detectron2.data.datasets.lvis_v1_categories import LVIS_CATEGORIES as V1
from detectron2.data.datasets.lvis_v1_category_image_count import LVIS_CATEGORY_IMAGE_COUNT
from detectron2.structures import BoxMode


@pytest.fixture
def content():
    url = "http://images.cocodataset.org/"
    return {
        "images": [
            {"id": 9, "coco_url": url + "train2017/000000000009.jpg", "neg_category_ids": [3]},
            {"id": 3, "coco_url": url + "val2017/000000000003.jpg"},
        ],
        "categories": [],
        "annotations": [
            {
                "id": number,
                "image_id": 9,
                "category_id": category,
                "bbox": [0, 0, 2, 1],
                "area": 2,
                "segmentation": [[0, 0, 2, 0, 2, 1, 0, 1]],
                "depth": number,
            }
            for number, category in [(5, 2), (4, 1)]
        ],
    }


@pytest.fixture
def load(tmp_path, content):
    def load(*arguments, **options):
        images = [{"height": 4, "width": 5, **image} for image in content["images"]]
        path = tmp_path / "lvis.json"
        path.write_text(json.dumps({**content, "images": images}))
        try:
            return load_lvis_json(str(path), "coco/", *arguments, **options)
        except ModuleNotFoundError as error:
            pytest.skip(f"the official package needs {error.name}")

    return load


def test_images_are_sorted_by_id_with_the_paths_of_coco(load):
    empty, image = load()
    assert (empty["file_name"], empty["annotations"]) == ("coco/val2017/000000000003.jpg", [])
    assert (image["file_name"], image["image_id"]) == ("coco/train2017/000000000009.jpg", 9)
    assert (image["height"], image["width"]) == (4, 5)
    assert (image["neg_category_ids"], image["not_exhaustive_category_ids"]) == ([3], [])


def test_categories_count_from_zero_in_the_order_of_the_file(load):
    first, second = load()[1]["annotations"]
    assert (first["category_id"], second["category_id"]) == (1, 0)
    assert (first["bbox"], first["bbox_mode"]) == ([0, 0, 2, 1], BoxMode.XYWH_ABS)
    assert first["segmentation"] == [[0, 0, 2, 0, 2, 1, 0, 1]]
    assert "depth" not in first


def test_extra_keys_of_annotations_are_kept(load):
    assert load(extra_annotation_keys=["depth"])[1]["annotations"][0]["depth"] == 5


def test_the_name_of_a_dataset_selects_the_classes_of_its_version(load):
    name = "lvis_v1_some_test"
    load(name)
    try:
        assert MetadataCatalog.get(name).thing_classes[:2] == ["aerosol_can", "air_conditioner"]
    finally:
        MetadataCatalog.pop(name)


def test_annotation_ids_must_be_unique(load, content):
    content["annotations"][1]["id"] = 5
    with pytest.raises(AssertionError, match="not unique"):
        load()


def test_a_polygon_needs_three_points(load, content):
    content["annotations"][1]["segmentation"] = [[1, 1, 2, 2]]
    with pytest.raises(AssertionError, match="polygon"):
        load()


def test_both_versions_have_the_published_categories():
    assert (len(V0_5), len(V1)) == (1230, 1203)
    for categories in (V0_5, V1):
        assert [category["id"] for category in categories] == list(range(1, len(categories) + 1))
    assert V1[2]["synonyms"] == ["airplane", "aeroplane"]
    assert (V1[2]["synset"], V1[2]["frequency"]) == ("airplane.n.01", "f")
    assert (V0_5[0]["synset"], V0_5[0]["frequency"]) == ("acorn.n.01", "r")
    assert sum(category["frequency"] == "r" for category in V1) == 337
    assert sum(category["frequency"] == "c" for category in V0_5) == 461


def test_image_counts_agree_with_the_frequencies():
    assert LVIS_CATEGORY_IMAGE_COUNT[2] == {"id": 3, "image_count": 1911}
    assert len(LVIS_CATEGORY_IMAGE_COUNT) == len(V1)
    frequent = [category["id"] for category in V1 if category["frequency"] == "f"]
    assert frequent == [c["id"] for c in LVIS_CATEGORY_IMAGE_COUNT if c["image_count"] > 100]


def test_the_prefix_of_a_name_selects_the_metadata():
    assert len(get_lvis_instances_meta("lvis_v0.5_val")["thing_classes"]) == 1230
    assert len(get_lvis_instances_meta("lvis_v0.5_val_cocofied")["thing_classes"]) == 80
    assert "class_image_count" in get_lvis_instances_meta("lvis_v1")
    with pytest.raises(ValueError, match="lvis_v7"):
        get_lvis_instances_meta("lvis_v7")


def test_all_splits_are_registered():
    names = [name for name in DatasetCatalog.list() if name.startswith("lvis_")]
    assert len(names) == 10
    meta = MetadataCatalog.get("lvis_v1_test_dev")
    assert meta.json_file.endswith("lvis/lvis_v1_image_info_test_dev.json")
    assert meta.evaluator_type == "lvis"
