"""`detectron2.utils.logger`: handlers, and rate-limited messages."""

import logging
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import d2ext  # noqa: F401
from detectron2.utils.logger import (
    create_small_table,
    log_every_n,
    log_every_n_seconds,
    log_first_n,
    setup_logger,
)


@pytest.fixture
def name() -> Iterator[str]:
    """Return a new logger name for each test."""
    name = f"logger{uuid.uuid4().hex}"
    yield name
    for handler in logging.getLogger(name).handlers[:]:
        logging.getLogger(name).removeHandler(handler)
        handler.close()


def test_messages_go_to_the_console_and_the_file(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture
):
    logger = setup_logger(str(tmp_path / "out"), name=name, abbrev_name="L")
    logger.info("hello %d", 3)
    logging.getLogger(f"{name}.part").warning("careful")
    console = re.sub(r"\x1b\[\d+m", "", capsys.readouterr().out).splitlines()
    assert re.fullmatch(rf"\[\d\d/\d\d [\d:]{{8}} {name}\]: hello 3", console[0])
    assert re.fullmatch(r"WARNING \[\d\d/\d\d [\d:]{8} L\.part\]: careful", console[1])
    log = (tmp_path / "out" / "log.txt").read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(rf"\[\d\d/\d\d [\d:]{{8}}\] {name} INFO: hello 3", log[0])
    assert log[1].endswith("] L.part WARNING: careful")
    assert not logger.propagate


def test_other_ranks_write_their_own_file(name: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    setup_logger(str(tmp_path / "a.txt"), distributed_rank=2, name=name).info("hello")
    assert capsys.readouterr().out == ""
    assert "hello" in (tmp_path / "a.txt.rank2").read_text(encoding="utf-8")


def test_setting_up_twice_adds_no_handlers(name: str):
    assert len(setup_logger(name=name).handlers) == 1
    assert len(setup_logger(name=name).handlers) == 1


def test_log_first_n_logs_n_times(name: str, caplog: pytest.LogCaptureFixture):
    for k in range(4):
        log_first_n(logging.WARNING, f"first {k}", n=2, name=name)
    assert caplog.messages == ["first 0", "first 1"]


def test_log_first_n_counts_by_message(name: str, caplog: pytest.LogCaptureFixture):
    for k in range(4):
        log_first_n(logging.WARNING, f"{name} {k % 2}", name=name, key="message")
    log_first_n(logging.WARNING, f"{name} 0", name=name, key="message")
    log_first_n(logging.WARNING, f"{name} 0", name=name, key=("caller", "message"))
    assert caplog.messages == [f"{name} 0", f"{name} 1", f"{name} 0"]


def test_log_every_n_logs_the_first_of_n(name: str, caplog: pytest.LogCaptureFixture):
    for k in range(5):
        log_every_n(logging.WARNING, f"every {k}", n=2, name=name)
    assert caplog.messages == ["every 0", "every 2", "every 4"]


def test_log_every_n_seconds_logs_once_in_n_seconds(name: str, caplog: pytest.LogCaptureFixture):
    for k in range(3):
        log_every_n_seconds(logging.WARNING, f"slow {k}", n=100, name=name)
    assert caplog.messages == ["slow 0"]


def test_create_small_table_formats_one_row():
    assert create_small_table({"AP": 1.23456, "n": 2}).splitlines() == [
        "|  AP   |  n  |",
        "|:-----:|:---:|",
        "| 1.235 |  2  |",
    ]
