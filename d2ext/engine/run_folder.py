"""The output folder of a run: a numbered one where another run is, the newest one to resume."""

import re
from collections.abc import Iterator
from pathlib import Path

from d2ext.checkpoint.file_io import LAST, resumable
from d2ext.files import make_folder

LOG = "log.txt"  # created first, so that of two runs that start together one gets the folder
_FILES = ("config.yaml", "metrics.json", LAST)
_NUMBERED = re.compile(r"(.+)_(\d+)")


def holds_run(folder: Path) -> bool:
    """Return True if a training or evaluation has written to the folder."""
    log = folder / LOG
    has_log = log.is_file() and log.stat().st_size > 0
    return has_log or any((folder / name).exists() for name in _FILES) or bool(_weights(folder))


def claim_folder(wanted: Path) -> Path:
    """Create and return `wanted`, or "<wanted>_2", "<wanted>_3", ... where there is a run already.

    Raises:
        OutputError: files cannot be written there.
    """
    for folder in _candidates(wanted):
        if holds_run(folder):
            continue
        check_output(folder)
        try:
            with open(folder / LOG, "x"):
                return folder
        except FileExistsError:
            continue
    raise AssertionError("the candidates do not end")


def release_folder(folder: Path, failed: bool = False) -> None:
    """Undo `claim_folder` for a run that has not started, so that it takes no number.

    Args:
        failed: remove log, config and metrics of a run that ended without weights, too.
    """
    log = folder / LOG
    if failed and not _weights(folder):
        for name in (LOG, "config.yaml", "metrics.json"):
            (folder / name).unlink(missing_ok=True)
    if log.is_file() and log.stat().st_size == 0:
        log.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def newest_run(wanted: Path) -> Path:
    """Return the folder among `wanted` and its numbered siblings that was trained in last."""
    siblings = [wanted, *wanted.parent.glob(f"{_escaped(wanted.name)}_*")]
    own = [f for f in siblings if f == wanted or _NUMBERED.fullmatch(f.name)]
    trained = [folder for folder in own if resumable(folder)]
    return max(trained, key=lambda folder: resumable(folder)[0].stat().st_mtime, default=wanted)


def check_output(folder: Path) -> None:
    """Create the output folder and check that files can be written to it.

    Raises:
        OutputError: they cannot.
    """
    make_folder(folder, "OUTPUT_DIR")


def remove_results(folder: Path) -> None:
    """Remove weights and results of the run that a new one overwrites.

    The new one may have no best weights or test results, and must not show those of the old one.
    """
    names = (LAST, "model_best.pth", "model_final.pth", "results.json")
    for path in [*(folder / name for name in names), *folder.glob("model_[0-9]*.pth")]:
        path.unlink(missing_ok=True)


def _weights(folder: Path) -> list[Path]:
    return [*folder.glob("model_[0-9]*.pth"), *folder.glob("model_final.pth")]


def _candidates(wanted: Path) -> Iterator[Path]:
    yield wanted
    found = _NUMBERED.fullmatch(wanted.name)
    stem, number = wanted.name, 2
    if found is not None and holds_run(wanted.with_name(found[1])):
        stem, number = found[1], int(found[2]) + 1  # a run's own config.yaml names its folder
    while True:
        yield wanted.with_name(f"{stem}_{number}")
        number += 1


def _escaped(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)
