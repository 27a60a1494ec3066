"""Safe YAML loading: tags do not run code."""

from typing import IO, Any

import yaml

from .arithmetic import evaluate_arithmetic

_PYTHON_TAGS = "tag:yaml.org,2002:python/"
_EVAL = "object/apply:eval"


def read_yaml_mapping(
    stream: IO[str], filename: str, allow_unsafe: bool = False, allow_arithmetic: bool = False
) -> dict[str, Any]:
    """Load the mapping in an open YAML file.

    Args:
        filename: name used in error messages.
        allow_unsafe: let tags run Python.
        allow_arithmetic: evaluate `!!python/object/apply:eval ["..."]` of lists of numbers, by a
            parser that can do nothing else.

    Raises:
        ValueError: the content is not a mapping, or has a tag that would run Python.
        yaml.YAMLError: the content is not YAML.
    """
    loader = yaml.UnsafeLoader if allow_unsafe else _Arithmetic if allow_arithmetic else _Plain
    try:
        tree = yaml.load(stream, loader)
    except _UnsafeTag as error:
        raise ValueError(f"{filename}: {error}") from error
    if not isinstance(tree, dict):
        kind = "nothing" if tree is None else f"a {type(tree).__name__}"
        raise ValueError(f"{filename}: a config is a mapping of sections, this file holds {kind}")
    return tree


class _UnsafeTag(Exception):
    """An unsafe tag; not a `YAMLError`, because the file is valid YAML."""


class _Plain(yaml.SafeLoader):
    """Plain YAML loader; a Python tag raises an error that says what to write instead."""


class _Arithmetic(yaml.SafeLoader):
    """Plain YAML loader that also evaluates lists of numbers."""


def _refuse(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> Any:
    line = node.start_mark.line + 1
    message = f"line {line}: the tag !!python/{tag} can run code when the file is loaded. "
    if tag != _EVAL:
        raise _UnsafeTag(
            message + "Write the value out, or pass allow_unsafe=True for a file that you trust."
        )
    try:
        plain = yaml.safe_dump(_evaluated(loader, node), default_flow_style=True, width=9999)
    except ValueError as error:
        raise _UnsafeTag(f"{message}Write the value out ({error}).") from error
    raise _UnsafeTag(
        f"{message}Write the plain list instead: {plain.strip()} (or pass allow_arithmetic=True)."
    )


def _evaluate(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> Any:
    if tag != _EVAL:
        return _refuse(loader, tag, node)
    try:
        return _evaluated(loader, node)
    except ValueError as error:
        raise _UnsafeTag(f"line {node.start_mark.line + 1}: {error}") from error


def _evaluated(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    if not isinstance(node, yaml.SequenceNode):
        raise ValueError("eval needs a list of one expression")
    arguments = loader.construct_sequence(node, deep=True)
    if len(arguments) != 1 or not isinstance(arguments[0], str):
        raise ValueError("eval needs a list of one expression")
    return evaluate_arithmetic(arguments[0])


_Plain.add_multi_constructor(_PYTHON_TAGS, _refuse)
_Arithmetic.add_multi_constructor(_PYTHON_TAGS, _evaluate)
