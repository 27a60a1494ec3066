import json
from pathlib import Path

import pytest

from d2ext.engine.metrics_file import MetricsFile
from d2ext.errors import OutputError
from detectron2.utils.events import EventStorage


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.json"


def rows(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, iterations: range, writer: MetricsFile | None = None) -> MetricsFile:
    writer = writer or MetricsFile(path)
    with EventStorage(iterations.start) as storage:
        for storage.iter in iterations:
            storage.put_scalar("loss", float(storage.iter), smoothing_hint=False)
            writer.write()
    return writer


def test_each_write_is_a_line(path: Path) -> None:
    assert write(path, range(2)).written == 1
    assert rows(path) == [{"iteration": 0, "loss": 0.0}, {"iteration": 1, "loss": 1.0}]


def test_an_evaluation_between_two_writes_has_its_own_line(path: Path) -> None:
    writer = MetricsFile(path)
    with EventStorage() as storage:
        storage.put_scalar("AP", 5.0, smoothing_hint=False)
        storage.iter = 3
        storage.put_scalar("loss", 1.0)
        writer.write()
        writer.write()
    assert rows(path) == [{"iteration": 0, "AP": 5.0}, {"iteration": 3, "loss": 1.0}]


def test_a_file_that_cannot_be_written_is_an_error_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"metrics\.json: cannot be written"):
        write(tmp_path / "gone" / "metrics.json", range(1))


def test_noise_is_smoothed_by_the_median(path: Path) -> None:
    with EventStorage() as storage:
        for storage.iter, value in enumerate([1.0, 100.0, 3.0]):
            storage.put_scalar("loss", value)
        MetricsFile(path).write()
    assert rows(path) == [{"iteration": 2, "loss": 3.0}]


def test_a_resume_drops_later_and_broken_lines_and_goes_on(path: Path) -> None:
    write(path, range(5))
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"iteration": 1, "lo')
    writer = MetricsFile(path)
    writer.resume(written=2)
    write(path, range(3, 5), writer)
    assert [row["iteration"] for row in rows(path)] == [0, 1, 2, 3, 4]


def test_a_resume_without_a_file_begins_one(path: Path) -> None:
    writer = MetricsFile(path)
    writer.resume(written=2)
    write(path, range(3, 4), writer)
    assert rows(path) == [{"iteration": 3, "loss": 3.0}]


def test_an_earlier_training_is_kept_aside(path: Path) -> None:
    write(path, range(2))
    writer = MetricsFile(path)
    writer.start()
    write(path, range(1), writer)
    assert len(rows(path)) == 1
    assert len(rows(path.with_name("previous_metrics.json"))) == 2
