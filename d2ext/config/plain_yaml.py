"""Parse YAML from strangers: plain values and arithmetic, of bounded depth, size and range."""

import logging
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from d2ext.config.arithmetic import evaluate_arithmetic
from d2ext.errors import ConfigError

MAX_DEPTH = 64
MAX_NODES = 100_000  # values, each counted as often as aliases repeat it
MAX_INTEGER = 2**63
MAX_DIGITS = 64
_EVAL = "tag:yaml.org,2002:python/object/apply:eval"
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def parse_yaml(text: str, source: object) -> Any:
    """Parse a YAML document to plain Python values.

    The tag `!!python/object/apply:eval ["..."]` of published configs gives the value of an
    arithmetic expression and a line in the log; no other tag of Python's is known.

    Args:
        source: the file or flag that the text is from, for messages.
    Raises:
        ConfigError: no plain YAML, or nested, repeated or large beyond any use. The message has
            `source`, line and column.
    """
    try:
        loader = _PlainLoader(text)
        loader.name = str(source)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ConfigError(f"{source}: not plain YAML: {_problem(error)}") from error


def _problem(error: Exception) -> str:
    """Describe an error in one line; PyYAML's own text has a picture of the place."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    mark = error.problem_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}"
    return ": ".join(filter(None, [place, error.context, error.problem]))


class _PlainLoader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._sizes: dict[int, int] = {}  # by id of a node, which its parent keeps

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        mark = self.peek_event().start_mark
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ComposerError(None, None, f"nested more than {MAX_DEPTH} deep", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node.end_mark is None:
            raise ComposerError(None, None, "an alias of the node that it is in", mark)
        if id(node) not in self._sizes:  # else an alias
            self._sizes[id(node)] = 1 + sum(self._sizes[id(child)] for child in _children(node))
        if self._sizes[id(node)] > MAX_NODES:
            raise ComposerError(None, None, f"more than {MAX_NODES} values", mark)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            if node.tag in _NUMBERS and len(node.value) > MAX_DIGITS:
                raise ValueError(f"a number of more than {MAX_DIGITS} characters")
            value = super().construct_object(node, deep=deep)
            _check_scalar(value)
        except (ValueError, OverflowError) as error:
            raise ConstructorError(None, None, str(error), node.start_mark) from error
        return value


def _evaluate(loader: _PlainLoader, node: yaml.Node) -> Any:
    """Construct the value of an expression under the tag `eval`."""
    given = loader.construct_sequence(node) if isinstance(node, yaml.SequenceNode) else []
    if len(given) != 1 or not isinstance(given[0], str):
        raise ValueError("eval needs a list of one expression")
    value = evaluate_arithmetic(given[0])
    line = node.start_mark.line + 1
    logging.getLogger(__name__).info(
        "%s, line %d: %s is read as %s.", loader.name, line, given[0], value
    )
    return value


_PlainLoader.add_constructor(_EVAL, _evaluate)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [each for pair in node.value for each in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _check_scalar(value: Any) -> None:
    if isinstance(value, int) and abs(value) >= MAX_INTEGER:
        raise ValueError("an integer of more than 64 bits")
    if isinstance(value, str):
        value.encode()  # a surrogate, which no file or terminal takes
        if "\0" in value:
            raise ValueError("a NUL character")
