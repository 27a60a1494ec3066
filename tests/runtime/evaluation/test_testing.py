import logging
from types import SimpleNamespace

import pytest

from detectron2.evaluation import print_csv_format, verify_results
from detectron2.evaluation.testing import flatten_results_dict


@pytest.fixture
def logged():
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("detectron2")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(level)


def expecting(*rows):
    return SimpleNamespace(TEST=SimpleNamespace(EXPECTED_RESULTS=[list(row) for row in rows]))


def test_metrics_are_logged_as_comma_separated_lines(logged):
    print_csv_format({"bbox": {"AP": 12.34567, "AP50": 20, "AP-person": 3}})
    assert logged == ["copypaste: Task: bbox", "copypaste: AP,AP50", "copypaste: 12.3457,20.0000"]


def test_results_within_the_tolerance_pass():
    assert verify_results(expecting(("bbox", "AP", 10, 0.5)), {"bbox": {"AP": 10.5}})
    assert verify_results(expecting(), {})


@pytest.mark.parametrize("metrics", [{"AP": 10.6}, {"AP": float("nan")}, {}])
def test_results_out_of_tolerance_exit_the_process(metrics):
    with pytest.raises(SystemExit) as exit_status:
        verify_results(expecting(("bbox", "AP", 10, 0.5)), {"bbox": metrics})
    assert exit_status.value.code == 1


def test_nested_results_are_flattened():
    assert flatten_results_dict({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {
        "a/b": 1,
        "a/c/d": 2,
        "e": 3,
    }
