from collections import Counter
from itertools import islice

import pytest
import torch
from torch.utils.data import SequentialSampler

from detectron2.data.samplers import (
    GroupedBatchSampler,
    InferenceSampler,
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)


def test_each_epoch_of_a_training_stream_has_every_sample_once():
    stream = list(islice(TrainingSampler(7, seed=3), 21))
    passes = [stream[i : i + 7] for i in (0, 7, 14)]
    assert all(sorted(indices) == list(range(7)) for indices in passes)
    assert passes[0] != passes[1]


def test_the_seed_gives_torchs_random_permutation():
    generator = torch.Generator().manual_seed(3)
    expected = torch.randperm(7, generator=generator).tolist()
    assert list(islice(TrainingSampler(7, seed=3), 7)) == expected


def test_without_shuffling_indices_ascend():
    assert list(islice(TrainingSampler(3, shuffle=False), 7)) == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_a_size_must_be_a_positive_integer(size, error):
    with pytest.raises(error):
        TrainingSampler(size)


def test_a_random_subset_is_fixed():
    stream = list(islice(RandomSubsetTrainingSampler(20, 0.25, seed_shuffle=1, seed_subset=2), 15))
    assert set(Counter(stream).values()) == {3}
    other = list(islice(RandomSubsetTrainingSampler(20, 0.25, seed_shuffle=9, seed_subset=2), 5))
    assert set(other) == set(stream)


def test_integer_repeat_factors_are_exact():
    sampler = RepeatFactorTrainingSampler(torch.tensor([1.0, 3.0, 2.0]), shuffle=False, seed=0)
    assert list(islice(sampler, 6)) == [0, 1, 1, 1, 2, 2]


def test_a_fractional_repeat_factor_holds_on_average():
    sampler = RepeatFactorTrainingSampler(torch.tensor([1.0, 1.5]), shuffle=False, seed=0)
    counts = Counter(islice(sampler, 2500))
    assert counts[1] / counts[0] == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize(("sqrt", "expected"), [(True, 2.0), (False, 4.0)])
def test_the_rarest_category_defines_the_repeat_factor(sqrt, expected):
    # Of four images one shows category 1: a frequency of 1/4, with a threshold of 1.
    shown = [[0], [0, 1], [0], [0]]
    images = [{"annotations": [{"category_id": c} for c in found]} for found in shown]
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
        images, 1.0, sqrt=sqrt
    )
    torch.testing.assert_close(factors, torch.tensor([1.0, expected, 1.0, 1.0]))


@pytest.mark.parametrize(("size", "processes"), [(1, 1), (5, 2), (8, 3), (2, 3)])
def test_the_inference_sampler_shards_over_processes(size, processes):
    shares = [
        list(InferenceSampler._get_local_indices(size, processes, rank))
        for rank in range(processes)
    ]
    assert [index for share in shares for index in share] == list(range(size))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_batch_has_indices_of_one_group():
    groups = [0, 1, 0, 1, 1, 0]
    sampler = GroupedBatchSampler(SequentialSampler(groups), groups, 2)
    assert list(iter(sampler)) == [[0, 2], [1, 3]]
