"""Finding config files: by their path, or among those that d2ext and its projects ship."""

import difflib
import os
from pathlib import Path

from d2ext.errors import ConfigError

_WEIGHTS = (".pth", ".pt", ".pkl", ".safetensors")
_DATA = (".json", ".csv", ".xml", ".zip", ".jpg", ".jpeg", ".png")


def config_root() -> Path:
    """Return `configs/` of the checkout, or of the package in a wheel."""
    return _root() / "configs"


def project_root() -> Path:
    """Return `projects/` of the checkout, or of the package in a wheel."""
    return _root() / "projects"


def find_config(path: str | Path) -> Path:
    """Find a config file: `path` itself, or one shipped with d2ext or its projects.

    Raises:
        ConfigError: there is none.
    """
    path = Path(os.path.expanduser(path))  # Path's own raises for an unknown user
    if os.path.isfile(path) and path.suffix.lower() not in (*_WEIGHTS, *_DATA):
        return path  # False also for a name that is too long
    found = shipped_config(path)
    if found is not None:
        return found
    raise ConfigError(f"{path}: {_problem(path)}")


def shipped_config(path: Path) -> Path | None:
    """Return the config of that name that is shipped with d2ext or its projects, if any.

    Args:
        path: relative to `configs/`, or from "configs" or "projects" on.
    """
    if path.is_absolute():
        return None
    parts = path.parts[1:] if path.parts[:1] in (("configs",), ("projects",)) else path.parts
    root = project_root() if path.parts[:1] == ("projects",) else config_root()
    found = root.joinpath(*parts)
    return found if os.path.isfile(found) else None


def _problem(path: Path) -> str:
    """Say what is wrong with a path that is no config."""
    if path.suffix.lower() in _WEIGHTS:
        return "a file of weights, not a config. Weights are named by --weights FILE."
    if path.suffix.lower() in _DATA and os.path.isfile(path):
        return "data, not a config. Data are named by --train PATH, configs are YAML files."
    if os.path.isdir(path):
        own = path / "config.yaml"
        hint = f" Did you mean {own}?" if own.is_file() else ""
        return f"a folder, not a config file.{hint}"
    known = _shipped_names()
    near = difflib.get_close_matches(str(path), known, n=1) or [
        name for name in known if _is_near(path.stem, Path(name).stem)
    ]
    if near:
        return f"no such config file. Did you mean {near[0]}?"
    listed = ", ".join(name for name in known if name.count("/") == 1)
    return f"no such config file. Those of d2ext: {listed}, and more below configs and projects."


def _shipped_names() -> list[str]:
    found = sorted(config_root().rglob("*.yaml"))
    names = [f"configs/{path.relative_to(config_root()).as_posix()}" for path in found]
    projects = sorted(project_root().rglob("*.yaml"))
    return names + [f"projects/{p.relative_to(project_root()).as_posix()}" for p in projects]


def _is_near(one: str, other: str) -> bool:
    return bool(difflib.get_close_matches(one, [other], cutoff=0.8))


def _root() -> Path:
    package = Path(__file__).parents[1]
    return package.parent if (package.parent / "pyproject.toml").is_file() else package
