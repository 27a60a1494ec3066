"""Single bad annotations are dropped and listed; what exporters leave out is filled in."""

import json
import logging
import math

import pytest
from PIL import Image
from pycocotools.coco import COCO

from d2ext.data import register_coco, write_dropped
from d2ext.data.cleaning import clean, drop_objects
from d2ext.data.formats import DatasetSplit, load_split
from d2ext.errors import DataError, OutputError
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

NAME = "set/under test"


def load(coco) -> list[dict]:
    register_coco(NAME, coco.write().annotations, coco.images)
    return DatasetCatalog.get(NAME)


def read_again() -> COCO:
    return COCO(MetadataCatalog.get(NAME).json_file)


@pytest.mark.parametrize(
    ("box", "code"),
    [
        ([1, 1, 0, 5], "box-empty"),
        ([1, 1, 5, -3], "box-empty"),
        ([1, math.nan, 5, 5], "box-nonfinite"),
        ([1, 1, math.inf, 5], "box-nonfinite"),
        ([32, 1, 5, 5], "box-outside"),
        ([1, 24, 5, 5], "box-outside"),
        ([-6, 1, 6, 5], "box-outside"),
        ([1, -5, 5, 4], "box-outside"),
    ],
)
def test_a_bad_box_is_dropped_and_listed(coco, tmp_path, caplog, box, code):
    coco.add_box(2, box, area=1)
    before = coco.write().annotations.read_bytes()
    with caplog.at_level(logging.WARNING, logger="d2ext"):
        assert [len(item["annotations"]) for item in load(coco)] == [1, 1, 0]
    assert f"dropped 1 annotations: 1 {code}" in caplog.text
    assert len(read_again().anns) == 2
    assert coco.annotations.read_bytes() == before

    (path,) = write_dropped(tmp_path / "out")
    assert path == tmp_path / "out" / "data_faults" / "set_under_test.json"
    (entry,) = json.loads(path.read_text())
    x, y, width, height = box
    shown = [v if math.isfinite(v) else str(v) for v in map(float, (x, y, x + width, y + height))]
    where = f"{coco.annotations}:3"
    assert {key: entry[key] for key in ("code", "split", "record", "where", "box")} == {
        "code": code,
        "split": NAME,
        "record": 3,
        "where": where,
        "box": shown,
    }
    assert entry["image"] == str(coco.images / "b.png")


@pytest.mark.parametrize("box", [[-3, -3, 5, 5], [30, 20, 9, 9], [0, 0, 32, 24], [3, 3, 0.2, 1]])
def test_a_box_that_reaches_into_the_image_stays(coco, tmp_path, box):
    coco.add_box(2, box)
    assert len(load(coco)[1]["annotations"]) == 2
    assert write_dropped(tmp_path) == []


def test_faults_stay_listed_when_the_set_is_loaded_again(coco, tmp_path, caplog):
    coco.add_box(2, [1, 1, 0, 5])
    with caplog.at_level(logging.WARNING, logger="d2ext"):
        load(coco)
        DatasetCatalog.get(NAME)
    assert caplog.text.count("dropped") == 1
    assert len(write_dropped(tmp_path)) == 1


def test_the_list_of_faults_needs_a_folder_that_can_be_written(coco, tmp_path):
    coco.add_box(2, [1, 1, 0, 5])
    load(coco)
    (tmp_path / "file").touch()
    with pytest.raises((OutputError, OSError)):
        write_dropped(tmp_path / "file")


@pytest.mark.parametrize("first_id", [0, None, "x1"])
def test_annotation_ids_that_evaluation_cannot_use_are_renumbered(coco, first_id):
    coco.document["annotations"][0]["id"] = first_id
    if first_id is None:
        del coco.document["annotations"][0]["id"]
    load(coco)
    assert sorted(read_again().anns) == [1, 2]


