"""How a code base names the weights that it publishes."""

import re
from collections.abc import Callable, Mapping
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
    """One code base's names, and what d2ext and Detectron2 call the same.

    Args:
        name: for messages.
        recognise: whether a file's tensors, by their names, are of this layout.
        renamings: regular expressions and what takes the place of each find, in this order.
        unused: regular expressions that fully match names no model of ours has.
        bare: the file is of a backbone alone; in a model it goes where that has its backbone.
        computed: tensors that the names of the file imply, by our names.
        expects: config values that the weights were trained with.
    """

    name: str
    recognise: Callable[[Weights], bool]
    renamings: tuple[Renaming, ...] = ()
    unused: tuple[str, ...] = ()
    bare: bool = False
    computed: Callable[[Weights], dict[str, Tensor]] = lambda weights: {}
    expects: str = ""

    def rename(self, name: str) -> str:
        """Our name of what the layout calls `name`."""
        for pattern, replacement in self.renamings:
            name = re.sub(pattern, replacement, name)
        return name

    def leaves_out(self, name: str) -> bool:
        """No model of ours has a place for `name`."""
        return any(re.fullmatch(pattern, name) for pattern in self.unused)


def has(weights: Weights, *patterns: str) -> bool:
    """Each pattern fully matches some name."""
    return all(any(re.fullmatch(pattern, name) for name in weights) for pattern in patterns)
