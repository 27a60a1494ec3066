"""Load a config: YAML with `_BASE_`, plugins, d2ext's sections, then overrides."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from d2ext.config.defaults import ALL
from d2ext.config.paths import find_config, shipped_config
from d2ext.config.plain_yaml import parse_yaml
from d2ext.config.plugins import add_plugin
from d2ext.errors import ConfigError
from d2ext.files import read_regular
from d2ext.text import did_you_mean
from detectron2.config import CfgNode
from detectron2.config import get_cfg as detectron2_defaults

AUTO = "auto"  # value of a key that is derived from data and machine
MAX_BYTES = 2**20  # of a config file
MAX_BASES = 20  # of files, each the base of the one before


def get_cfg() -> CfgNode:
    """Return Detectron2's defaults with the sections that d2ext adds."""
    cfg = detectron2_defaults()
    for add_section in ALL:
        add_section(cfg)
    return cfg


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> CfgNode:
    """Load a config file and merge overrides into it.

    A value `auto` keeps the key's default and adds the key to `cfg.AUTO`; so does a class count
    that is not given. `d2ext.engine.auto.resolve_auto` derives their values.

    Args:
        path: see `find_config`.
        overrides: KEY VALUE KEY VALUE ...
    Raises:
        ConfigError: the file is missing or not plain YAML, a key or plugin is unknown, or a value
            has the wrong type.
    """
    found = find_config(path)
    read: dict[Path, dict[str, Any]] = {}
    tree = _read_with_bases(found, (), read)
    return _build(tree, overrides, str(found), [place.parent for place in read])


def load_dumped_config(text: str, overrides: Sequence[str], source: str) -> CfgNode:
    """Load a config that was dumped as YAML, such as the one in a checkpoint.

    Args:
        overrides: KEY VALUE KEY VALUE ...
        source: where the text is from, for messages.
    Raises:
        ConfigError: as `load_config`.
    """
    return _build(_as_tree(parse_yaml(text, source), source), overrides, source, [])


def load_saved_config(path: Path) -> CfgNode:
    """Load the config.yaml in the folder of a run, which may be a stranger's.

    Raises:
        ConfigError: as `load_config`; or it names a plugin in a folder that no config has used.
    """
    return _build(_read_file(path), [], str(path), [])


def _build(
    tree: dict[str, Any], overrides: Sequence[str], source: str, folders: Sequence[Path]
) -> CfgNode:
    """Merge a tree of values and overrides into the defaults and those of its plugins."""
    typed = _pairs(overrides)
    given = dict(leaves(tree)) | typed
    cfg = get_cfg()
    cfg.PLUGINS = _names(given.get("PLUGINS", []), f"{source}: PLUGINS")
    saved = _names(given.pop("PLUGIN_FOLDERS", []), f"{source}: PLUGIN_FOLDERS")
    places = [*folders, *map(Path, saved)]
    named = bool(folders) or "PLUGIN_FOLDERS" in typed  # by the user, not by weights or a run
    for plugin in cfg.PLUGINS:
        add_plugin(cfg, plugin, places if named else [], [] if named else places)
    defaults = dict(leaves(cfg))  # once: there are hundreds of keys, and as many are given
    for key, value in given.items():
        _set(cfg, defaults, key, value, "command line" if key in typed else source)
    cfg.AUTO = sorted({*cfg.AUTO, *_left_open(cfg, given)})
    return cfg


def num_classes_keys(cfg: CfgNode) -> dict[str, int]:
    """Return the keys that hold a number of thing classes, one per kind of head, with values."""
    return {
        key: value
        for key, value in leaves(cfg)
        if key.endswith(".NUM_CLASSES") and ".SEM_SEG_HEAD." not in key
    }


def read_tree(path: Path) -> dict[str, Any]:
    """Read a config file and merge it over its `_BASE_` files.

    Raises:
        ConfigError: a file is missing, unreadable, not a plain YAML mapping, or its own base.
    """
    return _read_with_bases(path, (), {})


