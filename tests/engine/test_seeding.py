import random

import numpy as np
import torch

from d2ext.engine.seeding import seed_step


def draw(*where: int) -> tuple[float, float, float]:
    seed_step(*where)
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_random_numbers_depend_on_seed_rank_iteration_and_part_only() -> None:
    first = draw(1, 0, 5, 0)
    torch.rand(3)
    assert draw(1, 0, 5, 0) == first


def test_every_rank_iteration_and_part_has_its_own_random_numbers() -> None:
    places = [(1, 0, 5, 0), (2, 0, 5, 0), (1, 1, 5, 0), (1, 0, 6, 0), (1, 0, 5, 1)]
    assert len({draw(*place) for place in places}) == len(places)
