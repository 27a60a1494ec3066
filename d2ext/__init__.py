"""d2ext: models, operators and a training command on Detectron2's public API.

Importing this package makes `detectron2` importable: the official one where it is installed, the
bundled runtime elsewhere. Import it before `detectron2`. The Python API, `d2ext.load` and others,
is imported from `d2ext.api` when it is first used.
"""

from typing import TYPE_CHECKING, Any

from d2ext._detectron2 import provide

if TYPE_CHECKING:
    from d2ext.api import Model, Prediction, Run, benchmark, check, evaluate, export, load, train

__version__ = "0.1.0"
__all__ = [
    "Model",
    "Prediction",
    "Run",
    "benchmark",
    "check",
    "evaluate",
    "export",
    "load",
    "train",
]

provide()


def __getattr__(name: str) -> Any:
    # PyTorch takes seconds to import: `import d2ext` leaves that to the first use of the API.
    if name not in __all__:
        raise AttributeError(f"module 'd2ext' has no attribute {name!r}")
    from d2ext import api

    return getattr(api, name)
