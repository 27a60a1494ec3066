"""Zip files, which are unpacked into the cache, and addresses, which are refused."""

import zipfile

import pytest

from d2ext.data.checks.check import check_splits
from d2ext.data.dataset_paths import load_named_splits, parse_dataset_flag
from d2ext.data.formats import detect_format, load_splits
from d2ext.errors import DataError
from tests.helpers.dataset_folders import save_image, write


def yolo_zip(folder, prefix="", extra=(), label="0 0.5 0.5 0.2 0.2\n"):
    """A zip of a YOLO data set, below `prefix`."""
    for split in ("train", "val"):
        save_image(folder / "made" / split / "images" / f"{split}.png")
        write(folder / "made" / split / "labels" / f"{split}.txt", label)
    write(folder / "made" / "data.yaml", "train: train/images\nval: val/images\nnames: [cat]\n")
    path = folder / "mine.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted((folder / "made").rglob("*.*")):
            archive.write(file, prefix + file.relative_to(folder / "made").as_posix())
        for name, content in extra:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("prefix", ["", "export/", "a\\b\\"])
def test_a_zip_is_unpacked_once_and_read(tmp_path, own_cache, prefix):
    path = yolo_zip(tmp_path, prefix, [("__MACOSX/._a", "x")])
    found = load_splits(path)
    assert {s: (d.path, d.num_annotations, d.issues) for s, d in found.items()} == {
        "train": (path, 1, []),
        "val": (path, 1, []),
    }
    (folder,) = (own_cache / "unpacked").iterdir()
    before = folder.stat().st_mtime_ns
    load_splits(path)
    assert [folder.stat().st_mtime_ns] == [f.stat().st_mtime_ns for f in folder.parent.iterdir()]
    assert before == folder.stat().st_mtime_ns


def test_nothing_is_written_outside_of_the_cache(tmp_path, own_cache):
    extra = [("../../evil.txt", "x"), ("/evil.txt", "x")]
    load_splits(yolo_zip(tmp_path, extra=extra))
    assert not list(tmp_path.glob("evil*"))
    assert len(list(own_cache.rglob("evil.txt"))) == 1


def test_messages_name_the_zip_and_never_the_cache(tmp_path, own_cache):
    path = yolo_zip(tmp_path, label="0 0.5 x 0.2 0.2\n0 0.5 0.5 0.2 0.2\n0 .2 .2 .1 .1\n")
    text = check_splits(load_named_splits(str(path), [])).text()
    assert "mine.zip/train/labels/train.txt:1" in text
    assert str(own_cache) not in text


def test_what_is_wrong_in_a_zip_is_said_of_the_zip(tmp_path, own_cache):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/readme.txt", "hello")
        archive.writestr("y/readme.txt", "hello")
    with pytest.raises(DataError, match=r"a\.zip: no annotations recognised.*In it: x/, y/") as at:
        detect_format(tmp_path / "a.zip")
    assert str(own_cache) not in str(at.value)
    write(tmp_path / "b.zip", "no zip")
    with pytest.raises(DataError, match=r"b\.zip: the zip file cannot be unpacked"):
        detect_format(tmp_path / "b.zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_entry_that_does_not_decompress_is_one_message(method, tmp_path, own_cache):
    path = tmp_path / "c.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.txt", "0 0.5 0.5 0.2 0.2\n" * 100)
    content = bytearray(path.read_bytes())
    content[35:55] = b"\xff" * 20  # behind the header of the entry and its name
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"c\.zip: the zip file cannot be unpacked"):
        detect_format(path)


def test_other_archives_are_to_be_unpacked(tmp_path):
    with pytest.raises(DataError, match="Unpack it and name the folder"):
        detect_format(write(tmp_path / "a.tar.gz", "x"))


@pytest.mark.parametrize("read", [parse_dataset_flag, detect_format, load_splits])
@pytest.mark.parametrize("text", ["https://example.org/a.zip", "http://example.org/data"])
def test_addresses_are_refused_with_what_to_do(read, text):
    with pytest.raises(DataError, match="Download it and name the file or folder"):
        read(text)
