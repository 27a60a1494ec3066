"""The images of a run: listed in its checkpoints, and the same where it goes on."""

from collections.abc import Sequence

from d2ext.data.catalog import image_list
from d2ext.errors import ConfigError
from detectron2.config import CfgNode


def image_lists(cfg: CfgNode) -> list[str]:
    """Return "NAME: LIST" per data set of the run that the config registers; see `image_list`."""
    used = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    names = [entry["name"] for entry in cfg.DATASETS.REGISTER if entry["name"] in used]
    return [f"{name}: {image_list(name)}" for name in names]


def check_resumed_images(before: Sequence[str], cfg: CfgNode) -> None:
    """Check that the data of a run that is resumed have the images that they had.

    Other images would be other epochs, and where a share is held out, images that were learned from
    would evaluate.

    Args:
        before: `image_lists` when the run was saved; empty: unknown.
    Raises:
        ConfigError: images were added, removed or renamed.
    """
    for place, old, new in _changed(before, cfg):
        raise ConfigError(
            f"--resume: {place} has {new} by now, and the run had {old}: the images of a run stay "
            "the same. Bring those back, or start a new training; --weights FILE starts it from "
            "what this run has learned."
        )


def check_held_out_images(before: Sequence[str], cfg: CfgNode) -> None:
    """Check that an evaluation sees the images that were held out of the training.

    Args:
        before: `image_lists` of the training; empty: unknown.
    Raises:
        ConfigError: a share of other images would be drawn.
    """
    held_out = {entry["path"] for entry in cfg.DATASETS.REGISTER if "holdout" in entry}
    for place, old, new in _changed(before, cfg):
        if place in held_out:
            raise ConfigError(
                f"--eval-only: of {place} {old} were held out for evaluation, and {new} would be "
                "now, some of which the model has learned from. --val PATH names other data."
            )


def _changed(before: Sequence[str], cfg: CfgNode) -> list[tuple[str, str, str]]:
    """Return the path, the images before and the images now of every data set that was changed."""
    known = dict(line.partition(": ")[::2] for line in before)
    now = dict(line.partition(": ")[::2] for line in image_lists(cfg))
    paths = {entry["name"]: entry["path"] for entry in cfg.DATASETS.REGISTER}
    return [
        (paths[name], *_described(known[name], found))
        for name, found in now.items()
        if known.get(name, found) != found
    ]


def _described(before: str, now: str) -> tuple[str, str]:
    """Return both lists without their hashes, if these are not all that differs."""
    old, new = before.partition(",")[0], now.partition(",")[0]
    return (old, new) if old != new else (f"{old} of other names", new)
