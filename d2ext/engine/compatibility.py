"""Check that a model and a data set fit each other: annotations, classes, keypoints."""

from collections.abc import Collection

from d2ext.config import load_config
from d2ext.config.load import num_classes_keys, read_tree
from d2ext.config.paths import config_root
from d2ext.data import DatasetStats, dataset_stats
from d2ext.data.separate_things import separates_things
from d2ext.engine.auto import COCO_KEYPOINTS
from d2ext.errors import ConfigError
from d2ext.modeling.required_annotations import required_annotations
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY

_MEASURED = {"segm": "masks", "keypoints": "keypoints"}  # kinds of annotation by metric


def check_compatibility(cfg: CfgNode, stats: DatasetStats, eval_only: bool = False) -> None:
    """Check a config that may still have `auto` values against the statistics of its data.

    Args:
        eval_only: the data may have boxes alone, of models of masks or keypoints: box AP is
            measured then, and the evaluator says what is not.
    Raises:
        ConfigError: the data lack a kind of annotation that the model learns from, or a number of
            classes or keypoints is another one than in the data.
    """
    boxes_alone = eval_only and {"boxes"} == stats.annotated & {*required_annotations(cfg)}
    if not boxes_alone:
        check_annotations(cfg, stats.annotated)
    _check_separate_things(cfg, stats)
    _check_class_counts(cfg, stats)
    if stats.num_keypoints or not eval_only:
        _check_keypoints(cfg, stats)


def check_annotations(cfg: CfgNode, annotated: Collection[str]) -> None:
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


def _check_separate_things(cfg: CfgNode, stats: DatasetStats) -> None:
    """Check the number of semantic classes of a PanopticFPN: one for things, then stuff."""
    key, given = "MODEL.SEM_SEG_HEAD.NUM_CLASSES", cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    expected = 1 + len(stats.stuff_names) - len(stats.thing_ids)
    if separates_things(cfg) and key not in cfg.AUTO and given != expected:
        raise ConfigError(
            f"{key} is {given}, but the data has {expected - 1} kinds of stuff, and all things are "
            f"one class more: {expected}. {key} auto follows the data."
        )


def check_training_data(cfg: CfgNode, stats: DatasetStats) -> list[str]:
    """Run the meta-architecture's own check of the training data, if it has one.

    Args:
        cfg: plain values only.
    Returns:
        Lines for the log.
    Raises:
        ConfigError: see `Detector.check_data`.
    """
    architecture = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    return architecture.check_data(cfg, stats) if hasattr(architecture, "check_data") else []


def measurable_metric(cfg: CfgNode) -> tuple[str, list[str]]:
    """Return TEST.BEST_METRIC, or the box AP where the evaluation data lack what it measures.

    Without a metric there are no best weights, and TEST.PATIENCE would stop the training.

    Returns:
        The metric, and lines for the log.
    """
    metric, names = cfg.TEST.BEST_METRIC, cfg.DATASETS.TEST
    kind = _MEASURED.get(metric.partition("/")[0])
    annotated = dataset_stats(names[:1]).annotated if kind and names else ()
    if not annotated or kind in annotated:
        return metric, []
    return "bbox/AP", [f"TEST.BEST_METRIC bbox/AP, not {metric}: {names[0]} has no {kind}"]


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


def _check_class_counts(cfg: CfgNode, stats: DatasetStats) -> None:
    for key, given in num_classes_keys(cfg).items():
        if key not in cfg.AUTO and given != len(stats.class_names):
            raise ConfigError(
                f"{key} is {given}, but the data has {len(stats.class_names)} classes "
                f"({', '.join(stats.class_names)}). Leave the key out: it follows the data."
            )


def _check_keypoints(cfg: CfgNode, stats: DatasetStats) -> None:
    """Check the number of keypoints, and that each has an OKS sigma where COCO's do not fit."""
    if not cfg.MODEL.KEYPOINT_ON:
        return
    key, given = "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
    if key not in cfg.AUTO and given != stats.num_keypoints:
        raise ConfigError(
            f"{key} is {given}, but objects of the data have {stats.num_keypoints}. "
            f"{key} auto follows the data."
        )
    key, given = "TEST.KEYPOINT_OKS_SIGMAS", len(cfg.TEST.KEYPOINT_OKS_SIGMAS)
    count, whose = (given, "") if given else (COCO_KEYPOINTS, "those of COCO, ")
    if key not in cfg.AUTO and count != stats.num_keypoints:
        raise ConfigError(
            f"{key} has {count} values, {whose}but objects of the data have {stats.num_keypoints} "
            f"keypoints. {key} auto takes the same for each."
        )


def _listed(kinds: Collection[str]) -> str:
    return " and ".join(kinds)
