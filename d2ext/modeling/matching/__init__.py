"""Matching of predictions or anchors to ground truth."""

from d2ext.modeling.matching.atss import match_adaptively

__all__ = ["match_adaptively"]
