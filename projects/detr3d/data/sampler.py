"""Class-balanced sampling: every class is drawn equally often, then a sample that shows it.

Source: Zhu et al., "Class-balanced Grouping and Sampling for Point Cloud 3D Object Detection",
2019, arXiv:1908.09492, section 3.1.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from d2ext.data.sampling import register_sampler
from detectron2.config import CfgNode
from detectron2.utils import comm

NAME = "ClassBalancedSampler"


class ClassBalancedSampler(Sampler[int]):
    """An endless sampler of this process's share of the positions.

    Args:
        labels: of each sample, the indices of its classes; negative ones do not count.
        seed: the same in all processes.
    """

    def __init__(self, labels: Sequence[np.ndarray], seed: int) -> None:
        owners = np.repeat(np.arange(len(labels)), [len(each) for each in labels])
        flat = np.concatenate([*labels, np.zeros(0, dtype=np.int64)])
        classes = np.unique(flat[flat >= 0])
        members = [np.unique(owners[flat == label]) for label in classes]
        self.members = [torch.from_numpy(each) for each in members]
        if not self.members:  # nothing to balance: all samples alike
            self.members = [torch.arange(len(labels))]
        self.seed = seed

    def __iter__(self) -> Iterator[int]:
        return islice(self._draws(), comm.get_rank(), None, comm.get_world_size())

    def _draws(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            label = int(torch.randint(len(self.members), (), generator=generator))
            members = self.members[label]
            yield int(members[int(torch.randint(len(members), (), generator=generator))])


def build_class_balanced_sampler(cfg: CfgNode, dicts: list[dict[str, Any]]) -> Sampler[int]:
    """Build the sampler from the boxes of the samples that have points."""
    return ClassBalancedSampler([d["labels"][d["points"] > 0] for d in dicts], cfg.SEED)


register_sampler(NAME, build_class_balanced_sampler)
