import pytest
import torch
from torch import nn

from d2ext.config import get_cfg
from d2ext.engine.optimizer import build_optimizer
from d2ext.errors import ConfigError


@pytest.mark.parametrize(("name", "kind"), [("SGD", torch.optim.SGD), ("ADAMW", torch.optim.AdamW)])
def test_parameter_groups_keep_their_settings(name: str, kind: type) -> None:
    cfg = get_cfg()
    cfg.SOLVER.OPTIMIZER, cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY = name, 0.1, 0.05
    cfg.SOLVER.PARAM_GROUPS = [{"pattern": "bias", "lr_factor": 0.5, "weight_decay": 0.0}]
    optimizer = build_optimizer(cfg, nn.Linear(2, 2))
    assert isinstance(optimizer, kind)
    found = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert found == [(0.1, 0.05), (0.05, 0.0)]


def test_an_unknown_optimizer_is_an_error() -> None:
    cfg = get_cfg()
    cfg.SOLVER.OPTIMIZER = "ADAM"
    with pytest.raises(ConfigError, match="'ADAM'; it must be SGD or ADAMW"):
        build_optimizer(cfg, nn.Linear(2, 2))
