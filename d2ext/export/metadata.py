"""What a program that runs an exported file has to know, stored in the file as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from d2ext.export.exporter import Exporter
from detectron2.config import CfgNode

LETTERBOX = "letterbox"  # the largest size that fits in, its proportions kept


@dataclass(frozen=True)
class Metadata:
    """How to feed a file and read what it gives.

    Attributes:
        model: the meta-architecture.
        classes: names; empty if they are not known.
        channel_order: of the input, "BGR" or "RGB"; its values are 0..255, normalised inside.
        resize: how images come to the input's size: "shortest_edge", "stretch" or "letterbox".
        size: height and width of the input in pixels, or None: any multiples of `stride`.
        shortest, longest: with "shortest_edge", the wanted shorter and the largest longer side.
        stride: height and width are multiples of this.
        smallest: least height and width where they are free.
        clip: whether boxes end at the border of the image.
        padding: value of each channel for what is added on the right and bottom.
        nms, decode: whether they are "inside" or not, "none".
        outputs: their names.
    """

    model: str
    classes: list[str]
    channel_order: str
    resize: str
    size: list[int] | None
    shortest: int
    longest: int
    stride: int
    smallest: int
    clip: bool
    padding: list[float]
    nms: str
    decode: str
    outputs: list[str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def describe(
    cfg: CfgNode,
    exporter: Exporter,
    classes: Sequence[str],
    size: tuple[int, int] | None,
    nms: str,
    decode: str,
    outputs: Sequence[str],
) -> Metadata:
    """The metadata of an export.

    Args:
        size: height and width, if they are fixed.
    """
    resize = cfg.INPUT.get("RESIZE", "shortest_edge")
    mean, std = cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD
    shift = getattr(exporter.model, "pad_value", 0.0)
    return Metadata(
        model=type(exporter.model).__name__,
        classes=list(classes),
        channel_order=cfg.INPUT.FORMAT,
        resize=LETTERBOX if size and resize == "shortest_edge" else resize,
        size=list(size) if size else None,
        shortest=cfg.INPUT.MIN_SIZE_TEST,
        longest=cfg.INPUT.MAX_SIZE_TEST,
        stride=exporter.stride,
        smallest=exporter.smallest,
        clip=exporter.clip,
        padding=[m + shift * s for m, s in zip(mean, std, strict=True)],
        nms=nms,
        decode=decode,
        outputs=list(outputs),
    )
