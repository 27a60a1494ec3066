"""Safe YAML loading: tags do not run code."""

import logging
from typing import IO, Any

import yaml

from .arithmetic import evaluate_arithmetic

_PYTHON_TAGS = "tag:yaml.org,2002:python/"
_EVAL = "object/apply:eval"


def read_yaml_mapping(stream: IO[str], filename: str, allow_unsafe: bool = False) -> dict[str, Any]:
    """Load the mapping in an open YAML file.

    The tag `!!python/object/apply:eval ["..."]` gives the value of an arithmetic expression, found
    by a parser that can do nothing else, and a line in the log.

    Args:
        filename: name used in messages.
        allow_unsafe: let tags run Python.

    Raises:
        ValueError: the content is not a mapping, or has a tag that would run Python.
        yaml.YAMLError: the content is not YAML.
    """
    try:
        tree = yaml.load(stream, yaml.UnsafeLoader if allow_unsafe else _Plain)
    except _UnsafeTag as error:
        raise ValueError(f"{filename}: {error}") from error
    if not isinstance(tree, dict):
        kind = "nothing" if tree is None else f"a {type(tree).__name__}"
        raise ValueError(f"{filename}: a config is a mapping of sections, this file holds {kind}")
    return tree


class _UnsafeTag(Exception):
    """An unsafe tag; not a `YAMLError`, because the file is valid YAML."""


class _Plain(yaml.SafeLoader):
    """Plain YAML loader that also evaluates arithmetic."""


def _construct_python(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> Any:
    line = node.start_mark.line + 1
    remedy = "Write the value out, or pass allow_unsafe=True for a file that you trust."
    if tag != _EVAL:
        raise _UnsafeTag(
            f"line {line}: the tag !!python/{tag} can run code when the file is loaded. {remedy}"
        )
    arguments = []
    if isinstance(node, yaml.SequenceNode):
        arguments = loader.construct_sequence(node, deep=True)
    if len(arguments) != 1 or not isinstance(arguments[0], str):
        raise _UnsafeTag(f"line {line}: eval needs a list of one expression. {remedy}")
    try:
        value = evaluate_arithmetic(arguments[0])
    except ValueError as error:
        raise _UnsafeTag(f"line {line}: the tag !!python/{tag}: {error}. {remedy}") from error
    logger = logging.getLogger(__name__)
    logger.info(f"{node.start_mark.name}, line {line}: {arguments[0]} is read as {value}.")
    return value


_Plain.add_multi_constructor(_PYTHON_TAGS, _construct_python)
