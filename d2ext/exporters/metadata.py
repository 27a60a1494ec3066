"""The metadata of an exported file, stored in it as JSON: how to prepare images, what comes out."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from d2ext.data.augmentation.resize import LETTERBOX, SHORTEST_EDGE
from d2ext.exporters.exporter import Exporter
from detectron2.config import CfgNode


@dataclass(frozen=True)
class Metadata:
    """How to feed a file and read its outputs.

    Attributes:
        model: the meta-architecture.
        classes: names; empty if they are not known.
        channel_order: "BGR", "RGB" or "L" (one channel) of the input, whose values are 0..255 and
            normalised inside.
        resize: how images are resized to the input: "shortest_edge", "stretch" or "letterbox".
        size: height and width of the input in pixels; None for any multiples of `stride`.
        frame: height and width that images are stretched to or fitted in, in pixels; None with
            "shortest_edge".
        shortest, longest: with "shortest_edge", the wanted shorter and the largest longer side.
        stride: height and width are multiples of this; 1 where the file pads them itself.
        clip: boxes are clipped to the image.
        padding: pixel value per channel of the padding on the right and bottom.
        nms: "inside" if the outputs are detections, by NMS or as the model selects; or "none".
        decode: "inside" if the outputs are decoded boxes, or "none".
        paste: "inside" if masks cover the image, or "none" if they cover their boxes.
        outputs: names of the outputs.
    """

    model: str
    classes: list[str]
    channel_order: str
    resize: str
    size: list[int] | None
    frame: list[int] | None
    shortest: int
    longest: int
    stride: int
    clip: bool
    padding: list[float]
    nms: str
    decode: str
    paste: str
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
    """Collect the metadata of an export.

    Args:
        size: (height, width), if they are fixed.
    """
    resize = cfg.INPUT.get("RESIZE", SHORTEST_EDGE)
    resize = LETTERBOX if size and resize == SHORTEST_EDGE else resize
    frame = None if resize == SHORTEST_EDGE else list(size or cfg.INPUT.SIZE[::-1])
    mean, std = cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD
    shift = getattr(exporter.model, "pad_value", 0.0)
    return Metadata(
        model=type(exporter.model).__name__,
        classes=list(classes),
        channel_order=cfg.INPUT.FORMAT,
        resize=resize,
        size=list(size) if size else None,
        frame=frame,
        shortest=cfg.INPUT.MIN_SIZE_TEST,
        longest=cfg.INPUT.MAX_SIZE_TEST,
        stride=exporter.multiple,
        clip=exporter.clip,
        padding=[m + shift * s for m, s in zip(mean, std, strict=True)],
        nms=nms,
        decode=decode,
        paste="inside" if exporter.paste else "none",
        outputs=list(outputs),
    )
