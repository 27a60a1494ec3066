"""A restricted parser for numbers, and lists of them, written as arithmetic expressions."""

import ast
import operator
from collections.abc import Callable, Iterator
from typing import Any

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
_CALLS: dict[str, Callable[..., Any]] = {
    "float": float,
    "int": int,
    "len": len,
    "list": list,
    "range": range,
    "round": round,
    "tuple": tuple,
}
_MAX_ITEMS = 10_000  # limit over all lists, ranges and comprehensions
_MAX_POWER = 1024  # limit of base and exponent
_MAX_NUMBER = 1e100


def evaluate_arithmetic(expression: str) -> Any:
    """Evaluate an expression of numbers, e.g. "[int(x * 0.1 * 640) for x in range(5, 21)]".

    Numbers, the operators `+ - * / // % **`, lists and tuples (also added and repeated), list
    comprehensions, and calls of `int`, `float`, `round`, `len`, `range`, `list` and `tuple`: no
    names but the comprehension's, no other calls, no attributes, no text.

    Raises:
        ValueError: there is anything else in it, or it would take long.
    """
    try:
        tree = ast.parse(expression.strip(), mode="eval")
        value = _Evaluator(expression).value(tree.body, {})
    except (SyntaxError, ArithmeticError, RecursionError, MemoryError, TypeError) as error:
        raise ValueError(f"{expression!r} is no arithmetic: {error}") from error
    return list(value) if isinstance(value, range) else value


class _Evaluator:
    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.items = 0

    def value(self, node: ast.expr, names: dict[str, Any]) -> Any:
        result: Any = None
        if isinstance(node, ast.Constant):
            result = node.value
        elif isinstance(node, ast.List):
            result = [self.value(item, names) for item in node.elts]
        elif isinstance(node, ast.Tuple):
            result = tuple(self.value(item, names) for item in node.elts)
        elif isinstance(node, ast.ListComp):
            result = [self.value(node.elt, bound) for bound in self.loop(node.generators, names)]
        elif isinstance(node, ast.Name):
            result = names.get(node.id)
        elif isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
            result = _UNARY[type(node.op)](self.value(node.operand, names))
        elif isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            result = self.binary(node, self.value(node.left, names), self.value(node.right, names))
        elif isinstance(node, ast.Call):
            result = self.call(node, [self.value(argument, names) for argument in node.args])
        return self.checked(result, node)

    def binary(self, node: ast.BinOp, left: Any, right: Any) -> Any:
        if isinstance(node.op, ast.Mult):
            # Before the product is made: a long list would fill the memory.
            for items, times in ((left, right), (right, left)):
                if isinstance(items, list | tuple) and isinstance(times, int):
                    self.count(_size(items) * times)
        if isinstance(node.op, ast.Pow) and max(abs(left), abs(right)) > _MAX_POWER:
            raise ValueError(f"{self.expression!r}: a power beyond {_MAX_POWER}")
        return _BINARY[type(node.op)](left, right)

    def call(self, node: ast.Call, arguments: list[Any]) -> Any:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in _CALLS or node.keywords:
            raise ValueError(f"{self.expression!r}: {ast.unparse(node)!r} is not allowed here")
        return _CALLS[name](*arguments)

    def checked(self, result: Any, node: ast.expr) -> Any:
        """Return a number, list, tuple or range of reasonable size.

        Raises:
            ValueError: it is of another type, or too large.
        """
        if type(result) in (list, tuple, range):
            self.count(_size(result))
        elif type(result) not in (int, float):
            part = ast.unparse(node)
            raise ValueError(f"{self.expression!r}: {part!r} is neither a number nor a list")
        elif abs(result) > _MAX_NUMBER:
            raise ValueError(f"{self.expression!r}: a number beyond {_MAX_NUMBER:g}")
        return result

    def count(self, items: int) -> None:
        self.items += items
        if self.items > _MAX_ITEMS:
            raise ValueError(f"{self.expression!r}: more than {_MAX_ITEMS} items")

    def loop(
        self, generators: list[ast.comprehension], names: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        if not generators:
            yield names
            return
        first, rest = generators[0], generators[1:]
        source = self.value(first.iter, names)
        is_plain = isinstance(first.target, ast.Name) and not first.ifs and not first.is_async
        if not is_plain or not isinstance(source, list | tuple | range):
            raise ValueError(f"{self.expression!r}: only 'for name in list' can be looped over")
        for item in source:
            self.count(1)
            yield from self.loop(rest, {**names, first.target.id: item})  # type: ignore[attr-defined]


def _size(value: Any) -> int:
    """Return the number of values in a list, however it is nested."""
    if isinstance(value, list | tuple):
        return 1 + sum(_size(item) for item in value)
    return len(value) if isinstance(value, range) else 1
