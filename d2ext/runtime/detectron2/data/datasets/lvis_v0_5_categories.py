"""The 1230 categories of LVIS v0.5, in the order of their ids from 1.

Source: https://www.lvisdataset.org (CC BY 4.0).
"""

from .lvis_categories import read_lvis_categories

LVIS_CATEGORIES = read_lvis_categories("lvis_v0_5_categories.csv")
