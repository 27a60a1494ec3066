"""Round trips, what is lost, and that nothing is harmed."""

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from d2ext.cli.convert_data import main
from d2ext.data.formats import load_splits
from d2ext.errors import DataError, OutputError
from tests.helpers.dataset_folders import save_image, write

BOXES = st.tuples(
    st.floats(0, 600), st.floats(0, 400), st.floats(0.5, 300), st.floats(0.5, 300)
).map(list)


def coco(folder, annotations, split="train"):
    """A COCO data set of an image of 640 x 480 pixels."""
    save_image(folder / "images" / split / "a.png", 640, 480)
    items = [
        {"id": n, "image_id": 1, "category_id": 1 + n % 2, "iscrowd": 0, **item}
        for n, item in enumerate(annotations, start=1)
    ]
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 640, "height": 480}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": items,
    }
    write(folder / "annotations" / f"instances_{split}.json", json.dumps(document))
    return folder


def convert(source, kind, out, *more):
    main([str(source), "--to", kind, str(out), *more])
    return out


def objects(path):
    return [
        (split, source.classes[item["category_id"]], item)
        for split, source in load_splits(path).items()
        for image in source.images
        for item in image["annotations"]
    ]


@pytest.mark.parametrize("kind", ["yolo", "voc", "coco"])
@settings(max_examples=20, deadline=None)
@given(boxes=st.lists(BOXES, min_size=1, max_size=5))
def test_there_and_back_every_box_is_the_same_to_a_hundredth(kind, boxes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trip")
    coco(folder / "from", [{"bbox": box} for box in boxes])
    back = convert(convert(folder / "from", kind, folder / kind), "coco", folder / "back")
    before, after = objects(folder / "from"), objects(back)
    assert [found[:2] for found in after] == [found[:2] for found in before]
    for (_, _, ours), (_, _, theirs) in zip(after, before, strict=True):
        assert ours["bbox"] == pytest.approx(theirs["bbox"], abs=0.01)


@pytest.mark.parametrize("kind", ["yolo", "voc"])
@settings(max_examples=20, deadline=None)
@given(box=st.tuples(*[st.floats(100, 300)] * 2, *[st.floats(5, 90)] * 2, st.floats(-179, 179)))
def test_rotated_boxes_come_back_too(kind, box, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trip")
    coco(folder / "from", [{"bbox": list(box)}])
    ((_, _, found),) = objects(convert(folder / "from", kind, folder / kind))
    assert found["bbox"] == pytest.approx(list(box), abs=0.01)


def test_polygons_go_to_yolo_and_back_four_corners_too(tmp_path):
    polygons = [[1, 1, 9, 1, 9, 9, 1, 9], [20, 20, 30, 20, 25, 33]]
    coco(tmp_path / "from", [{"bbox": [1, 1, 8, 8], "segmentation": [polygons[0]]}])
    ((_, _, found),) = objects(convert(tmp_path / "from", "yolo", tmp_path / "yolo"))
    assert found["segmentation"] == [pytest.approx([*polygons[0], 1, 1])]


def test_run_lengths_become_polygons_of_the_same_pixels(tmp_path):
    runs = {"size": [480, 640], "counts": [480 * 10 + 20, 30, 450, 30, 480 * 640 - 480 * 10 - 530]}
    coco(tmp_path / "from", [{"bbox": [10, 20, 2, 30], "segmentation": runs}])
    ((_, _, found),) = objects(convert(tmp_path / "from", "yolo", tmp_path / "yolo"))
    assert found["bbox"] == pytest.approx([10, 20, 2, 30])


def test_what_the_target_cannot_hold_is_counted(tmp_path, capsys):
    parts = [[1, 1, 9, 1, 9, 9], [20, 20, 30, 20, 25, 33]]
    items = [
        {"bbox": [1, 1, 29, 32], "segmentation": parts},
        {"bbox": [1, 1, 5, 5], "iscrowd": 1},
        {"bbox": [1, 1, 5, 5], "category_id": 9},
    ]
    coco(tmp_path / "from", items)
    convert(tmp_path / "from", "yolo", tmp_path / "yolo")
    said = capsys.readouterr().out
    assert "1 masks of several parts joined" in said
    assert "1 crowd regions left out" in said
    assert "1 class-unknown: left out while reading" in said
    convert(tmp_path / "from", "voc", tmp_path / "voc")
    assert "1 masks" in capsys.readouterr().out


def test_every_split_is_converted_with_the_same_classes(tmp_path):
    for split in ("train", "val"):
        coco(tmp_path / "from", [{"bbox": [1, 1, 5, 5]}], split)
    splits = load_splits(convert(tmp_path / "from", "yolo", tmp_path / "yolo"))
    assert {split: source.classes for split, source in splits.items()} == {
        "train": ("cat", "dog"),
        "val": ("cat", "dog"),
    }
    assert len({image["file_name"] for s in splits.values() for image in s.images}) == 2


@pytest.mark.parametrize("images", ["link", "copy"])
def test_images_are_linked_or_copied(tmp_path, images):
    coco(tmp_path / "from", [{"bbox": [1, 1, 5, 5]}])
    out = convert(tmp_path / "from", "coco", tmp_path / "out", "--images", images)
    source, target = (p / "images" / "train" / "a.png" for p in (tmp_path / "from", out))
    assert source.read_bytes() == target.read_bytes()
    assert source.samefile(target) == (images == "link")


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    coco(tmp_path / "from", [{"bbox": [1, 1, 5, 5]}])
    mine = write(tmp_path / "out" / "mine.txt", "mine")
    with pytest.raises(OutputError, match="not empty"):
        convert(tmp_path / "from", "yolo", tmp_path / "out")
    assert [file.name for file in mine.parent.iterdir()] == ["mine.txt"]


def test_nothing_is_left_of_a_conversion_that_fails(tmp_path, monkeypatch):
    coco(tmp_path / "from", [{"bbox": [1, 1, 5, 5]}])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("d2ext.data.conversion.convert.shutil.copyfile", full)
    with pytest.raises(OutputError, match="No space"):
        convert(tmp_path / "from", "yolo", tmp_path / "out", "--images", "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["from"]


def test_semantic_masks_are_refused(tmp_path):
    save_image(tmp_path / "from" / "images" / "a.png")
    save_image(tmp_path / "from" / "masks" / "a.png")
    with pytest.raises(DataError, match="semantic masks have no objects"):
        convert(tmp_path / "from", "yolo", tmp_path / "out")


def test_pairs_of_keypoints_go_to_yolo_and_back(tmp_path):
    points = {"bbox": [10, 10, 50, 50], "keypoints": [12, 12, 2, 40, 12, 2, 25, 25, 2]}
    file = coco(tmp_path / "from", [points]) / "annotations" / "instances_train.json"
    document = json.loads(file.read_text())
    document["categories"][0]["keypoints"] = ["left_eye", "right_eye", "nose"]
    file.write_text(json.dumps(document))
    made = convert(tmp_path / "from", "yolo", tmp_path / "yolo")
    assert yaml.safe_load((made / "data.yaml").read_text())["flip_idx"] == [1, 0, 2]
    (source,) = load_splits(made).values()
    assert source.metadata["keypoint_flip_map"] == [("left_eye", "right_eye")]


def test_pairs_without_names_are_lost_in_coco_and_said_to_be(tmp_path, capsys):
    save_image(tmp_path / "from" / "images" / "train" / "a.png")
    labels = "0 0.5 0.5 0.5 0.5 0.4 0.4 2 0.6 0.4 2\n"
    write(tmp_path / "from" / "labels" / "train" / "a.txt", labels)
    text = "train: images/train\nnames: [cat]\nkpt_shape: [2, 3]\nflip_idx: [1, 0]\n"
    write(tmp_path / "from" / "data.yaml", text)
    convert(tmp_path / "from", "coco", tmp_path / "out")
    assert "pairs of keypoints for mirroring (flip_idx)" in capsys.readouterr().out


def test_a_name_with_half_a_character_is_one_message(tmp_path):
    folder = coco(tmp_path / "from", [{"bbox": [1, 1, 5, 5]}])
    (file,) = folder.rglob("*.json")
    file.write_text(file.read_text().replace('"cat"', '"c\\ud800t"'))
    with pytest.raises(DataError, match=r"a name holds '\\ud800', half of a character"):
        convert(folder, "coco", tmp_path / "out")
    assert not (tmp_path / "out").exists()
