"""Evaluators: from a data set's `evaluator_type` to the metrics of predictions on it."""

from d2ext.evaluation.build import build_evaluator

__all__ = ["build_evaluator"]
