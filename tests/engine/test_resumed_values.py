"""Values that a resumed run has in its saved state, whatever the command says."""

import pytest

from d2ext.config import get_cfg
from d2ext.engine.resumed_values import check_resumed_values
from d2ext.errors import ConfigError


def checked(*opts):
    saved, cfg = get_cfg(), get_cfg()
    cfg.merge_from_list(list(opts))
    return check_resumed_values(cfg, saved, opts)


def test_another_optimizer_schedule_or_seed_is_refused_with_what_differs():
    pairs = ("SOLVER.OPTIMIZER", "ADAMW", "SOLVER.LR_SCHEDULER_NAME", "WarmupPolyLR", "SEED", "3")
    with pytest.raises(ConfigError) as caught:
        checked(*pairs)
    message = str(caught.value)
    for part in (
        "SEED is -1 in the run, not 3",
        "SOLVER.OPTIMIZER is SGD in the run, not ADAMW",
        "SOLVER.LR_SCHEDULER_NAME is WarmupMultiStepLR in the run, not WarmupPolyLR",
        "--weights FILE starts it",
    ):
        assert part in message


def test_the_same_values_and_those_that_take_effect_pass():
    assert checked("SOLVER.OPTIMIZER", "SGD", "SOLVER.MAX_ITER", "7", "SOLVER.GAMMA", "0.5") == []


def test_a_learning_rate_without_effect_is_said():
    (line,) = checked("SOLVER.BASE_LR", "0.5")
    assert line.endswith("0.5 is not used")
