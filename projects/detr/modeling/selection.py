"""Detections from the logits of queries: by their scores alone, without NMS."""

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Selection:
    """Detections of B images, N each.

    Attributes:
        scores: (B, N) in [0, 1].
        classes: (B, N) int64.
        queries: (B, N) int64, the query that each detection comes from.
    """

    scores: Tensor
    classes: Tensor
    queries: Tensor


def select_topk(logits: Tensor, max_detections: int) -> Selection:
    """Select the highest sigmoid scores among all queries and classes, in falling order.

    Args:
        logits: (B, Q, K); one query may be selected with several classes.
        max_detections: N, at most Q * K.
    """
    scores = logits.float().sigmoid().flatten(1)
    scores, index = scores.topk(min(max_detections, scores.shape[1]), dim=1)
    classes = logits.shape[-1]
    return Selection(scores, index % classes, index // classes)


def select_per_query(logits: Tensor) -> Selection:
    """Select the best class of every query by softmax; the last of (B, Q, K) is "no object"."""
    scores, classes = logits.float().softmax(-1)[..., :-1].max(-1)
    queries = scores.new_ones(scores.shape, dtype=classes.dtype).cumsum(1) - 1
    return Selection(scores, classes, queries)
