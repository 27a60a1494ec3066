"""Conversion and --fix hand on no file from outside the data set, and none that is no image."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from d2ext.cli.check_data import main as check
from d2ext.cli.convert_data import main as convert
from d2ext.errors import DataError
from tests.helpers.dataset_folders import save_image, write


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    return save_image(tmp_path / "private" / "secret.png", 64, 48)


def coco(folder: Path, name: str) -> Path:
    """A data set with an image of its own and one of the given name."""
    save_image(folder / "images" / "own.png", 64, 48)
    images = [
        {"id": n, "file_name": file, "width": 64, "height": 48}
        for n, file in enumerate(("own.png", name), start=1)
    ]
    boxes = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [1, 1, 20, 20], "area": 400}
        for n in (1, 2)
    ]
    categories = [{"id": 1, "name": "cat"}]
    document = {"images": images, "annotations": boxes, "categories": categories}
    write(folder / "annotations" / "instances_train.json", json.dumps(document))
    return folder


def by_path(folder: Path, secret: Path) -> Path:
    return coco(folder, f"../../{secret.parent.name}/{secret.name}")


def by_absolute_path(folder: Path, secret: Path) -> Path:
    return coco(folder, str(secret))


def by_link(folder: Path, secret: Path) -> Path:
    coco(folder, "link.png")
    os.symlink(secret, folder / "images" / "link.png")
    return folder


def by_folder_link(folder: Path, secret: Path) -> Path:
    coco(folder, "deep/secret.png")
    os.symlink(secret.parent, folder / "images" / "deep", target_is_directory=True)
    return folder


def by_list(folder: Path, secret: Path) -> Path:
    save_image(folder / "images" / "own.png", 64, 48)
    write(folder / "labels" / "own.txt", "0 0.5 0.5 0.5 0.5")
    write(folder / "train.txt", f"images/own.png\n{secret}\n")
    write(folder / "data.yaml", "train: train.txt\nnames: [cat]\n")
    return folder


WAYS = [by_path, by_absolute_path, by_link, by_folder_link, by_list]
Way = Callable[[Path, Path], Path]


@pytest.mark.parametrize("way", WAYS)
def test_conversion_takes_a_file_from_outside_only_if_it_is_allowed(tmp_path, secret, way: Way):
    source = way(tmp_path / "data", secret)
    arguments = [str(source), "--to", "coco", str(tmp_path / "out")]
    with pytest.raises(DataError, match="outside the data set's folders"):
        convert(arguments)
    assert not (tmp_path / "out").exists()
    convert([*arguments, "--allow-outside"])
    copied = {file.name for file in (tmp_path / "out").rglob("*.png")}
    assert copied & {"secret.png", "link.png"}


@pytest.mark.parametrize("way", WAYS)
def test_a_fixed_copy_takes_no_file_from_outside(tmp_path, secret, way: Way):
    source = way(tmp_path / "data", secret)
    with pytest.raises(DataError, match="outside the data set's folders"):
        check([str(source), "--fix", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_folder_of_images_that_the_user_names_is_no_outside(tmp_path):
    source = coco(tmp_path / "data", "own.png")
    (source / "images").rename(tmp_path / "elsewhere")
    annotations = source / "annotations" / "instances_train.json"
    convert([f"{annotations}:{tmp_path / 'elsewhere'}", "--to", "yolo", str(tmp_path / "out")])
    assert list((tmp_path / "out").rglob("own.png"))


def test_what_is_no_image_is_never_placed(tmp_path, capsys):
    source = coco(tmp_path / "data", "key.png")
    (source / "images" / "key.png").write_text("a private key")
    convert([str(source), "--to", "coco", str(tmp_path / "out")])
    assert "1 files that are no images" in capsys.readouterr().out
    assert [file.name for file in (tmp_path / "out").rglob("*.png")] == ["own.png"]
