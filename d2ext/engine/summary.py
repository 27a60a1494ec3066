"""The last lines of a training: the best metric, the files, the next commands."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from d2ext.engine.trainer import Trainer

_FILES = {
    "curves.png": "curves",
    "log.txt": "the whole log",
    "data_faults/check.json": "issues of the data",
}


def summary(trainer: Trainer, programs: Mapping[str, str]) -> list[str]:
    """Return lines for the log.

    Args:
        programs: command lines by tool: "demo", "train_net", "export" and "report".
    """
    folder, best = Path(trainer.cfg.OUTPUT_DIR), trainer.best_weights
    files = [f"{folder / name} ({what})" for name, what in _FILES.items()]
    shown = [text for text, name in zip(files, _FILES, strict=True) if (folder / name).exists()]
    weights = f"--weights {shlex.quote(str(best))}"
    data = "" if trainer.cfg.DATASETS.TEST else " --val DATA"
    return [
        f"trained for {trainer.max_iter} iterations; {_best(trainer)}",
        f"weights: {best}; {', '.join(shown)}",
        f"predict:  {programs['demo']} {weights} --input IMAGES",
        f"evaluate: {programs['train_net']} --eval-only {weights}{data}",
        f"export:   {programs['export']} {weights} --format onnx --output model.onnx",
        f"report:   {programs['report']} {shlex.quote(str(folder))}",
    ]


def _best(trainer: Trainer) -> str:
    score = trainer.best_score
    if score is None:
        return "not evaluated, as there were no validation data"
    if score.best is None:
        return f"{score.metric} was not measured"
    return f"best {score.metric} {score.best:.4g}"