def test_missing_areas_and_crowd_flags_are_filled_in(coco):
    for item in coco.document["annotations"]:
        del item["area"], item["iscrowd"]
    load(coco)
    assert {(item["area"], item["iscrowd"]) for item in read_again().anns.values()} == {
        (120, 0),
        (160, 0),
    }


def test_annotations_to_ignore_become_crowd_regions(coco):
    coco.document["annotations"][0]["ignore"] = 1
    coco.document["annotations"][1]["ignore"] = 0
    assert [item["annotations"][0]["iscrowd"] for item in load(coco)[:2]] == [1, 0]


def test_empty_polygons_in_a_file_of_boxes_are_no_fault(coco, tmp_path):
    for item in coco.document["annotations"]:
        item["segmentation"] = [[]]
    assert [len(item["annotations"]) for item in load(coco)] == [1, 1, 0]
    assert write_dropped(tmp_path) == []


def test_an_empty_polygon_among_masks_is_dropped_as_detectron2_does(coco, tmp_path):
    coco.document["annotations"][0]["segmentation"] = [[1, 2, 3, 4]]
    coco.document["annotations"][1]["segmentation"] = [[3, 4, 23, 4, 23, 12]]
    coco.add_box(2, [3, 4, 20, 8], segmentation=[[3, 4, 23, 4, 23, 12]])
    theirs = load_coco_json(str(coco.write().annotations), str(coco.images))
    dicts = load(coco)
    assert [len(d["annotations"]) for d in dicts] == [len(d["annotations"]) for d in theirs]
    assert "three points" in write_dropped(tmp_path)[0].read_text()
    assert len(read_again().anns) == 2


def test_a_stray_polygon_is_dropped_and_said_to_be_no_object(coco, caplog):
    triangle = [3, 4, 23, 4, 23, 12]
    coco.document["annotations"][0]["segmentation"] = [[1, 2, 3, 4], triangle]
    coco.document["annotations"][1]["segmentation"] = [triangle, []]
    with caplog.at_level(logging.WARNING, logger="d2ext"):
        objects = [item for image in load(coco) for item in image["annotations"]]
    assert [item["segmentation"] for item in objects] == [[triangle], [triangle]]
    assert "dropped 1 masks' stray polygons, the masks stay: 1 mask-stray" in caplog.text
    assert caplog.text.count("dropped") == 1


def test_an_empty_polygon_among_masks_is_no_mask(coco, tmp_path):
    coco.document["annotations"][0]["segmentation"] = [[]]
    coco.document["annotations"][1]["segmentation"] = [[3, 4, 23, 4, 23, 12]]
    assert [len(item["annotations"]) for item in load(coco)] == [1, 1, 0]
    assert write_dropped(tmp_path) == []


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ({"bbox": [1, 1, 0, 5]}, "1 box-empty"),
        ({"bbox": [90, 1, 5, 5]}, "1 box-outside"),
        ({"bbox": [1, 1]}, "annotations have something else"),
        ({"segmentation": {"size": [24, 30], "counts": "04"}}, "1 mask-size"),
        ({"segmentation": {"size": [24, 32], "counts": "04"}}, "1 mask-polygon"),
    ],
)
def test_where_half_of_the_objects_cannot_be_used_training_does_not_start(coco, bad, code):
    coco.document["annotations"][0] |= bad
    with pytest.raises(DataError, match=code):
        load(coco)


def test_where_half_of_the_keypoints_cannot_be_used_training_does_not_start(coco):
    coco.document["annotations"][0] |= {"keypoints": [3, 3, 2, 4, 4, 2], "num_keypoints": 2}
    coco.document["annotations"][1] |= {"keypoints": [3, 3, 2, 4, 4, 7], "num_keypoints": 2}
    with pytest.raises(DataError, match="the keypoints of 1 of 2 objects cannot be used"):
        load(coco)


@pytest.mark.parametrize("scale", [1 / 64, None])
def test_boxes_of_another_unit_are_refused(coco, scale):
    boxes = [[2, 3, 12, 9], [14, 3, 26, 20], [10, 9, 31, 22], [18, 9, 30, 22]]
    coco.document["annotations"].clear()
    for box in boxes:  # corners, or shares
        coco.add_box(1, [n * scale for n in box] if scale else box)
    with pytest.raises(DataError, match="box-normalised" if scale else "box-corners"):
        load(coco)


