"""Multi-object tracking: the same number for an object in every frame of a video.

Source: Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", 2022,
arXiv:2110.06864, algorithm 1, with the motion model of Bewley et al., "Simple Online and Realtime
Tracking", 2016, arXiv:1602.00763.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_convert, box_iou

from d2ext.errors import ConfigError
from d2ext.inference.prediction_kinds import PredictionKind
from d2ext.ops import rotated_corners
from detectron2.structures import Instances

LOW_SCORE = 0.1  # detections from here on continue a track, but start none
FIRST_IOU, SECOND_IOU = 0.2, 0.5  # minimum IoU of a match of confident and of other detections
RATE = 30.0  # frames per second of a folder of frames

# Standard deviations per frame as shares of the box's height.
_POSITION, _SPEED = 1 / 20, 1 / 160

Array = NDArray[np.float64]


class BoxFilter:
    """A Kalman filter of constant velocity; the four coordinates of a box are independent.

    Args:
        box: (4,) centre x and y, width and height, in pixels.
    Attributes:
        box: estimate of the box.
        speed: estimate of its change per frame.
    """

    def __init__(self, box: Array) -> None:
        self.box, self.speed = box, np.zeros(4)
        height = self._height()
        # The covariance of box and speed, per coordinate: [[a, b], [b, c]].
        self.a = np.full(4, (2 * _POSITION * height) ** 2)
        self.b = np.zeros(4)
        self.c = np.full(4, (10 * _SPEED * height) ** 2)

    def predict(self) -> None:
        """Move to the next frame."""
        height = self._height()
        self.box = self.box + self.speed
        self.a = self.a + 2 * self.b + self.c + (_POSITION * height) ** 2
        self.b = self.b + self.c
        self.c = self.c + (_SPEED * height) ** 2

    def update(self, box: Array) -> None:
        """Correct the estimates by a detected box."""
        total = self.a + (_POSITION * self._height()) ** 2
        gain, speed_gain = self.a / total, self.b / total
        error = box - self.box
        self.box, self.speed = self.box + gain * error, self.speed + speed_gain * error
        self.a, self.c = (1 - gain) * self.a, self.c - speed_gain * self.b
        self.b = (1 - gain) * self.b

    def _height(self) -> float:
        return max(1.0, self.box[3])  # a variance of 0 would make gains 0 / 0


class Track:
    """An object over the frames; `lost` counts the frames since it was last detected."""

    def __init__(self, number: int, box: Array) -> None:
        self.number, self.filter, self.lost = number, BoxFilter(box), 0

    def found(self, box: Array) -> None:
        """Continue the track with a detected box."""
        self.filter.update(box)
        self.lost = 0


class ByteTracker:
    """Assigns detections to tracks, frame by frame; classes do not count.

    Args:
        confidence: minimum score of a detection that starts a track, 0 to 1.
        rate: frames per second; an object that is not detected is remembered for a second.
    """

    def __init__(self, confidence: float, rate: float = RATE) -> None:
        self.confidence, self.memory = confidence, max(1, round(rate))
        self.tracks: list[Track] = []
        self.count = 0

    def update(self, boxes: Array, scores: Array) -> NDArray[np.int64]:
        """Return the number of each detection's track, from 1 on; -1 for none.

        Args:
            boxes: (N, 4) XYXY in pixels, of the next frame.
            scores: (N,).
        """
        boxes = box_convert(torch.as_tensor(boxes), "xyxy", "cxcywh").numpy()
        numbers = np.full(len(boxes), -1, dtype=np.int64)
        for track in self.tracks:
            track.filter.predict()
            track.lost += 1
        high, low = (np.flatnonzero(which) for which in self._split(scores))
        self._continue(self.tracks, boxes, high, numbers, FIRST_IOU)
        seen = [track for track in self.tracks if track.lost == 1]
        self._continue(seen, boxes, low, numbers, SECOND_IOU)
        for index in high[numbers[high] < 0]:
            self.count += 1
            numbers[index] = self.count
            self.tracks.append(Track(self.count, boxes[index]))
        self.tracks = [track for track in self.tracks if track.lost <= self.memory]
        return numbers

    def _split(self, scores: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        high = scores >= self.confidence
        return high, ~high & (scores >= LOW_SCORE)

    def _continue(
        self,
        tracks: Sequence[Track],
        boxes: Array,
        indices: NDArray[np.int64],
        numbers: NDArray[np.int64],
        threshold: float,
    ) -> None:
        """Match some of the boxes with tracks at the largest sum of IoUs; set their numbers."""
        if not tracks or not len(indices):
            return
        ious = _iou(np.stack([track.filter.box for track in tracks]), boxes[indices])
        # A match below the threshold must not be bought by giving up one above it.
        ious[ious < threshold] = 0
        for row, column in zip(*linear_sum_assignment(ious, maximize=True), strict=True):
            if ious[row, column] > 0:
                tracks[row].found(boxes[indices[column]])
                numbers[indices[column]] = tracks[row].number


def select_shown(
    kind: PredictionKind, output: Any, confidence: float, tracker: ByteTracker | None
) -> Instances:
    """Select what reaches a score; with a tracker, what belongs to a track.

    Args:
        kind: of the entry of the model's output that is shown.
        output: the entry; with a tracker, that of the next frame.
        confidence: minimum score, 0 to 1; a tracker has its own.
    Returns:
        The selected, with a tracker also "track_ids" (N,) int64.
    Raises:
        ConfigError: there is a tracker, but the model labels pixels and finds no objects.
    """
    if tracker is None:
        return kind.select(output, confidence)
    if kind.labels_pixels:
        raise ConfigError("--track: the model labels pixels; it finds no objects to track.")
    found = kind.select(output, min(LOW_SCORE, tracker.confidence))
    boxes = found.pred_boxes.tensor
    if boxes.shape[1] == 5:
        corners = rotated_corners(boxes)
        boxes = torch.cat((corners.amin(1), corners.amax(1)), dim=1)
    numbers = tracker.update(boxes.double().numpy(), found.scores.double().numpy())
    found.track_ids = torch.as_tensor(numbers)
    return found[found.track_ids > 0]


def frame_order(file: Path) -> list[tuple[int, str]]:
    """Return a sorting key by which frame 10 follows frame 9, within each folder."""
    parts = re.split(r"(\d+)", str(file))
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _iou(first: Array, second: Array) -> Array:
    """Compute the (N, M) IoUs of boxes given as centre and size."""
    ours, theirs = (
        box_convert(torch.as_tensor(np.maximum(boxes, [-np.inf, -np.inf, 0, 0])), "cxcywh", "xyxy")
        for boxes in (first, second)
    )
    return box_iou(ours, theirs).nan_to_num().numpy()  # NaN: two boxes without an area
