from typing import Any

import pytest
import torch
from torch import Tensor, nn

from d2ext.engine.validation import build_loss_loader, losses_without_learning, validation_losses
from tests.helpers.training import tiny_cfg


class Detector(nn.Module):
    """Its loss is random as long as its dropout is, and it counts what its norm learns."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Sequential(nn.Linear(2, 1))

    def forward(self, batch: list[dict[str, Any]]) -> Any:
        if not self.training:
            return []
        x = torch.stack([item["x"] for item in batch])
        out = self.head(self.dropout(self.backbone(x)))
        return {"loss_a": out.abs().mean(), "loss_b": torch.tensor(float(len(batch)))}


def batches() -> list[list[dict[str, Tensor]]]:
    return [[{"x": torch.tensor([1.0, float(n)])}] for n in range(4)]


def test_losses_are_means_over_all_batches() -> None:
    found = validation_losses(Detector(), [batches(), batches()[:1]])
    assert found.keys() == {"val/loss_a", "val/loss_b", "val/total_loss"}
    assert found["val/loss_b"] == 1.0
    assert found["val/total_loss"] == pytest.approx(found["val/loss_a"] + 1.0)


def test_losses_are_reproducible_and_change_no_weights() -> None:
    model = Detector()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert validation_losses(model, [batches()]) == validation_losses(model, [batches()])
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_training_modes_are_restored() -> None:
    model = Detector().train()
    model.head.eval()
    with losses_without_learning(model):
        assert model.training
        assert not model.dropout.training
        assert not model.backbone[1].training
        assert not torch.is_grad_enabled()
    assert model.dropout.training
    assert model.backbone[1].training
    assert not model.head.training


def test_images_come_as_in_testing_but_with_annotations(tmp_path: Any) -> None:
    cfg = tiny_cfg(tmp_path, "INPUT.CROP.ENABLED", "True", "INPUT.MIN_SIZE_TEST", "16")
    loaded = [batch[0] for batch in build_loss_loader(cfg, cfg.DATASETS.TEST[0])]
    assert [item["image"].shape for item in loaded] == [(3, 16, 16)] * 6
    assert loaded[0]["instances"].gt_boxes.tensor.tolist() == [[2.0, 2.0, 6.0, 6.0]]
