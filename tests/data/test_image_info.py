"""Image info, read by decoding at an eighth of the size."""

import io

import numpy as np
import pytest
from PIL import Image

from d2ext.data import image_info_cache
from d2ext.data.checks.duplicates import MAX_BITS, difference_hash, most_alike
from d2ext.data.image_info import ImageInfo, read_image_info
from d2ext.data.image_info_cache import infos_kept, read_image_infos
from tests.helpers.planted_dataset import picture


def jpeg(image: Image.Image, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", **options)
    return out.getvalue()


def full_decoding_fails(content: bytes) -> bool:
    try:
        Image.open(io.BytesIO(content)).load()
    except OSError:
        return True
    return False


@pytest.mark.parametrize("progressive", [False, True])
def test_reduced_decoding_fails_where_full_decoding_does(tmp_path, progressive):
    content = jpeg(picture(0, 320, 240), quality=90, progressive=progressive)
    failed = 0
    ends = [*range(len(content) // 8, len(content), 997), *range(len(content) - 6, len(content))]
    for end in ends:
        (tmp_path / "cut.jpg").write_bytes(content[:end])
        told = read_image_info(tmp_path / "cut.jpg").problem == "image-truncated"
        assert told == full_decoding_fails(content[:end]), end
        failed += told
    assert failed > 3


def test_the_hash_of_a_reduced_picture_is_that_of_the_whole_one(tmp_path):
    for seed in range(20):
        image = picture(seed, 640, 480)
        (tmp_path / "a.jpg").write_bytes(jpeg(image, quality=90))
        image.save(tmp_path / "a.png")
        pictures = [read_image_info(tmp_path / name).thumbnail for name in ("a.jpg", "a.png")]
        one, other = difference_hash(np.stack([p for p in pictures if p is not None]))
        assert (one != other).sum() <= 2


def test_an_upright_picture_and_one_that_exif_turns_upright_are_alike(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(3).save(tmp_path / "a.png")
    picture(3).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "b.png", exif=exif)
    found = [read_image_info(tmp_path / name) for name in ("a.png", "b.png")]
    assert [one.upright_size for one in found] == [(64, 48), (64, 48)]
    pictures = np.stack([one.thumbnail for one in found if one.thumbnail is not None])
    assert [(later, earlier) for later, earlier, _ in most_alike(pictures)] == [(1, 0)]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
def test_every_mode_of_pillow_has_a_thumbnail(tmp_path, mode):
    grey = picture(5).convert("L")
    image = (
        Image.fromarray(np.asarray(grey).astype(np.uint16))
        if mode == "I;16"
        else (picture(5).convert(mode if mode != "LA" else "RGBA").convert(mode))
    )
    image.save(tmp_path / "a.tif")
    try:
        Image.open(tmp_path / "a.tif").load()
    except OSError:
        pytest.skip("this Pillow cannot read what it wrote")
    found = read_image_info(tmp_path / "a.tif")
    assert found.problem == ""
    assert found.thumbnail is not None
    assert found.thumbnail.shape == (16, 16)


def test_brightness_and_scale_do_not_hide_a_duplicate(tmp_path):
    darker = picture(7, 640, 480).point(lambda value: value // 2)
    smaller = picture(7, 320, 240)
    for name, image in (("a", picture(7, 640, 480)), ("b", darker), ("c", smaller)):
        image.save(tmp_path / f"{name}.png")
    found = [read_image_info(tmp_path / f"{name}.png").thumbnail for name in "abc"]
    pictures = np.stack([p for p in found if p is not None])
    assert [(later, earlier) for later, earlier, _ in most_alike(pictures)] == [(1, 0), (2, 0)]


def test_other_pictures_are_not_alike(tmp_path):
    images = [np.asarray(picture(seed, 16, 16).convert("L")) for seed in range(1500)]
    bits = difference_hash(np.stack(images))
    pairs = list(most_alike(np.stack(images)))
    assert len(pairs) < 3
    assert (bits[0] != bits[1]).sum() > MAX_BITS


def test_an_unreadable_folder_or_file_is_no_crash(tmp_path):
    assert read_image_info(tmp_path).problem == "image-unreadable"
    assert read_image_info(tmp_path / "none.jpg") == ImageInfo("image-missing", "no such file")


def test_files_are_looked_at_again_when_they_change(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    picture(1).save(path)
    first = read_image_infos([path])[path]
    monkeypatch.setattr(image_info_cache, "map_files", lambda *_, **__: pytest.fail("looked again"))
    again = read_image_infos([path])[path]
    assert again.digest == first.digest
    assert again.size == first.size == (64, 48)
    assert np.array_equal(again.thumbnail, first.thumbnail)
    monkeypatch.undo()
    monkeypatch.setenv("D2EXT_CACHE", str(tmp_path / "cache"))
    path.write_bytes(path.read_bytes()[:-90])
    assert read_image_infos([path])[path].problem == "image-truncated"


def test_many_files_are_read_by_several_processes(tmp_path):
    paths = [tmp_path / f"{n}.jpg" for n in range(80)]
    for n, path in enumerate(paths):
        picture(n).save(path)
    paths[40].write_bytes(b"")
    found = read_image_infos(paths, fresh=True)
    assert list(found) == paths
    assert [p.name for p in paths if found[p].problem] == ["40.jpg"]


def test_infos_are_kept_within_a_context_and_read_anew_when_a_file_changes(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    picture(1).save(path)
    with infos_kept():
        first = read_image_infos([path])[path]
        monkeypatch.setattr(image_info_cache, "_load", lambda *_: pytest.fail("loaded again"))
        assert read_image_infos([path])[path] is first
        path.write_bytes(path.read_bytes()[:-90])
        assert read_image_infos([path])[path].problem == "image-truncated"
    monkeypatch.undo()
    monkeypatch.setenv("D2EXT_CACHE", str(tmp_path / "cache"))
    assert read_image_infos([path])[path] is not first


def test_a_name_that_no_file_can_have_is_a_problem_of_the_image():
    names = ["a\0b.jpg", "x" * 5000 + ".jpg"]
    infos = read_image_infos(names)
    assert [infos[name].problem for name in names] == ["image-unreadable", "image-unreadable"]
