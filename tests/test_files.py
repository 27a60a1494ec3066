import errno

import pytest

from d2ext.errors import OutputError
from d2ext.files import replacing


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
    with pytest.raises(OSError), replacing(tmp_path / "file" / "a.txt"):  # noqa: PT011
        pass
