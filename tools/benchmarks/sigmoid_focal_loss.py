"""Sigmoid focal loss compared with fvcore's and torchvision's."""

from collections.abc import Callable, Iterator
from functools import partial

import fvcore.nn
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from benchmarks.measure import Problem
from benchmarks.problems import register_problems
from d2ext.ops import sigmoid_focal_loss

ANCHORS, CLASSES = 134400, 80  # six images of 800x1344, one anchor per location
OPTIONS = {"alpha": 0.25, "gamma": 2.0, "reduction": "sum"}


def problems(device: torch.device, dtype: torch.dtype) -> Iterator[Problem]:
    """Yield one problem, with one positive in a hundred anchors."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(ANCHORS, CLASSES, generator=generator).to(device, dtype)
    classes = torch.full((ANCHORS,), CLASSES)
    classes[::100] = torch.randint(CLASSES, classes[::100].shape, generator=generator)
    one_hot = F.one_hot(classes, CLASSES + 1)[:, :-1].to(device, dtype)

    def ours_by_class(inputs: Tensor, targets: Tensor, classes: Tensor) -> Tensor:
        return sigmoid_focal_loss(inputs, classes, **OPTIONS)

    yield Problem(
        title=f"sigmoid_focal_loss, {ANCHORS}x{CLASSES}",
        inputs=[logits.requires_grad_(), one_hot, classes.to(device)],
        ways={
            "d2ext": partial(_of_one_hot, sigmoid_focal_loss),
            "d2ext, by class": ours_by_class,
            "fvcore": partial(_of_one_hot, fvcore.nn.sigmoid_focal_loss),
            "torchvision": partial(_of_one_hot, torchvision.ops.sigmoid_focal_loss),
        },
        peer="fvcore",
        goals=(3, 3),
    )


def _of_one_hot(
    function: Callable[..., Tensor], inputs: Tensor, targets: Tensor, classes: Tensor
) -> Tensor:
    return function(inputs, targets, **OPTIONS)


register_problems("ops", "sigmoid_focal_loss", problems)
