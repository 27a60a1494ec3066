"""Two-stage Deformable DETR compared with the same modules on `grid_sample` and a plain matcher.

The peer samples each feature level by one `grid_sample` call, and matches layer after layer with
costs between the queries and the objects of all images, as the published code does.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from benchmarks.measure import Problem
from benchmarks.models import run_detector
from benchmarks.ms_deform_attn import by_grid_sample
from benchmarks.problems import register_problems
from d2ext.config import load_config
from d2ext.modeling.losses.boxes import cxcywh_to_xyxy, generalized_iou
from d2ext.modeling.matching.hungarian import HungarianMatcher
from d2ext.modeling.set_prediction import Matches, SetPredictions, SetTargets
from detectron2.modeling import build_model

CONFIG = Path(__file__).parents[2] / "projects/detr/configs/coco/deformable_detr_r50_two_stage.yaml"
SIZE = (800, 1216)
PEER = "grid_sample, layer by layer"


def problems(device: torch.device, dtype: torch.dtype) -> Iterator[Problem]:
    """Yield the model on one image of the published size."""
    yield problem(SIZE, device, dtype, (2, 2))


def problem(
    size: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
    goals: tuple[float | None, float | None] = (None, None),
    options: Sequence[str] = (),
) -> Problem:
    """Build a problem of one image of `size`: forward is inference, with backward is training."""
    cfg = load_config(CONFIG, ["MODEL.DEVICE", device.type, *options])
    model = build_model(cfg)
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)

    def ours(image: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return run_detector(model, image)

    def theirs(image: Tensor) -> Tensor:
        attention = mock.patch("d2ext.layers.ms_deform_attn.ms_deform_attn", by_grid_sample)
        with attention, mock.patch.object(HungarianMatcher, "__call__", match_over_the_batch):
            return ours(image)

    return Problem(
        title=f"{CONFIG.stem}, {size[0]}x{size[1]}, memory at most 60 %",
        inputs=[image],
        ways={"d2ext": ours, PEER: theirs},
        peer=PEER,
        goals=goals,
        leaves=[parameter for parameter in model.parameters() if parameter.requires_grad],
    )


@torch.no_grad()
def match_over_the_batch(
    matcher: HungarianMatcher, predictions: Sequence[SetPredictions], targets: SetTargets
) -> list[Matches]:
    """Match each layer by itself with the costs of all queries of the batch with all objects."""
    return [_match(matcher, each, targets) for each in predictions]


def _match(matcher: HungarianMatcher, group: SetPredictions, targets: SetTargets) -> Matches:
    classes = torch.zeros_like(targets.classes) if group.class_agnostic else targets.classes
    layers = [
        _match_layer(_batch_cost(matcher, logits, boxes, classes, targets.boxes), targets.counts)
        for logits, boxes in zip(group.logits, group.boxes, strict=True)
    ]
    image, query, target = torch.stack(layers, dim=1).to(targets.boxes.device)
    return Matches(image[0], query, target)


def _match_layer(cost: Tensor, counts: list[int]) -> Tensor:
    """Return the image, query and target of each pair: (3, M)."""
    pairs, start = [], 0
    for image, part in enumerate(cost.cpu().split(counts, dim=-1)):
        query, target = map(torch.from_numpy, linear_sum_assignment(part[image]))
        pairs.append(torch.stack((torch.full_like(query, image), query, target + start)))
        start += counts[image]
    return torch.cat(pairs, dim=1)


def _batch_cost(
    matcher: HungarianMatcher, logits: Tensor, boxes: Tensor, classes: Tensor, objects: Tensor
) -> Tensor:
    """Compute the cost of (B, Q) queries with all T objects of the batch: (B, Q, T)."""
    score, flat = logits.float().flatten(0, 1).sigmoid(), boxes.float().flatten(0, 1)
    alpha, gamma = matcher.focal_alpha, matcher.focal_gamma
    positive = alpha * (1 - score) ** gamma * -(score + 1e-8).log()
    negative = (1 - alpha) * score**gamma * -(1 - score + 1e-8).log()
    giou = generalized_iou(cxcywh_to_xyxy(flat)[:, None], cxcywh_to_xyxy(objects))
    cost = (
        matcher.class_weight * (positive - negative)[:, classes]
        + matcher.l1_weight * torch.cdist(flat, objects, p=1)
        - matcher.giou_weight * giou
    )
    return cost.view(*logits.shape[:2], -1)


register_problems("models", "deformable_detr", problems)
