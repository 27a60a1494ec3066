"""YOLO: where data.yaml's paths lead, and every kind of label line."""

import pytest
from PIL import Image, features

from d2ext.data.formats import load_split, load_splits
from d2ext.errors import DataError
from detectron2.structures import BoxMode
from tests.helpers.dataset_folders import save_image, write

BOX = "1 0.5 0.5 0.25 0.5\n"  # [12, 6, 8, 12] of 32 x 24


def yolo(folder, labels=BOX, yaml="train: images/train\nnames: [cat, dog]\n"):
    save_image(folder / "images" / "train" / "a.png")
    write(folder / "labels" / "train" / "a.txt", labels)
    write(folder / "data.yaml", yaml)
    return folder


def objects(source):
    return [item for image in source.images for item in image["annotations"]]


def test_a_box_is_in_pixels_and_its_class_is_named(tmp_path):
    source = load_split(yolo(tmp_path))
    (item,) = objects(source)
    assert item["bbox"] == [12.0, 6.0, 8.0, 12.0]
    assert source.classes[item["category_id"]] == "dog"
    assert (source.task, source.split) == ("boxes", "train")


@pytest.mark.parametrize(
    "yaml",
    [
        "train: images/train\nnames: {0: cat, 1: dog}\n",
        "path: .\ntrain: images/train\nnames: [cat, dog]\n",
        "train: ../images/train\nnames: [cat, dog]\n",  # as exports of Roboflow have it
        "train: [images/train]\nval: \nnames: [cat, dog]\n",
        "train: ..\\images\\train\nnames: [cat, dog]\n",
        "train: /content/drive/set/images/train\nnames: [cat, dog]\n",
        "train: train.txt\nnames: [cat, dog]\n",
    ],
)
def test_spellings_of_the_yaml_lead_to_the_same(tmp_path, yaml):
    write(tmp_path / "train.txt", "./images/train/a.png\n")
    assert [item["bbox"] for item in objects(load_split(yolo(tmp_path, yaml=yaml)))] == [
        [12.0, 6.0, 8.0, 12.0]
    ]


def test_the_path_key_counts_from_the_yaml_and_then_by_itself(tmp_path):
    yolo(tmp_path / "data")
    yaml = f"path: {tmp_path}/data\ntrain: images/train\nnames: [cat, dog]\n"
    assert len(objects(load_split(write(tmp_path / "elsewhere" / "data.yaml", yaml)))) == 1
    yaml = "path: ../data\ntrain: images/train\nnames: [cat, dog]\n"
    assert len(objects(load_split(write(tmp_path / "elsewhere" / "data.yaml", yaml)))) == 1


def test_a_missing_path_lists_every_place_that_was_tried(tmp_path):
    file = write(tmp_path / "data.yaml", "path: some/root\ntrain: pictures\nnames: [cat]\n")
    with pytest.raises(DataError) as error:
        load_split(file)
    for place in (tmp_path / "pictures", tmp_path / "some/root/pictures", "some/root/pictures"):
        assert str(place) in str(error.value)


def test_images_without_labels_are_background(tmp_path):
    save_image(yolo(tmp_path) / "images" / "train" / "b.png")
    assert [len(image["annotations"]) for image in load_split(tmp_path).images] == [1, 0]


def test_polygons_get_the_box_around_them(tmp_path):
    source = load_split(yolo(tmp_path, "0 0.25 0.25 0.5 0.25 0.5 0.75\n"))
    (item,) = objects(source)
    assert source.task == "masks"
    assert item["segmentation"] == [[8, 6, 16, 6, 16, 18]]
    assert item["bbox"] == [8, 6, 8, 12]


def test_four_corners_in_every_label_are_oriented_boxes(tmp_path):
    source = load_split(yolo(tmp_path, "0 0.25 0.25 0.5 0.25 0.5 0.75 0.25 0.75\n"))
    (item,) = objects(source)
    assert (source.task, item["bbox_mode"]) == ("rotated", BoxMode.XYWHA_ABS)
    assert item["bbox"] == pytest.approx([12, 12, 8, 12, 0])


def test_four_corners_beside_other_polygons_are_polygons(tmp_path):
    quad, triangle = "0 0.25 0.25 0.5 0.25 0.5 0.75 0.25 0.75", "0 0.1 0.1 0.2 0.1 0.2 0.2"
    source = load_split(yolo(tmp_path, f"{quad}\n{triangle}\n"))
    assert source.task == "masks"


