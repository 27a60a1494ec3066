"""An error is a multiple of the tolerance of the case, whichever kind that is."""

import numpy as np
import pytest

from d2ext.parity.tolerance import relative_error

GOLDEN = np.array([1.0, -2.0, 4.0, 0.0], np.float32)


def error(difference: list[float], limits: dict | str) -> float:
    own = GOLDEN + np.array(difference, np.float32)
    return relative_error({"sample": own}, {"sample": GOLDEN}, limits)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"rtol": 0.1, "atol": 0.1}, 0.5 / 0.3),
        ({"rel_l2": 0.5}, 0.5 / (0.5 * np.sqrt(21))),
        ({"fraction_of_sample_that_may_differ": 0.5, "mean_atol": 1.0}, 0.5),
        ({"mismatch_fraction": 0.125}, 2.0),
        ({}, np.inf),
        ("exact", np.inf),
    ],
)
def test_the_error_of_one_value_of_four(limits, expected):
    assert error([0, 0.5, 0, 0], limits) == pytest.approx(expected)


@pytest.mark.parametrize("limits", ["exact", {}, {"rel_l2": 1e-9}, {"mismatch_fraction": 1e-9}])
def test_equal_values_pass_any_tolerance(limits):
    assert error([0, 0, 0, 0], limits) == 0


@pytest.mark.parametrize("limits", ["exact", {"atol": 1.0}, {"rel_l2": 1.0}])
def test_nan_passes_none(limits):
    assert error([0, np.nan, 0, 0], limits) == np.inf


def test_the_mean_of_masks_has_a_limit_of_its_own():
    own = {"sample": GOLDEN, "mean": np.asarray(0.8), "std": np.asarray(0.0)}
    golden = {"sample": GOLDEN, "mean": np.asarray(0.75), "std": np.asarray(9.0)}
    limits = {"fraction_of_sample_that_may_differ": 0.5, "mean_atol": 0.1}
    assert relative_error(own, golden, limits) == pytest.approx(0.5)
