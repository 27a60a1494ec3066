"""The recipe of a training that names no config."""

import numpy as np
import pytest

from d2ext.config import load_config
from d2ext.data import DatasetStats
from d2ext.engine import recipe_choice
from d2ext.engine.reasoned import Reasoned
from d2ext.engine.recipe_choice import choose_recipe
from d2ext.errors import ConfigError


def stats(*annotated: str, count: int = 100, rotated: bool = False) -> DatasetStats:
    return DatasetStats(
        class_names=("cell",),
        image_sizes=np.tile([[64, 64]], (count, 1)),
        object_sizes=np.full((5, 2), 20.0),
        object_images=np.zeros(5, dtype=np.int64),
        class_counts=np.array([5]),
        empty_images=0,
        annotated=frozenset(annotated),
        rotated=rotated,
    )


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the backbones or configs whose weights are on the machine."""
    found: set[str] = set()

    def choose(cfg, *, download: bool) -> Reasoned:
        names = {cfg.MODEL.TIMM.NAME, cfg.MODEL.FPN.BOTTOM_UP}
        return Reasoned("some" if names & found else "", "")

    monkeypatch.setattr(recipe_choice, "choose_weights", choose)
    return found


@pytest.mark.parametrize(
    ("annotated", "rotated", "model", "pretrained"),
    [
        (["boxes"], False, "dyhead", "atss"),
        (["boxes"], True, "rotated_fcos", "rotated_fcos"),
        (["boxes", "masks"], False, "mask_rcnn", "mask_rcnn"),
        (["boxes", "masks", "keypoints"], False, "keypoint_rcnn", "keypoint_rcnn"),
        (["semantic masks"], False, "semantic_fpn", "semantic_fpn"),
    ],
)
def test_the_task_follows_the_annotations(here, annotated, rotated, model, pretrained) -> None:
    path, line = choose_recipe(stats(*annotated, rotated=rotated), "cpu")
    assert path == f"configs/{model}_regnetx200m.yaml"
    assert path in line
    assert "100 images, cpu" in line
    assert "no pretrained weights are here" in line
    here.add("tf_efficientnet_lite0")
    path, line = choose_recipe(stats(*annotated, rotated=rotated), "cpu")
    assert path == f"configs/{pretrained}_lite0.yaml"
    assert "with pretrained weights" in line
    assert load_config(path).MODEL.TIMM.NAME == "tf_efficientnet_lite0"


def test_panoptic_data_get_a_panoptic_recipe(here) -> None:
    panoptic = stats("panoptic masks", "semantic masks", "masks", "boxes")
    assert recipe_choice._task(panoptic) == recipe_choice.PANOPTIC
    assert "mask2former" in choose_recipe(panoptic, "cpu")[0]
    here.add("tf_efficientnet_lite0")
    assert choose_recipe(panoptic, "cpu")[0] == "configs/panoptic_fpn_lite0.yaml"


def test_a_gpu_gets_the_large_model_with_its_weights_or_with_many_images(here) -> None:
    path, line = choose_recipe(stats("boxes"), "cuda")
    assert path == "configs/dyhead_regnetx200m.yaml"
    assert "a larger one needs its weights or 5000 images)" in line
    path, line = choose_recipe(stats("boxes", count=6000), "cuda")
    assert path == "configs/dyhead_swint.yaml"
    assert "6000 images, cuda: a GPU and many images" in line
    here.add("SwinTransformer")
    assert choose_recipe(stats("boxes"), "cuda")[0] == "configs/dyhead_swint.yaml"
    assert choose_recipe(stats("boxes"), "cpu")[0] == "configs/dyhead_regnetx200m.yaml"


@pytest.mark.parametrize(
    ("annotated", "rotated", "config"),
    [
        (["boxes"], True, "rotated_fcos_r50"),
        (["boxes", "masks"], False, "rcnn/mask_rcnn_r50_fpn_own_data"),
        (["boxes", "masks", "keypoints"], False, "rcnn/keypoint_rcnn_r50_fpn_own_data"),
        (["semantic masks"], False, "semantic_fpn_r50"),
        (["panoptic masks", "semantic masks"], False, "rcnn/panoptic_fpn_r50_own_data"),
    ],
)
def test_a_gpu_gets_an_r_50_for_all_but_upright_boxes(here, annotated, rotated, config) -> None:
    here.add("build_named_resnet_backbone")
    path, line = choose_recipe(stats(*annotated, rotated=rotated), "cuda")
    assert path == f"configs/{config}.yaml"
    assert "cuda: a GPU and pretrained weights" in line
    here.clear()
    path, line = choose_recipe(stats(*annotated, rotated=rotated, count=6000), "cuda")
    assert path.endswith(("_regnetx200m.yaml", "_regnetx200m_panoptic.yaml"))
    assert "a larger one needs its weights)" in line


@pytest.mark.parametrize("annotated", [[], ["boxes in space"]])
def test_data_without_a_recipe_are_refused(annotated) -> None:
    with pytest.raises(ConfigError, match="no recipe learns from"):
        choose_recipe(stats(*annotated), "cpu")
