"""The PEP 517 build backend: setuptools with the user's own PyTorch in reach.

pip builds in an isolated environment, where an extension could only be built against another
PyTorch than the user's. This backend appends the packages of the user's environment to the search
path, after the isolated ones, and requires from pip only what is missing.
"""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SETUPTOOLS = "setuptools>=77.0.3"  # the first that reads an SPDX licence in pyproject.toml
SPACE_FOR_PYTORCH = 12 * 2**30  # bytes, unpacked with the CUDA libraries it depends on


def get_requires_for_build_wheel(config_settings: dict | None = None) -> list[str]:
    """Return the requirements that pip must install: none if setuptools and PyTorch are there.

    PyTorch is required only if it can be used: there is a compiler, and disk space to unpack it.
    """
    pytorch = _pytorch_requirement()
    wanted = [SETUPTOOLS]
    if _compiler() and shutil.disk_usage(tempfile.gettempdir()).free > SPACE_FOR_PYTORCH:
        wanted.append(pytorch)
    return [requirement for requirement in wanted if not _satisfied(requirement)]


def get_requires_for_build_editable(config_settings: dict | None = None) -> list[str]:
    """Return the same requirements as for a wheel."""
    return get_requires_for_build_wheel(config_settings)


def get_requires_for_build_sdist(config_settings: dict | None = None) -> list[str]:
    """Return setuptools if it is missing; nothing is compiled for a source archive."""
    return [] if _satisfied(SETUPTOOLS) else [SETUPTOOLS]


def build_wheel(*arguments: Any) -> str:
    """Build a wheel with setuptools."""
    # Imported here, since pip installs setuptools only after asking for the requirements above.
    from setuptools import build_meta

    return build_meta.build_wheel(*arguments)


def build_editable(*arguments: Any) -> str:
    """Build an editable install with setuptools."""
    from setuptools import build_meta

    return build_meta.build_editable(*arguments)


def build_sdist(*arguments: Any) -> str:
    """Build a source archive with setuptools."""
    from setuptools import build_meta

    return build_meta.build_sdist(*arguments)


def _environment_path() -> list[str]:
    """Return this interpreter's `sys.path` as it is outside pip's isolation."""
    # pip isolates by these variables; another process without them shows the user's path.
    isolation = ("PYTHONPATH", "PYTHONNOUSERSITE")
    environment = {key: value for key, value in os.environ.items() if key not in isolation}
    # [1:] leaves the current folder out; the option -P for that came with Python 3.11.
    command = [sys.executable, "-c", "import json, sys; print(json.dumps(sys.path[1:]))"]
    answer = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    return json.loads(answer.stdout)


def _pytorch_requirement() -> str:
    text = Path(__file__).parents[1].joinpath("pyproject.toml").read_text(encoding="utf-8")
    return re.search(r'"(torch>=[\d.]+)"', text).group(1)


def _satisfied(requirement: str) -> bool:
    # Without `packaging`, which an isolated environment does not have.
    name, least = requirement.split(">=")
    try:
        installed = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return _numbers(installed) >= _numbers(least)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.match(r"[\d.]*\d", version).group().split(".")]


def _compiler() -> str | None:
    # The user's choice, then the usual names; "cl" is Microsoft's.
    names = [os.environ.get("CXX", ""), "c++", "g++", "clang++", "cl"]
    return next(filter(None, map(shutil.which, names)), None)


# On import, since pip imports the backend before every hook; last, so that isolated packages win.
sys.path.extend(folder for folder in _environment_path() if folder not in sys.path)
