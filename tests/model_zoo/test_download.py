from collections.abc import Iterator
from pathlib import Path

import pytest

import d2ext.checkpoint  # noqa: F401 # registers the handler of addresses
from d2ext.errors import WeightsError
from d2ext.model_zoo import download as downloading
from d2ext.model_zoo.download import download
from detectron2.utils.file_io import PathManager
from tests.helpers.server import Server, serving

CONTENT = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(downloading.OFFLINE_VARIABLE, raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(CONTENT) as server:
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "weights.pth"


def cut_off(server: Server, target: Path, size: int = 4000) -> None:
    """Leave a part, as a process that was killed does."""
    part = target.with_name("weights.pth.part")
    part.write_bytes(CONTENT[:size])
    if server.tag:
        target.with_name("weights.pth.part.version").write_text(server.tag, encoding="utf-8")


def test_a_file_comes_whole_and_alone(server: Server, target: Path) -> None:
    download(server.url, target)
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]


def test_the_path_manager_downloads_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    local = PathManager.get_local_path(server.url)
    assert Path(local) == tmp_path / "some" / "weights.pth"
    assert PathManager.get_local_path(server.url) == local
    assert len(server.asked) == 1
    with PathManager.open(server.url, "rb") as file:
        assert file.read() == CONTENT


def test_a_cut_connection_is_taken_up_again(server: Server, target: Path) -> None:
    server.cut = 4000
    download(server.url, target)
    assert target.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=4000-", "bytes=8000-"]


@pytest.mark.parametrize("tag", ['"1"', ""])
def test_a_part_is_continued(server: Server, target: Path, tag: str) -> None:
    server.tag = tag
    cut_off(server, target)
    download(server.url, target)
    assert target.read_bytes() == CONTENT
    assert server.asked == ["bytes=4000-"]


def test_a_part_of_an_older_version_is_not(server: Server, target: Path) -> None:
    cut_off(server, target)
    server.tag, server.content = '"2"', CONTENT[::-1]
    download(server.url, target)
    assert target.read_bytes() == CONTENT[::-1]


def test_a_server_without_ranges_begins_again(server: Server, target: Path) -> None:
    cut_off(server, target)
    server.ranges = False
    download(server.url, target)
    assert target.read_bytes() == CONTENT


def test_a_complete_part_is_not_downloaded_again(server: Server, target: Path) -> None:
    cut_off(server, target, size=len(CONTENT))
    download(server.url, target)
    assert target.read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_a_part_longer_than_the_file_begins_again(server: Server, target: Path) -> None:
    cut_off(server, target)
    server.content = CONTENT[:3000]
    download(server.url, target)
    assert target.read_bytes() == CONTENT[:3000]


def test_a_stalled_download_fails_and_keeps_its_part(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(server, target)
    monkeypatch.setattr(downloading, "TIMEOUT", 0.2)
    held: list[object] = []
    monkeypatch.setattr(Server, "process_request", lambda *args: held.append(args))
    with pytest.raises(WeightsError, match="timed out"):
        download(server.url, target)
    assert target.with_name("weights.pth.part").stat().st_size == 4000


def test_a_part_that_cannot_be_written_is_named_with_a_remedy(server: Server, target: Path) -> None:
    target.with_name("weights.pth.part").mkdir()
    with pytest.raises(WeightsError, match=r"the cache cannot be written .*D2EXT_CACHE"):
        download(server.url, target)


def test_offline_the_url_and_the_place_for_the_file_are_named(target: Path) -> None:
    with serving(CONTENT) as server:
        url = server.url
    with pytest.raises(WeightsError) as error:
        download(url, target)
    assert f"{url}: cannot be downloaded" in str(error.value)
    assert f"put the file at {target}" in str(error.value)


def test_a_url_without_a_file_is_an_error_at_once(server: Server, target: Path) -> None:
    with pytest.raises(WeightsError, match="404 Not Found"):
        download(server.url.replace("some", "missing"), target)
    assert len(server.asked) == 1
