"""Validation losses: the training losses on the evaluation data."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from d2ext.data.mappers import build_mapper
from d2ext.engine.seeding import seed_step
from d2ext.processes import shield_worker
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.utils import comm

PREFIX = "val/"


def build_loss_loader(cfg: CfgNode, dataset_name: str) -> DataLoader:
    """Build a loader of every image once, resized as for testing, with annotations."""
    loader = build_detection_test_loader(cfg, dataset_name, mapper=build_mapper(cfg, "validation"))
    loader.generator = torch.Generator()  # the global one would change the training
    loader.worker_init_fn = shield_worker
    return loader


def validation_losses(
    model: nn.Module, loaders: Sequence[Iterable[list[dict[str, Any]]]]
) -> dict[str, float]:
    """Average the losses over all batches, loaders and processes.

    Returns:
        "val/total_loss" and "val/<name>" per term; the same in every process.
    """
    sums: dict[str, float] = {}
    count = 0
    with losses_without_learning(model):
        for number, batch in enumerate(batch for loader in loaders for batch in loader):
            # Losses that sample proposals are comparable between evaluations only if reseeded.
            seed_step(0, comm.get_rank(), number, 0)
            for name, loss in _named(model(batch)).items():
                sums[name] = sums.get(name, 0.0) + float(loss)
            count += 1
    gathered = comm.all_gather((sums, count))
    batches = max(1, sum(number for _, number in gathered))
    names = dict.fromkeys(name for terms, _ in gathered for name in terms)
    return {
        PREFIX + name: sum(terms.get(name, 0.0) for terms, _ in gathered) / batches
        for name in names
    }


@contextmanager
def losses_without_learning(model: nn.Module) -> Iterator[None]:
    """Make a model return losses while norms, dropout and stochastic depth are in test mode.

    Heads read their own `training` flag to decide on losses; the backbone and modules without
    children, such as norms and dropout, do not, so these are switched to evaluation.
    """
    before = {module: module.training for module in model.modules()}
    model.train()
    for module in model.modules():
        if module is not model and _acts_alone(module):
            module.eval()
    backbone = getattr(model, "backbone", None)
    if isinstance(backbone, nn.Module):
        backbone.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in before.items():
            module.training = training


def _acts_alone(module: nn.Module) -> bool:
    return isinstance(module, nn.MultiheadAttention) or next(module.children(), None) is None


def _named(losses: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
    if isinstance(losses, Tensor):
        return {"total_loss": losses}
    return {**losses, "total_loss": sum(losses.values(), torch.zeros(()))}
