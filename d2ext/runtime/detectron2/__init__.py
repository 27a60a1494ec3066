"""The public API of Detectron2, implemented independently of it for d2ext.

Used only where the official package is not installed.
"""

from .utils.env import setup_environment

setup_environment()

__version__ = "0.6+d2ext"
