"""COCO files of every kind, and folders as exports lay them out."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from d2ext.data.formats import load_split, load_splits, origin
from d2ext.data.formats.keypoint_names import mirror_pairs
from d2ext.data.mask_validity import invalid_mask
from d2ext.errors import DataError
from detectron2.structures import BoxMode


def save_image(path: Path, width: int = 32, height: int = 24) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(path)


def document(annotations: list[dict], names: tuple[str, ...] = ("a.png",)) -> dict:
    return {
        "images": [
            {"id": 10 + n, "file_name": name, "width": 32, "height": 24}
            for n, name in enumerate(names)
        ],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            {"id": n, "image_id": 10, "category_id": 7, **item}
            for n, item in enumerate(annotations, start=1)
        ],
    }


def write(path: Path, content: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_boxes_become_detectron2s_dicts_with_classes_in_the_order_of_ids(tmp_path):
    save_image(tmp_path / "images" / "a.png")
    path = write(tmp_path / "train.json", document([{"bbox": [1, 2, 3, 4]}]))
    source = load_split(path)
    assert (source.task, source.split, source.classes) == ("boxes", "train", ("cat", "dog"))
    (image,) = source.images
    assert image["file_name"] == str(tmp_path / "images" / "a.png")
    assert (image["image_id"], image["width"], image["height"]) == (10, 32, 24)
    (box,) = image["annotations"]
    assert box["bbox"] == [1.0, 2.0, 3.0, 4.0]
    assert box["bbox_mode"] == BoxMode.XYWH_ABS
    assert (box["category_id"], box["iscrowd"]) == (1, 0)
    assert origin(image, box) == f"{path}:1"


@pytest.mark.parametrize(
    ("more", "task"),
    [
        ({"segmentation": [[1, 2, 4, 2, 4, 6]]}, "masks"),
        ({"segmentation": {"size": [24, 32], "counts": [4, 6, 758]}}, "masks"),
        ({"keypoints": [2, 3, 2]}, "keypoints"),
        ({"bbox": [5, 5, 4, 2, 30]}, "rotated"),
    ],
)
def test_the_task_follows_from_the_annotations(tmp_path, more, task):
    save_image(tmp_path / "a.png")
    path = write(tmp_path / "all.json", document([{"bbox": [1, 2, 3, 4], **more}]))
    assert load_split(path).task == task


def test_keypoints_are_at_the_centres_of_their_pixels_and_left_changes_with_right(tmp_path):
    save_image(tmp_path / "a.png")
    content = document([{"bbox": [1, 2, 3, 4], "keypoints": [2, 3, 2, 0, 0, 0]}])
    content["categories"][0]["keypoints"] = ["left_eye", "right_eye"]
    source = load_split(write(tmp_path / "all.json", content))
    assert source.images[0]["annotations"][0]["keypoints"] == [2.5, 3.5, 2, 0.5, 0.5, 0]
    assert source.metadata["keypoint_flip_map"] == [("left_eye", "right_eye")]


def test_a_missing_box_is_that_of_the_mask(tmp_path):
    save_image(tmp_path / "a.png")
    path = write(tmp_path / "all.json", document([{"segmentation": [[1, 2, 4, 2, 4, 6]]}]))
    assert load_split(path).images[0]["annotations"][0]["bbox"] == [1.0, 2.0, 3.0, 4.0]


def test_what_cannot_be_read_is_left_out_and_told(tmp_path):
    save_image(tmp_path / "a.png")
    wrong = [{"image_id": 99}, {"category_id": 99}, {"bbox": [1, 2]}]
    items = [{"bbox": [1, 2, 3, 4], **item} for item in (*wrong, {})]
    source = load_split(write(tmp_path / "all.json", document(items)))
    assert source.num_annotations == 1
    assert [issue.code for issue in source.issues] == [
        "object-orphan",
        "class-unknown",
        "record-broken",
    ]
    assert "annotation of an unknown image" in source.issues[0].detail
    assert "box that is not four numbers" in source.issues[2].detail
    assert source.issues[1].where.endswith("all.json:2")


@pytest.mark.parametrize("odd", [None, [1], {}, "x", True])
@pytest.mark.parametrize(
    "place", [("images", "id"), ("annotations", "image_id"), ("annotations", "category_id")]
)
def test_odd_ids_are_faults_not_crashes(tmp_path, odd, place):
    save_image(tmp_path / "a.png")
    content = document([{"bbox": [1, 2, 3, 4]}])
    section, key = place
    content[section][0][key] = odd
    source = load_split(write(tmp_path / "all.json", content))
    assert len(source.images) == 1
    assert source.issues


@pytest.mark.parametrize("section", ["images", "annotations"])
def test_a_section_of_no_objects_is_refused(tmp_path, section):
    path = write(tmp_path / "all.json", {**document([]), section: [None]})
    with pytest.raises(DataError, match="no list of objects"):
        load_split(path)


def test_an_export_with_a_file_in_each_split_is_recognised(tmp_path):
    for folder in ("train", "valid", "test"):
        save_image(tmp_path / folder / "a.png")
        content = document([{"bbox": [1, 2, 3, 4]}])
        write(tmp_path / folder / "_annotations.coco.json", content)
    splits = load_splits(tmp_path)
    assert list(splits) == ["train", "val", "test"]
    assert splits["val"].images[0]["file_name"] == str(tmp_path / "valid" / "a.png")


def test_the_only_json_of_a_folder_may_have_any_name(tmp_path):
    save_image(tmp_path / "images" / "a.png")
    write(tmp_path / "result.json", document([{"bbox": [1, 2, 3, 4]}]))
    write(tmp_path / "notes.json", {"categories": []})
    assert load_split(tmp_path).num_annotations == 1


def test_cocos_own_layout_is_recognised(tmp_path):
    for split in ("train2017", "val2017"):
        save_image(tmp_path / split / "a.png")
        for family in ("instances", "captions"):
            content = document([{"bbox": [1, 2, 3, 4]}])
            write(tmp_path / "annotations" / f"{family}_{split}.json", content)
    splits = load_splits(tmp_path)
    assert list(splits) == ["train", "val"]
    assert splits["train"].images[0]["file_name"] == str(tmp_path / "train2017" / "a.png")


def test_images_that_are_nowhere_are_told_with_every_place_tried(tmp_path):
    path = write(tmp_path / "annotations" / "train.json", document([{"bbox": [1, 2, 3, 4]}]))
    (tmp_path / "images" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match=r"a\.png.*annotations, .*images, .*images/train"):
        load_split(path)


def test_a_split_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    for split in ("train", "val"):
        write(tmp_path / "annotations" / f"{split}.json", document([]))
    with pytest.raises(DataError, match=r"splits train, val; there is no test"):
        load_split(tmp_path, "test")
    with pytest.raises(DataError, match="name one of them"):
        load_split(tmp_path)


def test_nothing_recognised_says_what_is_there(tmp_path):
    (tmp_path / "notes.md").touch()
    with pytest.raises(DataError, match=r"no annotations recognised.*notes\.md"):
        load_split(tmp_path)


def test_panoptic_segments_keep_their_ids_and_take_class_indices(tmp_path):
    save_image(tmp_path / "images" / "a.png")
    save_image(tmp_path / "panoptic" / "a.png")
    content = document([])
    content["categories"] = [
        {"id": 5, "name": "sky", "isthing": 0},
        {"id": 2, "name": "cat", "isthing": 1},
    ]
    segment = {"id": 300, "category_id": 5, "area": 9, "bbox": [0, 0, 3, 3], "iscrowd": 0}
    content["annotations"] = [{"image_id": 10, "file_name": "a.png", "segments_info": [segment]}]
    source = load_split(write(tmp_path / "annotations" / "panoptic.json", content))
    assert (source.task, source.metadata["isthing"]) == ("panoptic", [True, False])
    (image,) = source.images
    assert image["pan_seg_file_name"] == str(tmp_path / "panoptic" / "a.png")
    found = image["segments_info"][0]
    assert (found["id"], found["category_id"], found["isthing"]) == (300, 1, False)


@pytest.mark.parametrize(
    "name", ["images\\a.png", "/upload/7/a.png", "..\\..\\upload\\a.png", "C:\\pictures\\a.png"]
)
def test_paths_of_another_machine_lead_to_the_images_here(tmp_path, name):
    save_image(tmp_path / "images" / "a.png")
    path = write(tmp_path / "result.json", document([{"bbox": [1, 2, 3, 4]}], (name,)))
    for images in (None, tmp_path / "images"):
        (image,) = load_split(path, images=images).images
        assert image["file_name"] == str(tmp_path / "images" / "a.png")


def test_images_that_are_nowhere_are_told_as_the_file_names_them(tmp_path):
    path = write(tmp_path / "result.json", document([], ("/upload/7/a.png",)))
    with pytest.raises(DataError, match=r"/upload/7/a\.png"):
        load_split(path)


def test_images_of_one_name_in_two_folders_are_not_taken_for_one(tmp_path):
    save_image(tmp_path / "images" / "a.png")
    path = write(tmp_path / "result.json", document([], ("/upload/7/a.png", "/upload/8/a.png")))
    with pytest.raises(DataError, match="Name the folder"):
        load_split(path)


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["Left Eye", "Right Eye", "Nose"], [("Left Eye", "Right Eye")]),
        (["l_eye", "r_eye", "nose"], [("l_eye", "r_eye")]),
        (["eye_L", "eye_R"], [("eye_L", "eye_R")]),
        (["EyeL", "EyeR"], [("EyeL", "EyeR")]),
        (["LEye", "REye"], [("LEye", "REye")]),
        (["rshoulder", "lshoulder"], [("lshoulder", "rshoulder")]),
        (["linkes Auge", "rechtes Auge"], [("linkes Auge", "rechtes Auge")]),
        (["oeil droit", "oeil gauche"], [("oeil gauche", "oeil droit")]),
        (["ojo_izquierdo", "ojo_derecho"], [("ojo_izquierdo", "ojo_derecho")]),
        (["左眼", "右眼"], [("左眼", "右眼")]),
        (["Auge_li", "Auge_re"], [("Auge_li", "Auge_re")]),
        (["lewe oko", "prawe oko"], [("lewe oko", "prawe oko")]),
        (["tl", "tr", "br", "bl"], [("tl", "tr"), ("bl", "br")]),
        (["wheel FL", "wheel FR"], [("wheel FL", "wheel FR")]),
        (["occhio_sx", "occhio_dx"], [("occhio_sx", "occhio_dx")]),
        (["vänster öga", "höger öga"], [("vänster öga", "höger öga")]),
        (["left_eye", "nose"], []),
        (["tail", "trail"], []),
    ],
)
def test_pairs_of_keypoints_are_found_by_their_names_in_any_case(names, pairs):
    assert mirror_pairs(names) == pairs


HOSTILE_MASKS = {
    "far polygon": [[1, 1, 1e9, 1, 1e9, 1e9]],
    "infinite polygon": [[1, 1, math.inf, 1, 5, 5]],
    "no size": {"size": [0, 0], "counts": [0]},
    "a huge size": {"size": [1 << 20, 1 << 20], "counts": [1 << 40]},
    "short runs": {"size": [24, 32], "counts": [4, 6]},
    "long runs": {"size": [24, 32], "counts": [4, 6, 7580]},
    "negative runs": {"size": [24, 32], "counts": [-4, 772]},
    "wrapped runs": {"size": [24, 32], "counts": [1 << 32, 768]},
    "no letters": {"size": [24, 32], "counts": "\x01\x02"},
    "no ASCII": {"size": [24, 32], "counts": "ÿé"},
    "an empty text": {"size": [24, 32], "counts": ""},
    "an unfinished text": {"size": [24, 32], "counts": "oooo"},
    "a short text": {"size": [24, 32], "counts": "11"},
    "a number as counts": {"size": [24, 32], "counts": 5},
    "three sizes": {"size": [24, 32, 3], "counts": [768]},
    "nothing": {},
}


@pytest.mark.parametrize("mask", HOSTILE_MASKS.values(), ids=HOSTILE_MASKS.keys())
def test_masks_that_c_code_must_not_see_are_left_out_and_told(tmp_path, mask):
    save_image(tmp_path / "a.png")
    sound = {"bbox": [1, 2, 3, 4], "segmentation": [[1, 2, 4, 2, 4, 6]]}
    items = [sound, {"bbox": [1, 2, 3, 4], "segmentation": mask}, {"segmentation": mask}]
    source = load_split(write(tmp_path / "all.json", document(items)))
    masks = [item.get("segmentation") for item in source.images[0]["annotations"]]
    assert masks[0] == sound["segmentation"]
    assert len(masks) == 2  # the third has no box either
    assert not masks[1] or invalid_mask(masks[1], 32, 24)
    assert source.issues[0].code == "record-broken" or source.issues[-1].code == "mask-polygon"


SQUARE = [1, 2, 4, 2, 4, 6]
POINTS = [{"x": 1, "y": 2}, {"x": "4", "y": 2}, {"x": 4, "y": 6}]


@pytest.mark.parametrize("mask", [[[SQUARE]], [POINTS], POINTS], ids=["nested", "points", "one"])
def test_polygons_of_other_tools_are_parsed(tmp_path, mask):
    save_image(tmp_path / "a.png")
    items = [{"bbox": [1, 2, 3, 4], "segmentation": mask}]
    source = load_split(write(tmp_path / "all.json", document(items)))
    assert source.images[0]["annotations"][0]["segmentation"] == [SQUARE]
    assert source.task == "masks"


def test_run_lengths_that_are_pythons_text_for_bytes_are_parsed(tmp_path):
    save_image(tmp_path / "a.png")
    pixels = np.zeros((24, 32), np.uint8, order="F")
    pixels[3:9, 2:30] = 1
    runs = coco_mask.encode(pixels)
    items = [{"bbox": [1, 2, 3, 4], "segmentation": {**runs, "counts": str(runs["counts"])}}]
    source = load_split(write(tmp_path / "all.json", document(items)))
    found = source.images[0]["annotations"][0]["segmentation"]
    assert (coco_mask.decode({**found, "counts": found["counts"].encode()}) == pixels).all()


def test_masks_of_which_none_can_be_used_are_said(tmp_path):
    save_image(tmp_path / "a.png")
    items = [{"bbox": [1, 2, 3, 4], "segmentation": [["a", "b"]]}] * 2
    source = load_split(write(tmp_path / "all.json", document(items)))
    assert source.task == "boxes"
    assert source.notes == ["none of 2 masks has a polygon of three points: boxes alone"]


def test_a_validation_file_that_is_no_coco_file_is_named(tmp_path):
    image = {"id": 1, "file_name": "a.png", "width": 32, "height": 24}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 9, 9], "area": 81, "iscrowd": 0}
    document = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "dog"}]}
    save_image(tmp_path / "images" / "a.png")
    folder = tmp_path / "annotations"
    folder.mkdir()
    (folder / "instances_train.json").write_text(json.dumps(document), encoding="utf-8")
    (folder / "instances_val.json").touch()
    with pytest.raises(DataError, match=r"instances_val\.json"):
        load_splits(tmp_path)
    (folder / "instances_val.json").rename(folder / "instances_test.json")
    assert list(load_splits(tmp_path)) == ["train"]
