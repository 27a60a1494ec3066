"""`detectron2.config.arithmetic`: lists of numbers in YAML tags."""

import re
from pathlib import Path

import pytest

import d2ext  # noqa: F401
from d2ext._detectron2 import provider
from detectron2.config import get_cfg

pytestmark = pytest.mark.skipif(provider() != "bundled", reason="the official package runs eval")

ANCHORS = "[[x, x * 2**(1.0/2) ] for x in [32, 64 ]]"


def config(tmp_path: Path, expression: str) -> str:
    path = tmp_path / "c.yaml"
    tag = "!!python/object/apply:eval"
    path.write_text(f'MODEL:\n  ANCHOR_GENERATOR:\n    SIZES: {tag} ["{expression}"]\n')
    return str(path)


def test_an_expression_is_refused_and_its_value_shown(tmp_path: Path):
    with pytest.raises(ValueError, match="line 3") as caught:
        get_cfg().merge_from_file(config(tmp_path, ANCHORS))
    assert "[[32, 45.254833995939045], [64, 90.50966799187809]]" in str(caught.value)
    assert "c.yaml" in str(caught.value)


def test_an_expression_is_evaluated_on_request(tmp_path: Path):
    cfg = get_cfg()
    cfg.merge_from_file(config(tmp_path, ANCHORS), allow_arithmetic=True)
    root = 2 ** (1 / 2)
    sizes = cfg.MODEL.ANCHOR_GENERATOR.SIZES
    assert sizes == [[32, 32 * root], [64, 64 * root]]


def test_the_option_applies_to_base_files(tmp_path: Path):
    config(tmp_path, ANCHORS)
    (tmp_path / "d.yaml").write_text("_BASE_: c.yaml\n")
    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "d.yaml"), allow_arithmetic=True)
    assert cfg.MODEL.ANCHOR_GENERATOR.SIZES[1][0] == 64


def evaluate(expression: str) -> object:
    from detectron2.config.arithmetic import evaluate_arithmetic

    return evaluate_arithmetic(expression)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("[1, -2.5, (3, 4)]", [1, -2.5, (3, 4)]),
        ("2 ** 3 // 3 + 7 % 4 - 1 / 2", 4.5),
        ("[[x * y for y in [1, 2]] for x in [3, 4]]", [[3, 6], [4, 8]]),
        ("[x + y for x in [1, 2] for y in [10, 20]]", [11, 21, 12, 22]),
    ],
)
def test_numbers_and_comprehensions_are_evaluated(expression: str, value: object):
    assert evaluate(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').getcwd()",
        "[x for x in range(3)]",
        "[x for x in [1] if x]",
        "[].append",
        "'a' * 10",
        "[1] * 1000000000",
        "True",
        "x",
        "(lambda: 1)()",
        "9 ** 9 ** 9",
        "1 / 0",
        "10.0 ** 99 * 10.0 ** 99",
        "[0 for a in [1, 2] " + "for b in [1, 2] " * 16 + "]",
        "-" * 100_000 + "1",
        "1 +",
    ],
)
def test_everything_but_numbers_is_an_error(expression: str):
    with pytest.raises(ValueError, match=re.escape(expression[:9])):
        evaluate(expression)
