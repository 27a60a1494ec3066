"""Class heads by COCO's ids, as the family's authors train them, cut to COCO's classes."""

import re
from collections.abc import Sequence

from torch import Tensor

NUM_IDS = 91  # 0 to 90; ten of them and 0 name no class
UNUSED_IDS = frozenset({0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
IDS = [number for number in range(NUM_IDS) if number not in UNUSED_IDS]
NUM_PANOPTIC_IDS = 250  # of panoptic models; stuff has ids from 92 to 200
# fmt: off
STUFF_IDS = [
    92, 93, 95, 100, 107, 109, 112, 118, 119, 122, 125, 128, 130, 133, 138, 141, 144, 145, 147,
    148, 149, 151, 154, 155, 156, 159, 161, 166, 168, 171, 175, 176, 177, 178, 180, 181, 184, 185,
    186, 187, 188, 189, 190, 191, 192, 193, 194, 195, 196, 197, 198, 199, 200,
]
# fmt: on
# Ids of the classes that a model may have, by the number of ids of a file.
_KEPT = {NUM_IDS: IDS, NUM_PANOPTIC_IDS: [*IDS, *STUFF_IDS]}

_BY_CLASS = re.compile(r"(.*class_embed(\.\d+)?\.(weight|bias)|label_enc\.weight)")


def select_coco_rows(name: str, tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Select the rows of COCO's classes, 80 or 133 panoptic ones, from a tensor with a row per id.

    Args:
        name: our name of the tensor.
        tensor: of the file.
        shape: of the model's tensor.
    Returns:
        The rows in the order of the ids, and those beyond the ids, such as "no object"; the tensor
        itself where it has no row per class, or the model has other classes than COCO.
    """
    if tensor.dim() and _BY_CLASS.fullmatch(name):
        for num_ids, ids in _KEPT.items():
            beyond = len(tensor) - num_ids
            if beyond in (0, 1) and shape[0] == len(ids) + beyond:
                return tensor[[*ids, *range(num_ids, len(tensor))]]
    return tensor
