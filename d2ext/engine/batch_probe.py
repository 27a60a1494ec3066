"""Find the batch size that fits into a GPU's memory, by training steps of the real model."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from d2ext.config.load import num_classes_keys
from d2ext.data import DatasetStats, build_train_loader
from d2ext.engine.mixed_precision import autocast_dtype
from d2ext.engine.optimizer import build_optimizer
from d2ext.engine.train_step import Batch
from d2ext.errors import ConfigError
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

MEMORY_SHARE = 0.85  # of the GPU: batches differ in objects and sizes, and so in what they need

Fits = Callable[[int], bool]
Probe = Callable[[CfgNode, DatasetStats], Fits]


def largest_batch(fits: Fits, start: int, limit: int) -> int:
    """Return the largest batch size that fits among `start` and its doubles and halves.

    Args:
        fits: True if a training step of so many images fits into memory.
        limit: the largest size to return.
    Raises:
        ConfigError: not even one image fits.
    """
    size = max(1, min(start, limit))
    while not fits(size):
        if size == 1:
            raise ConfigError(
                "not one image fits into the GPU's memory: lower INPUT.MIN_SIZE_TRAIN, switch "
                "gradient checkpointing on (USE_CHECKPOINT True), or take a smaller model."
            )
        size //= 2
    if size < min(start, limit):
        return size
    while 2 * size <= limit and fits(2 * size):
        size *= 2
    return size


def probe_memory(cfg: CfgNode, stats: DatasetStats) -> Fits:
    """Build a function that tries a training step of the model on the GPU of the config.

    Its images are of the training data at their largest size. The optimizer steps too, since its
    state takes up to twice the memory of the weights.

    Args:
        cfg: may still have `auto` values of keys that do not change the model; not changed.
    """
    cfg = _for_probe(cfg, stats)
    images = next(iter(build_train_loader(cfg)))
    with torch.random.fork_rng():  # the seed of the training is drawn later
        model = build_model(cfg).train()
        optimizer = build_optimizer(cfg, model)

    def fits(size: int) -> bool:
        batch = [images[i % len(images)] for i in range(size)]
        with _less_memory(cfg.MODEL.DEVICE):
            found = _trains(model, optimizer, batch, autocast_dtype(cfg))
        model.zero_grad(set_to_none=True)
        gc.collect()
        torch.cuda.empty_cache()
        return found

    return fits


def _for_probe(cfg: CfgNode, stats: DatasetStats) -> CfgNode:
    """Return the config of the probe: largest images, no workers, a learning rate of zero."""
    cfg = cfg.clone()
    cfg.INPUT.MIN_SIZE_TRAIN = (max(cfg.INPUT.MIN_SIZE_TRAIN),)
    cfg.DATALOADER.NUM_WORKERS, cfg.SOLVER.IMS_PER_BATCH = 0, min(4, stats.num_images)
    cfg.SOLVER.BASE_LR, cfg.SEED = 0.0, max(0, cfg.SEED)
    for key in num_classes_keys(cfg):
        if key in cfg.AUTO:
            cfg.merge_from_list([key, len(stats.class_names)])
    return cfg


@contextmanager
def _less_memory(device: str) -> Iterator[None]:
    """Leave a share of the GPU's memory free; the training that follows has all of it."""
    index = torch.device(device).index  # None: the current one
    torch.cuda.set_per_process_memory_fraction(MEMORY_SHARE, index)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, index)


def _trains(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, dtype: torch.dtype | None
) -> bool:
    """Return true if a training step, the optimizer's included, fits into memory."""
    device = next(model.parameters()).device.type
    try:
        with EventStorage(), torch.autocast(device, dtype=dtype, enabled=dtype is not None):
            losses = model(batch)
        sum(losses.values()).backward()
        optimizer.step()
    except torch.OutOfMemoryError:
        return False
    return True
