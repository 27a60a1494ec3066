#!/usr/bin/env python
"""Compare the public API of two packages of one name, e.g. of the official detectron2 and ours.

    python build_support/compare_api.py describe detectron2 official.json  # with the official one
    python build_support/compare_api.py describe detectron2 ours.json d2ext  # imports d2ext before
    python build_support/compare_api.py compare official.json ours.json

The last one prints what the second lacks: modules, names, methods, parameters, base classes.
"""

import importlib
import inspect
import json
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

IMPORTED = "imported"  # from another module of the package, by chance or to be found there
API = dict[str, list[str]]  # "module", "module:name" or "module:class.method" -> its details


def describe(package: str) -> API:
    """Return modules with errors of their import, functions with parameters, classes with bases."""
    api: API = {}
    for name in sorted(_module_names(package)):
        try:
            module = importlib.import_module(name)
        except Exception as error:
            api[name] = [f"{type(error).__name__} at import"]
            continue
        api[name] = []
        for key, value in _members(module, package):
            api[f"{name}:{key}"] = value
    return api


def _module_names(package: str) -> Iterator[str]:
    root = importlib.import_module(package)
    yield package
    found = pkgutil.walk_packages(root.__path__, f"{package}.", onerror=lambda name: None)
    yield from (module.name for module in found)


def _members(module: ModuleType, package: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the names of a module; those that are not its own are marked as imported."""
    own = package if hasattr(module, "__path__") else module.__name__
    for name, value in vars(module).items():
        is_code = inspect.isclass(value) or inspect.isroutine(value)
        if name.startswith("_") or not is_code or not _is_of(value, package):
            continue
        mark = [] if _is_of(value, own) else [IMPORTED]
        if not inspect.isclass(value):
            yield name, mark + _parameters(value)
            continue
        bases = [f"base {base.__name__}" for base in value.__mro__[1:-1] if _is_public(base)]
        yield name, mark + bases
        for method, function in inspect.getmembers(value, inspect.isroutine):
            public = method == "__init__" or not method.startswith("_")
            if public and _is_of(function, package):
                yield f"{name}.{method}", _parameters(function)


def _is_of(value: Any, owners: str) -> bool:
    return (getattr(value, "__module__", None) or "").startswith(owners)


def _is_public(cls: type) -> bool:
    return not cls.__name__.startswith("_") and cls.__name__ not in ("Generic", "ABC", "Protocol")


def _parameters(function: Any) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return []


def compare(first: API, second: API) -> Iterator[str]:
    """Yield a line per module, name or detail that the second lacks.

    A module that is missing hides its names, a class its methods.
    """
    lost: set[str] = set()  # what is missing, or compared where it is defined
    for key, details in first.items():
        parents = {key.partition(":")[0], key.rpartition(".")[0]}
        if parents & lost:
            continue
        if IMPORTED in details:
            lost.add(key)
        elif key not in second:
            lost.add(key)
            yield f"missing {key}"
        elif missing := [each for each in details if each not in second[key]]:
            yield f"differs {key}: {', '.join(missing)}"


def main(arguments: list[str]) -> None:
    """Run one of the two commands of the module's docstring."""
    command, *rest = arguments
    if command == "describe":
        package, file, *before = rest
        for name in before:
            importlib.import_module(name)
        Path(file).write_text(json.dumps(describe(package), indent=1), encoding="utf-8")
        return
    first, second = (json.loads(Path(file).read_text(encoding="utf-8")) for file in rest)
    for line in compare(first, second):
        print(line)


if __name__ == "__main__":
    main(sys.argv[1:])
