"""Issues planted in a good data set: each is reported, nothing is harmed, the rest is learned."""

import io
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from d2ext.data.checks import masks as mask_checks
from d2ext.data.checks import pairs as pair_checks
from d2ext.data.checks.fixed_copy import write_fixed_copy
from d2ext.data.checks.kinds import KINDS
from d2ext.data.dataset_paths import load_named_splits
from d2ext.errors import DataError
from tests.helpers.planted_dataset import HEIGHT, WIDTH, PlantedDataset, picture

REFUSED = -1  # training says what is wrong and does not start; a repaired copy can be learned from


class Plant(NamedTuple):
    """An issue to plant.

    Args:
        code: of the kind that is reported.
        plant: spoils the data set.
        words: parts of the line about it.
        left: images that training keeps of the six, and what was planted; or `REFUSED`.
        copied: images in the repaired copy.
        count: issues of the kind.
    """

    code: str
    plant: Callable[[PlantedDataset], object]
    words: list[str]
    left: int = 6
    copied: int = 6
    count: int = 1


def content(
    number: int, data: bytes | Callable[[bytes], bytes]
) -> Callable[[PlantedDataset], None]:
    """Replaces the bytes of an image."""

    def plant(planted: PlantedDataset) -> None:
        path = planted.file(number)
        path.write_bytes(data(path.read_bytes()) if callable(data) else data)

    return plant


def saved(number: int, image: Image.Image, **options: object) -> Callable[[PlantedDataset], None]:
    """Replaces an image by another picture, in the format that the name of the file says."""
    return lambda planted: image.save(planted.file(number), **options)


def oriented(value: int) -> Callable[[PlantedDataset], None]:
    exif = Image.Exif()
    exif[0x0112] = value
    return lambda planted: picture(1).save(planted.file(1), exif=exif)


def added(content: Image.Image | bytes, name: str) -> Callable[[PlantedDataset], None]:
    """One more image, with a box."""
    return lambda planted: planted.add_box(planted.add_image(content, name), [5, 5, 20, 20])


def boxed(*box: float, category: int = 1, **more: object) -> Callable[[PlantedDataset], None]:
    """One more box in the second image."""
    return lambda planted: planted.add_box(2, list(box), category, **more)


def changed(number: int, **values: object) -> Callable[[PlantedDataset], None]:
    return lambda planted: planted.annotation(number).update(values)


def lost(number: int, key: str) -> Callable[[PlantedDataset], None]:
    return lambda planted: planted.annotation(number).pop(key)


def classes(*names: str, **more: object) -> Callable[[PlantedDataset], None]:
    """The names of the classes in both data sets; those beyond the second get one object each."""

    def plant(planted: PlantedDataset) -> None:
        for split in ("train", "val"):
            found = [{"id": n, "name": name, **more} for n, name in enumerate(names, start=1)]
            planted.document(split)["categories"] = found
            for number in range(3, len(names) + 1):
                planted.add_box(1, [30, 2, 14 + number, 9], number, split)
                planted.add_box(2, [30, 2, 14 + number, 9], number, split)

    return plant


def unused_class(name: str, **of_others: object) -> Callable[[PlantedDataset], None]:
    def plant(planted: PlantedDataset) -> None:
        for split in ("train", "val"):
            items = planted.document(split)["categories"]
            for item in items:
                item.update(of_others)
            items.append({"id": 3, "name": name})

    return plant


