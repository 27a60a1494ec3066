"""Label Studio's JSON: regions in percent, turned rectangles, brushes, skipped tasks."""

import json

import pytest
from pycocotools import mask as coco_mask

from d2ext.data.formats import load_split, load_splits
from d2ext.data.formats.corners import corners_of
from d2ext.data.formats.label_studio_runs import decode_runs
from d2ext.errors import DataError
from tests.helpers.dataset_folders import save_image, write

SIZE = {"original_width": 32, "original_height": 24, "image_rotation": 0}
BOX = {"x": 25.0, "y": 50.0, "width": 50.0, "height": 25.0, "rotation": 0}


def region(kind, value, label="cat"):
    return {**SIZE, "id": "r", "type": kind, "value": {**value, kind: [label]}}


def task(*regions, image="/data/upload/1/0a1b2c3d-a.png"):
    return {"id": 7, "data": {"image": image}, "annotations": [{"result": list(regions)}]}


def tasks(folder, *items):
    save_image(folder / "images" / "a.png")
    return write(folder / "project-1.json", json.dumps(list(items)))


@pytest.mark.parametrize(
    "image",
    [
        "/data/upload/1/0a1b2c3d-a.png",
        "/data/local-files/?d=photos/a.png",
        "https://example.org/x/a.png?sign=1",
        "a.png",
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_rectangles_are_read_whatever_names_their_image(tmp_path, image, named):
    file = tasks(tmp_path, task(region("rectanglelabels", BOX), image=image))
    source = load_split(file if named else tmp_path)
    assert (source.format, source.task, source.classes) == ("Label Studio", "boxes", ("cat",))
    assert source.images[0]["annotations"][0]["bbox"] == [8, 12, 16, 6]


def test_json_min_has_regions_in_the_task(tmp_path):
    regions = [{**SIZE, **BOX, "rectanglelabels": ["cat"]}]
    source = load_split(tasks(tmp_path, {"id": 1, "image": "/data/upload/a.png", "label": regions}))
    assert source.images[0]["annotations"][0]["bbox"] == [8, 12, 16, 6]


def test_a_turned_rectangle_turns_clockwise_about_its_top_left_corner(tmp_path):
    turned = region("rectanglelabels", {**BOX, "rotation": 90})
    source = load_split(tasks(tmp_path, task(turned, region("rectanglelabels", BOX))))
    first, second = (item["bbox"] for item in source.images[0]["annotations"])
    assert source.task == "rotated"
    # The top side points down now.
    assert corners_of(first) == pytest.approx([8, 12, 8, 28, 2, 28, 2, 12])
    assert second == [16, 15, 16, 6, 0]


def test_polygons_and_ellipses_are_masks(tmp_path):
    polygon = region("polygonlabels", {"points": [[25, 25], [50, 25], [50, 50]]})
    ellipse = region("ellipselabels", {"x": 50, "y": 50, "radiusX": 25, "radiusY": 25})
    source = load_split(tasks(tmp_path, task(polygon, ellipse, region("rectanglelabels", BOX))))
    one, other, box = source.images[0]["annotations"]
    assert source.task == "masks"
    assert one["segmentation"] == [[8, 6, 16, 6, 16, 12]]
    assert other["bbox"] == pytest.approx([8, 6, 16, 12], abs=0.2)
    assert "segmentation" not in box


def bits(*pairs):
    text = "".join(f"{value:0{width}b}" for value, width in pairs)
    text += "0" * (-len(text) % 8)
    return [int(text[n : n + 8], 2) for n in range(0, len(text), 8)]


def test_run_lengths_of_bits_are_decoded():
    # 6 values of 8 bits, lengths of 3 bits: three times 255, then 0, 7, 9.
    head = [(6, 32), (7, 5), (2, 4), (2, 4), (2, 4), (2, 4)]
    repeated, single = [(1, 1), (0, 2), (2, 3), (255, 8)], [(0, 1), (1, 2), (2, 3)]
    runs = bytes(bits(*head, *repeated, *single, (0, 8), (7, 8), (9, 8)))
    assert decode_runs(runs).tolist() == [255, 255, 255, 0, 7, 9]
    with pytest.raises(IndexError):
        decode_runs(runs[:-2])


def test_a_brush_is_the_alpha_of_its_picture(tmp_path):
    count = 4 * 32 * 24
    head = [(count, 32), (7, 5), (15, 4), (15, 4), (15, 4), (15, 4)]
    run = [(1, 1), (0, 2), (count // 2 - 1, 16)]
    runs = bits(*head, *run, (255, 8), *run, (0, 8))
    source = load_split(tasks(tmp_path, task(region("brushlabels", {"rle": runs}))))
    (item,) = source.images[0]["annotations"]
    assert item["bbox"] == [0, 0, 32, 12]
    assert coco_mask.area(item["segmentation"]) == 32 * 12


def test_a_skipped_annotation_is_none_and_other_regions_are_issues(tmp_path):
    points = region("keypointlabels", {"x": 1, "y": 2, "width": 1})
    kept = task(region("rectanglelabels", BOX), points)
    kept["annotations"].append({"result": [], "was_cancelled": True})
    source = load_split(tasks(tmp_path, kept))
    assert source.num_annotations == 1
    (issue,) = source.issues
    assert (issue.code, "keypointlabels" in issue.detail) == ("record-broken", True)


@pytest.mark.parametrize("kind", ["rectanglelabels", "ellipselabels"])
def test_a_turn_without_end_is_an_issue(tmp_path, kind):
    shape = BOX if kind == "rectanglelabels" else {"x": 50, "y": 50, "radiusX": 9, "radiusY": 5}
    source = load_split(tasks(tmp_path, task(region(kind, {**shape, "rotation": "1e999"}))))
    assert source.num_annotations == 0
    assert [issue.code for issue in source.issues] == ["record-broken"]


def test_results_of_one_region_are_joined(tmp_path):
    shape = {**SIZE, "id": "r", "type": "rectangle", "value": BOX}
    label = {**SIZE, "id": "r", "type": "labels", "value": {**BOX, "labels": ["cat"]}}
    choice = {"id": "s", "type": "choices", "value": {"choices": ["dog", "pup"]}}
    of_image = {"id": "t", "type": "choices", "value": {"choices": ["sharp"]}}
    results = [shape, label, {**shape, "id": "s"}, choice, of_image]
    source = load_split(tasks(tmp_path, task(*results)))
    assert (source.num_annotations, source.classes) == (2, ("cat", "dog"))
    assert source.issues == []
    assert source.notes == ["1 regions have several labels: the first one counts"]


def test_a_task_that_nobody_has_annotated_is_no_image_without_objects(tmp_path):
    box = region("rectanglelabels", BOX)
    skipped = {**task(), "annotations": [{"result": [], "was_cancelled": True}]}
    waiting = {**task(), "annotations": []}
    twice = {**task(), "annotations": [{"result": [box]}, {"result": []}]}
    turned = task({**box, "image_rotation": 90})
    source = load_split(tasks(tmp_path, turned, skipped, waiting, twice))
    assert [len(image["annotations"]) for image in source.images] == [1, 0]
    assert [note.partition(" ")[::2] for note in source.notes] == [
        ("1", "regions were drawn on turned images (image_rotation): look whether they fit"),
        ("2", "tasks have no annotation, or it was skipped: their images are left out"),
        ("1", "tasks have several annotations: the last one counts"),
    ]
    with pytest.raises(DataError, match="none of its 2 tasks is annotated"):
        load_split(tasks(tmp_path, skipped, waiting))


def test_images_that_are_elsewhere_have_to_be_named(tmp_path):
    file = tasks(tmp_path, task(region("rectanglelabels", BOX), image="/data/upload/1/z.png"))
    with pytest.raises(DataError, match="Export them, or name their folder"):
        load_split(file)


def point(name, x, y, own, **more):
    found = region("keypointlabels", {"x": x, "y": y, "width": 0.5}, name)
    return {**found, "id": own, **more}


PERSON = {**region("rectanglelabels", BOX, "person"), "id": "p"}


def relation(start, end):
    return {"type": "relation", "from_id": start, "to_id": end, "direction": "right"}


def test_points_are_keypoints_of_their_parent_or_of_what_they_relate_to(tmp_path):
    points = [
        point("left eye", 25, 50, "a", parentID="p"),
        point("nose", 50, 50, "b"),
        point("right eye", 75, 50, "c"),
    ]
    results = [points[0], PERSON, *points[1:], relation("b", "p"), relation("p", "c")]
    source = load_split(tasks(tmp_path, task(*results)))
    (item,) = source.images[0]["annotations"]
    assert (source.task, source.classes, source.issues) == ("keypoints", ("person",), [])
    assert source.metadata["keypoint_names"] == ["left eye", "nose", "right eye"]
    assert source.metadata["keypoint_flip_map"] == [("left eye", "right eye")]
    assert item["bbox"] == [8, 12, 16, 6]
    assert item["keypoints"] == [8, 12, 2, 16, 12, 2, 24, 12, 2]


def test_points_whose_labels_are_results_of_their_own_are_keypoints(tmp_path):
    place = {"x": 50, "y": 25, "width": 0.5}
    shape = {**SIZE, "id": "a", "type": "keypoint", "value": place, "parentID": "p"}
    label = {**SIZE, "id": "a", "type": "labels", "value": {**place, "labels": ["nose"]}}
    source = load_split(tasks(tmp_path, task(PERSON, shape, label)))
    assert source.images[0]["annotations"][0]["keypoints"] == [16, 6, 2]
    assert source.issues == []


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([point("eye", 1, 2, "a")], "belongs to no object by its parent or relation"),
        ([point("eye", 1, 2, "a", parentID="z")], "belongs to no object"),
        (
            [point("eye", 1, 2, "a"), relation("a", "p"), relation("q", "a")],
            "belongs to several objects",
        ),
        ([point("eye", "x", 2, "a", parentID="p")], "point without a place"),
    ],
)
def test_a_point_that_is_no_keypoint_is_an_issue(tmp_path, results, message):
    source = load_split(tasks(tmp_path, task(PERSON, {**PERSON, "id": "q"}, *results)))
    (issue,) = source.issues
    assert issue.code == "record-broken"
    assert issue.detail.startswith("keypointlabels: ")
    assert message in issue.detail
    assert (source.task, source.num_annotations) == ("boxes", 2)


def test_files_of_splits_have_one_list_of_keypoints(tmp_path):
    save_image(tmp_path / "images" / "a.png")
    for split, name in (("train", "right eye"), ("val", "left eye")):
        results = task(PERSON, point(name, 50, 50, "a", parentID="p"))
        write(tmp_path / f"{split}.json", json.dumps([results]))
    found = load_splits(tmp_path)
    assert [source.metadata["keypoint_names"] for source in found.values()] == [
        ["right eye", "left eye"],
        ["right eye", "left eye"],
    ]
    assert found["val"].images[0]["annotations"][0]["keypoints"] == [0, 0, 0, 16, 12, 2]
