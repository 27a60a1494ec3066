"""Resolve the flags `--train`, `--val` and `--test` to the DATASETS section of a config."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from d2ext.config.plain_yaml import parse_yaml
from d2ext.data.dataset_paths import dataset_flag_spec
from d2ext.data.formats.holdout import Holdout
from d2ext.errors import ConfigError, DataError
from detectron2.config import CfgNode

_KEYS = {"train": "TRAIN", "val": "TEST", "test": "FINAL"}  # of DATASETS, by flag
_EXAMPLE = "--train PATH --val PATH"


def find_datasets(
    cfg: CfgNode, args: argparse.Namespace, dumped: str = ""
) -> tuple[CfgNode, list[str]]:
    """Replace the data sets of a config by those of the flags; nothing is registered.

    Args:
        cfg: not changed.
        dumped: the config that the evaluated weights were trained with, as YAML. Its validation
            data count where an evaluation names none.
    Returns:
        The new DATASETS section, and lines for the log.
    Raises:
        DataError: a path is missing, not recognised, or without the split that is asked for.
    """
    datasets, notes = cfg.DATASETS.clone(), []
    if args.eval_only and not (args.val or args.test or "DATASETS.TEST" in args.opts[::2]):
        return _validation_data(datasets, dumped)
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


def resumed_datasets(
    cfg: CfgNode, args: argparse.Namespace, dumped: str
) -> tuple[CfgNode, list[str]]:
    """Return the data sets of a run that is resumed, at their new places where they were moved.

    The flags may name the same data again, or where data are now that are gone from their place.

    Args:
        cfg: the config of the run, with what the command changes; not changed.
        dumped: the config of the run, as YAML.
    Returns:
        The DATASETS section, and lines for the log.
    Raises:
        ConfigError: the flags name other data, or data are gone.
    """
    datasets, notes = cfg.DATASETS.clone(), []
    for split, key in _KEYS.items():
        if flags := getattr(args, split):
            notes += _same_or_moved(datasets, split, flags)
        for entry in _entries(datasets, key):
            if not Path(entry["path"]).expanduser().exists():
                raise ConfigError(
                    f"--resume: {entry['path']}, the data of this run, is not there any more; "
                    f"--{split} PATH names where it is now."
                )
    before = parse_yaml(dumped, "the config in the checkpoint").get("DATASETS", {})
    for key in _KEYS.values():
        if list(before.get(key, ())) != list(datasets[key]):
            _refuse(f"DATASETS.{key} {tuple(datasets[key])}", [], before.get(key, ()))
    return datasets, notes


def check_resumed_classes(before: Sequence[str] | None, now: Sequence[str]) -> None:
    """Check that the data of a run that is resumed still have the classes that it learns.

    Raises:
        ConfigError: they were changed since.
    """
    if before is not None and list(before) != list(now):
        raise ConfigError(
            f"--resume: the data have the classes {', '.join(now)} by now, and the run learns "
            f"{', '.join(before)}. Start a new training, without --resume."
        )


def _same_or_moved(datasets: CfgNode, split: str, flags: Sequence[str]) -> list[str]:
    """Check that flags name the data of a run; give moved data their new paths, in place."""
    entries = _entries(datasets, _KEYS[split])
    share = _share(flags) if split == "val" else None
    if share is not None:
        same = [e.get("holdout", {}).get("share") for e in entries] == [share] * len(entries)
        given = []
    else:
        given = [dataset_flag_spec(flag, split)[0].as_mapping("") for flag in flags]
        same = [_place(e) for e in entries] == [_place(e) for e in given]
    if same:
        return []
    gone = not any(Path(e["path"]).expanduser().exists() for e in entries)
    splits = [e.get("split", "") for e in entries]
    if not gone or not given or splits != [e.get("split", "") for e in given]:
        _refuse(f"--{split} {' '.join(flags)}", entries, datasets[_KEYS[split]])
    places = {_place(e)[:2]: new for e, new in zip(entries, given, strict=True)}
    for entry in datasets.REGISTER:  # also those of other splits, and what is held out
        if new := places.get(_place(entry)[:2]):
            entry.pop("images", None)
            entry.update({key: new[key] for key in ("path", "images") if key in new})
    return [f"the data of this run are in {', '.join(e['path'] for e in given)} now"]


def _entries(datasets: CfgNode, key: str) -> list[dict[str, Any]]:
    return [entry for entry in datasets.REGISTER if entry["name"] in datasets[key]]


def _refuse(given: str, entries: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    paths = [_described(entry) for entry in entries] or list(names) or ["none"]
    raise ConfigError(
        f"--resume: {given} is not the data of this run, which has {', '.join(paths)}. Leave it "
        "out to go on with these, or start a new training, without --resume."
    )


def _described(entry: Mapping[str, Any]) -> str:
    share = entry.get("holdout", {}).get("share")
    path, here = Path(entry["path"]), Path.cwd()
    shown = path.relative_to(here) if path.is_relative_to(here) else path  # as it was typed
    return str(shown) + (f" (a share of {share:g})" if share else "")


def _place(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what identifies a data set: absolute paths, and the split."""
    paths = (Path(entry[key]).resolve() if entry.get(key) else "" for key in ("path", "images"))
    return *map(str, paths), entry.get("split", "")


def _validation_data(datasets: CfgNode, dumped: str) -> tuple[CfgNode, list[str]]:
    """Choose the data of an evaluation that names none: the validation data of the weights."""
    tree = parse_yaml(dumped, "the config in the checkpoint") if dumped else None
    found = tree.get("DATASETS") if isinstance(tree, dict) else None
    if isinstance(found, dict) and found.get("TEST"):
        datasets.TEST, datasets.REGISTER = tuple(found["TEST"]), found.get("REGISTER", [])
        for entry in _entries(datasets, "TEST"):
            if not Path(entry["path"]).expanduser().exists():
                raise ConfigError(
                    f"--eval-only: {entry['path']}, the validation data of the training, is not "
                    "there any more; --val PATH names the data."
                )
        return datasets, [f"evaluated on the validation data of the training: {_listed(datasets)}"]
    if dumped or set(datasets.TEST) <= {"shapes_val"}:
        what = "were trained without validation data" if dumped else "don't name their data"
        raise ConfigError(f"--eval-only: the weights {what}; --val PATH names the data.")
    return datasets, []


def _listed(datasets: CfgNode) -> str:
    places = {entry["name"]: _described(entry) for entry in datasets.REGISTER}
    return ", ".join(places.get(name, name) for name in datasets.TEST)


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
    """Return the share that `--val` gives in place of a path: 0.2 for "0.2" and for "20%"."""
    if len(flags) != 1:
        return None
    try:
        number = flags[0].removesuffix("%")
        return float(number) / (1 if number == flags[0] else 100)
    except ValueError:
        return None


def _hold_out(datasets: CfgNode, share: float, seed: int) -> list[str]:
    """Split every training set in two: a share is held out for evaluation."""
    if not 0 < share < 1:
        raise DataError(
            f"--val {share:g}: a share of the images is between 0 and 1, such as 0.2 or 20%."
        )
    held = []
    for entry in [e for e in datasets.REGISTER if e["name"] in datasets.TRAIN]:
        name = entry["name"].replace("train", "val", 1)
        held.append({**entry, "name": name, "holdout": Holdout("val", share, seed).as_mapping()})
        entry["holdout"] = Holdout("train", share, seed).as_mapping()
    datasets.REGISTER += held
    datasets.TEST = tuple(entry["name"] for entry in held)
    return [f"held out for evaluation: {share:.0%} of the training images, chosen by seed {seed}"]
