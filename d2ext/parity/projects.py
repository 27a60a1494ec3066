"""Cases of models that live in projects: each may have a module `parity` that knows its own."""

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from d2ext.parity.case import Comparison

PROJECTS = "d2ext.projects"  # by name: nothing in d2ext imports a project


class ProjectParity(Protocol):
    """What a project's module `parity` has."""

    def recognises(self, facts: dict[str, Any]) -> bool:
        """Whether a `case.json` is of a model of this project."""

    def compare(self, folder: Path) -> list[Comparison]:
        """Everything that the case in `folder` stores beside ours."""


def project_for(facts: dict[str, Any]) -> ProjectParity | None:
    """The project that knows the case with this `case.json`, if there is one."""
    return next((module for module in _modules() if module.recognises(facts)), None)


def _modules() -> Iterator[Any]:
    for project in pkgutil.iter_modules(importlib.import_module(PROJECTS).__path__):
        name = f"{PROJECTS}.{project.name}.parity"
        if project.ispkg and importlib.util.find_spec(name) is not None:
            yield importlib.import_module(name)