def two_splits(folder, train, val):
    save_image(folder / "images" / "val" / "b.png")
    write(folder / "labels" / "val" / "b.txt", val)
    return yolo(folder, train, "train: images/train\nval: images/val\nnames: [cat]\n")


QUAD = "0 0.25 0.25 0.5 0.25 0.5 0.75 0.25 0.75\n"
PENTAGON = "0 0.25 0.25 0.5 0.25 0.5 0.75 0.25 0.75 0.2 0.5\n"


@pytest.mark.parametrize("with_yaml", [True, False])
@pytest.mark.parametrize(
    ("train", "val", "task"),
    [(PENTAGON, QUAD, "masks"), (QUAD, PENTAGON, "masks"), (QUAD, QUAD, "rotated")],
)
def test_four_corners_mean_the_same_in_all_splits(tmp_path, train, val, task, with_yaml):
    two_splits(tmp_path, train, val)
    if not with_yaml:
        (tmp_path / "data.yaml").unlink()
    assert {source.task for source in load_splits(tmp_path).values()} == {task}


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        ("[yes, no]", ("yes", "no")),
        ("{0: on, 1: off}", ("on", "off")),
        ("[007, 1_0]", ("007", "1_0")),
        ("[null, 'true']", ("null", "true")),
    ],
)
def test_names_of_classes_are_text(tmp_path, names, classes):
    source = load_split(yolo(tmp_path, yaml=f"train: images/train\nnames: {names}\n"))
    assert source.classes == classes


def test_a_confidence_behind_a_box_is_not_used(tmp_path):
    source = load_split(yolo(tmp_path, f"1 0.5 0.5 0.25 0.5 0.87\n{BOX}"))
    assert [item["bbox"] for item in objects(source)] == [[12.0, 6.0, 8.0, 12.0]] * 2
    assert "1 labels end with a confidence, which is not used" in source.notes


def test_a_count_of_classes_that_is_not_that_of_the_names_is_noted(tmp_path):
    source = load_split(yolo(tmp_path, yaml="train: images/train\nnc: 3\nnames: [cat, dog]\n"))
    assert source.classes == ("cat", "dog")
    assert "nc is 3, but names lists 2 classes, which count" in source.notes


def test_keypoints_follow_kpt_shape(tmp_path):
    yaml = "train: images/train\nnames: [cat]\nkpt_shape: [2, 3]\n"
    source = load_split(yolo(tmp_path, "0 0.5 0.5 0.25 0.5 0.5 0.5 2 0 0 0\n", yaml))
    assert source.task == "keypoints"
    assert objects(source)[0]["keypoints"] == [16.0, 12.0, 2.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("1 0.5 0.5", "label of 3 numbers"),
        ("1 0.5 0.5 0.2 x", "label that is not numbers"),
        ("7 0.5 0.5 0.2 0.2", "unknown class"),
        ("1.5 0.5 0.5 0.2 0.2", "label without a class index"),
        ("-1 0.5 0.5 0.2 0.2", "label without a class index"),
        ("nan 0.5 0.5 0.2 0.2", "label without a class index"),
        ("inf 0.5 0.5 0.2 0.2", "label without a class index"),
        ("1e18 0.5 0.5 0.2 0.2", "label without a class index"),
        ("1 16 12 8 12", "label that is not normalised"),
    ],
)
def test_a_wrong_line_is_told_and_the_others_are_read(tmp_path, line, what):
    source = load_split(yolo(tmp_path, f"\n{line}\n{BOX}"))
    (issue,) = source.issues
    assert issue.code == ("class-unknown" if what == "unknown class" else "record-broken")
    assert issue.detail.startswith(what)
    assert source.issues[0].where.endswith("a.txt:2")
    assert len(objects(source)) == 1


def test_labels_that_are_no_text_are_a_fault_of_one_file(tmp_path):
    (yolo(tmp_path) / "labels" / "train" / "a.txt").write_bytes(b"\xff\xfe\x00")
    (issue,) = load_split(tmp_path / "data.yaml").issues
    assert issue.code == "file-unreadable"
    assert issue.detail.startswith("unreadable labels")


def test_an_image_that_cannot_be_read_is_told(tmp_path):
    write(yolo(tmp_path) / "images" / "train" / "b.png", "no image")
    (issue,) = load_split(tmp_path).issues
    assert issue.code == "image-unreadable"
    assert "unreadable image" in issue.detail


