"""Values of `!!python/object/apply:eval`, the tag of computed values in published configs.

Only arithmetic is understood, by walking the syntax tree: nothing is ever executed. The bundled
runtime has a parser of its own, because it imports nothing of d2ext.
"""

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

MAX_LENGTH = 1000  # characters of an expression
MAX_STEPS = 10_000  # nodes that are evaluated, and items that are made
MAX_SIZE = 2.0**63  # of a number; also of what a power would give
MAX_EXPONENT = 64
OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
FUNCTIONS = {each.__name__: each for each in (int, float, round, len, range, list, tuple)}
Names = Mapping[str, Any]
_ERRORS = (SyntaxError, ValueError, TypeError, ArithmeticError, MemoryError, RecursionError)


def evaluate_arithmetic(expression: str) -> Any:
    """Return the number or list that an expression such as "[x * 2 for x in range(3)]" gives.

    It may have numbers, `+ - * / // % **`, lists, tuples, list comprehensions, and calls of int,
    float, round, len, range, list and tuple.

    Raises:
        ValueError: anything else is in it, or its value is large beyond any use.
    """
    try:
        if len(expression) > MAX_LENGTH:
            raise ValueError(f"longer than {MAX_LENGTH} characters")
        value = _Arithmetic().value(ast.parse(expression.strip(), mode="eval").body, {})
    except _ERRORS as error:
        raise ValueError(f"{expression[:MAX_LENGTH]!r} is no arithmetic: {error}") from error
    return list(value) if isinstance(value, range) else value


class _Arithmetic:
    """Evaluates syntax trees and counts the steps."""

    def __init__(self) -> None:
        self.steps = 0

    def value(self, node: ast.AST, names: Names) -> Any:
        self.spend(1)
        kind = type(node).__name__.lower()
        evaluate = getattr(self, f"of_{kind}", None)
        if evaluate is None:
            raise ValueError(f"{kind} is not allowed")
        value = evaluate(node, names)
        if isinstance(value, list | tuple | range):
            self.spend(_size(value))
        elif type(value) not in (int, float) or abs(value) > MAX_SIZE:
            raise ValueError("neither a list nor a number of 64 bits")
        return value

    def spend(self, steps: int) -> None:
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise ValueError(f"more than {MAX_STEPS} steps")

    def of_constant(self, node: ast.Constant, names: Names) -> Any:
        return node.value

    def of_name(self, node: ast.Name, names: Names) -> Any:
        if node.id not in names:
            raise ValueError(f"there is no {node.id!r}")
        return names[node.id]

    def of_list(self, node: ast.List, names: Names) -> list[Any]:
        return [self.value(each, names) for each in node.elts]

    def of_tuple(self, node: ast.Tuple, names: Names) -> tuple[Any, ...]:
        return tuple(self.value(each, names) for each in node.elts)

    def of_unaryop(self, node: ast.UnaryOp, names: Names) -> Any:
        return _operator(node.op)(self.value(node.operand, names))

    def of_binop(self, node: ast.BinOp, names: Names) -> Any:
        left, right = self.value(node.left, names), self.value(node.right, names)
        if isinstance(node.op, ast.Pow):
            return _power(left, right)
        if isinstance(node.op, ast.Mult):
            # Before the product is made: a repeated list may not fit into memory.
            for items, times in ((left, right), (right, left)):
                if isinstance(items, list | tuple):
                    self.spend(_size(items) * max(times, 0))
        return _operator(node.op)(left, right)

    def of_call(self, node: ast.Call, names: Names) -> Any:
        name = getattr(node.func, "id", "")
        if name not in FUNCTIONS or node.keywords:
            raise ValueError(f"only {', '.join(FUNCTIONS)} may be called, with plain arguments")
        return FUNCTIONS[name](*(self.value(each, names) for each in node.args))

    def of_listcomp(self, node: ast.ListComp, names: Names) -> list[Any]:
        return [self.value(node.elt, inner) for inner in self.bindings(node.generators, names)]

    def bindings(self, loops: list[ast.comprehension], names: Names) -> Iterator[Names]:
        """Yield the names inside nested `for` clauses."""
        if not loops:
            yield names
            return
        target, items = loops[0].target, self.value(loops[0].iter, names)
        if not isinstance(target, ast.Name) or loops[0].ifs or not hasattr(items, "__len__"):
            raise ValueError("only `for name in list` may be looped over")
        for item in items:
            self.spend(1)
            yield from self.bindings(loops[1:], {**names, target.id: item})


def _operator(kind: ast.AST) -> Callable[..., Any]:
    if type(kind) not in OPERATORS:
        raise ValueError(f"the operator {type(kind).__name__} is not allowed")
    return OPERATORS[type(kind)]


def _size(items: Any) -> int:
    """Return the number of values in a list, each counted as often as it is repeated."""
    if isinstance(items, list | tuple):
        return 1 + sum(map(_size, items))
    return len(items) if isinstance(items, range) else 1


def _power(base: float, exponent: float) -> float:
    if (
        abs(exponent) > MAX_EXPONENT
        or abs(base) > MAX_SIZE
        or float(abs(base) or 1) ** exponent > MAX_SIZE
    ):
        raise ValueError("a power beyond 64 bits")
    return base**exponent
