"""Results in the log, and their verification against expected ones."""

import logging
import pprint
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from detectron2.config import CfgNode

__all__ = ["flatten_results_dict", "print_csv_format", "verify_results"]

logger = logging.getLogger(__name__)


def print_csv_format(results: Mapping[str, Any]) -> None:
    """Log main metrics as comma-separated lines that are easy to paste into a table.

    Args:
        results: task -> {metric: value}. Metrics per class ("AP-person") are omitted.
    """
    if not isinstance(results, Mapping) and len(results):
        raise AssertionError(f"results must map tasks to metrics, got {results!r}")
    for task, metrics in results.items():
        if not isinstance(metrics, Mapping):
            logger.info("copypaste: %s=%s", task, metrics)
            continue
        main = {name: value for name, value in metrics.items() if "-" not in name}
        logger.info("copypaste: Task: %s", task)
        logger.info("copypaste: %s", ",".join(main))
        logger.info("copypaste: %s", ",".join(f"{value:.4f}" for value in main.values()))


def verify_results(cfg: CfgNode, results: Mapping[str, Any]) -> bool:
    """Verify results against TEST.EXPECTED_RESULTS, rows of [task, metric, value, tolerance].

    Returns:
        True; the process exits with status 1 if a result is out of tolerance.
    """
    expected = cfg.TEST.EXPECTED_RESULTS
    if not len(expected):
        return True
    if all(_is_as_expected(results, *row) for row in expected):
        logger.info("Results verification passed.")
        return True
    logger.error("Result verification failed!")
    logger.error("Expected Results: %s", expected)
    logger.error("Actual Results: %s", pprint.pformat(results))
    sys.exit(1)


def _is_as_expected(
    results: Mapping[str, Any], task: str, metric: str, value: float, tolerance: float
) -> bool:
    actual = results[task].get(metric)
    return actual is not None and np.isfinite(actual) and abs(actual - value) <= tolerance


def flatten_results_dict(results: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten {"a": {"b": 1}} to {"a/b": 1}, at any depth."""
    flat = {}
    for key, value in results.items():
        if isinstance(value, Mapping):
            inner = flatten_results_dict(value)
            flat.update({f"{key}/{name}": number for name, number in inner.items()})
        else:
            flat[key] = value
    return flat
