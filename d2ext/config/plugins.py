"""Plugins of a config: importing them by name, also from the folder of the config."""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from d2ext.errors import ConfigError, OutputError
from d2ext.files import cache_folder, read_regular, replacing
from detectron2.config import CfgNode

_TRUSTED = "plugin_folders.txt"  # in the cache
_own: set[str] = set()  # those of this process, where the cache cannot be written


def add_plugin(
    cfg: CfgNode, name: str, folders: Sequence[Path], saved: Sequence[Path] = ()
) -> None:
    """Import a plugin and let it add its section to `cfg`.

    Args:
        name: of a module; one that is installed or on PYTHONPATH wins over those in `folders`.
        folders: of a config that was named and of its bases. The one that is used is kept in
            `cfg.PLUGIN_FOLDERS`, so that a dumped config finds the plugin again.
        saved: folders that weights or a run name. Those of others must not run code, so that only
            folders are used that were in `folders` once.
    Raises:
        ConfigError: there is no such module, it is in a folder that is not used, or it has no
            function `add_config`.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"PLUGINS: {name[:200]!r} is no name of a module.")
    top = name.partition(".")[0]
    folder = _folder_of(top, folders)
    if folder is not None:
        _trust(folder)
    elif (folder := _folder_of(top, saved)) is not None and str(folder) not in _trusted():
        raise ConfigError(
            f"PLUGINS: {name} is in {folder}, and weights and runs do not make code run that no "
            f"config has used on this machine. If you trust it: --config-file FILE names the "
            f"config beside it, or PYTHONPATH={folder}."
        )
    if folder is not None:
        _add_to_path(folder)
        cfg.PLUGIN_FOLDERS = [*cfg.PLUGIN_FOLDERS, str(folder)]
    module = _import(name)
    if not hasattr(module, "add_config"):
        raise ConfigError(f"PLUGINS: {name} has no function add_config(cfg).")
    module.add_config(cfg)


def import_plugins(cfg: CfgNode) -> None:
    """Import the plugins of a complete config, in a process that has not read the file."""
    for folder in cfg.PLUGIN_FOLDERS:
        _add_to_path(Path(folder))
    for name in cfg.PLUGINS:
        _import(name)


def _trusted() -> set[str]:
    """Return the folders of plugins that configs have used, in this process or on this machine."""
    try:
        text = read_regular(cache_folder() / _TRUSTED).decode("utf-8", "replace")
    except OSError:
        text = ""
    return {*_own, *text.splitlines()}


def _trust(folder: Path) -> None:
    known = _trusted()
    _own.add(str(folder))
    if str(folder) in known:
        return
    with suppress(OutputError), replacing(cache_folder() / _TRUSTED) as part:
        part.write_text("".join(f"{line}\n" for line in sorted({*known, *_own})), "utf-8")


def _import(name: str) -> object:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise
        raise ConfigError(
            f"PLUGINS: no module {name}. A plugin is an importable package, e.g. "
            "d2ext.projects.<paper>, one in the folder of the config, or on PYTHONPATH."
        ) from error


def _folder_of(top: str, folders: Sequence[Path]) -> Path | None:
    """Return the folder that holds the module, unless it can be imported from elsewhere."""
    holding = [
        folder.resolve()
        for folder in folders
        if (folder / f"{top}.py").is_file() or (folder / top / "__init__.py").is_file()
    ]
    if not holding:
        return None
    loaded = getattr(sys.modules.get(top), "__file__", None)
    if loaded is None:
        return None if importlib.util.find_spec(top) else holding[0]
    own = [folder for folder in holding if Path(loaded).resolve().is_relative_to(folder)]
    if own:
        return own[0]
    raise ConfigError(
        f"PLUGINS: {holding[0]} holds a module {top}, but {loaded} is imported by this name. "
        "Rename one of them."
    )


def _add_to_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # at the end: a module there must not hide an installed one
