"""Made-up weights and images for tests that compare numbers."""

import torch
from torch import Tensor, nn

from d2ext.parity import recipe


def fill(model: nn.Module, skip: tuple[str, ...] = ()) -> None:
    """Fill every float entry of the state with a function of its name and shape.

    Args:
        skip: prefixes of names that are left alone.
    """
    entries = [
        (name, value.shape, str(value.dtype).removeprefix("torch."))
        for name, value in model.state_dict().items()
        if not name.startswith(skip or ("\0",))
    ]
    found = model.load_state_dict(recipe.fill_state_dict(entries), strict=False)
    assert not found.unexpected_keys


def image(seed: int, height: int, width: int) -> Tensor:
    """(3, height, width) float32 in 0..255."""
    return torch.from_numpy(recipe.image(seed, height, width)).permute(2, 0, 1).float()
