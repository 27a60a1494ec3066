"""Matching of predictions or anchors to ground truth."""

from d2ext.modeling.matching.atss import match_adaptively
from d2ext.modeling.matching.fcos import distances, match_by_location, size_ranges

__all__ = ["distances", "match_adaptively", "match_by_location", "size_ranges"]
