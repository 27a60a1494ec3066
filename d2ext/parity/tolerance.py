"""The distance between an output and its reference, in multiples of the case's tolerance."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

Parts = Mapping[str, np.ndarray]  # "sample", and for a digest "mean" and "std" as well
Limits = Mapping[str, float] | Literal["exact"]

FRACTIONS = ("fraction_of_sample_that_may_differ", "mismatch_fraction")


def relative_error(own: Parts, golden: Parts, limits: Limits) -> float:
    """Return the largest difference in multiples of the tolerance; infinite for NaN.

    Args:
        own: our output, whole as its "sample", or as a digest.
        golden: the reference's, of the same shapes.
        limits: "exact"; or `rtol` and `atol` of every value; or `rel_l2`, the 2-norm of the
            sample's difference as a share of the sample's; or the fraction of the sample that may
            differ, under one of `FRACTIONS`, with `mean_atol` of a digest's mean.
    """
    if limits == "exact":
        limits = {}
    fraction = next((limits[name] for name in FRACTIONS if name in limits), None)
    if "rel_l2" in limits:
        error = _norm_error(own["sample"], golden["sample"], limits["rel_l2"])
    elif fraction is not None:
        error = float(_ratio(np.mean(own["sample"] != golden["sample"]), fraction))
        if "mean_atol" in limits and "mean" in golden:
            error = max(error, float(_ratio(own["mean"] - golden["mean"], limits["mean_atol"])))
    else:
        error = max(_value_error(own[part], golden[part], limits) for part in golden)
    return np.inf if np.isnan(error) else error


def _norm_error(own: np.ndarray, golden: np.ndarray, limit: float) -> float:
    own, golden = own.astype(np.float64), golden.astype(np.float64)
    distance, allowed = np.linalg.norm(own - golden), limit * np.linalg.norm(golden)
    return float(_ratio(np.asarray(distance), float(allowed)))


def _value_error(own: np.ndarray, golden: np.ndarray, limits: Mapping[str, float]) -> float:
    own, golden = own.astype(np.float64), golden.astype(np.float64)
    allowed = limits.get("atol", 0.0) + limits.get("rtol", 0.0) * np.abs(golden)
    return float(_ratio(own - golden, allowed).max(initial=0.0))


def _ratio(difference: np.ndarray, allowed: np.ndarray | float) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(difference == 0, 0.0, np.abs(difference) / allowed)
    return np.where(np.isnan(ratio), np.inf, ratio)
