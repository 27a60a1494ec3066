"""The flags `--train`, `--val` and `--test`, written into a config's DATASETS."""

import argparse
from collections.abc import Sequence

from d2ext.data.dataset_paths import dataset_flag_spec, register_datasets
from d2ext.data.formats.holdout import Holdout
from d2ext.errors import DataError
from detectron2.config import CfgNode

_KEYS = {"train": "TRAIN", "val": "TEST", "test": "FINAL"}  # of DATASETS, by flag
_EXAMPLE = "--train PATH --val PATH"


def use_data_sets(cfg: CfgNode, args: argparse.Namespace) -> list[str]:
    """Replace the config's data sets by those of the flags, and register them all.

    Returns:
        Lines for the log.
    Raises:
        DataError: a path is missing, not recognised, or without the split that is asked for.
    """
    notes = []
    if args.train:
        splits = _register(cfg, "train", args.train)
        cfg.DATASETS.TEST = ()
        if not args.val and len(args.train) == 1:
            notes += _find_validation(cfg, args.train[0], splits)
    if args.val:
        share = _share(args.val)
        if share is None:
            _register(cfg, "val", args.val)
        else:
            notes += _hold_out(cfg, share, bool(args.train))
    if args.test:
        _register(cfg, "test", args.test)
    if args.eval_only and args.test:
        cfg.DATASETS.TEST = (*(cfg.DATASETS.TEST if args.val else ()), *cfg.DATASETS.FINAL)
    register_datasets(cfg)
    return notes + _hints(cfg, args)


def _hints(cfg: CfgNode, args: argparse.Namespace) -> list[str]:
    if "shapes_train" in cfg.DATASETS.TRAIN and not args.val:
        return [f"data: the built-in set of shapes. For your own: {_EXAMPLE}"]
    if not cfg.DATASETS.TEST:
        return [
            "no validation data: the model is not evaluated. --val PATH names some, --val 0.2 "
            "holds out a fifth of the training images"
        ]
    return []


def _register(cfg: CfgNode, split: str, flags: Sequence[str]) -> list[str]:
    """Add the data sets of a flag to the config; return the splits that the last one has."""
    splits: list[str] = []
    names = tuple(split if n == 0 else f"{split}_{n + 1}" for n in range(len(flags)))
    for name, flag in zip(names, flags, strict=True):
        spec, splits = dataset_flag_spec(flag, split)
        cfg.DATASETS.REGISTER.append(spec.as_mapping(name))
    cfg.DATASETS[_KEYS[split]] = names
    return splits


def _find_validation(cfg: CfgNode, flag: str, splits: Sequence[str]) -> list[str]:
    """Evaluate on the validation, or else the test split of the same data set."""
    found = next((split for split in ("val", "test") if split in splits), None)
    if found is None:
        return []
    train = cfg.DATASETS.REGISTER[-1]
    cfg.DATASETS.REGISTER.append({**train, "name": "val", "split": found})
    cfg.DATASETS.TEST = ("val",)
    return [f"{train['path']}: has a split {found}, too: the model is evaluated on it"]


def _share(flags: Sequence[str]) -> float | None:
    """Return the number that `--val` gives in place of a path."""
    if len(flags) != 1:
        return None
    try:
        return float(flags[0])
    except ValueError:
        return None


def _hold_out(cfg: CfgNode, share: float, training: bool) -> list[str]:
    """Split every training set in two: a share is held out for evaluation."""
    if not training:
        raise DataError(f"--val {share}: holds out a part of what --train names; give that, too.")
    if not 0 < share < 1:
        raise DataError(f"--val {share}: a share of the images is between 0 and 1, or a path.")
    seed = max(0, cfg.SEED)
    held = []
    for entry in [e for e in cfg.DATASETS.REGISTER if e["name"] in cfg.DATASETS.TRAIN]:
        name = entry["name"].replace("train", "val", 1)
        held.append({**entry, "name": name, "holdout": Holdout("val", share, seed).as_mapping()})
        entry["holdout"] = Holdout("train", share, seed).as_mapping()
    cfg.DATASETS.REGISTER += held
    cfg.DATASETS.TEST = tuple(entry["name"] for entry in held)
    return [f"held out for evaluation: {share:.0%} of the training images, chosen by seed {seed}"]
