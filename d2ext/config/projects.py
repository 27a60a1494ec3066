"""Importing all projects, for commands that work without a config."""

import importlib
import importlib.util
import pkgutil

PROJECTS = "d2ext.projects"  # as text: nothing in d2ext imports a project


def import_projects(module: str = "") -> None:
    """Import every project, and its `module` where it has one, so that they register.

    A config names its projects under PLUGINS. A command that takes none, such as the conversion of
    a checkpoint, needs what projects register nevertheless.
    """
    for project in pkgutil.iter_modules(importlib.import_module(PROJECTS).__path__):
        if not project.ispkg:
            continue
        name = f"{PROJECTS}.{project.name}"
        importlib.import_module(name)
        if module and importlib.util.find_spec(f"{name}.{module}") is not None:
            importlib.import_module(f"{name}.{module}")
