"""Every fault of a data set is one message with file, id and remedy."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from d2ext.data import register_coco
from d2ext.errors import DataError
from detectron2.data import DatasetCatalog


def message(coco) -> str:
    register_coco("faulty", coco.annotations, coco.images)
    with pytest.raises(DataError) as error:
        DatasetCatalog.get("faulty")
    return str(error.value)


def spoil(part: str, number: int, **values: Any) -> Callable[[dict], None]:
    def change(document: dict) -> None:
        document[part][number].update(values)

    return change


def lose(part: str, number: int, key: str) -> Callable[[dict], None]:
    def change(document: dict) -> None:
        del document[part][number][key]

    return change


def empty(part: str) -> Callable[[dict], None]:
    def change(document: dict) -> None:
        document[part] = []

    return change


def drop(part: str) -> Callable[[dict], None]:
    return lambda document: document.pop(part)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (empty("images"), ['"images" is empty', "no annotations"]),
        (empty("categories"), ['"categories" is empty']),
        (drop("annotations"), ['"annotations" is missing', "not a COCO file", "info, images"]),
        (drop("categories"), ['"categories" is missing', "not a COCO file"]),
        (lambda d: d.update(images={"a": 1}), ['"images" is missing or no list']),
        (lambda d: d.update(images=["a.jpg"]), ['"images" is missing or no list']),
        (spoil("annotations", 1, image_id=77), ['"image_id"', "77", "id 2", "1, 2, 3"]),
        (spoil("annotations", 0, category_id=9), ['"category_id"', "9", "id 1", "1, 2"]),
        (spoil("annotations", 0, image_id=[1]), ['"image_id"', "id 1"]),
        (spoil("annotations", 1, id=1), ["ids of annotations stand more than once: 1"]),
        (spoil("images", 2, id=1), ["ids of images stand more than once: 1"]),
        (spoil("categories", 1, id=1), ["ids of categories stand more than once: 1"]),
        (spoil("categories", 1, id="dog"), ['"id" of categories', "dog"]),
        (lose("annotations", 1, "bbox"), ['have no "bbox": id 2', "1 of 2"]),
        (lose("images", 1, "file_name"), ['have no "file_name": id 2', "1 of 3"]),
        (lose("images", 1, "width"), ['have no "width": id 2']),
        (lose("categories", 0, "name"), ['have no "name": id 1']),
        (spoil("images", 0, height=0), ['"width" and "height"', "ids 1"]),
        (spoil("images", 0, height="tall"), ['"width" and "height"', "ids 1"]),
        (spoil("annotations", 1, bbox=[1, 2, 3]), ['"bbox" must be four numbers', "id 2"]),
        (spoil("annotations", 1, bbox=[1, 2, 3, None]), ['"bbox" must be four numbers', "id 2"]),
        (spoil("annotations", 1, bbox=["1", "x", "3", "4"]), ['"bbox" must be', "id 2"]),
        (spoil("annotations", 1, bbox=7), ['"bbox" must be four numbers', "id 2"]),
    ],
)
def test_a_faulty_document_names_the_file_and_what_is_wrong_in_it(coco, change, expected):
    change(coco.document)
    text = message(coco.write())
    for part in [str(coco.annotations), *expected]:
        assert part in text


def test_a_missing_file_names_the_ones_beside_it(coco):
    coco.annotations.rename(coco.folder / "training.json")
    assert "train.json: no such annotation file" in message(coco)
    assert "training.json" in message(coco)


def test_a_missing_folder_of_annotations_is_said_to_be_missing(coco):
    coco.folder = coco.folder / "nowhere"
    assert f"no folder {coco.folder}" in message(coco)


def test_a_folder_in_place_of_the_file_cannot_be_read(coco):
    coco.annotations.unlink()
    coco.annotations.mkdir()
    assert "train.json: the annotation file cannot be read" in message(coco)


def test_broken_json_names_line_and_column(coco):
    coco.annotations.write_text('{\n "images": [],\n "annotations": oops\n}')
    assert f"{coco.annotations}:3:17: broken JSON" in message(coco)


def test_a_file_cut_short_names_its_end(coco):
    text = coco.annotations.read_text()
    coco.annotations.write_text(text[: len(text) // 2])
    assert f"{coco.annotations}:1:" in message(coco)
    assert "cut short" in message(coco)


def test_an_empty_file_is_broken_json(coco):
    coco.annotations.write_text("")
    assert f"{coco.annotations}:1:1: broken JSON" in message(coco)


def test_text_that_is_not_utf8_names_the_line(coco):
    coco.annotations.write_bytes(b'{"images":\n"\x81"}')
    assert f"{coco.annotations}:2: not UTF-8" in message(coco)


def test_json_of_another_kind_is_not_coco(coco):
    coco.annotations.write_text("[1, 2]")
    assert "a JSON list, not a COCO file" in message(coco)


def test_a_missing_image_folder_is_named(coco):
    coco.images.rename(coco.folder / "pictures")
    assert f"{coco.images}: no such image folder" in message(coco)


def test_missing_images_are_counted_and_the_first_five_named(coco):
    for number in range(7):
        coco.add_image(f"gone_{number}.png")
        (coco.images / f"gone_{number}.png").unlink()
    text = message(coco.write())
    assert "7 of 10 images" in text
    assert "gone_0.png, gone_1.png, gone_2.png, gone_3.png, gone_4.png and 2 more" in text


def test_images_in_a_missing_subfolder_are_missing(coco):
    for number in (0, 1):
        coco.document["images"][number]["file_name"] = f"sub/{number}.png"
    assert "2 of 3 images" in message(coco.write())


def test_a_file_without_any_good_box_says_why(coco):
    coco.document["annotations"][0]["bbox"][2] = 0
    coco.document["annotations"][1]["bbox"][0] = math.nan
    text = message(coco.write())
    assert "none of the 2 annotations can be used" in text
    assert "1 box-empty" in text
    assert "1 box-nonfinite" in text
