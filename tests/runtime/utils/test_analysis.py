import pytest
import torch
from torch import nn

from detectron2.utils.analysis import (
    FlopCountAnalysis,
    find_unused_parameters,
    flop_count_operators,
    parameter_count,
)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.used = nn.Linear(4, 3)
        self.unused = nn.Linear(2, 2)

    def forward(self, batch):
        found = self.used(batch[0]["image"])
        return {"loss": found.sum()} if self.training else [{"found": found, "name": "x"}]


@pytest.fixture
def model():
    return Model()


BATCH = [{"image": torch.ones(5, 4), "height": 3}]


def test_operations_are_counted_in_billions_and_the_mode_is_kept(model):
    model.train()
    counts = flop_count_operators(model, BATCH)
    assert counts["linear"] == pytest.approx(5 * 4 * 3 / 1e9)
    assert model.training


def test_operations_of_a_model_are_counted(model):
    analysis = FlopCountAnalysis(model.eval(), BATCH)
    assert analysis.total() == 60


def test_parameters_are_counted_by_module(model):
    assert parameter_count(model)["used"] == 15


def test_parameters_unused_by_the_loss_are_listed(model):
    assert find_unused_parameters(model.train(), BATCH) == ["unused.weight", "unused.bias"]
