"""The `nn.Module` that is exported: images in, a tuple of tensors out."""

import torch
from torch import Tensor, nn

from d2ext.errors import ConfigError
from d2ext.exporters.exporter import Exporter, MaskExporter

WHERE = ("inside", "none")


def build_exported_module(
    exporter: Exporter, nms: str, decode: str, for_onnx: bool, paste: str = "none"
) -> "ExportedModule":
    """Build the module that ends with detections, with candidates or at the head.

    Args:
        nms: "inside" if the module selects the detections, by NMS or as the model does, or "none".
        decode: "inside" if the module decodes boxes, or "none".
        for_onnx: use operators that `d2ext.exporters.onnx_file` translates.
        paste: "inside" if masks are to cover the image, or "none" if they cover their boxes.
    Raises:
        ConfigError: NMS is wanted without decoding, or masks of a model that has none.
    """
    exporter.for_onnx, exporter.paste = for_onnx, paste == "inside"
    exporter.check_outputs()
    if isinstance(exporter, MaskExporter):
        return MaskOutputs(exporter)
    if decode == "none" and nms == "inside":
        raise ConfigError("--decode none leaves nothing for NMS: give --nms none with it.")
    if decode == "none":
        return RawOutputs(exporter)
    return Candidates(exporter) if nms == "none" else Detections(exporter)


class ExportedModule(nn.Module):
    """`forward` takes (B, 3, H, W) float32 pixels in 0..255, in the model's order of channels."""

    def __init__(self, exporter: Exporter) -> None:
        super().__init__()
        self.exporter = exporter

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs; known after a call where they are the model's own."""
        raise NotImplementedError


class RawOutputs(ExportedModule):
    """The raw outputs of the head over all levels, with the exporter's names and shapes."""

    output_names: tuple[str, ...] = ()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        raw = self.exporter.head(self.exporter.normalize(images))
        self.output_names = tuple(raw)
        return tuple(_over_levels(name, levels) for name, levels in raw.items())


def _over_levels(name: str, levels: list[Tensor]) -> Tensor:
    """Concatenate the levels along their cells."""
    if name in ("anchors", "locations"):  # (A, ...), the same for all images
        return torch.cat(levels)
    if levels[0].ndim == 4:  # (B, C, H, W)
        return torch.cat([level.flatten(2) for level in levels], dim=2)
    return torch.cat(levels, dim=1)


class MaskOutputs(ExportedModule):
    """The outputs of a model of masks or pixels, with the exporter's names and shapes."""

    output_names: tuple[str, ...] = ()
    exporter: MaskExporter

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        images = self.exporter.normalize(images)
        if not self.exporter.pads:
            # Pads nothing, but tells torch.export that sides are multiples: sizes of feature maps
            # are long expressions otherwise.
            images = self.exporter.pad(images)
        found = self.exporter.outputs(images)
        self.output_names = tuple(found)
        return tuple(found.values())


class Candidates(ExportedModule):
    """Boxes (B, A, 4) XYXY in pixels of all cells or queries, and scores (B, A, classes)."""

    output_names = ("boxes", "scores")

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        levels = self.exporter.decode(self.exporter.head(self.exporter.normalize(images)))
        return torch.cat(levels.boxes, dim=1), torch.cat(levels.scores, dim=1)


class Detections(ExportedModule):
    """The best N detections; see `Exporter.detections`."""

    output_names: tuple[str, ...] = ()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found = self.exporter.detections(images)
        self.output_names = tuple(found)
        return tuple(found.values())
