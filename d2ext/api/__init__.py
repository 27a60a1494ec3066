"""The Python API: load, predict, train, evaluate, check and export in a few typed calls.

`import d2ext` offers these names, too, and imports this package when one of them is first used.
"""

from d2ext.api.model import Model, load
from d2ext.api.prediction import Prediction
from d2ext.api.runs import Run, check, evaluate, export, train
from d2ext.inference.benchmark import benchmark

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
