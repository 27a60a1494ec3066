"""In place of compiled operators: imports the modules that register `torch.ops.detectron2.*`.

The environment variable DETECTRON2_OPERATORS names them, separated by commas.
"""

import importlib
import os

for _module in filter(None, os.environ.get("DETECTRON2_OPERATORS", "").split(",")):
    importlib.import_module(_module)
