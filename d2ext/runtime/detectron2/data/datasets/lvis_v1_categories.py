"""The 1203 categories of LVIS v1, in the order of their ids from 1.

Source: https://www.lvisdataset.org (CC BY 4.0).
"""

from .lvis_categories import read_lvis_categories

LVIS_CATEGORIES = read_lvis_categories("lvis_v1_categories.csv")
# Detectron2 keeps the counts apart, in `lvis_v1_category_image_count`.
IMAGE_COUNTS = [
    {"id": category["id"], "image_count": category.pop("image_count")}
    for category in LVIS_CATEGORIES
]
