"""Assigners (matchers): which anchors, locations or predictions learn which ground truth."""

from d2ext.modeling.matching.atss import assign_atss
from d2ext.modeling.matching.fcos import assign_fcos, distances, size_ranges

__all__ = ["assign_atss", "assign_fcos", "distances", "size_ranges"]
