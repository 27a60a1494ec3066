from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

import d2ext.modeling  # noqa: F401  (registers)
from d2ext.config import load_config
from d2ext.engine.compatibility import _check_separate_things, check_annotations, recipes_for
from d2ext.errors import ConfigError
from detectron2.data import MetadataCatalog


def test_data_with_everything_the_model_learns_pass():
    check_annotations(load_config("mask_rcnn_regnetx200m.yaml"), {"boxes", "masks"})


@pytest.mark.parametrize(("count", "refused"), [(3, False), (4, True)])
def test_panoptic_fpn_has_one_semantic_class_for_all_things(count, refused):
    name = "compatibility_things"
    MetadataCatalog.get(name).set(isthing=[False, True, False, True])
    stats = SimpleNamespace(stuff_names=["sky", "cat", "grass", "dog"], thing_ids=(1, 3))
    cfg = load_config("configs/rcnn/panoptic_fpn_r50_1x.yaml")
    cfg.DATASETS.TRAIN, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = [name], count
    message = "NUM_CLASSES is 4, but the data has 2 kinds of stuff, and all things are one"
    try:
        with pytest.raises(ConfigError, match=message) if refused else nullcontext():
            _check_separate_things(cfg, stats)
    finally:
        MetadataCatalog.remove(name)


def test_data_of_unknown_annotations_pass():
    check_annotations(load_config("mask_rcnn_regnetx200m.yaml"), ())


def test_missing_annotations_are_named_with_the_setting_and_the_recipes_that_fit():
    with pytest.raises(ConfigError) as caught:
        check_annotations(load_config("keypoint_rcnn_regnetx200m.yaml"), {"boxes", "masks"})
    message = str(caught.value)
    assert "MODEL.KEYPOINT_ON True learns keypoints, and the data have only boxes and masks" in (
        message
    )
    assert "configs/mask_rcnn_regnetx200m.yaml (boxes and masks), configs/atss_lite0" in message
    assert "keypoint_rcnn" not in message
    assert "semantic" not in message


@pytest.mark.parametrize(
    ("annotated", "expected"),
    [
        (
            {"semantic masks"},
            ["semantic_fpn_lite0", "semantic_fpn_r50", "semantic_fpn_regnetx200m"],
        ),
        ({"boxes in space"}, []),
    ],
)
def test_recipes_are_found_by_what_they_learn(annotated, expected):
    assert [Path(name).stem for name, _ in recipes_for(annotated)] == expected


def test_a_base_of_recipes_is_no_recipe():
    names = [name for name, _ in recipes_for({"boxes"})]
    assert "configs/dyhead_swint.yaml" in names
    assert "configs/own_data.yaml" not in names
