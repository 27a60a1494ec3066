import pytest
import torch
from torch import nn

from d2ext.config import get_cfg
from d2ext.engine.optimizer import build_optimizer
from d2ext.errors import ConfigError
from detectron2.config import CfgNode


class Detector(nn.Module):
    """A bottom-up backbone in a pyramid in a neck, with a norm, biases and position tables."""

    def __init__(self) -> None:
        super().__init__()
        bottom_up = nn.Sequential(nn.Conv2d(3, 4, 1), nn.LayerNorm(4))
        bottom_up.relative_position_bias_table = nn.Parameter(torch.zeros(9))
        pyramid = nn.ModuleDict({"bottom_up": bottom_up, "lateral": nn.Conv2d(4, 4, 1)})
        self.backbone = nn.ModuleDict({"backbone": pyramid})
        self.head = nn.Linear(4, 2)


def config(**solver: object) -> CfgNode:
    cfg = get_cfg()
    cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY = 0.1, 0.05
    for key, value in solver.items():
        cfg.SOLVER[key] = value
    return cfg


def settings(cfg: CfgNode, model: nn.Module) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay by name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = build_optimizer(cfg, model).param_groups
    return {names[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}


@pytest.mark.parametrize("name", ["SGD", "ADAMW"])
def test_norms_biases_and_position_tables_have_their_own_decay(name: str) -> None:
    rules = {"WEIGHT_DECAY_NORM": 0.0, "WEIGHT_DECAY_BIAS": 0.01, "WEIGHT_DECAY_POSITION": 0.02}
    found = settings(config(OPTIMIZER=name, **rules), Detector())
    below = "backbone.backbone.bottom_up."
    assert found[below + "0.weight"] == (0.1, 0.05)
    assert found[below + "0.bias"] == (0.1, 0.01)
    assert found[below + "1.weight"] == (0.1, 0.0)
    assert found[below + "relative_position_bias_table"] == (0.1, 0.02)
    assert found["head.weight"] == (0.1, 0.05)
    assert found["head.bias"] == (0.1, 0.01)


def test_only_the_bottom_up_backbone_learns_slower() -> None:
    found = settings(config(BACKBONE_MULTIPLIER=0.1), Detector())
    slow = {name for name, (rate, _) in found.items() if rate < 0.05}
    assert slow == {name for name in found if "bottom_up" in name}


def test_without_a_pyramid_the_whole_backbone_learns_slower() -> None:
    model = nn.ModuleDict({"backbone": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    found = settings(config(BACKBONE_MULTIPLIER=0.1), model)
    assert [found["backbone.weight"][0], found["head.weight"][0]] == pytest.approx([0.01, 0.1])


def test_an_unknown_optimizer_is_an_error() -> None:
    with pytest.raises(ConfigError, match="'ADAM'; it must be SGD or ADAMW"):
        build_optimizer(config(OPTIMIZER="ADAM"), Detector())
