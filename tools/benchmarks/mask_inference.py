"""Peak memory and time of turning the masks of 100 queries into results, in chunks and at once."""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.registry import register_benchmark
from d2ext.projects.maskformer.modeling import inference
from d2ext.projects.maskformer.modeling.inference import FoundMasks

QUERIES, CLASSES, TOPK = 100, 19, 100
OBJECT_THRESH, OVERLAP_THRESH = 0.8, 0.8
THINGS = frozenset(range(11, CLASSES))
MIB = 1024  # KiB, the unit of `ru_maxrss` on Linux

Size = tuple[int, int]


def _found(size: Size) -> FoundMasks:
    """Return made-up predictions of a quarter of the size."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(QUERIES, CLASSES + 1, generator=generator)
    masks = 3 * torch.randn(1, QUERIES, 8, 16, generator=generator)
    masks = F.interpolate(masks, (size[0] // 4, size[1] // 4), mode="bicubic")
    return FoundMasks(logits, masks[0], size, size)


def _all_masks(found: FoundMasks, size: Size) -> Tensor:
    masks = F.interpolate(found.masks[None], found.padded_size, mode="bilinear")
    return F.interpolate(masks, size, mode="bilinear")[0]


def _semantic_at_once(found: FoundMasks, size: Size) -> Tensor:
    masks = F.interpolate(found.masks[None], size, mode="bilinear")[0].sigmoid()
    return torch.einsum("qk,qhw->khw", found.logits.softmax(-1)[:, :-1], masks)


def _instances_at_once(found: FoundMasks, size: Size) -> Tensor:
    best = found.logits.softmax(-1)[:, :-1].flatten().topk(TOPK).indices // CLASSES
    masks = _all_masks(found, size)[best]
    inside = masks > 0
    # The score of a mask is read from it, too.
    _ = (masks.sigmoid().flatten(1) * inside.flatten(1)).sum(1)
    return inside


def _panoptic_at_once(found: FoundMasks, size: Size) -> Tensor:
    scores, labels = found.logits.softmax(-1).max(-1)
    kept = (labels < CLASSES) & (scores > OBJECT_THRESH)
    return (scores[kept, None, None] * _all_masks(found, size)[kept].sigmoid()).argmax(0)


WAYS: dict[str, Callable[[FoundMasks, Size], object]] = {
    "semantic, in chunks": lambda found, size: inference.semantic_scores(found, size, False),
    "semantic, at once": _semantic_at_once,
    "instance, in chunks": lambda found, size: inference.instances(found, size, TOPK, 0.0),
    "instance, at once": _instances_at_once,
    "panoptic, in chunks": lambda found, size: inference.panoptic(
        found, size, OBJECT_THRESH, OVERLAP_THRESH, THINGS, inside_only=True
    ),
    "panoptic, at once": _panoptic_at_once,
}


def _measure(name: str, size: Size) -> tuple[float, float]:
    """Return the growth of the peak memory in MiB and the CPU time in seconds."""
    torch.set_num_threads(1)
    found = _found(size)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with torch.no_grad():
        WAYS[name](found, size)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return grown / MIB, time.process_time() - start


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 2048), metavar=("H", "W"))


def _run(arguments: argparse.Namespace) -> None:
    size = arguments.size[0], arguments.size[1]
    print(
        f"{QUERIES} queries, {CLASSES} classes, {size[0]}x{size[1]} (goal: a third of the memory)"
    )
    for name in WAYS:
        # A process of its own: peaks of a process never fall.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            memory, seconds = pool.apply(_measure, (name, size))
        print(f"  {name:22}{memory:8.0f} MiB {seconds:6.2f} s")


register_benchmark("mask_inference", "masks of 100 queries to results", _add_arguments, _run)
