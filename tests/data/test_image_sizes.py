"""Data sets of other packages do not always state the sizes of their images."""

import pytest
from PIL import Image

from d2ext.data.image_sizes import fill_in_sizes
from d2ext.errors import DataError


def test_sizes_that_are_missing_are_read_from_the_files(tmp_path):
    plain, turned = tmp_path / "plain.png", tmp_path / "turned.jpg"
    Image.new("RGB", (30, 20)).save(plain)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (30, 20)).save(turned, exif=exif)
    stated = {"file_name": "nowhere.png", "width": 5, "height": 4}
    found = fill_in_sizes([{"file_name": str(plain)}, {"file_name": str(turned)}, stated])
    assert [(item["width"], item["height"]) for item in found] == [(30, 20), (20, 30), (5, 4)]


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "broken.png").write_text("no image")
    with pytest.raises(DataError, match=r"broken\.png: cannot be read"):
        fill_in_sizes([{"file_name": str(tmp_path / "broken.png")}])
