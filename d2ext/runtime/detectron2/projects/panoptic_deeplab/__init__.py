"""Parts of Panoptic-DeepLab (Cheng et al. 2020, arXiv:1911.10194) that packages import.

These are the config, the training targets and the grouping of pixels, not the heads.
"""

from .config import add_panoptic_deeplab_config

__all__ = ["add_panoptic_deeplab_config"]
