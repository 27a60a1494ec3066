"""Choose the config of a command: a file, that of the weights or of the run, or the default."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from d2ext.checkpoint import read_metadata
from d2ext.checkpoint.uri import WeightsURI, published_model
from d2ext.config import load_config
from d2ext.config.load import load_dumped_config
from d2ext.config.plain_yaml import parse_yaml
from d2ext.engine.devices import check_available
from d2ext.engine.resumed_values import check_resumed_values
from d2ext.errors import ConfigError, WeightsError
from d2ext.text import first_few
from detectron2.config import CfgNode

DEFAULT = "configs/dyhead_regnetx200m.yaml"  # trains on a CPU, too
NO_WEIGHTS = "no weights: --weights FILE (MODEL.WEIGHTS) names them, e.g. output/model_final.pth."


def typed_value(opts: Sequence[str], key: str) -> str | None:
    """Return the last value given for a key among KEY VALUE pairs."""
    values = [value for name, value in zip(opts[::2], opts[1::2], strict=False) if name == key]
    return values[-1] if values else None


def load_trained_config(config_file: str, opts: Sequence[str]) -> CfgNode:
    """Load the config of trained weights: the file that is named, or else the weights' own.

    That of published weights is the recipe that the model zoo names for them.

    The config of the weights has the device of the training; here it is a GPU where there is one.

    Raises:
        ConfigError: no file is named and the weights hold no config, or it is wrong; or the
            machine lacks a device that is asked for.
        WeightsError: no weights are named, or they cannot be read.
    """
    check_available(typed_value(opts, "MODEL.DEVICE") or "cpu")
    if config_file:
        return load_config(config_file, opts)
    weights = typed_value(opts, "MODEL.WEIGHTS")
    if not weights:
        raise WeightsError(NO_WEIGHTS)
    check_weights_name(weights)
    published = published_model(WeightsURI.parse(weights))
    if published is not None and published.config:
        return load_config(published.config, opts)
    dumped = read_metadata(weights).get("config")
    if not dumped:
        raise ConfigError(
            f"{weights}: holds no config; --config-file FILE names that of its model."
        )
    return load_dumped_config(dumped, ["MODEL.DEVICE", "cuda", *opts], f"the config in {weights}")


def check_weights_name(path: str) -> None:
    """Refuse files of other kinds in the place of weights.

    Raises:
        WeightsError: the suffix is that of a config, of data or of an image.
    """
    suffix = Path(path).suffix.lower()
    if suffix in (".yaml", ".yml"):
        raise WeightsError(f"{path}: a config, not weights; --config-file names configs.")
    if suffix in (".json", ".csv", ".xml", ".jpg", ".jpeg", ".png", ".txt"):
        raise WeightsError(f"{path}: not a file of weights, such as output/model_final.pth.")
    if Path(path).is_dir():
        best = next(Path(path).glob("model_best.pth"), next(Path(path).glob("model_*.pth"), None))
        hint = f" Did you mean {best}?" if best else ""
        raise WeightsError(f"{path}: a folder, not a file of weights.{hint}")


def load_run_config(
    args: argparse.Namespace, saved: Mapping[str, Any], source: str
) -> tuple[CfgNode, list[str]]:
    """Load the config of a training or evaluation.

    Args:
        saved: metadata of the weights that are resumed or evaluated.
        source: their file, for messages.
    Returns:
        The config, and lines for the log.
    Raises:
        ConfigError: it is wrong, or the machine lacks a device that is asked for.
    """
    check_available(typed_value(args.opts, "MODEL.DEVICE") or "cpu")
    dumped = saved.get("config")
    if dumped and (args.resume or not args.config_file):
        cfg = load_dumped_config(dumped, args.opts, f"the config in {source}")
        notes = []
        if args.resume and not args.eval_only:
            own = load_dumped_config(dumped, [], f"the config in {source}")
            notes = check_resumed_values(cfg, own, args.opts)
        return cfg, [*notes, *(_ignored(args, cfg) if args.config_file else [])]
    if args.config_file:
        cfg = load_config(args.config_file, args.opts)
        cfg.SOLVER.REFERENCE_BATCH_SIZE = _reference_batch(cfg, args)
        return cfg, []
    cfg = load_config(DEFAULT, args.opts)
    # The recipe for the user's own data is chosen once these are known: see `recipe_choice`.
    return cfg, [] if args.train else [f"config: {DEFAULT}; --config-file names another"]


def _reference_batch(cfg: CfgNode, args: argparse.Namespace) -> int:
    """Return the batch size that BASE_LR is for: the file's, where the command gives another.

    A learning rate that the command gives, too, is for its batch; `auto` follows the batch anyway.
    """
    given: int = cfg.SOLVER.REFERENCE_BATCH_SIZE
    typed = set(args.opts[::2])
    follows = "SOLVER.BASE_LR" not in typed.union(cfg.AUTO)
    if given or not follows or not typed & {"SOLVER.IMS_PER_BATCH", "SOLVER.ACCUMULATE"}:
        return given
    file = load_config(args.config_file)
    reference: int = file.SOLVER.IMS_PER_BATCH * file.SOLVER.ACCUMULATE
    return 0 if "SOLVER.IMS_PER_BATCH" in file.AUTO else reference


def _ignored(args: argparse.Namespace, cfg: CfgNode) -> list[str]:
    """Say which values of a config file a resumed run does not take."""
    from_file = load_config(args.config_file, args.opts)
    keys = [*_differing(from_file, cfg, set(from_file.AUTO))]
    if not keys:
        return []
    return [
        f"--resume goes on with the values of the run; {args.config_file} has others for "
        f"{first_few(keys)}. KEY VALUE changes one of them"
    ]


def _differing(one: CfgNode, other: CfgNode, auto: set[str], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key, value in one.items():
        name = f"{prefix}{key}"
        if name in auto or name in _OF_A_RUN or key not in other:
            continue
        if isinstance(value, CfgNode):
            found += _differing(value, other[key], auto, f"{name}.")
        elif (
            list(value) != list(other[key])
            if isinstance(value, list | tuple)
            else (value != other[key])
        ):
            found.append(name)
    return found


# Resolved when a run starts, so that they differ between a file and a run's own config.
_OF_A_RUN = {
    *("AUTO", "DATASETS", "SEED", "OUTPUT_DIR", "PLUGIN_FOLDERS", "MODEL.DEVICE"),
    *("SOLVER.MAX_EPOCHS", "SOLVER.MAX_ITER", "SOLVER.STEPS", "SOLVER.WARMUP_ITERS"),
    *("SOLVER.REFERENCE_BATCH_SIZE", "SOLVER.REFERENCE_WORLD_SIZE", "SOLVER.BASE_LR"),
    *("SOLVER.CHECKPOINT_PERIOD", "TEST.EVAL_PERIOD"),
}


def saved_seed(dumped: str) -> int:
    """Return the seed of a dumped config; a resumed training draws the same random numbers."""
    tree = parse_yaml(dumped, "the config in the checkpoint")
    if not isinstance(tree, dict) or not isinstance(tree.get("SEED"), int):
        raise WeightsError("the config in the checkpoint has no SEED; give one: SEED NUMBER.")
    return tree["SEED"]
