"""Semantic masks: indices, ids, colours, and what nobody explains."""

import json

import numpy as np
import pytest
from PIL import Image

from d2ext.data.formats import load_split, load_splits
from d2ext.data.formats.semantic_pixels import with_mask_classes
from d2ext.errors import DataError
from tests.helpers.dataset_folders import save_image, write

VALUES = [[0, 1], [1, 255]]


def save_mask(path, values, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.array(values, dtype=np.uint8)
    image = Image.fromarray(pixels)
    if mode == "P":
        image.putpalette(range(255, -1, -1))
    image.save(path)
    return path


def masks(folder, values=VALUES, mode="L", split=""):
    save_image(folder / "images" / split / "a.png", 2, 2)
    save_mask(folder / "masks" / split / "a.png", values, mode)
    return folder


def pixels(source):
    return np.array(Image.open(source.images[0]["sem_seg_file_name"])).tolist()


def test_masks_of_indices_are_used_as_they_are(tmp_path):
    write(masks(tmp_path) / "classes.txt", "road\nroof\n")
    source = load_split(tmp_path)
    assert (source.task, source.classes, source.ignore_label) == ("semantic", ("road", "roof"), 255)
    assert source.images[0]["sem_seg_file_name"] == str(tmp_path / "masks" / "a.png")
    assert source.issues == []


def test_ids_of_a_list_become_indices(tmp_path):
    masks(tmp_path, [[7, 33], [33, 255]])
    categories = [{"id": 33, "name": "roof"}, {"id": 7, "name": "road"}]
    write(tmp_path / "classes.json", json.dumps({"categories": categories}))
    source = load_split(tmp_path)
    assert source.classes == ("road", "roof")
    assert pixels(source) == [[0, 1], [1, 255]]


def test_palette_masks_hold_indices_not_grey(tmp_path):
    write(masks(tmp_path, mode="P") / "classes.txt", "road\nroof\n")
    source = load_split(tmp_path)
    with Image.open(source.images[0]["sem_seg_file_name"]) as copy:
        assert copy.mode == "L"
    assert pixels(source) == VALUES


def test_colours_become_indices_and_unknown_ones_are_told(tmp_path):
    red, blue, odd = [255, 0, 0], [0, 0, 255], [1, 2, 3]
    masks(tmp_path, [[red, blue], [blue, odd]])
    write(tmp_path / "class_dict.csv", "name,r,g,b\nroad,255,0,0\nroof,0,0,255\n")
    source = load_split(tmp_path)
    assert pixels(source) == [[0, 1], [1, 255]]
    (issue,) = source.issues
    assert issue.code == "labels-unlisted"
    assert issue.detail.startswith("unknown colour")
    assert issue.detail.endswith(": #010203, 1 pixels")


def test_colours_without_a_list_are_a_class_each(tmp_path):
    source = load_split(masks(tmp_path, [[[255, 0, 0], [0, 0, 255]]]))
    assert source.classes == ("#0000ff", "#ff0000")
    assert "each colour" in source.notes[0]


def test_values_beyond_the_list_are_told_and_ignored(tmp_path):
    write(masks(tmp_path, [[0, 1], [5, 5]]) / "classes.txt", "road\nroof\n")
    source = load_split(tmp_path)
    assert pixels(source) == [[0, 1], [255, 255]]
    assert source.issues[0].detail.endswith(": 5, 2 pixels")


@pytest.mark.parametrize("foreground", [1, 255])
def test_two_values_are_background_and_foreground(tmp_path, foreground):
    source = load_split(masks(tmp_path, [[0, foreground]]))
    assert source.classes == ("background", "foreground")
    assert pixels(source) == [[0, 1]]


def test_classes_without_names_are_those_of_all_splits(tmp_path):
    masks(tmp_path, [[0, 1, 2]], split="train")
    masks(tmp_path, [[0, 1, 4]], split="val")
    splits = load_splits(tmp_path)
    assert splits["train"].classes == splits["val"].classes == tuple(f"class_{n}" for n in range(5))


def test_masks_are_paired_by_name_whatever_their_ending(tmp_path):
    save_image(tmp_path / "train" / "0001.png", 2, 2)
    save_image(tmp_path / "train" / "0002.png", 2, 2)
    save_mask(tmp_path / "train_labels" / "0001_L.png", [[0, 1], [1, 1]])
    source = load_split(tmp_path)
    assert len(source.images) == 1
    assert [issue.code for issue in source.issues] == ["labels-missing"]
    assert "image without a mask" in source.issues[0].detail


def test_photos_in_place_of_masks_are_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3))
    with pytest.raises(DataError, match="different values"):
        load_split(masks(tmp_path, noise))


def test_a_mask_cut_short_is_a_fault_of_one_image(tmp_path):
    write(masks(tmp_path) / "classes.txt", "road\nroof\n")
    save_image(tmp_path / "images" / "b.png", 200, 200)
    noise = np.random.default_rng(0).integers(0, 2, (200, 200))
    file = save_mask(tmp_path / "masks" / "b.png", noise)
    file.write_bytes(file.read_bytes()[:1000])
    source = load_split(tmp_path)
    assert [issue.code for issue in source.issues] == ["labels-missing"]
    assert "unreadable mask" in source.issues[0].detail
    assert len(source.images) == 1


