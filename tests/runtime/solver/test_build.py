"""`detectron2.solver.build`: parameter groups, the optimizer and clipping."""

import math

import pytest
import torch
from torch import nn

import d2ext  # noqa: F401
from detectron2.config import get_cfg
from detectron2.solver import build_optimizer, get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping, reduce_param_groups


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        self.norm = nn.BatchNorm2d(2)
        self.layer_norm = nn.LayerNorm(2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.linear = nn.Linear(2, 2)
        self.tied = nn.Linear(2, 2, bias=False)
        self.tied.weight = self.linear.weight


def named_groups(model: nn.Module, **kwargs: object) -> dict[tuple, list[str]]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        (group.get("lr"), group.get("weight_decay")): [names[p] for p in group["params"]]
        for group in get_default_optimizer_params(model, **kwargs)
    }


ALL = ["conv.weight", "conv.bias", "norm.weight", "norm.bias", "layer_norm.weight"]
ALL += ["layer_norm.bias", "linear.weight", "linear.bias"]
NORMS = [name for name in ALL if "norm" in name]
BIASES = [name for name in ALL if name.endswith("bias")]


def without(names: list[str]) -> list[str]:
    return [name for name in ALL if name not in names]


def test_each_trainable_parameter_is_in_one_group():
    assert named_groups(Model()) == {(None, None): ALL}


def test_norms_have_their_own_weight_decay():
    found = named_groups(Model(), base_lr=0.1, weight_decay=0.01, weight_decay_norm=0.0)
    assert found == {(0.1, 0.01): without(NORMS), (0.1, 0.0): NORMS}


def test_biases_have_their_own_rate_and_decay():
    found = named_groups(Model(), base_lr=0.1, bias_lr_factor=2.0, weight_decay_bias=0.5)
    assert found == {(0.1, None): without(BIASES), (0.2, 0.5): BIASES}


def test_learning_rate_factors_go_by_parameter_name():
    found = named_groups(
        Model(), base_lr=1.0, lr_factor_func=lambda name: 0.5 if name == "conv.weight" else 1.0
    )
    assert found == {(0.5, None): ["conv.weight"], (1.0, None): without(["conv.weight"])}


def test_overrides_go_by_the_last_part_of_the_name():
    found = named_groups(Model(), weight_decay=1.0, overrides={"bias": {"weight_decay": 0.0}})
    assert found == {(None, 1.0): without(BIASES), (None, 0.0): BIASES}


@pytest.mark.parametrize(
    "arguments",
    [
        {"bias_lr_factor": 2.0},
        {"lr_factor_func": lambda name: 1.0},
        {"base_lr": 1.0, "bias_lr_factor": 2.0, "overrides": {"bias": {"lr": 3.0}}},
    ],
)
def test_contradictory_arguments_are_errors(arguments: dict):
    with pytest.raises(ValueError, match=r"base_lr|bias"):
        get_default_optimizer_params(Model(), **arguments)


def test_equal_groups_are_joined():
    groups = [{"params": [1], "lr": 1}, {"params": [2], "lr": 2}, {"params": [3], "lr": 1}]
    joined = reduce_param_groups(groups)
    assert [(group["lr"], group["params"]) for group in joined] == [(1, [1, 3]), (2, [2])]


def test_a_later_group_overrides_an_earlier_one():
    model = Model()
    groups = get_default_optimizer_params(model, base_lr=1.0, weight_decay=0.1)
    few = {"params": [model.conv.weight, model.norm.weight], "lr": 0.5}
    whole, rest = reduce_param_groups([*groups, few])
    assert (whole["lr"], whole["weight_decay"]) == (0.5, 0.1)
    assert whole["params"] == few["params"]
    assert (rest["lr"], rest["weight_decay"]) == (1.0, 0.1)
    assert [id(p) for p in rest["params"]] == [
        id(p) for p in groups[0]["params"] if all(p is not q for q in few["params"])
    ]
    torch.optim.SGD([whole, rest])  # refuses a parameter in two groups


def test_names_stay_with_their_parameters():
    parameters = {name: nn.Parameter(torch.zeros(1)) for name in "abc"}
    groups = [{"params": [("a", parameters["a"]), ("b", parameters["b"])], "lr": 1.0}]
    groups.append({"params": [("c", parameters["c"])], "lr": 1.0})
    (joined,) = reduce_param_groups(torch.optim.SGD(groups).param_groups)
    assert joined["param_names"] == ["a", "b", "c"]
    assert joined["params"] == list(parameters.values())


def test_expanding_does_not_change_the_given_groups():
    groups = [{"params": ["a", "b"], "lr": 1.0}, {"params": ["b"], "lr": 2.0}]
    reduce_param_groups(groups)
    assert groups == [{"params": ["a", "b"], "lr": 1.0}, {"params": ["b"], "lr": 2.0}]


def test_the_config_defines_the_optimizer():
    cfg = get_cfg()
    cfg.SOLVER.MOMENTUM, cfg.SOLVER.NESTEROV = 0.8, True
    found = build_optimizer(cfg, Model())
    assert type(found) is torch.optim.SGD
    assert found.defaults["momentum"] == 0.8
    assert found.defaults["nesterov"]
    assert [(group["lr"], group["weight_decay"]) for group in found.param_groups] == [
        (0.001, 0.0001),
        (0.001, 0.0),
    ]


def step_with_gradient(clip_type: str, gradient: torch.Tensor) -> torch.Tensor:
    cfg = get_cfg()
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = clip_type
    parameter = nn.Parameter(torch.zeros_like(gradient))
    optimizer = maybe_add_gradient_clipping(cfg, torch.optim.SGD)([parameter], lr=1.0)
    assert isinstance(optimizer, torch.optim.SGD)
    parameter.grad = gradient
    optimizer.step()
    return -parameter.detach()


def test_gradients_are_clipped_by_value():
    assert step_with_gradient("value", torch.tensor([3.0, -4.0, 0.5])).tolist() == [1, -1, 0.5]


def test_gradients_are_clipped_by_norm():
    found = step_with_gradient("norm", torch.tensor([3.0, -4.0]))
    torch.testing.assert_close(found, torch.tensor([0.6, -0.8]), atol=1e-5, rtol=0)


def test_clipping_is_added_to_an_optimizer_object():
    cfg = get_cfg()
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(2)]
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    assert maybe_add_gradient_clipping(cfg, optimizer) is optimizer
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "norm"
    assert maybe_add_gradient_clipping(cfg, optimizer) is optimizer
    for parameter in parameters:
        parameter.grad = torch.full((2,), 5.0)
    optimizer.step()
    # Each parameter by itself.
    for parameter in parameters:
        assert -parameter[0].item() == pytest.approx(math.sqrt(0.5), abs=1e-5)
