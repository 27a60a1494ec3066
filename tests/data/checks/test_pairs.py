"""Pairs of objects in chunks."""

import numpy as np
import pytest

from d2ext.data.checks import pairs
from d2ext.data.checks.pairs import expand_ranges, pairs_by_left_side, split_by_image


def pairs_of(left, reach, owners):
    found = pairs_by_left_side(np.array(left, float), np.array(reach, float), np.array(owners))
    return [
        (int(a), int(b)) for later, earlier in found for a, b in zip(later, earlier, strict=True)
    ]


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_all_near_pairs_of_an_image_are_found_once_in_any_chunks(monkeypatch, chunk):
    monkeypatch.setattr(pairs, "_CHUNK", chunk)
    owners = [0, 2, 2, 2, 5, 6, 6]
    assert sorted(pairs_of([3] * 7, [0] * 7, owners)) == [(2, 1), (3, 1), (3, 2), (6, 5)]
    assert sorted(pairs_of([3, 9, 3, 1, 3, 4, 5], [2] * 7, owners)) == [(3, 2), (6, 5)]
    far = [3, 1e300, 3, -1e300, 3, 4, 5]
    assert sorted(pairs_of(far, [1e300] * 7, owners)) == [(2, 1), (3, 1), (3, 2), (6, 5)]


def test_pairs_are_those_of_comparing_all_with_all():
    rng = np.random.default_rng(0)
    left, reach = rng.uniform(-9, 700, 300), rng.uniform(0, 40, 300)
    owners = np.sort(rng.integers(0, 1_000_000, 12))[rng.integers(0, 12, 300)]
    owners.sort()
    expected = set()
    for a in range(300):
        for b in range(a):
            low = a if left[a] < left[b] else b
            near = abs(left[a] - left[b]) <= reach[low]
            expected |= {(a, b)} if near and owners[a] == owners[b] else set()
    found = pairs_of(left, reach, owners)
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_in_a_crowd_each_object_is_compared_with_some(monkeypatch):
    monkeypatch.setattr(pairs, "_NEIGHBOURS", 2)
    assert sorted(pairs_of([0] * 5, [0] * 5, [0] * 5)) == [
        *((1, 0), (2, 0), (2, 1), (3, 1), (3, 2), (4, 2), (4, 3)),
    ]


@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_ranges_are_expanded_in_order(monkeypatch, chunk):
    monkeypatch.setattr(pairs, "_CHUNK", chunk)
    first, counts = np.array([7, 0, 3]), np.array([2, 0, 3])
    found = list(expand_ranges(first, counts))
    assert np.concatenate([n for n, _ in found]).tolist() == [0, 0, 2, 2, 2]
    assert np.concatenate([k for _, k in found]).tolist() == [7, 8, 3, 4, 5]


def test_without_objects_there_are_no_pairs():
    empty = np.zeros(0, dtype=np.int64)
    assert pairs_of([], [], empty) == []
    assert list(split_by_image(empty, empty)) == []