def mixed(folder, *names):
    """As Roboflow exports masks: beside their images."""
    for name in names:
        save_image(folder / f"{name}.jpg", 2, 2)
        save_mask(folder / f"{name}_mask.png", VALUES)


def test_masks_beside_their_images_are_told_apart_by_their_ending(tmp_path):
    mixed(tmp_path / "train", "a", "b")
    mixed(tmp_path / "valid", "c")
    write(tmp_path / "train" / "_classes.csv", "Pixel Value, Class\n0, road\n1, roof\n")
    splits = load_splits(tmp_path)
    assert {split: len(source.images) for split, source in splits.items()} == {"train": 2, "val": 1}
    assert splits["train"].classes == ("road", "roof")
    assert splits["train"].images[0]["file_name"].endswith("a.jpg")
    assert splits["train"].images[0]["sem_seg_file_name"].endswith("a_mask.png")
    assert splits["train"].issues == []


def test_an_image_named_as_a_mask_makes_no_data_set(tmp_path):
    mixed(tmp_path, "a")
    save_image(tmp_path / "carnival_mask.png")
    with pytest.raises(DataError, match="no annotations recognised"):
        load_split(tmp_path)


def disc(radius=9, blur=1):
    """A white disc on black, 48 x 48, with a soft edge."""
    y, x = np.mgrid[:48, :48] - 23.5
    return np.clip((radius - np.hypot(x, y)) / (2 * blur) + 0.5, 0, 1) * 255


@pytest.mark.parametrize("mode", ["L", "RGB", "LA"])
@pytest.mark.parametrize(
    ("names", "classes"),
    [
        ("", ("background", "foreground")),
        ("road\nroof\n", ("road", "roof")),
        ("roof\n", ("background", "roof")),
    ],
)
def test_masks_with_soft_edges_are_cut_in_the_middle(tmp_path, mode, names, classes):
    save_image(tmp_path / "images" / "a.png", 48, 48)
    (tmp_path / "masks").mkdir()
    picture = Image.fromarray(disc().astype(np.uint8))
    picture.convert(mode).save(tmp_path / "masks" / "a.png")
    if names:
        write(tmp_path / "classes.txt", names)
    source = load_split(tmp_path)
    assert source.classes == classes
    assert pixels(source) == (disc().astype(np.uint8) >= 128).astype(int).tolist()
    assert "soft edges" in source.notes[0]


def test_noise_of_jpeg_is_no_class(tmp_path):
    save_image(tmp_path / "images" / "a.png", 48, 48)
    (tmp_path / "masks").mkdir()
    Image.fromarray((disc(blur=0.1) >= 128).astype(np.uint8) * 255).save(
        tmp_path / "masks" / "a.jpg", quality=70
    )
    source = load_split(tmp_path)
    assert source.classes == ("background", "foreground")
    assert np.mean(np.array(pixels(source)) == (disc(blur=0.1) >= 128)) > 0.99


def test_regions_of_grey_are_classes(tmp_path):
    values = np.zeros((48, 48))
    values[4:40, 4:40] = 255
    for n in range(4):
        values[8 * n : 8 * n + 8, 40:] = 60 + 20 * n
    source = load_split(masks(tmp_path, values))
    assert len(source.classes) == 121


@pytest.mark.parametrize("names", ["", "road\nroof\n"])
def test_black_and_white_of_any_depth_are_two_classes(tmp_path, names):
    save_image(tmp_path / "images" / "a.png", 2, 2)
    (tmp_path / "masks").mkdir()
    deep = np.array([[0, 65535], [65535, 0]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "masks" / "a.png")
    if names:
        write(tmp_path / "classes.txt", names)
    source = load_split(tmp_path)
    assert len(source.classes) == 2
    assert pixels(source) == [[0, 1], [1, 0]]


def coloured(folder, *colours):
    save_image(folder / "images" / "a.png", len(colours), 1)
    save_mask(folder / "masks" / "a.png", [[*colours]])
    return folder


def test_masks_get_the_indices_of_other_classes_by_their_names(tmp_path):
    black, green, red = [0, 0, 0], [0, 255, 0], [255, 0, 0]
    train = load_split(coloured(tmp_path / "a", black, green, red))
    val = load_split(coloured(tmp_path / "b", red, black))
    assert (train.classes, pixels(val)) == (("#000000", "#00ff00", "#ff0000"), [[1, 0]])
    found = with_mask_classes(val, train.classes)
    assert (found.classes, pixels(found)) == (train.classes, [[2, 0]])
    assert pixels(val) == [[1, 0]]
    assert pixels(with_mask_classes(train, val.classes)) == [[0, 255, 1]]


def test_masks_of_background_alone_are_the_first_of_two_classes(tmp_path):
    val = load_split(masks(tmp_path, [[0, 0], [0, 0]]))
    assert val.classes == ("class_0",)
    found = with_mask_classes(val, ("background", "crack"))
    assert (found.classes, pixels(found)) == (("background", "crack"), [[0, 0], [0, 0]])
