"""Class heads by COCO's ids, as the family's authors train them, cut to COCO's 80 classes."""

import re
from collections.abc import Sequence

from torch import Tensor

NUM_IDS = 91  # 0 to 90; ten of them and 0 name no class
UNUSED_IDS = frozenset({0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
IDS = [number for number in range(NUM_IDS) if number not in UNUSED_IDS]

_BY_CLASS = re.compile(r"(.*class_embed(\.\d+)?\.(weight|bias)|label_enc\.weight)")


def select_coco_rows(name: str, tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Select the rows of COCO's 80 classes from a tensor with a row per id.

    Args:
        name: our name of the tensor.
        tensor: of the file.
        shape: of the model's tensor.
    Returns:
        The rows in the order of the ids, and those beyond the ids, such as "no object"; the tensor
        itself where it has no row per class, or the model has other classes than COCO.
    """
    beyond = len(tensor) - NUM_IDS if tensor.dim() else -1
    if not _BY_CLASS.fullmatch(name) or beyond not in (0, 1) or shape[0] != len(IDS) + beyond:
        return tensor
    return tensor[[*IDS, *range(NUM_IDS, len(tensor))]]
