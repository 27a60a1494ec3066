"""Importing modules of all projects, for commands that work without a config."""

import importlib
import importlib.util
import pkgutil

PROJECTS = "d2ext.projects"  # as text: nothing in d2ext imports a project


def import_projects(module: str) -> None:
    """Import `d2ext.projects.<project>.<module>` of every project that has it.

    A config names its projects under PLUGINS. A command that takes none, such as the conversion of
    a checkpoint, needs what projects register nevertheless.
    """
    for project in pkgutil.iter_modules(importlib.import_module(PROJECTS).__path__):
        name = f"{PROJECTS}.{project.name}.{module}"
        if project.ispkg and importlib.util.find_spec(name) is not None:
            importlib.import_module(name)
