"""The build backend: setuptools, shown the PyTorch that d2ext is installed beside.

pip builds in an isolated environment, where an extension could only be built against another
PyTorch than the user's. This backend adds the packages of the user's own environment behind the
isolated ones, and asks pip for nothing that is there.
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

SETUPTOOLS = "setuptools>=70.1"  # the first that makes wheels without the package `wheel`
SPACE_FOR_PYTORCH = 12 * 2**30  # bytes, unpacked with the CUDA libraries it depends on


def get_requires_for_build_wheel(config_settings: dict | None = None) -> list[str]:
    """What pip has to provide: nothing where setuptools and PyTorch are installed.

    PyTorch is asked for only if it could be of use: there is a compiler, and space to unpack it.
    """
    pytorch = _pytorch_requirement()
    wanted = [SETUPTOOLS]
    if _compiler() and shutil.disk_usage(tempfile.gettempdir()).free > SPACE_FOR_PYTORCH:
        wanted.append(pytorch)
    return [requirement for requirement in wanted if not _satisfied(requirement)]


def get_requires_for_build_editable(config_settings: dict | None = None) -> list[str]:
    """As for a wheel."""
    return get_requires_for_build_wheel(config_settings)


def get_requires_for_build_sdist(config_settings: dict | None = None) -> list[str]:
    """Nothing is compiled for a source archive."""
    return [] if _satisfied(SETUPTOOLS) else [SETUPTOOLS]


def build_wheel(*arguments: Any) -> str:
    """Let setuptools build a wheel."""
    from setuptools import build_meta

    return build_meta.build_wheel(*arguments)


def build_editable(*arguments: Any) -> str:
    """Let setuptools make an editable install."""
    from setuptools import build_meta

    return build_meta.build_editable(*arguments)


def build_sdist(*arguments: Any) -> str:
    """Let setuptools pack the sources."""
    from setuptools import build_meta

    return build_meta.build_sdist(*arguments)


def _environment_path() -> list[str]:
    """`sys.path` of this interpreter as its user sees it, without pip's isolation."""
    isolation = ("PYTHONPATH", "PYTHONNOUSERSITE")
    environment = {key: value for key, value in os.environ.items() if key not in isolation}
    # -P, which keeps the current folder out, is not in Python 3.10.
    command = [sys.executable, "-c", "import json, sys; print(json.dumps(sys.path[1:]))"]
    answer = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    return json.loads(answer.stdout)


def _pytorch_requirement() -> str:
    text = Path(__file__).parents[1].joinpath("pyproject.toml").read_text(encoding="utf-8")
    return re.search(r'"(torch>=[\d.]+)"', text).group(1)


def _satisfied(requirement: str) -> bool:
    name, least = requirement.split(">=")
    try:
        installed = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return _numbers(installed) >= _numbers(least)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.match(r"[\d.]*\d", version).group().split(".")]


def _compiler() -> str | None:
    names = [os.environ.get("CXX", ""), "c++", "g++", "clang++", "cl"]
    return next(filter(None, map(shutil.which, names)), None)


sys.path.extend(folder for folder in _environment_path() if folder not in sys.path)
