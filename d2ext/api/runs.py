"""Train, evaluate, check and export by calls that take what the commands take."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d2ext.api.arguments import Data, as_flags, as_pairs
from d2ext.api.model import Model, load
from d2ext.cli import export as export_command
from d2ext.cli import train as train_command
from d2ext.files import read_json
from d2ext.visualization.curves import read_metrics

if TYPE_CHECKING:
    from d2ext.data.checks.report import Report


@dataclass(frozen=True)
class Run:
    """A training or evaluation that has ended.

    Args:
        folder: with weights, log, curves and pictures.
    """

    folder: Path

    @property
    def weights(self) -> Path:
        """The best weights, or the last ones where there was no evaluation."""
        best = self.folder / "model_best.pth"
        return best if best.exists() else self.folder / "model_final.pth"

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of each number that was logged, such as "bbox/AP" and "total_loss"."""
        path = self.folder / "metrics.json"
        series = read_metrics(path) if path.is_file() else {}
        return {name: float(values[-1]) for name, (_, values) in series.items()}

    def load(self, *, device: str = "", **keys: Any) -> Model:
        """Load the run's `weights`; see `d2ext.load`."""
        return load(self.weights, device=device, **keys)


def train(
    data: Data = "",
    *,
    config: str | Path = "",
    val: Data = "",
    test: Data = "",
    epochs: int | None = None,
    weights: str | Path = "",
    output: str | Path = "",
    device: str = "",
    resume: bool = False,
    quiet: bool = False,
    **keys: Any,
) -> Run:
    """Train a model as the command `d2ext-train` does.

    Args:
        data: one or several data sets as `--train` takes them; "" for those of the config.
        config: config file; "" takes the command's default.
        val: data sets for evaluation, or the share of the training images to hold out, "0.2".
        test: data sets to evaluate once, at the end, with the best weights.
        epochs: length of the training; None for the config's.
        weights: to start from.
        output: folder of the run; it is numbered where there is a run already.
        device: such as "cuda:1"; "" for a GPU where there is one.
        resume: go on with the run in `output`.
        quiet: print warnings and the result only.
        keys: config values by key, `**{"SOLVER.IMS_PER_BATCH": 4}`.
    Raises:
        UserError: config, data, weights or output folder are missing or wrong.
    """
    pairs = {"SOLVER.MAX_EPOCHS": epochs, "MODEL.WEIGHTS": weights, "MODEL.DEVICE": device}
    words = as_flags({"--config-file": config, "--train": data, "--val": val, "--test": test})
    words += [flag for flag, on in (("--resume", resume), ("--quiet", quiet)) if on]
    return _run(words, {**pairs, "OUTPUT_DIR": output, **keys})


def evaluate(
    weights: str | Path,
    data: Data = "",
    *,
    config: str | Path = "",
    output: str | Path = "",
    device: str = "",
    **keys: Any,
) -> dict[str, float | None]:
    """Evaluate weights as `d2ext-train --eval-only` does.

    Args:
        weights: a file, URL or name.
        data: as `--val` takes it; "" for the validation data of the training.
        config, output, device, keys: as in `train`.
    Returns:
        The metrics by name, such as "bbox/AP" in percent; None for what cannot be measured.
    Raises:
        UserError: as `train`.
    """
    words = ["--eval-only", *as_flags({"--config-file": config, "--val": data})]
    pairs = {"MODEL.WEIGHTS": weights, "MODEL.DEVICE": device, "OUTPUT_DIR": output}
    folder = _run(words, {**pairs, **keys}).folder
    return read_json(folder / "results.json")


def check(data: str | Path, val: Sequence[str | Path] = ()) -> "Report":
    """Check data sets as `d2ext-check-data` does; `print(report.text())` shows the issues.

    Args:
        data: training data, or a folder of splits.
        val: evaluation data, compared with the training data.
    Raises:
        DataError: the data cannot be read at all.
    """
    from d2ext.data.checks.check import check_splits
    from d2ext.data.dataset_paths import load_named_splits

    return check_splits(load_named_splits(str(data), [str(path) for path in val]))


def export(
    weights: str | Path,
    output: str | Path,
    *,
    format: str = "onnx",
    config: str | Path = "",
    **keys: Any,
) -> Path:
    """Export a model to a file that runs without d2ext, as `d2ext-export` does.

    Args:
        weights, config, keys: as in `train`.
        output: file to write.
        format: "onnx", "torchscript" or "torch_export".
    Returns:
        `output`.
    Raises:
        UserError: the weights are missing or wrong, or the file computes something else than the
            model.
    """
    words = ["--format", format, "--output", str(output), *as_flags({"--config-file": config})]
    export_command.main([*words, *as_pairs({"MODEL.WEIGHTS": weights, **keys})])
    return Path(output)


def _run(words: Sequence[str], pairs: dict[str, Any]) -> Run:
    args = train_command.argument_parser().parse_args([*words, *as_pairs(pairs)])
    return Run(train_command.run_command(args, [*words, *as_pairs(pairs)]))
