"""Comparison of an exported file with the model."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from d2ext.errors import UserError
from d2ext.export.exported_module import Detections, ExportedModule
from d2ext.export.formats import Run
from detectron2.structures import Instances

BOX_TOLERANCE = 0.05  # pixels
SCORE_TOLERANCE = 1e-4
RAW_TOLERANCE = 1e-3  # of raw outputs, relative to the largest value


class ExportError(UserError):
    """The outputs of an exported file differ from those of the model."""


@dataclass
class Difference:
    """The largest differences between a file and the model.

    Attributes:
        text: what was compared, and the differences.
        fault: what is beyond the tolerance; "" if nothing is.
    """

    text: str
    fault: str = ""


@torch.no_grad()
def compare(run: Run, module: ExportedModule, batches: Sequence[Tensor]) -> list[Difference]:
    """Run the file and the model on each batch of (B, 3, H, W) pixels."""
    found = []
    for images in batches:
        given = run(images)
        if isinstance(module, Detections):
            found.append(compare_detections(given, module.exporter.detect(images)))
        else:
            found.append(compare_tensors(module.output_names, given, module(images)))
        size = " x ".join(map(str, images.shape))
        found[-1].text = f"{size}: {found[-1].text}"
    return found


def compare_tensors(
    names: Sequence[str], given: Sequence[Tensor], expected: Sequence[Tensor]
) -> Difference:
    """Compare outputs of the same shapes, number by number."""
    parts, faults = [], []
    for name, own, wanted in zip(names, given, expected, strict=True):
        if own.shape != wanted.shape:
            faults.append(f"{name} is {tuple(own.shape)}, not {tuple(wanted.shape)}")
            continue
        largest = float((own - wanted).abs().max()) if wanted.numel() else 0.0
        parts.append(f"{name} {largest:.1e}")
        if not largest <= RAW_TOLERANCE * max(1.0, float(wanted.abs().max())):
            faults.append(f"{name} differs by {largest:.3g}")
    return Difference(f"largest differences: {', '.join(parts)}", "; ".join(faults))


def compare_detections(given: Sequence[Tensor], expected: Sequence[Instances]) -> Difference:
    """Compare every detection of the model with the nearest one of its class in the file's."""
    count, boxes, scores, missing = 0, 0.0, 0.0, 0
    for own, wanted in zip(zip(*given, strict=True), expected, strict=True):
        for box, score, label in zip(
            wanted.pred_boxes.tensor, wanted.scores, wanted.pred_classes, strict=True
        ):
            apart = (own[0] - box).abs().amax(1).where(own[2] == label, torch.inf)
            nearest = int(
                (apart / BOX_TOLERANCE + (own[1] - score).abs() / SCORE_TOLERANCE).argmin()
            )
            by_box, by_score = float(apart[nearest]), float((own[1][nearest] - score).abs())
            count += 1
            if by_box <= BOX_TOLERANCE and by_score <= SCORE_TOLERANCE:
                boxes, scores = max(boxes, by_box), max(scores, by_score)
            else:
                missing += 1
        missing += max(0, int((own[1] > 0).sum()) - len(wanted))
    text = f"{count} detections, boxes within {boxes:.1e} pixels, scores within {scores:.1e}"
    if missing <= 0.01 * count:  # equal scores and IoUs at the threshold may go either way
        return Difference(text + (f", {missing} missing or extra" if missing else ""))
    return Difference(
        text,
        f"{missing} of {count} detections have no counterpart within {BOX_TOLERANCE} pixels "
        f"and a score of {SCORE_TOLERANCE}",
    )
