"""Random numbers as a function of seed, process and iteration.

With nothing carried from one iteration to the next there is nothing to save and restore: a
resumed run draws what the interrupted one would have drawn.
"""

import random

import numpy as np
import torch


def seed_step(seed: int, rank: int, iteration: int, part: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators for one batch of one iteration."""
    words = np.random.SeedSequence((seed, rank, iteration, part)).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.manual_seed(int(words[2]))
