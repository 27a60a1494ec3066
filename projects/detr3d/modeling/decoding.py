"""Detections from the last layer's logits and codes: top-k, then a range of centres; no NMS."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from d2ext.projects.detr3d.modeling.box_code import decode_boxes


@dataclass
class SpaceDetections:
    """Detections of one sample, best first.

    Attributes:
        boxes: (n, 9) x, y, z of the gravity centre, w, l, h, yaw, vx, vy in the lidar frame.
        scores: (n,) in [0, 1].
        classes: (n,) int64.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor

    def above(self, confidence: float) -> "SpaceDetections":
        """Select the detections whose score is at least the confidence."""
        kept = self.scores >= confidence
        return SpaceDetections(self.boxes[kept], self.scores[kept], self.classes[kept])


def decode_detections(
    logits: Tensor, codes: Tensor, max_detections: int, centre_range: Sequence[float]
) -> SpaceDetections:
    """Select the highest class scores of all queries; keep centres inside a range.

    One query may be selected with several classes.

    Args:
        logits: (Q, K).
        codes: (Q, 10) with centres in metres.
        max_detections: before the range is tested.
        centre_range: least, then greatest x, y, z in metres.
    """
    scores = logits.float().sigmoid().flatten()
    scores, index = scores.topk(min(max_detections, len(scores)))
    boxes = decode_boxes(codes.float()[index // logits.shape[-1]])
    bounds = boxes.new_tensor(centre_range)
    inside = ((boxes[:, :3] >= bounds[:3]) & (boxes[:, :3] <= bounds[3:])).all(1)
    return SpaceDetections(boxes[inside], scores[inside], (index % logits.shape[-1])[inside])
