"""The eval tag of published configs gives the values of arithmetic, and runs nothing."""

import logging

import pytest

from d2ext.config.arithmetic import evaluate_arithmetic
from d2ext.config.plain_yaml import parse_yaml
from d2ext.errors import ConfigError


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("2 + 3 * -4", -10),
        ("7 // 2 + 7 % 2 + 1 / 4", 4.25),
        ("[x * 2 ** (1.0 / 2) for x in [4, 8]]", [4 * 2**0.5, 8 * 2**0.5]),
        ("[[a, b] for a in range(2) for b in (5,)]", [[0, 5], [1, 5]]),
        ("[int(x * 0.1 * 640) for x in range(5, 8)]", [320, 384, 448]),
        ("range(3)", [0, 1, 2]),
        ("len([1, 2]) * tuple([0])", (0, 0)),
    ],
)
def test_arithmetic_has_its_value(expression, expected):
    assert evaluate_arithmetic(expression) == expected


@pytest.mark.parametrize(
    "expression",
    [
        *("__import__('os').getcwd()", "().__class__", "'a' * 3", "True", "1 if 1 else 2", "x"),
        *("lambda: 1", "int(x=1)", "1 << 3", "9 ** 9 ** 9", "1e400", "0 ** -1", "(-8) ** 0.5"),
        *("[0] * 10 ** 9", "[x for x in range(10 ** 9)]", "[[[[0] * 90] * 90] * 90] * 90"),
        *("[x for x in [1] if x]", "1 +", "[" * 999, "[" * 99 + "]" * 99 + " " * 999),
    ],
)
def test_anything_else_is_refused(expression):
    with pytest.raises(ValueError, match="is no arithmetic"):
        evaluate_arithmetic(expression)


def test_the_tag_is_read_with_a_line_in_the_log(caplog):
    text = 'A:\n  SIZES: !!python/object/apply:eval ["[[x, x * 2] for x in [32, 64]]"]\n'
    with caplog.at_level(logging.INFO, logger="d2ext"):
        assert parse_yaml(text, "a.yaml") == {"A": {"SIZES": [[32, 64], [64, 128]]}}
    assert "a.yaml, line 2: [[x, x * 2] for x in [32, 64]] is read as" in caplog.text


@pytest.mark.parametrize("value", ['["open(1)"]', '["1", "2"]', "[1]", '"1"', "{a: 1}"])
def test_the_tag_on_anything_else_is_an_error_of_the_config(value):
    with pytest.raises(ConfigError, match=r"a\.yaml: not plain YAML"):
        parse_yaml(f"A: !!python/object/apply:eval {value}", "a.yaml")
