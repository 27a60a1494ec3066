from pathlib import Path

import pytest

import d2ext.modeling  # noqa: F401  (registers)
from d2ext.config import load_config
from d2ext.engine.compatibility import check_annotations, recipes_for
from d2ext.errors import ConfigError


def test_data_with_everything_the_model_learns_pass():
    check_annotations(load_config("mask_rcnn_regnetx200m.yaml"), {"boxes", "masks"})


def test_data_of_unknown_annotations_pass():
    check_annotations(load_config("mask_rcnn_regnetx200m.yaml"), ())


def test_missing_annotations_are_named_with_the_setting_and_the_recipes_that_fit():
    with pytest.raises(ConfigError) as caught:
        check_annotations(load_config("keypoint_rcnn_regnetx200m.yaml"), {"boxes", "masks"})
    message = str(caught.value)
    assert "MODEL.KEYPOINT_ON True learns keypoints, and the data have only boxes and masks" in (
        message
    )
    assert "configs/mask_rcnn_regnetx200m.yaml (boxes and masks), configs/dyhead" in message
    assert "keypoint_rcnn" not in message
    assert "semantic" not in message


@pytest.mark.parametrize(
    ("annotated", "expected"),
    [
        ({"semantic masks"}, ["semantic_fpn_lite0", "semantic_fpn_regnetx200m"]),
        ({"boxes in space"}, []),
    ],
)
def test_recipes_are_found_by_what_they_learn(annotated, expected):
    assert [Path(name).stem for name, _ in recipes_for(annotated)] == expected


def test_a_base_of_recipes_is_no_recipe():
    names = [name for name, _ in recipes_for({"boxes"})]
    assert "configs/dyhead_swint.yaml" in names
    assert "configs/own_data.yaml" not in names
