import logging
import math

import pytest

from d2ext.engine.hooks.score import BestScore


def test_higher_is_better_and_lower_for_losses() -> None:
    score, loss = BestScore("bbox/AP"), BestScore("val/total_loss")
    assert [score.update({"bbox/AP": v}) for v in (1.0, 3.0, 3.0, 2.0)] == [
        True,
        True,
        False,
        False,
    ]
    assert [loss.update({"val/total_loss": v}) for v in (3.0, 1.0, 2.0)] == [True, True, False]
    assert (score.best, score.since, loss.best, loss.since) == (3.0, 2, 1.0, 1)


def test_a_metric_is_found_below_a_data_sets_name() -> None:
    score = BestScore("bbox/AP")
    assert score.update({"night/bbox/AP": 2.0, "bbox/AP50": 9.0})
    assert score.best == 2.0


def test_of_several_data_sets_the_first_counts() -> None:
    score = BestScore("bbox/AP")
    assert score.value_in({"coco_validation/bbox/AP": 1.0, "val_2/bbox/AP": 2.0}) == 1.0


def test_no_number_is_never_the_best(caplog: pytest.LogCaptureFixture) -> None:
    score = BestScore("bbox/AP")
    assert not score.update({"bbox/AP": math.nan})
    with caplog.at_level(logging.WARNING):
        assert not score.update({"segm/AP": 1.0})
    assert "bbox/AP was not measured; measured were: segm/AP" in caplog.text
    assert (score.best, score.since) == (None, 2)
