"""Assigners (matchers): which anchors, locations or predictions learn which ground truth."""

from d2ext.modeling.matching.atss import assign_atss
from d2ext.modeling.matching.fcos import assign_fcos, distances, size_ranges
from d2ext.modeling.matching.rotated_fcos import assign_rotated_fcos

__all__ = ["assign_atss", "assign_fcos", "assign_rotated_fcos", "distances", "size_ranges"]
