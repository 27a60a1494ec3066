"""Detectors as wholes; importing this registers them."""

from d2ext.modeling.meta_arch.atss import ATSS

__all__ = ["ATSS"]
