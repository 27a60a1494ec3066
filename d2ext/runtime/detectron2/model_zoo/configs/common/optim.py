"""Optimizers; a training script fills in the model under `params`."""

import torch

from detectron2.config import LazyCall
from detectron2.solver import get_default_optimizer_params

_params = LazyCall(get_default_optimizer_params)

SGD = LazyCall(torch.optim.SGD)(
    params=_params(weight_decay_norm=0.0), lr=0.02, momentum=0.9, weight_decay=1e-4
)

AdamW = LazyCall(torch.optim.AdamW)(
    params=_params(base_lr="${..lr}", weight_decay_norm=0.0),
    lr=1e-4,
    betas=(0.9, 0.999),
    weight_decay=0.1,
)
