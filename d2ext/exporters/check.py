"""Comparison of an exported file with the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from d2ext.errors import UserError
from d2ext.exporters.exported_module import Detections, ExportedModule
from d2ext.exporters.onnx_session import Run
from detectron2.structures import Instances

Detect = Callable[[np.ndarray], Instances]

BOX_TOLERANCE = 0.05  # pixels
SCORE_TOLERANCE = 1e-4
RAW_TOLERANCE = 1e-3  # of raw outputs, relative to the largest value
# Of masks and heat maps: relative to the largest value, or the share of pixels that differ.
REGION_TOLERANCE = 1e-2
FEW_PIXELS = 500  # in smaller masks a pixel at the threshold would be a large share

# Further outputs of detections, and the fields of the model's that hold the same.
REGION_FIELDS = {"masks": "pred_masks", "keypoint_heatmaps": "pred_keypoint_heatmaps"}


class ExportError(UserError):
    """The outputs of an exported file differ from those of the model."""


@dataclass
class Difference:
    """The largest differences between a file and the model.

    Attributes:
        text: what was compared, and the differences.
        fault: what is beyond the tolerance; "" if nothing is.
        count: detections or tensors that were compared.
    """

    text: str
    fault: str = ""
    count: int = 0


@torch.no_grad()
def compare(
    run: Run, module: ExportedModule, batches: Sequence[Tensor], factor: float = 1.0
) -> list[Difference]:
    """Run the file and the model on each batch of (B, 3, H, W) pixels.

    Args:
        factor: what the tolerances are multiplied by.
    """
    found = []
    for images in batches:
        given = run(images)
        if isinstance(module, Detections):
            names = module.output_names[3:]
            found.append(compare_detections(given, module.exporter.detect(images), names, factor))
        else:
            found.append(compare_tensors(module.output_names, given, module(images), factor))
        size = " x ".join(map(str, images.shape))
        found[-1].text = f"{size}: {found[-1].text}"
    return found


@torch.no_grad()
def compare_pipelines(
    given: Detect, expected: Detect, images: Sequence[np.ndarray], factor: float = 1.0
) -> list[Difference]:
    """Compare the boxes of whole images, resizing and padding included.

    Args:
        given: the file, fed as its metadata say.
        expected: the model as `tools/demo.py` calls it.
        images: (H, W, 3) RGB uint8.
        factor: what the tolerances are multiplied by.
    """
    found: list[Difference] = []
    for image in images:
        own, wanted = given(image), expected(image)
        batch = own.pred_boxes.tensor[None], own.scores[None], own.pred_classes[None]
        found.append(compare_detections(batch, [wanted], factor=factor))
        height, width = image.shape[:2]
        found[-1].text = f"image of {height} x {width} pixels: {found[-1].text}"
    return found


def compare_tensors(
    names: Sequence[str],
    given: Sequence[Tensor],
    expected: Sequence[Tensor],
    factor: float = 1.0,
) -> Difference:
    """Compare outputs of the same shapes, number by number."""
    parts, faults = [], []
    for name, own, wanted in zip(names, given, expected, strict=True):
        if own.shape != wanted.shape:
            faults.append(f"{name} is {tuple(own.shape)}, not {tuple(wanted.shape)}")
            continue
        largest = float((own - wanted).abs().max()) if wanted.numel() else 0.0
        parts.append(f"{name} {largest:.1e}")
        if not largest <= factor * RAW_TOLERANCE * max(1.0, float(wanted.abs().max())):
            faults.append(f"{name} differs by {largest:.3g}")
    text = f"largest differences: {', '.join(parts)}"
    return Difference(text, "; ".join(faults), len(parts))


def compare_detections(
    given: Sequence[Tensor],
    expected: Sequence[Instances],
    regions: Sequence[str] = (),
    factor: float = 1.0,
) -> Difference:
    """Compare every detection of the model with the nearest one of its class in the file's.

    Args:
        given: boxes, scores, classes, and what `regions` names, all (B, N, ...).
        regions: names of `REGION_FIELDS`.
    """
    largest = dict.fromkeys(("boxes", "scores", *regions), 0.0)
    count = missing = 0
    for own, wanted in zip(zip(*given, strict=True), expected, strict=True):
        for row in range(len(wanted)):
            apart = _differences(own, wanted[row], regions)
            count += 1
            if all(apart[name] <= factor * _TOLERANCES[name] for name in apart):
                largest = {name: max(largest[name], apart[name]) for name in apart}
            else:
                missing += 1
        missing += max(0, int((own[1] > 0).sum()) - len(wanted))
    text = f"{count} detections, " + ", ".join(
        f"{name} within {value:.1e}{' pixels' if name == 'boxes' else ''}"
        for name, value in largest.items()
    )
    if not (count or missing):
        text = "0 detections, no box was compared"
    if missing <= 0.01 * count:  # equal scores and IoUs at the threshold may go either way
        return Difference(text + (f", {missing} missing or extra" if missing else ""), "", count)
    within = f"{factor * BOX_TOLERANCE:g} pixels and a score of {factor * SCORE_TOLERANCE:g}"
    if regions:
        within += f", with {' and '.join(regions)} within {factor * REGION_TOLERANCE:g}"
    fault = f"{missing} of {count} detections have no counterpart within {within}"
    return Difference(text, fault, count)


_TOLERANCES = {"boxes": BOX_TOLERANCE, "scores": SCORE_TOLERANCE} | dict.fromkeys(
    REGION_FIELDS, REGION_TOLERANCE
)


def _differences(
    own: Sequence[Tensor], wanted: Instances, regions: Sequence[str]
) -> dict[str, float]:
    """Return the differences of one detection from the nearest of its class, by output.

    Args:
        own: the file's outputs for the image, (N, ...) each.
        wanted: one detection of the model.
    """
    if not len(own[0]):
        return dict.fromkeys(("boxes", "scores", *regions), torch.inf)
    apart = (own[0] - wanted.pred_boxes.tensor).abs().amax(1)
    apart = apart.where(own[2] == wanted.pred_classes, torch.inf)
    by_score = (own[1] - wanted.scores).abs()
    nearest = int((apart / BOX_TOLERANCE + by_score / SCORE_TOLERANCE).argmin())
    found = {"boxes": float(apart[nearest]), "scores": float(by_score[nearest])}
    for name, values in zip(regions, own[3:], strict=True):
        expected = wanted.get(REGION_FIELDS[name])
        found[name] = _region_difference(values[nearest].view(expected.shape), expected)
    return found


def _region_difference(own: Tensor, wanted: Tensor) -> float:
    if wanted.dtype == torch.bool:
        return float((own ^ wanted).sum() / max(FEW_PIXELS, int((own | wanted).sum())))
    return float((own - wanted).abs().max() / max(1.0, float(wanted.abs().max())))
