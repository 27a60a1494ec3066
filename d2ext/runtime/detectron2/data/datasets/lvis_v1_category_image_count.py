"""How many training images show each of LVIS v1's categories."""

from .lvis_v1_categories import IMAGE_COUNTS as LVIS_CATEGORY_IMAGE_COUNT

__all__ = ["LVIS_CATEGORY_IMAGE_COUNT"]