def masked(change: Callable[[PlantedDataset], object]) -> Callable[[PlantedDataset], None]:
    """Gives every object a rectangular polygon before spoiling one."""

    def plant(planted: PlantedDataset) -> None:
        for split in ("train", "val"):
            for item in planted.document(split)["annotations"]:
                x, y, w, h = item["bbox"]
                item["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        change(planted)

    return plant


def with_polygons(*polygons: list[float], number: int = 2) -> Callable[[PlantedDataset], None]:
    return masked(changed(number, segmentation=list(polygons)))


def run_lengths(mask: np.ndarray) -> dict:
    found = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": found["size"], "counts": found["counts"].decode()}


def with_keypoints(values: list[float]) -> Callable[[PlantedDataset], None]:
    def plant(planted: PlantedDataset) -> None:
        for split in ("train", "val"):
            document = planted.document(split)
            for item in document["categories"]:
                item |= {"keypoints": ["head", "tail"], "skeleton": []}
            for item in document["annotations"]:
                item |= {"keypoints": [20, 20, 2, 30, 30, 1], "num_keypoints": 2}
        planted.annotation(2)["keypoints"] = values

    return plant


def rotated(scale: float = 1.0, *box: float) -> Callable[[PlantedDataset], None]:
    """Gives every box an angle, times `scale`, and the third box other values."""

    def plant(planted: PlantedDataset) -> None:
        for split in ("train", "val"):
            for n, item in enumerate(planted.document(split)["annotations"]):
                x, y, w, h = item["bbox"]
                item["bbox"] = [x + w / 2, y + h / 2, w / 2, h / 2, (20 + 7 * n) * scale]
        if box:
            planted.annotation(2)["bbox"] = list(box)

    return plant


def all_boxes(change: Callable[[list[float]], list[float]]) -> Callable[[PlantedDataset], None]:
    def plant(planted: PlantedDataset) -> None:
        for item in planted.train["annotations"]:
            item["bbox"] = change(item["bbox"])

    return plant


def listed_twice(planted: PlantedDataset) -> None:
    planted.train["images"].append({**planted.train["images"][1], "id": 77})
    planted.add_box(77, [9, 9, 9, 9])


def copied(split: str, again: Callable[[bytes], bytes] = bytes) -> Callable[[PlantedDataset], None]:
    """One more image in `split`, made of the second one to learn from."""

    def plant(planted: PlantedDataset) -> None:
        made = again(planted.file(1).read_bytes())
        number = planted.add_image(made, "again.jpg", split)
        planted.add_box(number, [30, 20, 20, 20], 1, split)

    return plant


def recoded(content: bytes) -> bytes:
    out = io.BytesIO()
    Image.open(io.BytesIO(content)).save(out, "JPEG", quality=40)
    return out.getvalue()


def many(planted: PlantedDataset) -> None:
    """250 small cats in a picture of their own, with a class that has two objects."""
    number = planted.add_image(picture(50, 640, 480), "many.jpg")
    for n in range(250):
        planted.add_box(number, [25 * (n % 25), 40 * (n // 25), 12, 20], 1)
    classes("cat", "dog", "bird")(planted)


def herd(spoil: Callable[[PlantedDataset, int], None]) -> Callable[[PlantedDataset], None]:
    """40 images of ten cats and dogs, and one more that `spoil` fills."""

    def plant(planted: PlantedDataset) -> None:
        for n in range(41):
            image = planted.add_image(picture(200 + n), f"herd_{n}.jpg")
            if n == 40:
                spoil(planted, image)
            else:
                for k in range(10):
                    planted.add_box(image, [6 * k, 4 + k, 5, 9 + n % 3], 1 + k % 2)

    return plant


def two_cats(planted: PlantedDataset, image: int) -> None:
    planted.add_box(image, [2, 2, 9, 9], 1)
    planted.add_box(image, [20, 2, 9, 9], 2)


def dogs_only(planted: PlantedDataset, image: int) -> None:
    for k in range(9):
        planted.add_box(image, [6 * k, 4 + k, 5, 9], 2)


def orphaned_classes(planted: PlantedDataset) -> None:
    planted.val["annotations"] = [a for a in planted.val["annotations"] if a["category_id"] == 1]


def untrained(planted: PlantedDataset) -> None:
    planted.train["annotations"] = [
        a for a in planted.train["annotations"] if a["category_id"] == 1
    ]


def other_order(planted: PlantedDataset) -> None:
    planted.val["categories"] = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]


def grey_frames() -> bytes:
    out = io.BytesIO()
    frames = [picture(n).convert("P") for n in (60, 61)]
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    return out.getvalue()


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def deep() -> Image.Image:
    return Image.fromarray(np.asarray(picture(70).convert("L")).astype(np.uint16) * 200)


def huge() -> bytes:
    out = io.BytesIO()
    Image.new("1", (15000, 15000)).save(out, "PNG")
    return out.getvalue()


def replace_by_huge(planted: PlantedDataset) -> None:
    planted.file(1).write_bytes(huge())


SQUARE = np.pad(np.ones((10, 10)), ((10, HEIGHT - 20), (10, WIDTH - 20)))
TWO_PARTS = [[6.0, 6, 12, 6, 12, 12], [16.0, 16, 24, 16, 24, 23, 4, 23]]

PLANTS = {
    "missing image": Plant(
        "image-missing", lambda g: g.file(1).unlink(), ["train_1.jpg", "no such file"], 5, 5
    ),
    "empty image": Plant("image-empty", content(1, b""), ["train_1.jpg", "0 bytes"], 5, 5),
    "web page": Plant(
        "image-unreadable", content(1, b"<!DOCTYPE html>\n<p>404"), ["a web page"], 5, 5
    ),
    "pointer of Git LFS": Plant(
        "image-unreadable",
        content(1, b"version https://git-lfs.github.com/spec/v1\n"),
        ["git lfs pull"],
        5,
        5,
    ),
    "zeros": Plant("image-unreadable", content(1, bytes(900)), ["starts with zeros"], 5, 5),
    "noise": Plant("image-unreadable", content(1, b"\x07\x08" * 99), ["train_1.jpg"], 5, 5),
    "half an image": Plant(
        "image-truncated",
        content(1, lambda b: b[: len(b) // 2]),
        ["train_1.jpg", "truncated"],
        5,
        5,
    ),
    "image without its end": Plant(
        "image-truncated", content(1, lambda b: b[:-40]), ["train_1.jpg"], 5, 5
    ),
    "half a PNG": Plant(
        "image-truncated", content(1, lambda b: png(picture(1))[:2000]), ["train_1.jpg"], 5, 5
    ),
    "huge image": Plant("image-huge", replace_by_huge, ["train_1.jpg", "pixels"], 5, 5),
    "another size": Plant(
        "image-size", saved(1, picture(1, 60, 48)), ["60 x 48", "says 64 x 48"], 5, 5
    ),
    "turned by EXIF": Plant(
        "image-turned", oriented(6), ["annotated as 64 x 48", "orientation 6", "48 x 64"], 5
    ),
    "upside down by EXIF": Plant("image-exif", oriented(3), ["EXIF orientation 3"]),
    "sixteen bits": Plant("image-depth", added(png(deep()), "deep.png"), ["mode I"], 7, 7),
    "one colour": Plant("image-blank", saved(1, Image.new("RGB", (64, 48), "gray")), ["train_1"]),
    "several frames": Plant("image-frames", added(grey_frames(), "a.gif"), ["2 pictures"], 7, 7),
    "PNG called JPEG": Plant("image-suffix", content(1, png(picture(1))), ["PNG inside"]),
    "a pixel less": Plant(
        "image-size-odd",
        added(picture(80, 64, 47), "odd.jpg"),
        ["64 x 47", "6 others 64 x 48"],
        7,
        7,
    ),
    "image that is not listed": Plant(
        "image-unused", lambda g: picture(90).save(g.folder / "train" / "x.jpg"), ["x.jpg"]
    ),
    "file listed twice": Plant(
        "image-listed-twice", listed_twice, ["train_1.jpg", "ids 2 and 77"], 7, 6
    ),
    "same file again": Plant(
        "duplicate-image", copied("train"), ["again.jpg", "train_1.jpg", "the same bytes"], 7, 6
    ),
    "same picture again": Plant(
        "duplicate-near", copied("train", recoded), ["again.jpg", "train_1.jpg"], 7, 7
    ),
    "same file to evaluate on": Plant(
        "leak-same", copied("val"), ["again.jpg", "train_1.jpg of train"]
    ),
    "same picture to evaluate on": Plant(
        "leak-near", copied("val", recoded), ["again.jpg", "train_1.jpg of train", "correlation"]
    ),
    "crowd only": Plant(
        "image-crowd-only",
        lambda g: g.add_box(g.add_image(picture(81)), [1, 1, 30, 30], iscrowd=1),
        ["train_6.jpg", "1 crowd"],
        7,
        7,
    ),
    "image without objects": Plant(
        "image-without-objects", lambda g: g.add_image(picture(82)), ["train_6.jpg"], 7, 7
    ),
    "few objects": Plant("image-few-objects", herd(two_cats), ["2 objects"], 47, 47, 7),
    "class not labelled": Plant(
        "image-lacks-class", herd(dogs_only), ["herd_40", "no cat"], 47, 47
    ),
    "image id twice": Plant(
        "image-id-twice",
        lambda g: g.train["images"][1].update(id=1),
        ["train.json, id 1", "train_0.jpg, train_1.jpg"],
        REFUSED,
    ),
    "annotation id twice": Plant(
        "object-id-twice", changed(1, id=1), ["train.json, id 1", "2 times"], REFUSED
    ),
    "annotation without id": Plant("object-id-missing", lost(0, "id"), ["1 of 12", "None"]),
    "annotation with id 0": Plant("object-id-missing", changed(0, id=0), ["the first has 0"]),
    "class id twice": Plant(
        "class-id-twice",
        lambda g: g.train["categories"].append({"id": 2, "name": "bird"}),
        ["train.json, id 2", "dog, bird"],
        REFUSED,
    ),
    "gap in class ids": Plant(
        "class-id-gap",
        lambda g: [
            d["categories"].append({"id": 9, "name": "bird"})
            or [g.add_box(n, [30, 2, 9 + n, 9], 9, s) for n in (1, 2)]
            for s, d in (("train", g.train), ("val", g.val))
        ],
        ["3 ids from 1 to 9", "3, 4, 5, 6, 7"],
        count=2,
    ),
    "endless gap in class ids": Plant(
        "class-id-gap",
        lambda g: [
            d["categories"].append({"id": 10**20, "name": "bird"})
            or [g.add_box(n, [30, 2, 9 + n, 9], 10**20, s) for n in (1, 2)]
            for s, d in (("train", g.train), ("val", g.val))
        ],
        ["not 3, 4, 5, 6, 7, ..."],
        count=2,
    ),
    "no box": Plant("record-broken", lost(2, "bbox"), ["train.json", "None"]),
    "three numbers": Plant(
        "record-broken", changed(2, bbox=[1, 2, 3]), ["four numbers", "[1, 2, 3]"]
    ),
    "words for numbers": Plant("record-broken", changed(2, bbox=["a"] * 4), ["four numbers"]),
    "image without a file name": Plant(
        "record-broken", lambda g: g.train["images"][5].pop("file_name"), ["file name"], REFUSED, 5
    ),
    "unknown class": Plant("class-unknown", changed(2, category_id=7), ["train.json:3", "7"]),
    "no class": Plant("class-unknown", lost(2, "category_id"), ["train.json:3", "None"]),
    "object of no image": Plant("object-orphan", changed(2, image_id=99), ["train.json:3", "99"]),
    "not a number": Plant("box-nonfinite", boxed(math.nan, 2, 9, 9), ["annotation 13", "nan"]),
    "infinite": Plant("box-nonfinite", boxed(3, 2, math.inf, 9), ["annotation 13", "inf"]),
    "no width": Plant("box-empty", boxed(3, 2, 0, 9), ["annotation 13", "[3, 2, 0, 9]"]),
    "corners the wrong way": Plant("box-empty", boxed(30, 20, -9, -9), ["[30, 20, -9, -9]"]),
    "right of the image": Plant("box-outside", boxed(64, 2, 9, 9), ["64 x 48", "annotation 13"]),
    "above the image": Plant("box-outside", boxed(3, -20, 9, 9), ["[3, -20, 9, 9]"]),
    "over the edge": Plant("box-beyond", boxed(50, 2, 20, 9), ["by 6 pixels", "64 x 48"]),
    "shares for pixels": Plant(
        "box-normalised",
        all_boxes(lambda b: [b[0] / 64, b[1] / 48, b[2] / 64, b[3] / 48]),
        ["annotation 1"],
        REFUSED,
        count=12,
    ),
    "corners for sizes": Plant(
        "box-corners",
        all_boxes(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]),
        [],
        REFUSED,
        count=12,
    ),
    "one pixel wide": Plant("box-tiny", boxed(3, 2, 1, 9), ["[3, 2, 1, 9]", "cat in train_1.jpg"]),
    "strip at the edge": Plant("box-sliver", boxed(61, 2, 3, 12), ["[61, 2, 3, 12]"]),
    "whole image": Plant("box-whole-image", boxed(0, 0, 64, 48), ["[0, 0, 64, 48]"]),
    "same box again": Plant(
        "box-duplicate", boxed(5, 5, 20, 18), ["annotation 13", "annotation 3"]
    ),
    "nearly the same box": Plant("box-nearly-duplicate", boxed(6, 5, 20, 18), ["IoU 0.90"]),
    "box of two classes": Plant(
        "box-two-classes", boxed(5, 5, 20, 18, category=2), ["dog in", "IoU 1.00 with cat"]
    ),
    "radians": Plant("box-radians", rotated(math.pi / 180), ["angle 0.3491"], count=18),
    "corner outside": Plant(
        "box-corner-outside", rotated(1, 5, 20, 30, 10, 30), ["annotation 3", "by 10 pixels"]
    ),
    "difficult": Plant("object-difficult", changed(2, difficult=1), ["annotation 3"]),
    "line for a mask": Plant("mask-polygon", with_polygons([5, 5, 9, 9]), ["train.json:3"]),
    "line beside a polygon": Plant(
        "mask-stray",
        with_polygons([5, 5, 25, 5, 25, 23, 5, 23], [5, 5, 9, 9]),
        ["train.json:3", "1 polygons"],
    ),
    "broken run lengths": Plant(
        "mask-polygon",
        masked(changed(2, segmentation={"size": [HEIGHT, WIDTH], "counts": "04"})),
        ["broken run lengths", "annotation 3"],
    ),
    "mask of another size": Plant(
        "mask-size",
        masked(changed(2, segmentation=run_lengths(SQUARE[:, :-4]))),
        ["mask of 60 x 48", "image 64 x 48"],
    ),
    "mask without a pixel": Plant(
        "mask-empty", masked(changed(2, segmentation=run_lengths(0 * SQUARE))), ["no pixel"]
    ),
    "no mask": Plant("mask-missing", masked(lost(2, "segmentation")), ["annotation 3"]),
    "mask elsewhere": Plant(
        "mask-box",
        with_polygons([40, 5, 60, 5, 60, 23, 40, 23]),
        ["box [5, 5, 20, 18]", "mask in [40, 5, 20, 18]"],
    ),
    "mask over the edge": Plant(
        "mask-outside", with_polygons([5.0, -9, 25, 5, 25, 23, 5, 23]), ["by 9.0 pixels"]
    ),
    "outline that crosses": Plant(
        "mask-crossing", with_polygons([5, 5, 25, 23, 25, 5, 5, 23]), ["1 of 1 polygons"]
    ),
    "two parts": Plant("mask-parts", with_polygons(*TWO_PARTS), ["2 parts"]),
    "shared pixels": Plant(
        "mask-overlap",
        masked(
            lambda g: g.add_box(2, [20, 5, 9, 9], segmentation=[[20, 5, 29, 5, 29, 14, 20, 14]])
        ),
        ["annotation 13", "45 pixels shared", "annotation 3"],
    ),
    "keypoint too few": Plant("keypoint-count", with_keypoints([20, 20, 2]), ["3 numbers, 6"]),
    "visibility of 7": Plant("keypoint-value", with_keypoints([20, 20, 7, 9, 9, 1]), ["7"]),
    "keypoint outside": Plant(
        "keypoint-outside", with_keypoints([70, 20, 2, 9, 9, 1]), ["annotation 3", "70.5"]
    ),
    "class name twice": Plant(
        "class-name-twice", classes("cat", "dog", "dog"), ["'dog'", "2 classes"], count=2
    ),
    "class without a name": Plant("class-nameless", classes("cat", "dog", " "), ["empty"], count=2),
    "upper case": Plant(
        "class-name-similar", classes("cat", "dog", "Dog"), ["'Dog'", "beside 'dog'"], count=2
    ),
    "hyphen": Plant(
        "class-name-similar", classes("cat", "a dog", "a-dog"), ["'a-dog'", "'a dog'"], count=2
    ),
    "space behind": Plant("class-name-space", classes("cat", "dog "), ["'dog '"], count=2),
    "number for a name": Plant("class-name-number", classes("cat", "1"), ["'1'"], count=2),
    "background": Plant(
        "class-background", classes("cat", "dog", "background"), ["2 objects"], count=2
    ),
    "supercategory": Plant(
        "class-supercategory",
        unused_class("animals", supercategory="animals"),
        ["'animals'"],
        count=2,
    ),
    "class without objects": Plant("class-unused", unused_class("bird"), ["'bird'"], count=2),
    "class of one object": Plant(
        "class-single",
        lambda g: (unused_class("bird")(g), g.add_box(1, [30, 2, 9, 9], 3)),
        ["'bird'", "1 object"],
    ),
    "rare class": Plant("class-rare", many, ["'bird'", "2 objects, 256 of cat"], 7, 7),
    "class not learned": Plant("class-untrained", untrained, ["'dog'", "no object in train"]),
    "class not measured": Plant("class-unmeasured", orphaned_classes, ["no object in val"]),
    "other classes": Plant(
        "classes-differ",
        lambda g: g.val["categories"].append({"id": 3, "name": "bird"}),
        ["only in val: 'bird'"],
    ),
    "other order": Plant("classes-differ", other_order, ["the order differs", "dog, cat"]),
}


def test_a_good_data_set_has_no_issues(planted, learn):
    report = planted.check()
    assert report.issues == []
    assert report.clean
    path, images = planted.flags()[0].split(":")
    assert len(learn(path, images)) == 6


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_fault(name, planted, learn, tmp_path):
    case = PLANTS[name]
    case.plant(planted)
    report = planted.check()
    before = planted.content()

    found = [f for f in report.issues if f.code == case.code]
    assert len(found) == case.count, report.text()
    line = f"{found[0].where}: {found[0].detail}"
    for part in case.words:
        assert part in line
    assert str(KINDS[case.code]) in report.text()
    assert report.clean == all(KINDS[f.code].severity == "note" for f in report.issues)

    path, images = planted.flags()[0].split(":")
    if case.left == REFUSED:
        with pytest.raises(DataError, match=r"train\.json"):
            learn(path, images)
    else:
        assert len(learn(path, images)) == case.left

    train, val = planted.flags()
    out = tmp_path / "repaired"
    write_fixed_copy(load_named_splits(train, [val]), report, out)
    path, images = planted.flags(out)[0].split(":")
    assert len(learn(path, images, name="repaired")) == case.copied
    assert planted.content() == before


@pytest.mark.parametrize("pairs", [1, 7, 1 << 20])
def test_objects_are_compared_in_blocks_and_each_pair_is_found_once(planted, monkeypatch, pairs):
    monkeypatch.setattr(pair_checks, "_CHUNK", pairs)
    image = planted.train["images"][0]["id"]
    for x in (10, 10, 30, 30, 30):
        box = planted.add_box(image, [x, 30, 9, 9], 1, "train")
        box["bbox"] = [x + 4.5, 34.5, 9, 9, 20]
    report = planted.check()
    assert sum(issue.code == "box-duplicate" for issue in report.issues) == 3


@pytest.mark.parametrize("pairs", [1, 3, 1 << 20])
def test_masks_are_compared_in_blocks_and_each_pair_is_found_once(planted, monkeypatch, pairs):
    monkeypatch.setattr(mask_checks, "_PAIRS", pairs)
    monkeypatch.setattr(mask_checks, "_EXCEPTION", 1)
    for item in planted.train["annotations"]:
        x, y, w, h = item["bbox"]
        item["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    image = planted.train["images"][0]["id"]
    for x in (2, 6):
        planted.add_box(
            image, [x, 2, 6, 6], 1, "train", segmentation=[[x, 2, x + 6, 2, x + 6, 8, x, 8]]
        )
    report = planted.check()
    shared = [issue for issue in report.issues if issue.code == "mask-overlap"]
    # The new ones with each other and, both, with the first box of the image.
    assert len(shared) == 3


def test_a_broken_mask_has_one_code(planted):
    with_polygons([5, 5, 9, 9])(planted)
    assert [issue.code for issue in planted.check().issues] == ["mask-polygon"]
