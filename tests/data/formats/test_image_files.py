"""Sizes of image files."""

from d2ext.data.formats.image_files import image_size
from tests.helpers.dataset_folders import save_image


def test_an_image_that_claims_gigabytes_has_no_size(tmp_path, monkeypatch):
    def claims(image):
        raise MemoryError

    save_image(tmp_path / "a.png")
    assert image_size(tmp_path / "a.png") is not None
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.getexif", claims)
    assert image_size(tmp_path / "a.png") is None
