"""COCO's AP per class and size and precision-recall curves."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from d2ext.evaluation.truth import index_truth


@dataclass(frozen=True)
class Precision:
    """Precision of COCO's evaluation; NaN where COCO has -1 because there are no objects.

    Args:
        precision: (T, R, K, A) by IoU 0.50 to 0.95, recall 0.00 to 1.00, class, and size: all,
            small, medium, large; 100 detections per image.
        category_ids: (K,) ids of the classes.
        recalls: (R,) recall thresholds.
    """

    precision: NDArray[np.float64]
    category_ids: Sequence[int]
    recalls: NDArray[np.float64]

    def table(self) -> NDArray[np.float64]:
        """Return (K, 6): AP, AP50, AP75, APs, APm and APl per class, in percent."""
        everything = self.precision[:, :, :, 0]
        columns = [everything, everything[[0]], everything[[5]]]
        columns += [self.precision[:, :, :, size] for size in (1, 2, 3)]
        return 100 * np.stack([_mean(column) for column in columns], axis=1)

    def curve(self, position: int) -> NDArray[np.float64]:
        """Return the (R,) precision at IoU 0.50 of the class at an index, by recall."""
        return self.precision[0, :, position, 0]


def measure(annotations: str, results: Sequence[dict[str, Any]], task: str) -> Precision:
    """Evaluate detections with COCO's protocol.

    Args:
        annotations: path of a COCO file.
        results: in COCO's results format.
        task: "bbox" or "segm".
    Raises:
        DataError: the file cannot be measured with; see `d2ext.evaluation.truth`.
    """
    truth = index_truth(COCO(), annotations)
    # COCO's tools print, and loadRes writes into the dictionaries that it gets.
    with contextlib.redirect_stdout(io.StringIO()):
        found = truth.loadRes([dict(item) for item in results])
        evaluation = COCOeval_faster(truth, found, task)
        evaluation.evaluate()
        evaluation.accumulate()
    # The last axis is the number of detections per image: 1, 10, 100.
    precision = np.asarray(evaluation.eval["precision"], dtype=float)[:, :, :, :, -1]
    return Precision(
        np.where(precision < 0, np.nan, precision),
        list(evaluation.params.catIds),
        np.asarray(evaluation.params.recThrs),
    )


def _mean(precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average (T, R, K) to (K,); NaN for a class without objects."""
    known = np.isfinite(precision)
    total = np.where(known, precision, 0).sum(axis=(0, 1))
    count = known.sum(axis=(0, 1))
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