def test_folders_without_a_yaml_take_names_from_classes_txt(tmp_path):
    for split in ("train", "valid"):
        save_image(tmp_path / split / "images" / "a.png")
        write(tmp_path / split / "labels" / "a.txt", BOX)
    write(tmp_path / "classes.txt", "cat\ndog\n")
    splits = load_splits(tmp_path)
    assert list(splits) == ["train", "val"]
    assert splits["val"].classes == ("cat", "dog")


def test_labels_beside_images_are_found(tmp_path):
    save_image(tmp_path / "a.png")
    write(tmp_path / "a.txt", BOX)
    write(tmp_path / "obj.names", "cat\ndog\n")
    assert [item["bbox"] for item in objects(load_split(tmp_path))] == [[12.0, 6.0, 8.0, 12.0]]


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ("names: [cat]\n", "names no train, val or test"),
        ("train: 3\nnames: [cat]\n", "train must be a path"),
        ("train: images/train\nnames: '[cat'\n", "names must be a list or a mapping"),
        ("train: images/train\nnames: {a: cat}\n", "names must be by index"),
        ("train: images/train\nnames: {999999999999: cat}\n", "names has the index 999999999999"),
        ("!!python/object:os.system {}\n", "plain YAML"),
        ("- a\n", "no mapping"),
    ],
)
def test_a_yaml_that_cannot_be_used_says_why(tmp_path, yaml, said):
    yolo(tmp_path, yaml=yaml)
    with pytest.raises(DataError, match=said):
        load_split(tmp_path / "data.yaml")


def darknet(folder, named="data/obj_train_data/a.png"):
    """As CVAT exports "YOLO 1.1": every path begins with a folder that is not there."""
    save_image(folder / "obj_train_data" / "a.png")
    write(folder / "obj_train_data" / "a.txt", BOX)
    write(folder / "obj.names", "cat\ndog\n")
    write(folder / "obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n")
    write(folder / "train.txt", f"{named}\n")
    return folder


@pytest.mark.parametrize("named", ["data/obj_train_data/a.png", "D:\\set\\obj_train_data\\a.png"])
def test_darknets_list_stands_for_the_yaml(tmp_path, named):
    source = load_splits(darknet(tmp_path, named))["train"]
    assert source.classes == ("cat", "dog")
    assert [item["bbox"] for item in objects(source)] == [[12.0, 6.0, 8.0, 12.0]]


def test_darknets_list_names_the_images_that_count(tmp_path):
    save_image(darknet(tmp_path) / "obj_train_data" / "b.png")
    assert len(load_splits(tmp_path)["train"].images) == 1


def test_a_test_split_that_an_export_names_but_does_not_bring_is_told(tmp_path):
    yaml = "train: ../images/train\ntest: ../images/test\nnames: [cat, dog]\n"
    splits = load_splits(yolo(tmp_path, yaml=yaml))
    assert list(splits) == ["train"]
    (issue,) = splits["train"].issues
    assert issue.code == "split-missing"
    assert "split that cannot be read" in issue.detail
    assert "images/test does not exist. Tried: " in issue.detail


def test_names_in_the_folder_of_one_split_hold_for_all(tmp_path):
    for split in ("train", "valid"):
        save_image(tmp_path / split / "images" / "a.png")
        write(tmp_path / split / "labels" / "a.txt", BOX)
    write(tmp_path / "train" / "data.yaml", "train: ../train/images\nnames: [cat, dog]\n")
    assert {source.classes for source in load_splits(tmp_path).values()} == {("cat", "dog")}


@pytest.mark.parametrize("flips", ["[1]", "[1, 0, 9]", "[1, 2, 0]", "[1, 1, 2]", "[0.5, 1, 2]"])
def test_a_flip_idx_that_pairs_no_points_is_not_used_and_said(tmp_path, flips):
    yaml = f"train: images/train\nnames: [man]\nkpt_shape: [3, 2]\nflip_idx: {flips}\n"
    source = load_split(yolo(tmp_path, "0 .5 .5 .4 .4 .4 .4 .6 .4 .5 .6", yaml))
    assert source.metadata["keypoint_flip_map"] == []
    assert [note for note in source.notes if "does not pair 3 keypoints" in note]


def test_an_empty_validation_folder_is_an_issue_and_the_training_data_are_read(tmp_path):
    (tmp_path / "images" / "val").mkdir(parents=True)
    yaml = "names: [cat, dog]\ntrain: images/train\nval: images/val\n"
    splits = load_splits(yolo(tmp_path, yaml=yaml))
    assert list(splits) == ["train"]
    (issue,) = splits["train"].issues
    assert issue.code == "split-missing"
    assert "val: no images there" in issue.detail


