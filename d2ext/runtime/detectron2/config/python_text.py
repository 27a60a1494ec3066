"""Formatting of nested values as Python-like text."""

from typing import Any

_WIDTH = 88
_INDENT = " " * 4


def python_text(tree: Any, prefix: str) -> str:
    """Format nested dicts as lines "prefix.key = value", sorted by key.

    A dict with "_target_" is written as a call; inside of calls and lists, dicts are literals.
    """
    if not isinstance(tree, dict) or "_target_" in tree:
        return prefix + _formatted(tree, "", used=len(prefix)) + "\n"
    return "".join(_assignments(tree, prefix.rstrip(".")))


def _assignments(tree: dict, name: str) -> list[str]:
    lines: list[str] = []
    for key in sorted(tree, key=str):
        value = tree[key]
        plain = isinstance(key, str) and key.isidentifier()
        target = f"{name}.{key}" if plain and name else key if plain else f"{name}[{_quoted(key)}]"
        if isinstance(value, dict) and value and "_target_" not in value:
            lines += _assignments(value, target)
        else:
            head = f"{target} = "
            lines.append(head + _formatted(value, "", used=len(head)) + "\n")
    return lines


def _formatted(value: Any, indent: str, used: int) -> str:
    """Format `value` on one line if it fits after `used` characters, otherwise over several."""
    flat = _flat(value)
    opening, parts, closing = _parts(value)
    if used + len(flat) <= _WIDTH or not parts:
        return flat
    inner = indent + _INDENT
    body = ", ".join(head + _flat(item) for head, item in parts)
    if len(inner) + len(body) <= _WIDTH:
        return f"{opening}\n{inner}{body}\n{indent}{closing}"
    lines = [
        # One character more for the comma.
        f"{inner}{head}{_formatted(item, inner, used=len(inner) + len(head) + 1)},\n"
        for head, item in parts
    ]
    return f"{opening}\n{''.join(lines)}{indent}{closing}"


def _flat(value: Any) -> str:
    opening, parts, closing = _parts(value)
    return opening + ", ".join(head + _flat(item) for head, item in parts) + closing


def _parts(value: Any) -> tuple[str, list[tuple[str, Any]], str]:
    """Split a value into its opening, its parts as (prefix, value), and its closing."""
    if isinstance(value, list):
        return "[", [("", item) for item in value], "]"
    if not isinstance(value, dict):
        return _quoted(value), [], ""
    if "_target_" not in value:
        return "{", [(f"{_quoted(key)}: ", item) for key, item in value.items()], "}"
    arguments = [(f"{key}=", value[key]) for key in sorted(value) if key != "_target_"]
    return f"{value['_target_']}(", arguments, ")"


def _quoted(value: Any) -> str:
    text = repr(value)
    if isinstance(value, str) and text[0] == "'" and '"' not in value:
        return f'"{text[1:-1]}"'
    return text
