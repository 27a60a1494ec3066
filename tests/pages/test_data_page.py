"""The page of a data set with issues."""

import json

import numpy as np
import pytest
from PIL import Image

from d2ext.cli.show_data import main
from d2ext.errors import DataError
from tests.helpers.browser import assert_fits, needs_browser


@pytest.fixture
def data(tmp_path):
    """Train and val in COCO's format; a box outside its image, a class with markup in its name."""
    folder = tmp_path / "data"
    for split, count in (("train", 5), ("valid", 2)):
        images = folder / split
        images.mkdir(parents=True)
        document = {"images": [], "annotations": []}
        document["categories"] = [{"id": 1, "name": "<cat>"}, {"id": 2, "name": "dog"}]
        for number in range(count):
            pixels = np.random.default_rng(len(split) + number).integers(0, 255, (48, 64, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(images / f"{number}.png")
            size = {"width": 64, "height": 48}
            document["images"].append({"id": number, "file_name": f"{number}.png", **size})
            item = {"image_id": number, "category_id": 1 + number % 2, "iscrowd": 0, "area": 200}
            box = [500, 500, 20, 10] if number == 4 else [10, 10, 20, 10]
            document["annotations"].append({**item, "id": number + 1, "bbox": box})
        (images / "_annotations.coco.json").write_text(json.dumps(document))
    return folder


def made(path, tmp_path):
    main([str(path), "--out", str(tmp_path / "page")])
    return (tmp_path / "page" / "index.html").read_text(encoding="utf-8")


def test_the_page_has_counts_examples_and_issues(data, tmp_path):
    page = made(data, tmp_path)
    for text in ("COCO data set data", "&lt;cat&gt;", "dog", "Issues", "outside"):
        assert text in page, text
    assert page.count("data:image/svg+xml") == 4
    assert page.count("data:image/jpeg") >= 6
    assert "<cat>" not in page


def test_unreadable_images_are_issues_not_an_end(data, tmp_path):
    (data / "train" / "0.png").write_bytes(b"")
    (data / "train" / "1.png").write_bytes((data / "train" / "1.png").read_bytes()[:300])
    page = made(data, tmp_path)
    assert "image-empty: 1" in page
    assert "image-truncated: 1" in page


def test_rotated_boxes_are_shown(tmp_path):
    folder = tmp_path / "dota"
    (folder / "images").mkdir(parents=True), (folder / "labelTxt").mkdir()
    Image.new("RGB", (80, 60), (40, 40, 40)).save(folder / "images" / "a.png")
    (folder / "labelTxt" / "a.txt").write_text("20 20 50 10 55 25 25 35 plane 0\n")
    assert "plane" in made(folder, tmp_path)


def test_semantic_masks_are_shown(tmp_path):
    for split in ("train", "val"):
        images, labels = tmp_path / "s" / "images" / split, tmp_path / "s" / "labels" / split
        images.mkdir(parents=True), labels.mkdir(parents=True)
        Image.new("RGB", (80, 60), (40, 40, 40)).save(images / f"{split}.jpg")
        mask = np.zeros((60, 80), np.uint8)
        mask[:, 40:] = 1
        Image.fromarray(mask).save(labels / f"{split}.png")
    page = made(tmp_path / "s", tmp_path)
    assert "Examples of train" in page
    assert "Examples of val" in page


def test_what_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(DataError):
        main([str(tmp_path / "absent"), "--out", str(tmp_path / "page")])
    assert not (tmp_path / "page").exists()


@needs_browser
@pytest.mark.parametrize("width", [360, 1200])
def test_a_browser_shows_it_without_scrolling_sideways(data, tmp_path, width):
    made(data, tmp_path)
    assert_fits(tmp_path / "page" / "index.html", tmp_path, width)
