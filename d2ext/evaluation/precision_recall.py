"""AP by class and size and precision-recall curves, from a file of COCO results."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray


@dataclass(frozen=True)
class Precision:
    """What COCO's evaluation holds; -1 of COCO, "there is nothing to measure", is NaN here.

    Args:
        precision: (T, R, K, A) at IoU 0.50 to 0.95, recall 0.00 to 1.00, of each class and size:
            all, small, medium, large; 100 detections an image.
        category_ids: (K,) ids of the classes.
        recalls: (R,).
    """

    precision: NDArray[np.float64]
    category_ids: Sequence[int]
    recalls: NDArray[np.float64]

    def table(self) -> NDArray[np.float64]:
        """(K, 6) AP, AP50, AP75 and AP of small, medium and large objects, in percent."""
        everything = self.precision[:, :, :, 0]
        columns = [everything, everything[[0]], everything[[5]]]
        columns += [self.precision[:, :, :, size] for size in (1, 2, 3)]
        return 100 * np.stack([_mean(column) for column in columns], axis=1)

    def curve(self, position: int) -> NDArray[np.float64]:
        """(R,) precision of a class at IoU 0.50, by recall."""
        return self.precision[0, :, position, 0]


def measure(annotations: str, results: Sequence[dict[str, Any]], task: str) -> Precision:
    """Evaluate detections as COCO does.

    Args:
        annotations: a COCO file.
        results: in COCO's results format.
        task: "bbox" or "segm".
    """
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(annotations)
        found = truth.loadRes([dict(item) for item in results])
        evaluation = COCOeval_faster(truth, found, task)
        evaluation.evaluate()
        evaluation.accumulate()
    precision = np.asarray(evaluation.eval["precision"], dtype=float)[:, :, :, :, -1]
    return Precision(
        np.where(precision < 0, np.nan, precision),
        list(evaluation.params.catIds),
        np.asarray(evaluation.params.recThrs),
    )


def _mean(precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, R, K) -> (K,), NaN where a class has no object."""
    known = np.isfinite(precision)
    total = np.where(known, precision, 0).sum(axis=(0, 1))
    count = known.sum(axis=(0, 1))
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
