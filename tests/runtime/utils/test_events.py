"""`detectron2.utils.events`: the storage and its writers."""

import json
import logging
import math
from pathlib import Path

import pytest
import torch

import d2ext  # noqa: F401
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventStorage,
    JSONWriter,
    TensorboardXWriter,
    get_event_storage,
    has_event_storage,
)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def printed(caplog: pytest.LogCaptureFixture, storage: EventStorage, max_iter: int | None) -> str:
    logger = logging.getLogger("detectron2.utils.events")
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO, logger="detectron2.utils.events"), storage:
            caplog.clear()
            CommonMetricPrinter(max_iter).write()
    finally:
        logger.removeHandler(caplog.handler)
    return caplog.messages[0] if caplog.messages else ""


def test_get_event_storage_returns_the_active_storage():
    assert not has_event_storage()
    with EventStorage() as outer, EventStorage() as inner:
        assert get_event_storage() is inner
        assert outer is not inner
    with pytest.raises((RuntimeError, AssertionError)):
        get_event_storage()


def test_scalars_keep_their_iteration():
    storage = EventStorage(5)
    storage.put_scalar("loss", torch.tensor(2.5))
    storage.step()
    storage.put_scalars(loss=3, speed=4, smoothing_hint=True)
    storage.put_scalar("late", 1, cur_iter=9)
    assert storage.latest() == {"loss": (3, 6), "speed": (4, 6), "late": (1, 9)}
    assert storage.history("loss").values() == [(2.5, 5), (3, 6)]
    assert (storage.iter, storage.iteration) == (6, 6)
    storage.iter = 8
    assert storage.iteration == 8


def test_only_noisy_scalars_are_smoothed():
    storage = EventStorage()
    for value in (1, 2, 9):
        storage.put_scalar("noisy", value)
        storage.put_scalar("exact", value, smoothing_hint=False)
        storage.step()
    assert storage.latest_with_smoothing_hint(20) == {"noisy": (2, 2), "exact": (9, 2)}
    assert storage.latest_with_smoothing_hint(2)["noisy"] == (5.5, 2)
    assert storage.smoothing_hints() == {"noisy": True, "exact": False}
    assert storage.count_samples("noisy", 2) == 2


def test_a_scalar_cannot_change_its_smoothing_hint():
    storage = EventStorage()
    storage.put_scalar("x", 1)
    with pytest.raises((ValueError, AssertionError)):
        storage.put_scalar("x", 1, smoothing_hint=False)


def test_name_scopes_prefix_scalars():
    storage = EventStorage()
    with storage.name_scope("val"):
        storage.put_scalar("loss", 1)
    storage.put_scalar("loss", 2)
    assert storage.latest() == {"val/loss": (1, 0), "loss": (2, 0)}


def test_an_unknown_history_is_a_key_error():
    with pytest.raises(KeyError, match="nothing"):
        EventStorage().history("nothing")


def test_json_lines_have_new_scalars_by_iteration(tmp_path: Path):
    path = tmp_path / "metrics.json"
    with EventStorage(19) as storage:
        writer = JSONWriter(str(path))
        storage.put_scalars(total_loss=1.5, lr=0.1)
        storage.put_scalar("bbox/AP", 40.0, cur_iter=17)
        writer.write()
        writer.write()
        storage.step()
        storage.put_scalar("lr", 0.3)
        writer.write()
        writer.close()
    found = sorted(lines(path), key=lambda line: line["iteration"])
    assert found == [
        {"bbox/AP": 40.0, "iteration": 17},
        {"iteration": 19, "lr": 0.1, "total_loss": 1.5},
        {"iteration": 20, "lr": 0.2},
    ]
    assert list(found[1]) == ["iteration", "lr", "total_loss"]


def test_json_lines_are_appended(tmp_path: Path):
    path = tmp_path / "metrics.json"
    for value in (1.0, math.inf):
        with EventStorage() as storage:
            writer = JSONWriter(str(path))
            storage.put_scalar("x", value)
            writer.write()
            writer.close()
    assert [line["x"] for line in lines(path)] == [1.0, math.inf]


def test_the_log_line_has_eta_losses_times_and_rate(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    storage = EventStorage()
    for k in range(10):
        storage.put_scalars(
            total_loss=10 - k / 10, loss_cls=1, time=0.1 + k / 100, data_time=k / 100
        )
        storage.put_scalar("lr", 0.001 * k, smoothing_hint=False)
        storage.step()
    assert printed(caplog, storage, 100) == (
        " eta: 0:00:12  iter: 10  total_loss: 9.55  loss_cls: 1    time: 0.1450  "
        "last_time: 0.1900  data_time: 0.0450  last_data_time: 0.0900   lr: 0.009  "
    )
    assert storage.latest()["eta_seconds"][0] == pytest.approx(0.145 * 89)


def test_a_log_line_without_times_has_the_scalars_only(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    storage = EventStorage(3)
    storage.put_scalar("loss", 0.5)
    assert printed(caplog, storage, None) == " iter: 3  loss: 0.5     lr: N/A  "


def test_there_is_no_log_line_after_the_last_iteration(caplog: pytest.LogCaptureFixture):
    storage = EventStorage(100)
    storage.put_scalar("loss", 0.5)
    assert printed(caplog, storage, 100) == ""


def test_tensorboard_writes_every_value_once(tmp_path: Path):
    folder = tmp_path / "events"
    with EventStorage() as storage:
        writer = TensorboardXWriter(str(folder))
        storage.put_scalar("loss", 1.0)
        storage.put_image("picture", torch.zeros(3, 4, 4))
        storage.put_histogram("weights", torch.arange(10.0), bins=5)
        writer.write()
        writer.write()
        writer.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(0, 1.0)]
    assert len(events.Images("picture")) == 1
    histogram = events.Histograms("weights")[0].histogram_value
    assert histogram.bucket == [2, 2, 2, 2, 2]
    assert (histogram.min, histogram.max, histogram.num, histogram.sum) == (0, 9, 10, 45)
