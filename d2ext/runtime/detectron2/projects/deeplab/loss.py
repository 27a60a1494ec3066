"""Cross entropy of the hardest pixels ("bootstrapping": Wu et al. 2016, arXiv:1605.06885)."""

import torch
from torch import Tensor, nn

__all__ = ["DeepLabCE"]


class DeepLabCE(nn.Module):
    """Hard pixel mining: the mean cross entropy of the pixels with the largest loss.

    Args:
        ignore_label: label of pixels whose loss is 0; they count in the mean.
        top_k_percent_pixels: fraction of all pixels that is kept, 0 to 1.
        weight: weight per class.
    """

    def __init__(
        self,
        ignore_label: int = -1,
        top_k_percent_pixels: float = 1.0,
        weight: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.top_k_percent_pixels = top_k_percent_pixels
        self.ignore_label = ignore_label
        self.criterion = nn.CrossEntropyLoss(
            weight=weight, ignore_index=ignore_label, reduction="none"
        )

    def forward(self, logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """Compute the loss of (B, classes, H, W) scores and (B, H, W) labels.

        Args:
            weights: (B, H, W) weights per pixel.
        """
        losses = self.criterion(logits, labels)
        losses = (losses if weights is None else losses * weights).flatten()
        if self.top_k_percent_pixels < 1:
            kept = int(self.top_k_percent_pixels * losses.numel())
            losses = torch.topk(losses, kept).values
        return losses.mean()


def build_loss(name: str, ignore_value: int, top_k: float = 0.2) -> nn.Module:
    """Build "cross_entropy", or "hard_pixel_mining", which keeps the fraction `top_k` of pixels.

    Raises:
        ValueError: the name is unknown.
    """
    if name == "cross_entropy":
        return nn.CrossEntropyLoss(reduction="mean", ignore_index=ignore_value)
    if name == "hard_pixel_mining":
        return DeepLabCE(ignore_label=ignore_value, top_k_percent_pixels=top_k)
    raise ValueError(
        f"MODEL.SEM_SEG_HEAD.LOSS_TYPE is cross_entropy or hard_pixel_mining, got '{name}'"
    )
