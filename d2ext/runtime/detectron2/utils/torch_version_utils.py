"""Version checks of PyTorch."""

import re

import torch

__all__ = ["min_torch_version"]


def min_torch_version(min_version: str) -> bool:
    """Return whether PyTorch is at least of this version, e.g. "1.11"."""
    return _numbers(torch.__version__) >= _numbers(min_version)


def _numbers(version: str) -> tuple[int, ...]:
    found = [int(number) for number in re.findall(r"\d+", version.split("+")[0])[:3]]
    return (*found, *[0] * (3 - len(found)))
