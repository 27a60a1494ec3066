"""The data check that runs before a training, summed up in a few lines of the log."""

from pathlib import Path

from d2ext.data.catalog import DatasetSpec, read_dataset
from d2ext.data.checks.check import check_splits
from d2ext.data.checks.report import Report
from d2ext.data.dataset_paths import named_spec
from d2ext.data.formats import DatasetSplit
from d2ext.errors import DataError
from detectron2.config import CfgNode

_SEVERITIES = ("error", "warning")  # in the log; notes are counted


def check_before_training(cfg: CfgNode) -> list[str]:
    """Check the data sets of `DATASETS.REGISTER` that a training uses.

    All issues are written to OUTPUT_DIR/data_faults/check.json, if there are any.

    Returns:
        Lines for the log.
    Raises:
        OutputError: that file cannot be written.
    """
    used = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    specs = dict(named_spec(entry) for entry in cfg.DATASETS.REGISTER)
    splits = {name: _read(specs[name]) for name in used if name in specs}
    known = {name: split for name, split in splits.items() if split is not None}
    if not known:
        return []
    report = check_splits(known, cached=True)
    if not report.issues:
        return [f"data check: {report.summary()}"]
    path = Path(cfg.OUTPUT_DIR, "data_faults", "check.json")
    report.write(path)
    return [f"data check: {report.summary()}; all of them: {path}", *_lines(report)]


def _read(spec: DatasetSpec) -> DatasetSplit | None:
    try:
        return read_dataset(spec)
    except DataError:
        return None  # loading it has said so, or takes it as it is


def _lines(report: Report) -> list[str]:
    return [
        f"  {kind.severity} {kind.code}, {len(issues)}: {kind.summary}; the first: "
        f"{issues[0].where}: {issues[0].detail}"
        for kind, issues in report.by_kind().items()
        if kind.severity in _SEVERITIES
    ]
