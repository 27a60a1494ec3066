"""Number of training images that show each category of LVIS v1."""

from .lvis_v1_categories import IMAGE_COUNTS as LVIS_CATEGORY_IMAGE_COUNT

__all__ = ["LVIS_CATEGORY_IMAGE_COUNT"]
