"""Tables of the package: YAML files next to the code that reads them."""

from pathlib import Path
from typing import Any

import yaml


def read_table(module: str, name: str) -> Any:
    """Load the YAML file `name` in the folder of a module.

    Args:
        module: the `__file__` of the module.
    """
    # libyaml, which not every build of PyYAML has, is ten times as fast.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with Path(module).with_name(name).open(encoding="utf-8") as file:
        return yaml.load(file, Loader=loader)  # a safe loader
