"""Object sizes in the model's input."""

from typing import NamedTuple

import numpy as np
import pytest

from d2ext.data.checks.check import check_splits
from d2ext.data.checks.input_size import InputSize
from d2ext.data.dataset_paths import load_named_splits


class Plant(NamedTuple):
    """A box that the model cannot see well, in an image of 64 x 48 that is enlarged twice.

    Args:
        code: of the kind that is reported.
        box: XYWH in pixels.
        words: parts of the line about it.
    """

    code: str
    box: list[float]
    words: str


MODEL = InputSize(96, 200, 8, anchor_sizes=(24.0, 40.0), anchor_ratios=(0.5, 1.0, 2.0))
PLANTS = [
    Plant("object-below-stride", [5, 5, 3, 4], "6.0 x 8.0 pixels, stride 8"),
    Plant("object-below-anchors", [5, 5, 5, 6], "10.0 x 12.0 pixels, smallest anchor 24"),
    Plant("object-above-anchors", [1, 1, 50, 44], "100.0 x 88.0 pixels, largest anchor 40"),
    Plant("object-aspect", [5, 5, 50, 7], "100.0 x 14.0 pixels, anchors from 0.5 to 2"),
]


def codes(planted, model: InputSize | None) -> dict[str, str]:
    """The size issues of the training data: code -> detail."""
    planted.write()
    splits = load_named_splits(planted.flags()[0], [])
    found = [i for i in check_splits(splits, model=model).issues if i.code.startswith("object-")]
    return {issue.code: issue.detail for issue in found}


@pytest.mark.parametrize("case", PLANTS, ids=lambda case: case.code)
def test_a_planted_size(case, planted):
    assert codes(planted, MODEL) == {}
    planted.add_box(2, case.box)
    found = codes(planted, MODEL)
    assert found.pop(case.code) == f"cat in train_1.jpg: {case.words}"
    # What is smaller than the stride is smaller than the anchors, too.
    assert set(found) <= {"object-below-anchors"}


def test_a_model_without_anchors_has_a_stride_alone(planted):
    for case in PLANTS:
        planted.add_box(2, case.box)
    assert set(codes(planted, InputSize(96, 200, 8))) == {"object-below-stride"}


def test_sizes_are_not_checked_without_a_model(planted):
    planted.add_box(2, PLANTS[0].box)
    assert codes(planted, None) == {}


def test_the_scale_is_that_of_the_shorter_side_unless_the_longer_one_gets_too_long():
    model = InputSize(short_side=100, long_side=150, stride=8)
    sizes = np.array([[200.0, 400.0], [50.0, 50.0], [100.0, 120.0]])
    assert model.scales(sizes).tolist() == [0.375, 2.0, 1.0]
