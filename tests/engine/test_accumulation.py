import pytest
import torch
from torch import nn

from d2ext.engine.accumulation import batch_weights
from d2ext.engine.train_step import TrainStep
from detectron2.structures import Instances
from detectron2.utils.events import EventStorage


class PerObject(nn.Module):
    """A loss like a dense head's: a sum over objects divided by their number."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, batch):
        values = torch.cat([item["instances"].value for item in batch])
        return {"loss": (self.weight * values).sum() / max(1, len(values))}


def image(*values):
    found = Instances((8, 8))
    found.value = torch.tensor(values)
    return {"instances": found, "file_name": "a.png"}


def gradient(batches):
    model = PerObject()
    step = TrainStep(
        model,
        batches,
        torch.optim.SGD(model.parameters(), lr=1.0),
        accumulate=len(batches),
    )
    step.iter = 0
    with EventStorage() as storage:
        step.run_step()
        total = storage.latest()["total_loss"][0]
    return model.weight.grad.item(), total


@pytest.mark.parametrize("batches", [[[image(1.0)], [image(2.0, 3.0, 4.0)], [image()]]])
def test_accumulated_batches_give_the_gradient_and_the_loss_of_one_large_batch(batches):
    assert gradient(batches) == pytest.approx(gradient([[i for batch in batches for i in batch]]))


def test_batches_without_instances_weigh_the_same():
    assert batch_weights(PerObject(), [[{}], [{}]]) == [0.5, 0.5]
