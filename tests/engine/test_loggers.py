"""Loggers besides metrics.json: what they are sent, resumed runs, missing libraries."""

import csv
import sys
import time
from pathlib import Path

import pytest

from d2ext.engine.loggers import RunLogger, build_loggers, register_logger
from d2ext.errors import ConfigError
from tests.helpers.training import TinyTrainer, tiny_cfg


class Recorder(RunLogger):
    """Keeps what it is sent."""

    def __init__(self, cfg):
        super().__init__()
        self.sent, self.left = [], []

    def send(self, iteration, metrics):
        self.sent.append((iteration, metrics))

    def finish(self, folder: Path):
        self.left = sorted(path.name for path in folder.iterdir())


@pytest.fixture
def recorder(monkeypatch):
    monkeypatch.setattr("d2ext.engine.loggers._LOGGERS._values", {})
    made = []
    register_logger("recorder", lambda cfg: made.append(Recorder(cfg)) or made[-1])
    return made


def trained(folder: Path, *options: str, resume: bool = False) -> Path:
    cfg = tiny_cfg(folder, *options)
    trainer = TinyTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return Path(cfg.OUTPUT_DIR)


def test_a_logger_gets_each_metric_once_and_ends_after_the_last_checkpoint(tmp_path, recorder):
    trained(tmp_path, "LOGGING.WRITERS", "['recorder']")
    (logger,) = recorder
    iterations = [iteration for iteration, _ in logger.sent]
    assert iterations == sorted(set(iterations))
    assert iterations[-1] >= 19
    assert any({"total_loss", "lr"} <= set(metrics) for _, metrics in logger.sent)
    assert any("bbox/AP" in metrics for _, metrics in logger.sent)
    assert "model_final.pth" in logger.left


def test_a_resumed_run_sends_what_is_new(tmp_path, recorder):
    trained(tmp_path, "LOGGING.WRITERS", "['recorder']", "SOLVER.MAX_ITER", "8")
    trained(tmp_path, "LOGGING.WRITERS", "['recorder']", "SOLVER.MAX_ITER", "12", resume=True)
    _, second = recorder
    assert min(iteration for iteration, _ in second.sent) >= 8


def test_csv_has_a_row_for_each_metric_also_after_a_resume(tmp_path):
    options = ("LOGGING.WRITERS", "['csv']")
    folder = trained(tmp_path, *options, "SOLVER.MAX_ITER", "8")
    with open(folder / "metrics.csv", "a", encoding="utf-8") as file:
        file.write("11,total_loss,3.0\n12,total")  # of iterations that were lost
    trained(tmp_path, *options, "SOLVER.MAX_ITER", "12", resume=True)
    with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header == ["iteration", "metric", "value"]
    keys = [(row[0], row[1]) for row in rows]
    assert len(keys) == len(set(keys))
    assert ("11", "total_loss") in keys
    assert all(float(row[2]) < 3 for row in rows if row[:2] == ["11", "total_loss"])


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_library_is_one_line(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=f"pip install {name}"):
        build_loggers(tiny_cfg(tmp_path, "LOGGING.WRITERS", f"['{name}']"))


def test_an_unknown_logger_names_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match=r"'wandbb' is unknown; did you mean wandb\?"):
        build_loggers(tiny_cfg(tmp_path, "LOGGING.WRITERS", "['wandbb']"))


@pytest.mark.slow
def test_wandb_offline_keeps_a_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = trained(tmp_path, "LOGGING.WRITERS", "['wandb']", "SOLVER.MAX_ITER", "4")
    (run,) = (folder / "wandb").glob("offline-run-*")
    assert (folder / "wandb_run_id").read_text() in run.name
    (record,) = run.glob("run-*.wandb")
    deadline = time.monotonic() + 30  # another process of W&B's writes it
    while record.stat().st_size < 1000 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert record.stat().st_size >= 1000


@pytest.mark.slow
def test_mlflow_files_hold_config_metrics_and_weights(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = trained(tmp_path, "LOGGING.WRITERS", "['mlflow']", "SOLVER.MAX_ITER", "4")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = mlflow.MlflowClient((folder / "mlruns").resolve().as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("d2ext").experiment_id])
    assert run.data.params["SOLVER.MAX_ITER"] == "4"
    assert "total_loss" in run.data.metrics
    assert [each.path for each in client.list_artifacts(run.info.run_id, "weights")]
