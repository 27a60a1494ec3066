"""Check that a data set has the annotations that a model learns from."""

from collections.abc import Collection

from d2ext.config import load_config
from d2ext.config.load import read_tree
from d2ext.config.paths import config_root
from d2ext.data import DatasetStats
from d2ext.errors import ConfigError
from d2ext.modeling.required_annotations import required_annotations
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY


def check_task(cfg: CfgNode, annotated: Collection[str]) -> None:
    """Check that the data have every kind of annotation that the model requires.

    Args:
        annotated: kinds of the data set, e.g. "boxes"; empty where they are unknown.
    Raises:
        ConfigError: a kind is missing; the message lists the recipes for such data.
    """
    for kind, setting in required_annotations(cfg).items():
        if annotated and kind not in annotated:
            recipes = [f"{name} ({_listed(needs)})" for name, needs in recipes_for(annotated)]
            raise ConfigError(
                f"{setting} learns {kind}, and the data have only {_listed(sorted(annotated))}. "
                f"Choose a config for these: {', '.join(recipes) or 'none in configs/ fits'}."
            )


def check_model_data(cfg: CfgNode, stats: DatasetStats) -> list[str]:
    """Run the check of the training data that the meta-architecture has; see `Detector.check_data`.

    Returns:
        Lines for the log.
    """
    architecture = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    return architecture.check_data(cfg, stats) if hasattr(architecture, "check_data") else []


def recipes_for(annotated: Collection[str]) -> list[tuple[str, list[str]]]:
    """Return the recipes in configs/ that such data can train, most kinds of annotation first.

    Returns:
        Pairs of a path, "configs/NAME.yaml", and the kinds of annotation that it learns from.
    """
    found = []
    for path in sorted(config_root().glob("*.yaml")):
        if "META_ARCHITECTURE" not in read_tree(path).get("MODEL", {}):
            continue  # a base of recipes, no recipe itself
        needs = list(required_annotations(load_config(path)))
        if set(needs) <= set(annotated):
            found.append((f"configs/{path.name}", needs))
    return sorted(found, key=lambda recipe: -len(recipe[1]))


def _listed(kinds: Collection[str]) -> str:
    return " and ".join(kinds)
