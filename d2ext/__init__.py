"""d2ext: models, operators and a training command on Detectron2's public API.

Importing this package makes `detectron2` importable: the official one where it is installed, the
bundled runtime elsewhere. Import it before `detectron2`.
"""

from d2ext._detectron2 import provide

__version__ = "0.1.0"

provide()
