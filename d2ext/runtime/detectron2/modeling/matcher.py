"""Matching of predictions to ground truth, by thresholds on a quality such as the IoU."""

import torch
from torch import Tensor


class Matcher:
    """Matcher that assigns each prediction its best ground truth and a label by the quality.

    Args:
        thresholds: increasing positive qualities that separate the labels.
        labels: one more than thresholds, from the worst range up: 1 foreground, 0 background,
            -1 ignored.
        allow_low_quality_matches: the best predictions of a ground truth are always foreground.
    """

    # No generators, unpacking or abstract types: TorchScript compiles this class.
    def __init__(
        self,
        thresholds: list[float],
        labels: list[int],
        allow_low_quality_matches: bool = False,
    ) -> None:
        if len(thresholds) == 0 or thresholds[0] <= 0 or list(thresholds) != sorted(thresholds):
            raise ValueError(f"thresholds are positive and increasing, got {thresholds}")
        if len(labels) != len(thresholds) + 1:
            raise ValueError(f"{len(thresholds)} thresholds need one more label, not {labels}")
        for label in labels:
            if label < -1 or label > 1:
                raise ValueError(f"labels are among -1, 0 and 1, got {labels}")
        self.thresholds = [-float("inf")]
        self.thresholds.extend(thresholds)
        self.thresholds.append(float("inf"))
        self.labels = list(labels)
        self.allow_low_quality_matches = allow_low_quality_matches

    def __call__(self, match_quality_matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Match every prediction.

        Args:
            match_quality_matrix: (M ground truths, N predictions), not negative.

        Returns:
            Per prediction the index of its ground truth (N,) int64, 0 if there is none, and its
            label (N,) int8.
        """
        quality = match_quality_matrix
        if quality.dim() != 2:
            raise ValueError(f"expected an (M, N) matrix, got {quality.shape}")
        if quality.numel() == 0:
            matches = quality.new_zeros(quality.shape[1], dtype=torch.int64)
            return matches, torch.full_like(matches, self.labels[0], dtype=torch.int8)
        best, matches = quality.max(dim=0)
        inner = torch.tensor(self.thresholds[1:-1], dtype=best.dtype, device=best.device)
        # Right: a quality equal to a threshold belongs to the better range.
        ranges = torch.bucketize(best, inner, right=True)
        labels = torch.tensor(self.labels, dtype=torch.int8, device=best.device)[ranges]
        if self.allow_low_quality_matches:
            self.set_low_quality_matches_(labels, quality)
        return matches, labels

    def set_low_quality_matches_(self, match_labels: Tensor, match_quality_matrix: Tensor) -> None:
        """Label predictions as foreground, in place, if they are the best of some ground truth.

        Ties are included. The match of such a prediction remains the ground truth that is best for
        *it*.
        """
        # Detectron2 includes a best quality of 0, too: then every prediction of that row is
        # foreground.
        best = match_quality_matrix.max(dim=1, keepdim=True).values
        match_labels[(match_quality_matrix == best).any(dim=0)] = 1
