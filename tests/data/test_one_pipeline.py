"""Rules that COCO files of every kind, and other formats, have in common since they share one way.

There were two readers of COCO files, which disagreed on each of these points.
"""

import json

import pytest

from d2ext.data import register_coco, write_dropped
from d2ext.data.catalog import DatasetSpec, register_dataset
from d2ext.data.formats.holdout import Holdout
from d2ext.errors import DataError
from detectron2.data import DatasetCatalog, MetadataCatalog
from tests.helpers.dataset_folders import save_image, voc_box, voc_xml, write

NAME = "one_pipeline"
TRIANGLE = [[3.0, 4.0, 23.0, 4.0, 23.0, 12.0]]


def load(coco, **more):
    coco.write()
    spec = DatasetSpec(str(coco.annotations), str(coco.images), **more)
    register_dataset(NAME, spec)
    return DatasetCatalog.get(NAME)


def evaluated() -> dict:
    """The document that evaluation compares with."""
    with open(MetadataCatalog.get(NAME).json_file, encoding="ascii") as file:
        return json.load(file)


def test_an_object_with_a_mask_needs_no_box(coco):
    del coco.document["annotations"][1]["bbox"]
    coco.document["annotations"][1]["segmentation"] = TRIANGLE
    coco.document["annotations"][0]["segmentation"] = TRIANGLE
    assert load(coco)[1]["annotations"][0]["bbox"] == [3, 4, 20, 8]
    assert evaluated()["annotations"][1]["bbox"] == [3, 4, 20, 8]


@pytest.mark.parametrize("holdout", [None, Holdout("train", 0.3)])
def test_a_copy_for_evaluation_keeps_all_ids(coco, holdout):
    coco.document["categories"] = [{"id": 900, "name": "dog"}, {"id": 7, "name": "cat"}]
    for number, image in enumerate(coco.document["images"]):
        image["id"] = 50 - number
    for number, item in enumerate(coco.document["annotations"]):
        item |= {"id": 70 + number, "image_id": 50 - number, "category_id": (900, 7)[number]}
    coco.add_box(49, [1, 1, 0, 5], category=7)
    coco.add_box(49, [1, 1, 5, 5], category=7)
    coco.add_box(49, [4, 4, 5, 5], category=7)
    load(coco, holdout=holdout)
    metadata, found = MetadataCatalog.get(NAME), evaluated()
    assert metadata.thing_classes == ["cat", "dog"]
    assert metadata.thing_dataset_id_to_contiguous_id == {7: 0, 900: 1}
    assert [category["id"] for category in found["categories"]] == [7, 900]
    assert {image["id"] for image in found["images"]} <= {48, 49, 50}
    kept = {(item["id"], item["image_id"], item["category_id"]) for item in found["annotations"]}
    assert kept <= {(70, 50, 900), (71, 49, 7), (4, 49, 7), (5, 49, 7)}
    assert kept


def test_ids_count_from_one_where_classes_have_another_order(coco):
    load(coco, classes=("dog", "cat"))
    assert MetadataCatalog.get(NAME).thing_dataset_id_to_contiguous_id == {1: 0, 2: 1}
    assert [c["name"] for c in evaluated()["categories"]] == ["dog", "cat"]
    assert [item["category_id"] for item in evaluated()["annotations"]] == [2, 1]


def test_an_area_that_is_missing_is_that_of_the_mask_and_one_that_is_given_stays(coco):
    first, second = coco.document["annotations"]
    first |= {"segmentation": TRIANGLE, "area": 33}
    second["segmentation"] = TRIANGLE
    del second["area"]
    load(coco)
    assert [item["area"] for item in evaluated()["annotations"]] == [33, 80]


def test_images_come_in_the_order_of_their_ids(coco):
    coco.document["images"].reverse()
    assert [image["image_id"] for image in load(coco)] == [1, 2, 3]
    assert [i["image_id"] for i in load(coco, classes=("cat", "dog"))] == [1, 2, 3]


