"""Resolve the flags `--train`, `--val` and `--test` to the DATASETS section of a config."""

import argparse
from collections.abc import Sequence

from d2ext.data.dataset_paths import dataset_flag_spec
from d2ext.data.formats.holdout import Holdout
from d2ext.errors import DataError
from detectron2.config import CfgNode

_KEYS = {"train": "TRAIN", "val": "TEST", "test": "FINAL"}  # of DATASETS, by flag
_EXAMPLE = "--train PATH --val PATH"


def find_datasets(cfg: CfgNode, args: argparse.Namespace) -> tuple[CfgNode, list[str]]:
    """Replace the data sets of a config by those of the flags; nothing is registered.

    Args:
        cfg: not changed.
    Returns:
        The new DATASETS section, and lines for the log.
    Raises:
        DataError: a path is missing, not recognised, or without the split that is asked for.
    """
    datasets, notes = cfg.DATASETS.clone(), []
    if args.train:
        splits = _add(datasets, "train", args.train)
        datasets.TEST = ()
        if not args.val and len(args.train) == 1:
            notes += _find_validation(datasets, splits)
    if args.val:
        share = _share(args.val)
        if share is None:
            _add(datasets, "val", args.val)
        elif not args.train:
            raise DataError(
                f"--val {share}: holds out a part of what --train names; give that, too."
            )
        else:
            notes += _hold_out(datasets, share, max(0, cfg.SEED))
    if args.test:
        _add(datasets, "test", args.test)
    if args.eval_only and args.test:
        datasets.TEST = (*(datasets.TEST if args.val else ()), *datasets.FINAL)
    return datasets, notes + _hints(datasets, bool(args.val))


def _hints(datasets: CfgNode, own_validation: bool) -> list[str]:
    if "shapes_train" in datasets.TRAIN and not own_validation:
        return [f"data: the built-in set of shapes. For your own: {_EXAMPLE}"]
    if not datasets.TEST:
        return [
            "no validation data: the model is not evaluated. --val PATH names some, --val 0.2 "
            "holds out a fifth of the training images"
        ]
    return []


def _add(datasets: CfgNode, split: str, flags: Sequence[str]) -> list[str]:
    """Add the data sets of a flag to the section; return the splits that the last one has."""
    splits: list[str] = []
    names = tuple(split if n == 0 else f"{split}_{n + 1}" for n in range(len(flags)))
    for name, flag in zip(names, flags, strict=True):
        spec, splits = dataset_flag_spec(flag, split)
        datasets.REGISTER.append(spec.as_mapping(name))
    datasets[_KEYS[split]] = names
    return splits


def _find_validation(datasets: CfgNode, splits: Sequence[str]) -> list[str]:
    """Evaluate on the validation, or else the test split of the same data set."""
    found = next((split for split in ("val", "test") if split in splits), None)
    if found is None:
        return []
    train = datasets.REGISTER[-1]
    datasets.REGISTER.append({**train, "name": "val", "split": found})
    datasets.TEST = ("val",)
    return [f"{train['path']}: has a split {found}, too: the model is evaluated on it"]


def _share(flags: Sequence[str]) -> float | None:
    """Return the number that `--val` gives in place of a path."""
    if len(flags) != 1:
        return None
    try:
        return float(flags[0])
    except ValueError:
        return None


def _hold_out(datasets: CfgNode, share: float, seed: int) -> list[str]:
    """Split every training set in two: a share is held out for evaluation."""
    if not 0 < share < 1:
        raise DataError(f"--val {share}: a share of the images is between 0 and 1, or a path.")
    held = []
    for entry in [e for e in datasets.REGISTER if e["name"] in datasets.TRAIN]:
        name = entry["name"].replace("train", "val", 1)
        held.append({**entry, "name": name, "holdout": Holdout("val", share, seed).as_mapping()})
        entry["holdout"] = Holdout("train", share, seed).as_mapping()
    datasets.REGISTER += held
    datasets.TEST = tuple(entry["name"] for entry in held)
    return [f"held out for evaluation: {share:.0%} of the training images, chosen by seed {seed}"]
