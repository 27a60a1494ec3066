"""Duplicate images: which data set and which image they are reported for."""

import numpy as np

from d2ext.data.checks.check import check_splits
from d2ext.data.checks.duplicates import (
    MAX_BITS,
    MIN_CORRELATION,
    difference_hash,
    most_alike,
)
from d2ext.data.dataset_paths import load_named_splits
from tests.helpers.planted_dataset import picture


def test_data_to_evaluate_on_are_no_leak_of_each_other(planted):
    planted.check()
    train, val = planted.flags()
    sources = load_named_splits(train, [val])
    report = check_splits({**sources, "test": sources["val"]})
    assert {issue.code for issue in report.issues} == {"duplicate-image"}
    assert {issue.split for issue in report.issues} == {"test"}
    assert all(" of val, the same bytes" in issue.detail for issue in report.issues)


def test_each_picture_is_reported_once_with_the_one_that_it_is_most_like(planted):
    for quality in (60, 50, 40):
        planted.add_box(planted.add_image(picture(1), f"q{quality}.jpg"), [5, 5, 20, 20])
        picture(1).save(planted.folder / "train" / f"q{quality}.jpg", quality=quality)
    found = [issue for issue in planted.check().issues if issue.code == "duplicate-near"]
    assert [issue.image.name for issue in found] == ["q60.jpg", "q50.jpg", "q40.jpg"]


def test_multi_index_hashing_finds_the_pairs_that_comparing_all_finds():
    rng = np.random.default_rng(0)
    pictures = np.stack([np.asarray(picture(n, 16, 16).convert("L")) for n in range(300)])
    noise = rng.integers(-20, 20, (150, 16, 16))
    copies = (pictures[rng.integers(0, 300, 150)] + noise).clip(0, 255).astype(np.uint8)
    pictures = np.concatenate((pictures, copies))
    bits = difference_hash(pictures)
    flat = pictures.reshape(len(pictures), -1).astype(np.float64)
    correlations = np.tril(np.corrcoef(flat), -1)
    correlations[(bits[:, None] != bits[None]).sum(2) > MAX_BITS] = 0
    expected = {
        later: int(row.argmax())
        for later, row in enumerate(correlations)
        if row.max() >= MIN_CORRELATION
    }
    found = {later: earlier for later, earlier, _ in most_alike(pictures)}
    assert len(found) > 100
    assert found == expected