@pytest.mark.parametrize("more", [{}, {"classes": ("dog", "cat")}])
def test_ids_that_stand_twice_are_refused_whatever_else_is_asked_for(coco, more):
    coco.document["images"][2]["id"] = 1
    with pytest.raises(DataError, match="ids of images stand more than once: 1"):
        load(coco, **more)


def test_keypoints_have_names_and_are_evaluated_by_the_users_own_file(coco):
    coco.document["categories"][0]["keypoints"] = ["left_eye", "right_eye"]
    for item in coco.document["annotations"]:
        item |= {"keypoints": [2, 3, 2, 4, 5, 2], "num_keypoints": 2}
    assert load(coco)[0]["annotations"][0]["keypoints"] == [2.5, 3.5, 2, 4.5, 5.5, 2]
    assert MetadataCatalog.get(NAME).keypoint_names == ["left_eye", "right_eye"]
    assert MetadataCatalog.get(NAME).json_file == str(coco.annotations)


def test_labelled_keypoints_that_are_not_counted_are_counted_for_evaluation(coco):
    for item in coco.document["annotations"]:
        item["keypoints"] = [2, 3, 2, 4, 5, 0]
    load(coco)
    found = evaluated()["annotations"]
    assert [item["num_keypoints"] for item in found] == [1, 1]
    assert found[0]["keypoints"] == [2, 3, 2, 4, 5, 0]


def test_paths_of_another_machine_need_no_copy_for_evaluation(coco):
    for image in coco.document["images"]:
        image["file_name"] = f"C:\\photos\\{image['file_name']}"
    assert load(coco)[0]["file_name"] == str(coco.images / "a.png")
    assert MetadataCatalog.get(NAME).json_file == str(coco.annotations)


def test_dicts_have_detectron2s_keys_alone(coco):
    first, *_ = load(coco)
    assert set(first) == {"file_name", "height", "width", "image_id", "annotations"}
    assert set(first["annotations"][0]) == {"bbox", "bbox_mode", "category_id", "iscrowd"}


def test_where_half_of_the_images_are_missing_no_format_is_trained_on(tmp_path):
    folder = tmp_path / "voc"
    save_image(folder / "a.png")
    for name in ("a", "b"):
        write(folder / f"{name}.xml", voc_xml(voc_box("dog", "1 1 9 9"), f"{name}.png"))
    register_dataset(NAME, DatasetSpec(str(folder)))
    with pytest.raises(DataError, match=r"1 of 2 images named in .* are missing: b\.png"):
        DatasetCatalog.get(NAME)


def test_where_half_of_the_records_cannot_be_read_no_format_is_trained_on(tmp_path):
    save_image(tmp_path / "a.png")
    write(tmp_path / "a.txt", "0 0.5 0.5 0.2 0.2\n0 0.5 x 0.2 0.2\n")
    write(tmp_path / "classes.txt", "dog\n")
    register_dataset(NAME, DatasetSpec(str(tmp_path)))
    with pytest.raises(DataError, match="1 of 2 annotations cannot be read"):
        DatasetCatalog.get(NAME)


def test_one_issue_has_one_code_in_the_list_of_what_was_dropped_and_in_the_check(coco, tmp_path):
    from d2ext.data.checks.check import check_splits
    from d2ext.data.formats import load_split

    for x in (5, 9):
        coco.add_box(1, [x, 1, 5, 5])
    coco.add_box(2, [1, 1, 0, 5])
    coco.add_box(2, [90, 1, 5, 5])
    coco.add_box(99, [1, 1, 5, 5])
    load(coco)
    (file,) = write_dropped(tmp_path / "out")
    dropped = {issue["code"] for issue in json.loads(file.read_text())}
    report = check_splits({"train": load_split(coco.annotations, images=coco.images)})
    assert dropped == {"box-empty", "box-outside", "object-orphan"}
    assert dropped <= {issue.code for issue in report.issues}


def test_a_set_is_registered_by_its_two_paths(coco):
    register_coco(NAME, coco.annotations, coco.images)
    assert len(DatasetCatalog.get(NAME)) == 3
