"""The recipes for own data learn with all their parameters, as several processes need it."""

from pathlib import Path

import pytest
import torch

from d2ext.config import load_config
from d2ext.engine.dataless import build_model_without_data
from detectron2.utils.analysis import find_unused_parameters
from detectron2.utils.events import EventStorage
from tests.helpers.own_data import own_data_recipes
from tests.helpers.runtime_rcnn import batch_for

RECIPES = [file for file in own_data_recipes() if Path(file).name != "own_data.yaml"]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda file: Path(file).stem)
def test_losses_depend_on_every_parameter_that_learns(recipe: str) -> None:
    torch.manual_seed(0)
    cfg = load_config(recipe, ["MODEL.DEVICE", "cpu"])
    model = build_model_without_data(cfg).train()
    learns = {name for name, value in model.named_parameters() if value.requires_grad}
    with EventStorage():
        unused = find_unused_parameters(model, batch_for(cfg))
    assert learns
    assert not learns.intersection(unused)