def test_a_test_split_that_is_asked_for_has_to_be_there(tmp_path):
    yaml = "train: images/train\ntest: images/test\nnames: [cat, dog]\n"
    with pytest.raises(DataError, match="images/test does not exist"):
        load_split(yolo(tmp_path, yaml=yaml), "test")


def test_other_files_named_data_are_passed_over(tmp_path):
    (yolo(tmp_path) / "data.yaml").unlink()
    (tmp_path / "weights.data").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "large.data").write_bytes(b"names = x\n" * 10_000)
    assert list(load_splits(tmp_path)) == ["train"]


@pytest.mark.parametrize(
    "names",
    ["cat, dog", "'cat;dog'", "\"['cat', 'dog']\"", "classes.txt", "[{0: cat}, {1: dog}]"],
)
def test_names_may_be_one_text(tmp_path, names):
    write(tmp_path / "classes.txt", "cat\ndog\n")
    source = load_split(yolo(tmp_path, yaml=f"train: images/train\nnames: {names}\n"))
    assert source.classes == ("cat", "dog")


def test_one_name_with_a_space_is_one_class_unless_the_count_says_two(tmp_path):
    yaml = "train: images/train\nnames: hot dog\n"
    assert load_split(yolo(tmp_path, yaml=yaml)).classes == ("hot dog",)
    assert load_split(yolo(tmp_path, yaml=f"{yaml}nc: '2'\n")).classes == ("hot", "dog")


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8-sig", "utf-8"])
def test_names_have_the_encoding_that_editors_save(tmp_path, encoding):
    file = yolo(tmp_path)
    text = "train: images/train\nnames: [Schlüssel, Öl]\n"
    (tmp_path / "data.yaml").write_bytes(text.encode(encoding))
    source = load_split(file)
    assert source.classes == ("Schlüssel", "Öl")
    said = [note for note in source.notes if "no UTF-8" in note]
    assert len(said) == (0 if encoding.startswith("utf-8") else 1)


def test_a_label_named_by_the_whole_file_name_is_found(tmp_path):
    yolo(tmp_path)
    labels = tmp_path / "labels" / "train"
    (labels / "a.txt").rename(labels / "a.png.txt")
    source = load_split(tmp_path / "data.yaml")
    assert source.images[0]["annotated_in"] == str(labels / "a.png.txt")
    assert source.num_annotations > 0


def test_polygons_may_end_with_a_confidence(tmp_path):
    source = load_split(yolo(tmp_path, "0 0.25 0.25 0.5 0.25 0.5 0.5 0.91\n"))
    assert objects(source)[0]["segmentation"] == [[8, 6, 16, 6, 16, 12]]
    assert "1 labels end with a confidence, which is not used" in source.notes


def test_splits_without_names_have_the_classes_of_both(tmp_path):
    for split, index in (("train", 0), ("val", 2)):
        save_image(tmp_path / "images" / split / f"{split}.png")
        write(tmp_path / "labels" / split / f"{split}.txt", f"{index} 0.5 0.5 0.2 0.2\n")
    write(tmp_path / "data.yaml", "train: images/train\nval: images/val\n")
    found = load_splits(tmp_path)
    assert {source.classes for source in found.values()} == {("class_0", "class_1", "class_2")}


def test_named_keypoints_have_pairs(tmp_path):
    yaml = "train: images/train\nnames: [cat]\nkpt_shape: [2, 3]\n"
    yaml += "kpt_names: {0: [eye_l, eye_r]}\n"
    source = load_split(yolo(tmp_path, "0 0.5 0.5 0.25 0.5 0.5 0.5 2 0 0 0\n", yaml))
    assert source.metadata["keypoint_names"] == ["eye_l", "eye_r"]
    assert source.metadata["keypoint_flip_map"] == [("eye_l", "eye_r")]


@pytest.mark.parametrize(
    "suffix", ["jfif", "jpe", "ppm", "pgm", "jp2", "avif", "dib", "tga", "JPG", "webp", "apng"]
)
def test_every_suffix_of_images_is_used(tmp_path, suffix):
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    kinds = {"pgm": "PPM", "jfif": "JPEG", "jpe": "JPEG", "jpg": "JPEG", "jp2": "JPEG2000"}
    image = tmp_path / "images" / "train" / f"a.{suffix}"
    image.parent.mkdir(parents=True)
    picture = Image.new("L" if suffix == "pgm" else "RGB", (32, 24))
    picture.save(image, kinds.get(suffix.lower(), "PNG" if suffix == "apng" else suffix.upper()))
    write(tmp_path / "labels" / "train" / "a.txt", "0 0.5 0.5 0.2 0.2\n")
    write(tmp_path / "data.yaml", "train: images/train\nnames: [cat]\n")
    source = load_split(tmp_path)
    assert (source.num_annotations, source.issues) == (1, [])


