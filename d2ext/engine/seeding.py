"""Seed random numbers by run, process and iteration.

No generator state carries over from one iteration to the next, so none has to be saved: a resumed
run draws the same numbers as an uninterrupted one.
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
