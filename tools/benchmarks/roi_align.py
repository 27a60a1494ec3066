"""RoI align compared with torchvision's, and rotated RoI align with Detectron2's."""

from collections.abc import Iterator

import torch
import torchvision
from torch import Tensor

from benchmarks.measure import Problem
from benchmarks.problems import register_problems
from d2ext._detectron2 import provider
from d2ext.ops import reference, roi_align, roi_align_rotated

# Proposals that Detectron2 trains a box head with per image, on the finest level of an FPN.
ROIS, CHANNELS, HEIGHT, WIDTH, SCALE = 512, 256, 200, 304, 1 / 4  # of an 800x1216 image
SIDES = (16, 160)  # of the regions, in pixels of the image


def rotated_problems(device: torch.device, dtype: torch.dtype) -> Iterator[Problem]:
    """Yield the pooling of a box head, with a fixed and with an adaptive number of samples."""
    # The bundled detectron2 calls d2ext's own operator, so there the reference is the peer.
    official = provider() == "official"
    peer, way = ("detectron2", _detectron2_way) if official else ("reference", _reference_way)
    for ratio in (2, 0):
        yield Problem(
            title=f"roi_align_rotated, {ROIS} boxes, 7x7, sampling_ratio {ratio}",
            inputs=[_maps(device, dtype), _boxes(device), 7, ratio],
            ways={"d2ext": _rotated_way, peer: way},
            peer=peer,
            goals=(3, 3),
        )


def upright_problems(device: torch.device, dtype: torch.dtype) -> Iterator[Problem]:
    """Yield the pooling of a box head and of a mask head, with both kinds of sampling ratio."""
    for size in (7, 14):
        for ratio in (2, 0):
            yield Problem(
                title=f"roi_align, {ROIS} boxes, {size}x{size}, sampling_ratio {ratio}",
                inputs=[_maps(device, dtype), _boxes(device), size, ratio],
                ways={"d2ext": _upright_way, "torchvision": _torchvision_way},
                peer="torchvision",
            )


def _maps(device: torch.device, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(1, CHANNELS, HEIGHT, WIDTH, generator=generator)
    return maps.to(device, dtype).requires_grad_()


def _boxes(device: torch.device) -> Tensor:
    """Return (K, 6) random regions: image, XYWHA."""
    generator = torch.Generator().manual_seed(1)
    image = torch.zeros(ROIS, 1)
    centers = torch.rand(ROIS, 2, generator=generator) * torch.tensor([WIDTH, HEIGHT]) / SCALE
    sides = torch.rand(ROIS, 2, generator=generator) * (SIDES[1] - SIDES[0]) + SIDES[0]
    angles = torch.rand(ROIS, 1, generator=generator) * 360 - 180
    return torch.cat((image, centers, sides, angles), dim=1).to(device)


def _corners(boxes: Tensor) -> Tensor:
    """Convert to (K, 5) upright regions, image and XYXY, dropping the angle."""
    image, centers, sides = boxes[:, :1], boxes[:, 1:3], boxes[:, 3:5]
    return torch.cat((image, centers - sides / 2, centers + sides / 2), dim=1)


def _rotated_way(maps: Tensor, boxes: Tensor, size: int, ratio: int) -> Tensor:
    return roi_align_rotated(maps, boxes, size, SCALE, ratio)


def _detectron2_way(maps: Tensor, boxes: Tensor, size: int, ratio: int) -> Tensor:
    from detectron2.layers.roi_align_rotated import roi_align_rotated

    # It does not support half types.
    wide = torch.float64 if maps.dtype == torch.float64 else torch.float32
    output = roi_align_rotated(maps.to(wide), boxes.to(wide), (size, size), SCALE, ratio)
    return output.to(maps.dtype)


def _reference_way(maps: Tensor, boxes: Tensor, size: int, ratio: int) -> Tensor:
    return reference.roi_align(maps, boxes, SCALE, size, size, ratio)


def _upright_way(maps: Tensor, boxes: Tensor, size: int, ratio: int) -> Tensor:
    return roi_align(maps, _corners(boxes), size, SCALE, ratio, True)


def _torchvision_way(maps: Tensor, boxes: Tensor, size: int, ratio: int) -> Tensor:
    # It does not support bfloat16.
    wide = torch.float32 if maps.dtype == torch.bfloat16 else maps.dtype
    rois = _corners(boxes).to(wide)
    output = torchvision.ops.roi_align(maps.to(wide), rois, size, SCALE, ratio, True)
    return output.to(maps.dtype)


register_problems("ops", "roi_align", upright_problems)
register_problems("ops", "roi_align_rotated", rotated_problems)
