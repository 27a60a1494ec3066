"""What `--train`, `--val` and `--test` say, written into a config's DATASETS."""

import argparse
from collections.abc import Sequence

from d2ext.data.flags import flag_entry, register_datasets
from d2ext.data.sources.splits import Share
from d2ext.errors import DataError
from detectron2.config import CfgNode

_KEYS = {"train": "TRAIN", "val": "TEST", "test": "FINAL"}  # of DATASETS, by flag
_EXAMPLE = "--train PATH --val PATH"


def use_data_sets(cfg: CfgNode, args: argparse.Namespace) -> list[str]:
    """Let the flags replace the config's data sets, and register them all; lines for the log.

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
    """Add entries for flags; returns the splits of the last."""
    splits: list[str] = []
    names = tuple(split if n == 0 else f"{split}_{n + 1}" for n in range(len(flags)))
    for name, flag in zip(names, flags, strict=True):
        entry, splits = flag_entry(flag, split)
        cfg.DATASETS.REGISTER.append([name, *entry, ""])
    cfg.DATASETS[_KEYS[split]] = names
    return splits


def _find_validation(cfg: CfgNode, flag: str, splits: Sequence[str]) -> list[str]:
    """Evaluate on the validation, or else the test split that lies beside the training split."""
    found = next((split for split in ("val", "test") if split in splits), None)
    if found is None:
        return []
    _, path, images, _, _ = cfg.DATASETS.REGISTER[-1]
    cfg.DATASETS.REGISTER.append(["val", path, images, found, ""])
    cfg.DATASETS.TEST = ("val",)
    return [f"{path}: has a split {found}, too: the model is evaluated on it"]


def _share(flags: Sequence[str]) -> float | None:
    """The number that `--val` gives in place of a path."""
    if len(flags) != 1:
        return None
    try:
        return float(flags[0])
    except ValueError:
        return None


def _hold_out(cfg: CfgNode, share: float, training: bool) -> list[str]:
    """Part every training set in two, one share for evaluation."""
    if not training:
        raise DataError(f"--val {share}: holds out a part of what --train names; give that, too.")
    if not 0 < share < 1:
        raise DataError(f"--val {share}: a share of the images is between 0 and 1, or a path.")
    seed = max(0, cfg.SEED)
    held = []
    for entry in [e for e in cfg.DATASETS.REGISTER if e[0] in cfg.DATASETS.TRAIN]:
        name = entry[0].replace("train", "val", 1)
        held.append([name, *entry[1:4], str(Share(True, share, seed))])
        entry[4] = str(Share(False, share, seed))
    cfg.DATASETS.REGISTER += held
    cfg.DATASETS.TEST = tuple(entry[0] for entry in held)
    return [f"held out for evaluation: {share:.0%} of the training images, chosen by seed {seed}"]