@pytest.mark.parametrize(
    "shape", ["kpt_shape: ['2', '3']\nflip_idx: ['1', '0']", "kpt_shape: '2, 3'\nflip_idx: '1 0'"]
)
def test_numbers_of_keypoints_may_be_text(tmp_path, shape):
    labels = "0 0.5 0.5 0.5 0.5 0.25 0.5 2 0.75 0.5 2\n"
    source = load_split(yolo(tmp_path, labels, f"train: images/train\nnames: [cat]\n{shape}\n"))
    (item,) = objects(source)
    assert source.task == "keypoints"
    assert item["keypoints"] == [8.0, 12.0, 2.0, 24.0, 12.0, 2.0]
    assert source.metadata["keypoint_flip_map"] == [("point_0", "point_1")]


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("1 0,5 0,5 0,25 0,5", "4 numbers have a decimal comma"),
        ("1,0.5,0.5,0.25,0.5", "1 lines have commas or semicolons between their numbers"),
        ("1;0,5;0,5;0,25;0,5", "4 numbers have a decimal comma"),
    ],
)
@pytest.mark.parametrize("yaml", [True, False])
def test_labels_with_commas_are_read_and_said_once(tmp_path, line, note, yaml):
    folder = yolo(tmp_path, f"{line}\n")
    if not yaml:  # the format is then recognised by the labels
        (folder / "data.yaml").unlink()
        write(folder / "labels" / "train" / "classes.txt", "cat\ndog\n")
    source = load_splits(folder)["train"]
    assert [item["bbox"] for item in objects(source)] == [[12.0, 6.0, 8.0, 12.0]]
    assert [said.startswith(note) for said in source.notes].count(True) == 1
    assert source.issues == []


def test_a_line_that_can_be_read_in_two_ways_is_an_issue(tmp_path):
    source = load_split(yolo(tmp_path, f"1,0,5,0,5,0,25,0,5\n{BOX}"))
    assert [issue.detail[:29] for issue in source.issues] == ["label that is not numbers in "]


POINTS = "0 0.5 0.5 0.25 0.5 0.5 0.5 {} 0.25 0.75 {}\n"


@pytest.mark.parametrize(("seen", "task"), [((2, 1), "keypoints"), ((1, 0), "masks")])
def test_keypoints_that_no_yaml_shapes_are_known_by_their_visibilities(tmp_path, seen, task):
    source = load_split(yolo(tmp_path, POINTS.format(*seen)))
    assert source.task == task
    if task == "keypoints":
        assert objects(source)[0]["keypoints"] == [16.0, 12.0, 2.0, 8.0, 18.0, 1.0]
        assert source.metadata["keypoint_names"] == ["point_0", "point_1"]
        assert "no kpt_shape given: labels are boxes with 2 keypoints" in source.notes


def test_a_split_without_a_visible_point_has_the_keypoints_of_the_others(tmp_path):
    two_splits(tmp_path, POINTS.format(2, 2), POINTS.format(1, 0))
    assert [source.task for source in load_splits(tmp_path).values()] == ["keypoints"] * 2


@pytest.mark.parametrize("name", ["dog", "big dog"])
def test_labels_may_name_their_class_and_have_comments(tmp_path, name):
    yaml = f"train: images/train\nnames: [cat, {name}]\n"
    source = load_split(yolo(tmp_path, f"# by hand\n{name} 0.5 0.5 0.25 0.5\n", yaml))
    (item,) = objects(source)
    assert (item["category_id"], item["bbox"], source.issues) == (1, [12.0, 6.0, 8.0, 12.0], [])


def test_a_suffix_in_capitals_is_one_of_labels(tmp_path):
    folder = yolo(tmp_path)
    labels = folder / "labels" / "train"
    (labels / "a.txt").rename(labels / "a.TXT")
    assert len(objects(load_split(folder))) == 1


def test_a_yaml_of_megabytes_is_refused_before_it_is_parsed(tmp_path):
    folder = yolo(tmp_path, yaml="x" * (1 << 20) + "xx")
    with pytest.raises(DataError, match="larger than 1 MiB"):
        load_split(folder / "data.yaml")
