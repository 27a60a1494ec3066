"""Pairs of objects in chunks."""

import numpy as np
import pytest

from d2ext.data.checks import pairs
from d2ext.data.checks.pairs import expand_ranges, pairs_by_image, split_by_image


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_all_pairs_of_an_image_are_found_once_in_any_chunks(monkeypatch, chunk):
    monkeypatch.setattr(pairs, "_CHUNK", chunk)
    owners = np.array([0, 2, 2, 2, 5, 6, 6])
    found = [
        (int(a), int(b))
        for later, earlier in pairs_by_image(owners)
        for a, b in zip(later, earlier, strict=True)
    ]
    assert found == [(2, 1), (3, 1), (3, 2), (6, 5)]


@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_ranges_are_expanded_in_order(monkeypatch, chunk):
    monkeypatch.setattr(pairs, "_CHUNK", chunk)
    first, counts = np.array([7, 0, 3]), np.array([2, 0, 3])
    found = list(expand_ranges(first, counts))
    assert np.concatenate([n for n, _ in found]).tolist() == [0, 0, 2, 2, 2]
    assert np.concatenate([k for _, k in found]).tolist() == [7, 8, 3, 4, 5]


def test_without_objects_there_are_no_pairs():
    empty = np.zeros(0, dtype=np.int64)
    assert [len(later) for later, _ in pairs_by_image(empty)] == [0]
    assert split_by_image(empty, empty) == []
