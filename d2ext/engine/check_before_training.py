"""The check of the data before a training, in a few lines."""

from pathlib import Path

from d2ext.data.checks.report import Report
from d2ext.data.checks.run import check_sources
from d2ext.data.registered import Entry, read_entry
from d2ext.data.sources import Source
from d2ext.errors import DataError
from detectron2.config import CfgNode

_SEVERITIES = ("error", "warning")  # told before training; notes are counted


def check_before_training(cfg: CfgNode) -> list[str]:
    """What is wrong with the data sets of `DATASETS.REGISTER` that are used, in lines for the log.

    All faults stand in OUTPUT_DIR/data_faults/check.json, if there are any.

    Raises:
        OutputError: that file cannot be written.
    """
    used = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    entries = {entry[0]: entry[1:] for entry in cfg.DATASETS.REGISTER}
    sources = {name: _read(entries[name]) for name in used if name in entries}
    known = {name: source for name, source in sources.items() if source is not None}
    if not known:
        return []
    report = check_sources(known, cached=True)
    if not report.faults:
        return [f"data check: {report.summary()}"]
    path = Path(cfg.OUTPUT_DIR, "data_faults", "check.json")
    report.write(path)
    return [f"data check: {report.summary()}; all of them: {path}", *_lines(report)]


def _read(entry: list[str]) -> Source | None:
    path, images, split, share = (*entry, "", "")[:4]
    try:
        return read_entry(Entry(path, images, split, share))
    except DataError:
        return None  # loading it has said so, or takes it as it is


def _lines(report: Report) -> list[str]:
    return [
        f"  {kind.severity} {kind.code}, {len(faults)}: {kind.summary}; the first: "
        f"{faults[0].where}: {faults[0].detail}"
        for kind, faults in report.by_kind().items()
        if kind.severity in _SEVERITIES
    ]
