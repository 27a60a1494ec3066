"""From the masks of 100 queries to results: in chunks, compared with all masks at once."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import Problem
from benchmarks.problems import register_problems
from d2ext.projects.maskformer.modeling import inference
from d2ext.projects.maskformer.modeling.inference import FoundMasks

QUERIES, CLASSES, TOPK = 100, 19, 100
SIZE = (1024, 2048)
OBJECT_THRESH, OVERLAP_THRESH = 0.8, 0.8
THINGS = frozenset(range(11, CLASSES))
PEER = "all masks at once"

Way = Callable[[FoundMasks], Tensor]


def problems(device: torch.device, dtype: torch.dtype) -> Iterator[Problem]:
    """Yield semantic, instance and panoptic inference on one image of Cityscapes' size."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(QUERIES, CLASSES + 1, generator=generator)
    masks = 3 * torch.randn(1, QUERIES, 8, 16, generator=generator)
    masks = F.interpolate(masks, (SIZE[0] // 4, SIZE[1] // 4), mode="bicubic")[0]
    for task, (ours, theirs) in WAYS.items():
        yield Problem(
            title=f"{task} masks of {QUERIES} queries, {CLASSES} classes, {SIZE[0]}x{SIZE[1]}, "
            "memory at most a third",
            inputs=[logits.to(device), masks.to(device, dtype)],
            ways={"d2ext": _of_tensors(ours), PEER: _of_tensors(theirs)},
            peer=PEER,
        )


def _of_tensors(way: Way) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda logits, masks: way(FoundMasks(logits, masks, SIZE, SIZE))


def _all_masks(found: FoundMasks) -> Tensor:
    masks = F.interpolate(found.masks[None].float(), found.padded_size, mode="bilinear")
    return F.interpolate(masks, SIZE, mode="bilinear")[0]


def _semantic(found: FoundMasks) -> Tensor:
    return inference.semantic_scores(found, SIZE, resize_first=False)


def _semantic_at_once(found: FoundMasks) -> Tensor:
    masks = F.interpolate(found.masks[None].float(), SIZE, mode="bilinear")[0].sigmoid()
    return torch.einsum("qk,qhw->khw", found.logits.softmax(-1)[:, :-1], masks)


def _instances(found: FoundMasks) -> Tensor:
    return inference.instances(found, SIZE, TOPK, score_thresh=0.0).pred_masks


def _instances_at_once(found: FoundMasks) -> Tensor:
    best = found.logits.softmax(-1)[:, :-1].flatten().topk(TOPK).indices // CLASSES
    masks = _all_masks(found)[best]
    inside = masks > 0
    # The score of a mask is read from it, too.
    _ = (masks.sigmoid().flatten(1) * inside.flatten(1)).sum(1)
    return inside


def _panoptic(found: FoundMasks) -> Tensor:
    thresholds = OBJECT_THRESH, OVERLAP_THRESH
    return inference.panoptic(found, SIZE, *thresholds, THINGS, inside_only=True)[0]


def _panoptic_at_once(found: FoundMasks) -> Tensor:
    scores, labels = found.logits.softmax(-1).max(-1)
    kept = (labels < CLASSES) & (scores > OBJECT_THRESH)
    return (scores[kept, None, None] * _all_masks(found)[kept].sigmoid()).argmax(0)


WAYS: dict[str, tuple[Way, Way]] = {
    "semantic": (_semantic, _semantic_at_once),
    "instance": (_instances, _instances_at_once),
    "panoptic": (_panoptic, _panoptic_at_once),
}
register_problems("models", "mask_inference", problems)
