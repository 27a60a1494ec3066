"""Necks, between a backbone's pyramid and a detector's head: importing this registers them."""

from d2ext.modeling.neck.dyhead import DyHead, DyHeadBlock

__all__ = ["DyHead", "DyHeadBlock"]
