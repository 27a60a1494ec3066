"""Class-balanced sampling draws every class alike."""

from itertools import islice

import numpy as np

from d2ext.projects.detr3d.data.sampler import ClassBalancedSampler


def test_a_rare_class_is_drawn_as_often_as_a_common_one():
    labels = [np.array([0])] * 99 + [np.array([1, -1])]
    drawn = list(islice(ClassBalancedSampler(labels, seed=0), 2000))
    assert 900 < drawn.count(99) < 1100


def test_draws_depend_on_the_seed_alone():
    labels = [np.array([n % 3]) for n in range(30)]
    first, second = (list(islice(ClassBalancedSampler(labels, seed=5), 50)) for _ in range(2))
    assert first == second


def test_samples_without_boxes_are_drawn_where_no_sample_has_any():
    empty = [np.zeros(0, dtype=np.int64)] * 3
    assert set(islice(ClassBalancedSampler(empty, seed=0), 50)) == {0, 1, 2}
