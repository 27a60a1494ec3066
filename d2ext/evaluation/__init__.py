"""Evaluators by `evaluator_type`, confusion matrix and precision-recall curves."""

from d2ext.evaluation.build import build_evaluator, register_evaluator

__all__ = ["build_evaluator", "register_evaluator"]
