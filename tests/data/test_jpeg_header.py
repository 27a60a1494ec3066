"""Plain JPEG files: their headers, and OpenCV's decoding compared with Pillow's."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from d2ext.data import image_info
from d2ext.data.image_info import read_image_info
from d2ext.data.jpeg_header import read_jpeg_header
from tests.helpers.planted_dataset import picture


def jpeg(image: Image.Image, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", **options)
    return out.getvalue()


@pytest.mark.parametrize("size", [(64, 48), (133, 200), (260, 259), (600, 513), (1, 1)])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_plain_jpeg_has_the_info_that_pillow_gives(tmp_path, monkeypatch, size, options, mode):
    content = jpeg(picture(1, *size).convert(mode), **options)
    assert read_jpeg_header(content) == (size, mode)
    (tmp_path / "a.jpg").write_bytes(content)
    found = read_image_info(tmp_path / "a.jpg")
    monkeypatch.setattr(image_info, "_decode_plain_jpeg", lambda content: None)
    expected = read_image_info(tmp_path / "a.jpg")
    np.testing.assert_array_equal(found.thumbnail, expected.thumbnail)
    assert replace(found, thumbnail=None) == replace(expected, thumbnail=None)


def test_a_header_that_needs_a_closer_look_is_left_to_pillow():
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = jpeg(picture(1))
    assert read_jpeg_header(plain) is not None
    for content in (
        jpeg(picture(1), exif=exif),
        jpeg(picture(1).convert("CMYK")),
        plain[:-1],
        plain + b"\0",
        plain[:300] + b"\xff\xd9",
        b"\xff\xd8\xff\xd9",
        b"",
        plain.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"),  # 12 bits
        plain.replace(b"\xff\xc0\x00\x11\x08\x00\x30", b"\xff\xc0\x00\x11\x08\x00\x00"),
    ):
        assert read_jpeg_header(content) is None, content[:40]
