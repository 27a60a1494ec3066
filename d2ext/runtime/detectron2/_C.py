"""Import of the modules that register the operators `torch.ops.detectron2.*`.

It stands in for the compiled extension of the official package. The environment variable
DETECTRON2_OPERATORS names the modules, separated by commas.
"""

import importlib
import os

for _module in filter(None, os.environ.get("DETECTRON2_OPERATORS", "").split(",")):
    importlib.import_module(_module)
