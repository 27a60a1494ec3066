"""Outputs that the cases of all models of the family store, by the names they store them under."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from d2ext.modeling.set_prediction import Matches, SetPredictions, SetTargets
from d2ext.projects.detr.modeling.query_detector import QueryDetector
from detectron2.structures import ImageList

Outputs = Iterator[tuple[str, Tensor]]


def predictions(group: SetPredictions, prefix: str = "") -> Outputs:
    """Yield logits and boxes of every layer, the last one without "aux"."""
    last = len(group.logits) - 1
    for layer in range(last + 1):
        name = f"{prefix}aux{layer}." if layer < last else prefix
        yield f"{name}pred_logits", group.logits[layer]
        yield f"{name}pred_boxes", group.boxes[layer]


def detections(model: QueryDetector, found: SetPredictions, images: ImageList) -> Outputs:
    """Yield scores, labels and boxes per image, ordered by query and class."""
    logits, boxes = found.logits[-1], found.boxes[-1]
    chosen = model.select(logits)
    place = chosen.queries * logits.shape[-1] + chosen.classes
    pairs = model.instances(logits, boxes, images.image_sizes)
    for index, instances in enumerate(pairs):
        order = place[index].argsort()
        yield f"det{index}.topk_index", place[index][order]
        yield f"det{index}.scores_falling", chosen.scores[index]
        yield f"det{index}.scores", instances.scores[order]
        yield f"det{index}.labels", instances.pred_classes[order]
        yield f"det{index}.boxes", instances.pred_boxes.tensor[order]


def matches(pairs: Matches, names: Sequence[str], targets: SetTargets) -> Outputs:
    """Yield the matched queries and targets per layer and image."""
    starts = torch.tensor([0, *targets.counts]).cumsum(0)
    for layer, name in enumerate(names):
        for image in range(len(targets.counts)):
            own = pairs.image == image
            yield f"match.{name}.{image}.query", pairs.query[layer, own]
            yield f"match.{name}.{image}.target", pairs.target[layer, own] - starts[image]


def losses(
    model: QueryDetector, groups: Sequence[SetPredictions], targets: SetTargets
) -> dict[str, Tensor]:
    """Return the unweighted losses by name, and "total", their weighted sum."""
    criterion = model.criterion
    pairs = criterion.match(groups, targets)
    found = criterion.losses(groups, targets, pairs)
    total = torch.stack(list(criterion.weighted(found).values())).sum()
    logged: dict[str, Tensor] = {}
    for group, own in zip(groups, pairs, strict=True):
        for layer, suffix in enumerate(group.layer_names()):
            logged |= _logged(group, own, layer, suffix, targets)
    return found | logged | {"total": total}


def _logged(
    group: SetPredictions, pairs: Matches, layer: int, suffix: str, targets: SetTargets
) -> dict[str, Tensor]:
    """Return what the authors log and do not train: errors of classes and counts, parts of L1."""
    logits = group.logits[layer].detach()
    own = pairs.image, pairs.query[layer]
    right = logits[own].argmax(-1) == targets.classes[pairs.target[layer]]
    found = (logits.argmax(-1) != logits.shape[-1] - 1).sum(1)
    apart = (group.boxes[layer].detach()[own] - targets.boxes[pairs.target[layer]]).abs()
    divisor = max(len(targets.boxes), 1) * group.repeats
    counts = found.new_tensor(targets.counts)
    return {
        f"class_error{suffix}": 100 - 100 * right.float().mean(),
        f"cardinality_error{suffix}": (found - counts).abs().float().mean(),
        f"loss_xy{suffix}": apart[:, :2].sum() / divisor,
        f"loss_hw{suffix}": apart[:, 2:].sum() / divisor,
    }


def gradients(total: Tensor, parameters: dict[str, Tensor]) -> Outputs:
    """Yield the gradients of the total loss by the authors' names, and their 2-norm."""
    total.backward()
    grads = {name: each.grad for name, each in parameters.items() if each.grad is not None}
    unique = {id(grad): grad for grad in grads.values()}.values()
    yield from ((f"grad.{name}", grad) for name, grad in grads.items())
    yield "grad.total_norm", torch.stack([grad.norm() for grad in unique]).norm()
