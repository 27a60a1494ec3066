"""The layout of a published checkpoint: how a code base names its parameters."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

Weights = Mapping[str, Tensor]

IMAGENET_RGB = (
    "INPUT.FORMAT RGB, MODEL.PIXEL_MEAN [123.675, 116.28, 103.53], "
    "MODEL.PIXEL_STD [58.395, 57.12, 57.375]"
)

Renaming = tuple[str, str | Callable[[re.Match[str]], str]]


@dataclass(frozen=True)
class Layout:
    """The parameter names of one code base, and how they become those of d2ext and Detectron2.

    Args:
        name: for messages.
        recognise: returns True if a state dict, by its names, has this layout.
        renamings: (regular expression, replacement) pairs, applied in this order.
        unused: regular expressions that fully match names without a counterpart in our models.
        bare: the file holds a backbone alone; its names get the prefix that the backbone has in
            the model.
        computed: returns tensors that the names of the file imply, by our names.
        expects: config values that the weights were trained with, for messages.
        architecture: the only MODEL.META_ARCHITECTURE that such weights are for; "" for any.
        select_rows: takes our name, a tensor and the shape that the model has; returns the rows
            that fit the model, or the tensor itself.
    """

    name: str
    recognise: Callable[[Weights], bool]
    renamings: tuple[Renaming, ...] = ()
    unused: tuple[str, ...] = ()
    bare: bool = False
    computed: Callable[[Weights], dict[str, Tensor]] = lambda weights: {}
    expects: str = ""
    architecture: str = ""
    select_rows: Callable[[str, Tensor, Sequence[int]], Tensor] = lambda name, tensor, shape: tensor

    def rename(self, name: str) -> str:
        """Return our name of the parameter that the layout calls `name`."""
        for pattern, replacement in self.renamings:
            name = re.sub(pattern, replacement, name)
        return name

    def leaves_out(self, name: str) -> bool:
        """Return True if no model of ours has a parameter for `name`."""
        return any(re.fullmatch(pattern, name) for pattern in self.unused)


_LAYOUTS: list[Layout] = []


def register_layout(layout: Layout) -> Layout:
    """Make a layout known to `MODEL.WEIGHTS` and tools/convert_weights.py; return it.

    The last one registered is tried first, so that a project's layout wins over those of d2ext
    whose names it shares. A project registers its layouts when it is imported;
    tools/convert_weights.py imports all projects.
    """
    _LAYOUTS.insert(0, layout)
    return layout


def registered_layouts() -> tuple[Layout, ...]:
    """Return all layouts in the order in which they are tried."""
    return tuple(_LAYOUTS)


def has(weights: Weights, *patterns: str) -> bool:
    """Return True if each pattern fully matches some name."""
    return all(any(re.fullmatch(pattern, name) for name in weights) for pattern in patterns)
