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


def test_an_expression_is_evaluated_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    cfg = get_cfg()
    with caplog.at_level("INFO"):
        cfg.merge_from_file(config(tmp_path, ANCHORS))
    root = 2 ** (1 / 2)
    assert [[32, 32 * root], [64, 64 * root]] == cfg.MODEL.ANCHOR_GENERATOR.SIZES
    assert "c.yaml, line 3" in caplog.text
    assert "[[32, 45.254833995939045], [64, 90.50966799187809]]" in caplog.text


def test_an_expression_of_a_base_file_is_evaluated(tmp_path: Path):
    config(tmp_path, ANCHORS)
    (tmp_path / "d.yaml").write_text("_BASE_: c.yaml\n")
    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "d.yaml"))
    assert cfg.MODEL.ANCHOR_GENERATOR.SIZES[1][0] == 64


def test_any_other_expression_is_refused_with_its_line(tmp_path: Path):
    with pytest.raises(ValueError, match=r"c\.yaml: line 3: .*'open\(1\)' is not allowed"):
        get_cfg().merge_from_file(config(tmp_path, "open(1)"))


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
        ("[int(x * 0.1 * 640) for x in range(5, 8)]", [320, 384, 448]),
        ("[64, 128] * int(1.5 + 0.5)", [64, 128, 64, 128]),
        ("tuple([round(2.6), float(3)] + list(range(2)))", (3, 3.0, 0, 1)),
        ("range(2, 8, 3)", [2, 5]),
        ("len([[8], [16]]) * 2", 4),
    ],
)
def test_numbers_and_comprehensions_are_evaluated(expression: str, value: object):
    assert evaluate(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').getcwd()",
        "[x for x in range(10**9)]",
        "[x for x in list(range(200)) for y in range(200)]",
        "int('3')",
        "int(1, base=2)",
        "len.__self__",
        "(int)",
        "[[[1] * 99] * 99] * 99",
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
