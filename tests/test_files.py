import errno
import os

import pytest

from d2ext.errors import OutputError
from d2ext.files import (
    check_new_folder,
    check_output_file,
    check_output_folder,
    make_folder,
    replacing,
)


def test_the_file_appears_whole_and_nothing_else_is_left(tmp_path):
    with replacing(tmp_path / "new" / "ü b.json") as temporary:
        temporary.write_text("whole", encoding="utf-8")
        assert temporary.suffix == ".json"
        assert not (tmp_path / "new" / "ü b.json").exists()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["ü b.json"]


def test_a_failure_leaves_the_old_file_as_it_was(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(TypeError), replacing(path) as temporary:
        temporary.write_text(None)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_message_with_the_file_and_the_remedy(tmp_path):
    with (
        pytest.raises(OutputError, match=r"a\.txt: .*free some space"),
        replacing(tmp_path / "a.txt"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_folder_that_is_a_file_is_no_silent_success(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match=r"a\.txt: cannot be written"),
        replacing(tmp_path / "file" / "a.txt"),
    ):
        pass


def test_a_place_that_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / ("a" * 300)):
        with pytest.raises(OutputError, match="name another file"), replacing(path) as temporary:
            temporary.write_text("")


def test_removing_the_temporary_file_does_not_hide_the_error(tmp_path, monkeypatch):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.unlink", read_only)
    with (
        pytest.raises(OutputError, match=r"a\.txt: .*the file system is read-only"),
        replacing(tmp_path / "a.txt") as temporary,
    ):
        read_only(temporary)
    with pytest.raises(TypeError, match="mine"), replacing(tmp_path / "a.txt"):
        raise TypeError("mine")


def test_an_error_about_another_file_is_not_explained(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.txt"):
        (tmp_path / "none").read_text()


def test_an_output_folder_that_is_a_file_is_named_with_its_setting(tmp_path):
    make_folder(tmp_path / "a" / "b", "--output")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "c").touch()
    with pytest.raises(OutputError, match=r"c: cannot be written to .*--output FOLDER names"):
        make_folder(tmp_path / "c", "--output")


@pytest.mark.parametrize("check", [check_output_file, check_output_folder, check_new_folder])
def test_places_are_checked_before_the_work_and_nothing_is_made(check, tmp_path):
    (tmp_path / "file").touch()
    check(tmp_path / "new" / "deep" / "a.json", "--out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    for place in (tmp_path / "file" / "a.json", tmp_path / ("a" * 300)):
        with pytest.raises(OutputError, match=r"cannot be written .*; --out names another one"):
            check(place, "--out")


def test_a_folder_is_no_file_a_file_no_folder_and_a_full_folder_not_new(tmp_path):
    (tmp_path / "file").touch()
    check_output_file(tmp_path / "file", "--out")
    check_output_folder(tmp_path, "--out")
    with pytest.raises(OutputError, match="a folder; --out names a file"):
        check_output_file(tmp_path, "--out")
    with pytest.raises(OutputError, match="a file; --out names a folder"):
        check_output_folder(tmp_path / "file", "--out")
    with pytest.raises(OutputError, match="not empty; OUT names a new folder"):
        check_new_folder(tmp_path, "OUT")


def test_a_pipe_or_a_device_is_never_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OutputError, match="pipe: a device or a pipe"), replacing(pipe):
        pass
    with pytest.raises(OutputError, match="a device or a pipe"):
        check_output_file(pipe, "--out")
    assert pipe.is_fifo()
