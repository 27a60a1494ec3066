"""Exponential moving average (EMA) of a model's weights.

Source: Polyak and Juditsky, 1992; the ramp of the decay as in TensorFlow's
ExponentialMovingAverage: min(decay, (1 + n) / (10 + n)) after n updates.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from d2ext.text import first_few


class WeightAverage:
    """The moving average of parameters and floating-point buffers; other buffers are copied.

    Args:
        model: not wrapped in DistributedDataParallel.
        decay: weight of the past per update, reached after a ramp.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self.updates = 0
        self.weights: dict[str, Tensor] = {}
        self.restart()

    def restart(self) -> None:
        """Reset the average to the model's current weights."""
        self.updates = 0
        # state_dict() returns views of the weights, which training changes.
        self.weights = {name: value.clone() for name, value in self.model.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Update the average with the model's current weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1 - decay)
            else:
                self.weights[name].copy_(value)  # counters, such as num_batches_tracked

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """Swap the average into the model within the context."""
        own = {name: value.clone() for name, value in self.model.state_dict().items()}
        self._write(self.weights)
        try:
            yield
        finally:
            self._write(own)

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "weights": self.weights}

    def state_differences(self, state: dict[str, Any]) -> list[str]:
        """List in words why `load_state_dict` cannot load a state."""
        saved = {name: value.shape for name, value in state["weights"].items()}
        own = {name: value.shape for name, value in self.weights.items()}
        odd = [name for name in {**own, **saved} if own.get(name) != saved.get(name)]
        return [f"its EMA differs from the model in {first_few(odd)}"] if odd else []

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.updates = state_dict["updates"]
        for name, value in state_dict["weights"].items():
            self.weights[name].copy_(value)

    @torch.no_grad()
    def _write(self, weights: dict[str, Tensor]) -> None:
        for name, value in self.model.state_dict().items():
            value.copy_(weights[name])
