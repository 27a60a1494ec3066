"""One task for all splits: rotated boxes beside masks are masks, boxes beside these have angles."""

import json

import pytest

from d2ext.data.dataset_paths import load_named_splits
from d2ext.data.formats import load_splits
from d2ext.data.formats.common_task import common_task, with_task
from tests.helpers.dataset_folders import save_image, write

BOX = {"bbox": [4, 4, 8, 6]}
TURNED = {"bbox": [8, 7, 8, 6, 90]}
MASK = {**BOX, "segmentation": [[4, 4, 12, 4, 12, 10, 4, 10]]}


def coco(folder, **splits):
    for split, annotation in splits.items():
        save_image(folder / "images" / f"{split}.png")
        image = {"id": 1, "file_name": f"{split}.png", "width": 32, "height": 24}
        one = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 48, **annotation}
        document = {"images": [image], "annotations": [one], "categories": [{"id": 1, "name": "a"}]}
        write(folder / f"{split}.json", json.dumps(document))
    return folder


def only_box(source):
    ((item,),) = (image["annotations"] for image in source.images)
    return item["bbox"]


@pytest.mark.parametrize(("one", "other"), [("train", "val"), ("val", "train")])
def test_boxes_beside_rotated_ones_get_an_angle(tmp_path, one, other):
    splits = load_splits(coco(tmp_path, **{one: BOX, other: TURNED}))
    assert {source.task for source in splits.values()} == {"rotated"}
    assert only_box(splits[one]) == [8, 7, 8, 6, 0]
    (note,) = splits[one].notes
    assert note == "boxes are read as boxes with an angle, the kind of the other splits"
    assert splits[other].notes == []


def test_rotated_boxes_beside_masks_become_masks(tmp_path):
    splits = load_splits(coco(tmp_path, train=MASK, val=TURNED))
    assert {source.task for source in splits.values()} == {"masks"}
    assert only_box(splits["val"]) == pytest.approx([5, 3, 6, 8])
    assert splits["val"].coco_file is None


def test_data_sets_that_are_named_apart_agree_too(tmp_path):
    coco(tmp_path, train=MASK, val=TURNED)
    splits = load_named_splits(str(tmp_path / "train.json"), [str(tmp_path / "val.json")])
    assert [source.task for source in splits.values()] == ["masks", "masks"]


@pytest.mark.parametrize("tasks", [("boxes", "masks"), ("boxes", "keypoints"), ("rotated",)])
def test_others_keep_their_task(tasks):
    assert common_task(tasks) is None


@pytest.mark.parametrize("count", [4, 6])
def test_polygons_become_the_smallest_boxes_with_an_angle(tmp_path, count):
    points = [[16, 4], [24, 12], [16, 20], [8, 12], [10, 11], [12, 13]][:count]
    mask = {"bbox": [8, 4, 16, 16], "segmentation": [[n for point in points for n in point]]}
    source = with_task(load_splits(coco(tmp_path, train=mask))["train"], "rotated")
    x, y, width, height, angle = only_box(source)
    assert (x, y, width * height) == pytest.approx((16, 12, 128))
    assert angle % 90 == pytest.approx(45)
    assert "segmentation" not in source.images[0]["annotations"][0]
    assert source.notes == ["polygons are read as boxes with an angle, which the model learns"]