def _read_with_bases(
    path: Path, below: tuple[Path, ...], read: dict[Path, dict[str, Any]]
) -> dict[str, Any]:
    """Read a config file; `below` are those it is a base of, `read` those that were read before."""
    place = path.resolve()
    if place in below or len(below) > MAX_BASES:
        chain = " -> ".join(each.name for each in (*below, place)[: MAX_BASES + 1])
        what = "leads back to itself" if place in below else f"has more than {MAX_BASES} levels"
        raise ConfigError(f"{below[-1]}: _BASE_ {what}: {chain}.")
    if place not in read:
        tree = _read_file(path)
        merged: dict[str, Any] = {}
        for base in _names(tree.pop("_BASE_", []), f"{path}: _BASE_"):
            base_path = _base_path(path, base)
            merged = _merged(merged, _read_with_bases(base_path, (*below, place), read))
        read[place] = _merged(merged, tree)
    return read[place]


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = read_regular(path, MAX_BYTES + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES} bytes: not a config.")
    return _as_tree(parse_yaml(text, path) or {}, path)


def _as_tree(tree: Any, source: object) -> dict[str, Any]:
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{source}: a config is a mapping of sections, found {type(tree).__name__}."
        )
    return tree


def _base_path(path: Path, base: str) -> Path:
    """Return the file that `_BASE_` names: beside the config, or one that d2ext ships."""
    own = path.parent / os.path.expanduser(base)
    found = own if os.path.isfile(own) else shipped_config(Path(base))
    if found is None:
        raise ConfigError(f"{path}: _BASE_: no file {own}, and d2ext ships no {base}.")
    return found


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    out = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _merged(out[key], value) if both else value
    return out


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _pairs(overrides: Sequence[str]) -> dict[str, str]:
    if len(overrides) % 2:
        raise ConfigError(
            f"command line: config values are KEY VALUE pairs, got {' '.join(overrides)!r}."
        )
    return dict(zip(overrides[::2], overrides[1::2], strict=True))


def _names(value: Any, source: str) -> list[str]:
    """Return one name, or a list of them, as a list."""
    if isinstance(value, str):
        value = parse_yaml(value, source) if value.startswith("[") else [value]
    if not isinstance(value, list | tuple) or not all(isinstance(n, str) and n for n in value):
        raise ConfigError(f"{source}: must be a name or a list of names, got {value!r:.200}.")
    return list(value)


def _set(cfg: CfgNode, defaults: Mapping[str, Any], key: str, value: Any, source: str) -> None:
    if key == "PLUGINS":
        return
    _check_known(defaults, key, source)
    if value == AUTO:
        return
    try:
        is_float = isinstance(defaults[key], float)
        cfg.merge_from_list([key, _as_float(value) if is_float else value])
    except (ValueError, AssertionError, SyntaxError, RecursionError, MemoryError) as error:
        # The last two: Python's parser refuses a value from the command line nested too deeply.
        text = str(error) or type(error).__name__
        if "Type mismatch" in text:
            text = f"must be {_type_name(defaults[key])}, got {value!r:.200}"
        raise ConfigError(f"{source}: {key}: {text}") from error


def _as_float(value: Any) -> Any:
    """Return a whole number, or the text of one, as a float, which it stands for here."""
    whole = type(value) is int or (isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value))
    return float(value) if whole else value


def _type_name(default: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}
    return names.get(type(default), f"a {type(default).__name__}")


def _check_known(known: Mapping[str, Any], key: str, source: str) -> None:
    if key in known:
        return
    if key.startswith("-"):
        raise ConfigError(f"{source}: {key} follows a KEY VALUE pair; flags come before them.")
    section = key.rpartition(".")[0].upper()
    # Keys are upper case, and so is what is meant by another case.
    hint = did_you_mean(key.upper(), known, cutoff=0.0)
    if section and not any(k.startswith(f"{section}.") for k in known):
        hint += f" If a project defines {section}, name the project under PLUGINS."
    raise ConfigError(f"{source}: unknown key {key}{hint}")


def _left_open(cfg: CfgNode, given: Mapping[str, Any]) -> set[str]:
    # A key whose own default is "auto", such as DATALOADER.MAPPER, is left to whoever reads it.
    own = {key for key, value in leaves(cfg) if value == AUTO}
    auto = {key for key, value in given.items() if value == AUTO} - own
    return auto | {key for key in num_classes_keys(cfg) if key not in given}
