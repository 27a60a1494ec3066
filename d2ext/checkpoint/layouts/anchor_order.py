"""The order of anchors in a cell: by ratio in Detectron and its port, by size in Detectron2.

Source: the anchor generators of Detectron and maskrcnn-benchmark. Only models whose cells have
several sizes, those without a pyramid, tell the difference.
"""

from torch import Tensor

RATIOS = 3  # of every published model: 0.5, 1, 2


def by_size(rows: Tensor, per_anchor: int) -> Tensor:
    """Reorder the output channels of an RPN's predictor.

    Args:
        rows: (A * per_anchor, ...) weight or bias, all sizes of a ratio one after the other.
    Returns:
        The same shape, all ratios of a size one after the other.
    """
    if rows.shape[0] % (RATIOS * per_anchor):  # another number of ratios: nobody knows which
        return rows
    cells = rows.unflatten(0, (RATIOS, -1, per_anchor))
    return cells.transpose(0, 1).flatten(0, 2)
