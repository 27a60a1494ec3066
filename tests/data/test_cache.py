"""Derived files are written whole, once, and where the environment says."""

from multiprocessing.pool import ThreadPool
from pathlib import Path

import pytest

from d2ext.data.cache import cached_file, cached_folder
from d2ext.errors import OutputError
from d2ext.files import cache_folder


def test_the_cache_is_below_the_home_unless_the_environment_says_otherwise(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("D2EXT_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "d2ext"


def test_a_file_that_is_there_is_not_written_again(tmp_path):
    path = tmp_path / "new" / "file.txt"
    cached_file(path, lambda part: part.write_bytes(b"first"))
    assert cached_file(path, lambda part: part.write_bytes(b"second")).read_bytes() == b"first"


def test_processes_that_race_for_a_folder_all_get_a_whole_one(tmp_path):
    def fill(folder: Path) -> None:
        for number in range(50):
            (folder / f"{number}.txt").write_text(folder.name)

    def ask(_: int) -> int:
        return len(list(cached_folder(tmp_path / "cache" / "set", fill).iterdir()))

    with ThreadPool(8) as pool:
        assert pool.map(ask, range(8)) == [50] * 8
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["set"]


def test_a_folder_that_could_not_be_filled_leaves_nothing_behind(tmp_path):
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cached_folder(tmp_path / "cache" / "set", fail)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda p: cached_file(p, lambda part: part.write_bytes(b"")),
        lambda p: cached_folder(p, print),
    ],
)
def test_a_cache_that_cannot_be_written_names_the_variable_that_moves_it(tmp_path, ask):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file.*D2EXT_CACHE"):
        ask(tmp_path / "file" / "below")
