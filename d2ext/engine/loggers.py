"""Additional loggers of a run: CSV, Weights & Biases, MLflow."""

import csv
import importlib
import math
import os
import uuid
from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from d2ext.config.load import leaves
from d2ext.engine.metrics_file import WINDOW
from d2ext.errors import ConfigError, OutputError
from d2ext.files import replacing
from d2ext.registry import ExtensionRegistry
from detectron2.config import CfgNode
from detectron2.utils.events import EventWriter, get_event_storage

PICTURES = ("curves.png", "class_counts.png", "predictions_*.jpg")


class RunLogger(EventWriter):
    """Sends config, metrics and, at the end, pictures and the best checkpoint somewhere."""

    def __init__(self) -> None:
        self.written = -1  # metrics up to this iteration were sent

    def start(self, written: int) -> None:
        """Start after iteration `written`, -1 for a new training; what is older is not sent."""
        self.written = written

    def write(self) -> None:
        """Send the metrics that are new since the last call."""
        latest = get_event_storage().latest_with_smoothing_hint(WINDOW)
        new: dict[int, dict[str, float]] = {}
        for name, (value, iteration) in latest.items():
            if iteration > self.written and math.isfinite(value):
                new.setdefault(iteration, {})[name] = value
        for iteration in sorted(new):
            self.send(iteration, new[iteration])
        self.written = max([self.written, *new])

    @abstractmethod
    def send(self, iteration: int, metrics: dict[str, float]) -> None:
        """Send metrics by name, such as "total_loss" and "bbox/AP"."""

    def finish(self, folder: Path) -> None:
        """End the run: send what the training left in its output folder."""


LoggerBuilder = Callable[[CfgNode], RunLogger]

_LOGGERS: ExtensionRegistry[str, LoggerBuilder] = ExtensionRegistry("logger")


def register_logger(name: str, build: LoggerBuilder) -> None:
    """Register a logger that `LOGGING.WRITERS` can name.

    A project calls it when it is imported.

    Args:
        name: in the config.
        build: called with the config before the first iteration, in the first process alone.
    Raises:
        ValueError: the name is taken.
    """
    _LOGGERS.register(name, build)


def build_loggers(cfg: CfgNode) -> list[RunLogger]:
    """Build the loggers that `LOGGING.WRITERS` names.

    Raises:
        ConfigError: a name is unknown, or its library is not installed.
    """
    return [_LOGGERS.get(name, "LOGGING.WRITERS")(cfg) for name in cfg.LOGGING.WRITERS]


class CsvLogger(RunLogger):
    """Appends rows of iteration, metric and value to metrics.csv."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.path = Path(cfg.OUTPUT_DIR, "metrics.csv")

    def start(self, written: int) -> None:
        """Drop the rows after iteration `written`, from which training continues."""
        super().start(written)
        if not self.path.exists():
            return
        with open(self.path, encoding="utf-8", newline="") as file:
            kept = [row for row in csv.reader(file) if not _is_after(row, written)]
        with replacing(self.path) as part, open(part, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(kept)

    def send(self, iteration: int, metrics: dict[str, float]) -> None:
        is_new = not self.path.exists()
        try:
            with open(self.path, "a", encoding="utf-8", newline="") as file:
                rows = csv.writer(file)
                if is_new:
                    rows.writerow(("iteration", "metric", "value"))
                rows.writerows((iteration, name, metrics[name]) for name in sorted(metrics))
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror}).") from error


class WandbLogger(RunLogger):
    """Logs to Weights & Biases; `WANDB_MODE=offline` needs no account. A resumed run goes on."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        folder = Path(cfg.OUTPUT_DIR)
        self.wandb = _import("wandb")
        self.run = self.wandb.init(
            project=cfg.LOGGING.PROJECT,
            name=cfg.LOGGING.NAME or folder.name,
            id=_run_id(folder),
            resume="allow",
            dir=str(folder),
            config=dict(leaves(cfg)),
        )

    def send(self, iteration: int, metrics: dict[str, float]) -> None:
        self.run.log(metrics, step=iteration)

    def finish(self, folder: Path) -> None:
        pictures = {path.stem: self.wandb.Image(str(path)) for path in _pictures(folder)}
        if pictures:
            self.run.log(pictures)
        if weights := _best_weights(folder):
            self.run.log_artifact(str(weights), name=f"weights-{self.run.id}", type="model")
        self.run.finish()


class MlflowLogger(RunLogger):
    """Logs to MLflow: to `MLFLOW_TRACKING_URI`, or to mlruns/ in the output folder."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        folder = Path(cfg.OUTPUT_DIR)
        self.mlflow = _import("mlflow")
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            # Newer releases write files only if asked to; a database needs more than one package.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            self.mlflow.set_tracking_uri((folder / "mlruns").resolve().as_uri())
        self.mlflow.set_experiment(cfg.LOGGING.PROJECT)
        self.mlflow.start_run(run_name=cfg.LOGGING.NAME or folder.name)
        # Servers refuse longer values; config.yaml has them whole.
        self.mlflow.log_params({key: str(value)[:250] for key, value in leaves(cfg)})

    def send(self, iteration: int, metrics: dict[str, float]) -> None:
        self.mlflow.log_metrics(metrics, step=iteration)

    def finish(self, folder: Path) -> None:
        for path in (*_pictures(folder), folder / "config.yaml"):
            if path.exists():
                self.mlflow.log_artifact(str(path))
        if weights := _best_weights(folder):
            self.mlflow.log_artifact(str(weights), "weights")
        self.mlflow.end_run()


def _is_after(row: list[str], iteration: int) -> bool:
    return len(row) != 3 or (row[0].isdigit() and int(row[0]) > iteration)


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"LOGGING.WRITERS: {name} is not installed; `pip install {name}` brings it."
        ) from error


def _run_id(folder: Path) -> str:
    """Return the id of the run in the folder, a new one where there is none."""
    path = folder / "wandb_run_id"
    if not path.exists():
        path.write_text(uuid.uuid4().hex[:12], encoding="ascii")
    return path.read_text(encoding="ascii")


def _pictures(folder: Path) -> Iterator[Path]:
    for pattern in PICTURES:
        yield from sorted(folder.glob(pattern))


def _best_weights(folder: Path) -> Path | None:
    names = ("model_best.pth", "model_final.pth")
    return next((folder / name for name in names if (folder / name).exists()), None)


register_logger("csv", CsvLogger)
register_logger("wandb", WandbLogger)
register_logger("mlflow", MlflowLogger)
