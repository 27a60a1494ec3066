"""Contrastive denoising: noised ground truth as further decoder queries in training.

Source: Zhang et al., "DINO: DETR with Improved DeNoising Anchor Boxes for End-to-End Object
Detection", 2022, arXiv:2203.03605, section 3.3.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from d2ext.modeling.losses.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from d2ext.modeling.set_prediction import Matches, SetTargets


@dataclass(frozen=True)
class NoiseDraws:
    """The random numbers of a batch, a row for each of R noised boxes.

    The rows hold block after block, positive and negative blocks in turn and two per group; a block
    has all T boxes of the batch.

    Attributes:
        flip: (R,) uniform in [0, 1); small values replace the class.
        classes: (R,) int64, the classes that replace it.
        sign: (R, 4) 0 for a side that moves left or up, 1 for right or down.
        part: (R, 4) uniform in [0, 1), how far it moves.
    """

    flip: Tensor
    classes: Tensor
    sign: Tensor
    part: Tensor

    @classmethod
    def random(cls, rows: int, num_classes: int, device: torch.device) -> "NoiseDraws":
        """Draw the numbers from PyTorch's generator of the device."""
        return cls(
            flip=torch.rand(rows, device=device),
            classes=torch.randint(num_classes, (rows,), device=device),
            sign=torch.randint(2, (rows, 4), device=device),
            part=torch.rand(rows, 4, device=device),
        )


@dataclass(frozen=True)
class DenoisingGroups:
    """Noised objects of a batch in P = 2 * groups * size slots per image.

    A group has `size` positive slots and then `size` negative ones. Slot j of either kind holds the
    image's object j; slots beyond the number of objects are padding.

    Attributes:
        classes: (B, P) int64 noised classes, -1 on padding.
        boxes: (B, P, 4) noised normalised cxcywh, 0 on padding. Negative ones may be inside out,
            with sides below 0.
        groups: number of groups.
        size: largest number of objects in an image.
    """

    classes: Tensor
    boxes: Tensor
    groups: int
    size: int

    def attention_mask(self, num_queries: int) -> Tensor:
        """Compute which queries may not attend to which.

        The P denoising queries come first. A group sees itself and the matching queries; these see
        no group.

        Args:
            num_queries: number of matching queries.
        Returns:
            (P + num_queries, P + num_queries) bool, True where the row may not see the column.
        """
        slots = self.classes.shape[1]
        index = torch.arange(slots + num_queries, device=self.classes.device)
        group = (index // max(1, 2 * self.size)).clamp(max=self.groups)
        return (group[:, None] != group) & (index < slots)

    def matches(self, targets: SetTargets, num_layers: int) -> Matches:
        """Return the positive slots, each with the object that it was made from."""
        image, box = _image_and_box(targets)
        start = 2 * self.size * torch.arange(self.groups, device=box.device)
        slot = box[:, None] + start  # (T, groups)
        target = torch.arange(len(box), device=box.device)[:, None].expand_as(slot)
        rows = (num_layers, slot.numel())
        return Matches(
            image.repeat_interleave(self.groups),
            slot.flatten().expand(rows),
            target.flatten().expand(rows),
        )


@dataclass(frozen=True)
class ContrastiveDenoising:
    """Makes positive and negative noised queries of ground truth.

    Attributes:
        num_classes: number of classes that a noised class is drawn from.
        num_queries: number of positive queries per image that the groups are to fill.
        label_noise: twice the probability that a class is replaced.
        box_noise: sides of positive boxes move by up to this part of half a box, those of negative
            ones by once to twice as much.
    """

    num_classes: int
    num_queries: int
    label_noise: float
    box_noise: float

    def __call__(self, targets: SetTargets, draws: NoiseDraws | None = None) -> DenoisingGroups:
        """Return the groups of a batch; without slots where it has no object.

        Args:
            targets: the ground truth.
            draws: random numbers to use; None draws new ones.
        """
        size = max(targets.counts)
        groups = max(1, self.num_queries // max(1, size)) if self.num_queries else 0
        blocks = torch.arange(2 * groups, device=targets.boxes.device)[:, None]
        image, box = _image_and_box(targets)
        slot = (blocks * size + box).flatten()  # (R,), in the order of the draws
        place = image.repeat(2 * groups), slot
        if draws is None:
            draws = NoiseDraws.random(len(slot), self.num_classes, slot.device)
        shape = len(targets.counts), 2 * groups * size
        classes = targets.classes.new_full(shape, -1)
        classes[place] = self._noised_classes(targets.classes.repeat(2 * groups), draws)
        boxes = targets.boxes.new_zeros((*shape, 4))
        negative = slot // size % 2
        boxes[place] = self._noised_boxes(targets.boxes.repeat(2 * groups, 1), negative, draws)
        return DenoisingGroups(classes, boxes, groups, size)

    def _noised_classes(self, classes: Tensor, draws: NoiseDraws) -> Tensor:
        return torch.where(draws.flip < self.label_noise / 2, draws.classes, classes)

    def _noised_boxes(self, boxes: Tensor, negative: Tensor, draws: NoiseDraws) -> Tensor:
        """Move the sides of (R, 4) cxcywh boxes; `negative` (R,) is 0 or 1."""
        half = (boxes[:, 2:] / 2).repeat(1, 2)
        shift = (draws.part + negative[:, None]) * (draws.sign * 2 - 1) * half * self.box_noise
        return xyxy_to_cxcywh((cxcywh_to_xyxy(boxes) + shift).clamp(0, 1))


def _image_and_box(targets: SetTargets) -> tuple[Tensor, Tensor]:
    """Return the image of each object and its number in this image, (T,) each."""
    numbers = torch.cat([torch.arange(count) for count in targets.counts])
    return targets.image_index(), numbers.to(targets.boxes.device, non_blocking=True)
