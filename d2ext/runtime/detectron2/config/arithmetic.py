"""A restricted parser for lists of numbers written as arithmetic expressions."""

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
_MAX_ITEMS = 10_000  # limit over all comprehensions
_MAX_POWER = 1024  # limit of base and exponent
_MAX_NUMBER = 1e100


def evaluate_arithmetic(expression: str) -> Any:
    """Evaluate an expression of numbers, e.g. "[x * 2 ** (1 / 3) for x in [32, 64]]".

    Numbers, the operators `+ - * / // % **`, lists, tuples and list comprehensions over them: no
    names but the comprehension's, no calls, no attributes.

    Raises:
        ValueError: there is anything else in it, or it would take long.
    """
    try:
        tree = ast.parse(expression.strip(), mode="eval")
        return _Evaluator(expression).value(tree.body, {})
    except (SyntaxError, ArithmeticError, RecursionError, MemoryError) as error:
        raise ValueError(f"{expression!r} is no arithmetic: {error}") from error


class _Evaluator:
    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.items = 0

    def value(self, node: ast.expr, names: dict[str, Any]) -> Any:
        if isinstance(node, ast.List):
            return [self.value(item, names) for item in node.elts]
        if isinstance(node, ast.Tuple):
            return tuple(self.value(item, names) for item in node.elts)
        if isinstance(node, ast.ListComp):
            return [self.value(node.elt, bound) for bound in self.loop(node.generators, names)]
        if isinstance(node, ast.Name) and node.id in names:
            return names[node.id]
        return self.number(node, names)

    def number(self, node: ast.expr, names: dict[str, Any]) -> int | float:
        result: Any = None
        if isinstance(node, ast.Constant):
            result = node.value
        elif isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
            result = _UNARY[type(node.op)](self.operand(node.operand, names))
        elif isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            left, right = self.operand(node.left, names), self.operand(node.right, names)
            if isinstance(node.op, ast.Pow) and max(abs(left), abs(right)) > _MAX_POWER:
                raise ValueError(f"{self.expression!r}: a power beyond {_MAX_POWER}")
            result = _BINARY[type(node.op)](left, right)
        return self.checked(result, node)

    def operand(self, node: ast.expr, names: dict[str, Any]) -> int | float:
        return self.checked(self.value(node, names), node)

    def checked(self, result: Any, node: ast.expr) -> int | float:
        if type(result) not in (int, float):
            part = ast.unparse(node)
            raise ValueError(f"{self.expression!r}: {part!r} is neither a number nor a list")
        if abs(result) > _MAX_NUMBER:
            raise ValueError(f"{self.expression!r}: a number beyond {_MAX_NUMBER:g}")
        return result

    def loop(
        self, generators: list[ast.comprehension], names: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        if not generators:
            yield names
            return
        first, rest = generators[0], generators[1:]
        source = self.value(first.iter, names)
        if not isinstance(first.target, ast.Name) or first.ifs or not isinstance(source, list):
            raise ValueError(f"{self.expression!r}: only 'for name in list' can be looped over")
        for item in source:
            self.items += 1
            if self.items > _MAX_ITEMS:
                raise ValueError(f"{self.expression!r}: more than {_MAX_ITEMS} items")
            yield from self.loop(rest, {**names, first.target.id: item})
