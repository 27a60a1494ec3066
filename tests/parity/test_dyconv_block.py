"""One block of the dynamic head, on four levels."""

import numpy as np
import torch
from parity import recipe
from parity.cases import Case
from torch import nn

from d2ext.modeling.neck import DyHeadBlock


def test_levels_and_gradients_are_those_of_the_published_block():
    case = Case("dyconv_block")
    block = DyHeadBlock(case.config["channels"])
    parameters = case.load(
        nn.ModuleDict({"blocks": nn.ModuleList([block])}), prefix="dyhead_tower.0."
    )
    inputs = {
        name: torch.from_numpy(
            recipe.fill(f"input.{name}", shape) * np.float32(np.sqrt(np.prod(shape[1:])))
        ).requires_grad_()
        for name, shape in case.facts["input"]["features"].items()
    }
    outputs = dict(zip(inputs, block(list(inputs.values())), strict=True))
    for name, output in outputs.items():
        case.check(name, output)
    loss = case.weighted_mean(outputs)
    case.check("loss.total", loss)
    loss.backward()
    inputs = {f"input.{name}": value for name, value in inputs.items()}
    case.check_gradients({**parameters, **inputs})
