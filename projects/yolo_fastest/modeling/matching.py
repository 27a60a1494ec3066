"""The assigner of YOLO-FastestV2: anchors of about a box's size, in its cell and next to it.

Source: https://github.com/dog-qiuqiu/Yolo-FastestV2, which has it from YOLOv5; there is no paper.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Positives:
    """The P positive anchors of one level; the same anchor may appear twice.

    Attributes:
        target: (P,) int64, index of the box.
        anchor: (P,) int64, index of the anchor in its cell.
        cell: (P, 2) int64, column and row.
    """

    target: Tensor
    anchor: Tensor
    cell: Tensor


def match_cells(
    boxes: Tensor, anchors: Tensor, grid: tuple[int, int], ratio: float, reach: float
) -> Positives:
    """Assign the anchors of a level to boxes.

    Args:
        boxes: (M, 4) centre and size, in cells.
        anchors: (A, 2) width and height, in cells.
        grid: rows and columns.
        ratio: sides of box and anchor differ by less than this factor.
        reach: a neighbour of the box's cell learns it too if the centre is nearer to it than
            this, in cells.
    """
    sizes = boxes[:, None, 2:] / anchors  # (M, A, 2)
    target, anchor = (torch.maximum(sizes, 1 / sizes).amax(2) < ratio).nonzero(as_tuple=True)
    corner = boxes.new_tensor((grid[1], grid[0]))  # the far one
    center = boxes[target, :2]
    near_start, near_end = (
        (distance % 1 < reach) & (distance > 1) for distance in (center, corner - center)
    )
    own = torch.ones_like(near_start[:, :1])
    which, pair = torch.cat((own, near_start, near_end), dim=1).T.nonzero(as_tuple=True)
    steps = reach * boxes.new_tensor([[0, 0], [-1, 0], [0, -1], [1, 0], [0, 1]])
    cell = (center[pair] + steps[which]).long()
    cell = cell.clamp(min=torch.zeros_like(corner).long(), max=corner.long() - 1)
    return Positives(target[pair], anchor[pair], cell)
