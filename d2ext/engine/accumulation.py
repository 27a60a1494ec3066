"""Weights of the batches whose gradients are accumulated to one optimizer step."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from detectron2.modeling import GeneralizedRCNN, RetinaNet
from detectron2.utils import comm

Batch = Sequence[dict[str, Any]]

# Their losses are means over sampled regions, or over a running mean of objects: over images.
_PER_IMAGE = (GeneralizedRCNN, RetinaNet)


def batch_weights(model: nn.Module, batches: Sequence[Batch]) -> list[float]:
    """Return the weight of each batch's losses in those of the whole step.

    Losses of detectors are sums divided by the number of objects, at least 1. Weighed by these
    numbers they add up to the losses of one large batch; a plain mean would let an object of a
    sparse batch count more. Models whose losses are means over images get equal weights, and so do
    batches without "instances".

    Args:
        model: not wrapped in DistributedDataParallel.
    """
    counts = [_count_objects(batch) for batch in batches]
    if len(batches) == 1 or isinstance(model, _PER_IMAGE) or None in counts:
        return [1 / len(batches)] * len(batches)
    # Losses are divided by the mean over processes, so that counts of all processes weigh.
    gathered = comm.all_gather(counts)
    sums = [max(1.0, sum(each) / len(gathered)) for each in zip(*gathered, strict=True)]
    whole = max(1.0, sum(sum(each) for each in gathered) / len(gathered))
    return [each / whole for each in sums]


def _count_objects(batch: Batch) -> int | None:
    if any("instances" not in image for image in batch):
        return None
    return sum(len(image["instances"]) for image in batch)