def test_what_is_not_ascii_is_handed_on_in_a_way_that_any_machine_reads(coco):
    coco.document["categories"][0]["name"] = "Käfer"
    coco.annotations.write_text(json.dumps(coco.document, ensure_ascii=False), encoding="utf-8")
    register_coco(NAME, coco.annotations, coco.images)
    DatasetCatalog.get(NAME)
    with open(MetadataCatalog.get(NAME).json_file, "rb") as file:
        assert file.read().isascii()
    assert MetadataCatalog.get(NAME).thing_classes[0] == "Käfer"


def test_a_repaired_copy_is_named_by_its_content(coco, own_cache):
    coco.add_box(2, [1, 1, 0, 5])
    load(coco)
    coco.add_box(1, [5, 5, 5, 5])
    assert len(load(coco)[0]["annotations"]) == 2
    assert len(list((own_cache / "annotations").iterdir())) == 2


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    ("points", "code"),
    [([3, 3, 2, 5, 5, 2], "keypoint-count"), ([3, 3, 2, 5, 5, 2, 6, 6, 7], "keypoint-value")],
)
def test_bad_keypoints_are_dropped_and_their_object_stays(coco, caplog, named, points, code):
    sound = [3, 3, 2, 5, 5, 2, 6, 6, 1]
    for item in coco.document["annotations"]:
        item |= {"keypoints": sound, "num_keypoints": 3}
    coco.add_box(1, [1, 1, 9, 9], keypoints=points, num_keypoints=2)
    if named:
        coco.document["categories"][0]["keypoints"] = ["a", "b", "c"]
    with caplog.at_level(logging.WARNING, logger="d2ext"):
        objects = [item for image in load(coco) for item in image["annotations"]]
    assert sorted(len(item.get("keypoints", ())) for item in objects) == [0, 9, 9]
    assert f"dropped 1 objects' keypoints, the objects stay: 1 {code}" in caplog.text


def test_objects_of_other_kinds_without_a_box_in_the_image_are_kept(tmp_path):
    objects = [
        {"category_id": 0, "iscrowd": 0, "record": 1, "bbox_3d": [0.0] * 7},
        {"category_id": 0, "iscrowd": 0, "record": 2, "bbox": [1, 2, 0, 4], "bbox_mode": 1},
    ]
    image = {"file_name": "a.png", "image_id": 1, "height": 8, "width": 8, "annotated_in": ""}
    images = [{**image, "annotations": objects}]
    dataset = DatasetSplit("scenes", tmp_path, "", "boxes", ("car",), images)
    cleaned, issues = drop_objects(dataset)
    assert [item["record"] for item in cleaned.images[0]["annotations"]] == [1]
    assert [issue.code for issue in issues] == ["box-empty"]


@pytest.mark.parametrize("rotation", [0, 30])
def test_polygons_that_the_reader_has_looked_at_are_not_looked_at_again(
    tmp_path, monkeypatch, rotation
):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    box = {"id": 2, "image_id": 1, "category_id": 1, "bbox": [2, 2, 9, 9], "area": 81, "iscrowd": 0}
    masked = {**box, "id": 1, "segmentation": [[2, 2, 9, 2, 9, 9]]}
    turned = {**box, "attributes": {"rotation": rotation}}
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 32, "height": 32}],
        "annotations": [masked, turned],
        "categories": [{"id": 1, "name": "a"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(document), encoding="utf-8")
    dataset = load_split(tmp_path / "a.json", images=tmp_path)
    seen = []
    monkeypatch.setattr(
        "d2ext.data.cleaning.invalid_mask", lambda mask, *_: seen.append(bool(mask))
    )
    clean(dataset)
    assert any(seen) is bool(rotation)  # turned boxes became polygons after the reader's look
