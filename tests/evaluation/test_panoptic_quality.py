"""Panoptic quality, by hand and as panopticapi computes it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2ext.data.segment_maps import encode_segment_ids
from d2ext.evaluation.boundary_iou import mask_boundary
from d2ext.evaluation.panoptic_quality import PanopticCounts, match_segments


def segments(ids: np.ndarray, classes: dict[int, int], crowd: tuple[int, ...] = ()) -> list[dict]:
    return [
        {
            "id": number,
            "category_id": label,
            "iscrowd": int(number in crowd),
            "area": int((ids == number).sum()),
        }
        for number, label in classes.items()
    ]


def counts_of(counts: PanopticCounts) -> list[tuple[float, ...]]:
    return [
        tuple(row)
        for row in np.stack((counts.iou, counts.matched, counts.extra, counts.missed), axis=1)
    ]


def test_segments_match_above_half_an_overlap():
    annotated = np.array([[1, 1, 1, 1, 2, 2, 2, 2]], np.int32)
    predicted = np.array([[8, 8, 8, 9, 9, 9, 0, 0]], np.int32)
    truth = segments(annotated, {1: 0, 2: 0})
    found = [{"id": 8, "category_id": 0}, {"id": 9, "category_id": 0}]
    counts = match_segments(annotated, truth, predicted, found, 2)
    # 8 covers 3 of the 4 pixels of 1; 9 has 2 pixels in common with 2, of 5.
    assert counts_of(counts) == [(0.75, 1, 1, 1), (0, 0, 0, 0)]
    np.testing.assert_allclose(counts.per_class()[0], [0.375, 0.75, 0.5])
    assert np.isnan(counts.per_class()[1]).all()
    np.testing.assert_allclose(counts.means([0, 1]), [0.375, 0.75, 0.5])


def test_another_class_is_missed_and_extra():
    ids = np.ones((2, 4), np.int32)
    found = [{"id": 1, "category_id": 1}]
    counts = match_segments(ids, segments(ids, {1: 0}), ids, found, 2)
    assert counts_of(counts) == [(0, 0, 0, 1), (0, 0, 1, 0)]


def test_void_pixels_do_not_enlarge_the_union():
    annotated = np.array([[1, 1, 0, 0]], np.int32)
    predicted = np.ones((1, 4), np.int32)
    found = [{"id": 1, "category_id": 0}]
    counts = match_segments(annotated, segments(annotated, {1: 0}), predicted, found, 1)
    assert counts_of(counts) == [(1, 1, 0, 0)]


def test_predictions_mostly_in_void_or_crowd_are_no_mistakes():
    annotated = np.array([[0, 0, 0, 5, 5, 5, 5, 1]], np.int32)
    predicted = np.array([[2, 2, 2, 2, 3, 3, 3, 3]], np.int32)
    truth = segments(annotated, {5: 0, 1: 1}, crowd=(5,))
    found = [{"id": 2, "category_id": 1}, {"id": 3, "category_id": 0}]
    counts = match_segments(annotated, truth, predicted, found, 2)
    assert counts_of(counts) == [(0, 0, 0, 0), (0, 0, 0, 1)]


def test_the_annotated_area_counts():
    ids = np.ones((1, 4), np.int32)
    truth = [{"id": 1, "category_id": 0, "iscrowd": 0, "area": 6}]
    counts = match_segments(ids, truth, ids, [{"id": 1, "category_id": 0}], 1)
    assert counts_of(counts) == [(4 / 6, 1, 0, 0)]


def test_the_smaller_of_iou_and_boundary_iou_counts_where_asked_for():
    annotated, predicted = np.zeros((2, 150, 200), np.int32)
    annotated[:100, 50:150] = 1
    predicted[:100, 51:151] = 1
    truth, found = segments(annotated, {1: 0}), [{"id": 1, "category_id": 0}]
    # The column of the prediction that is void counts nowhere.
    plain = match_segments(annotated, truth, predicted, found, 1)
    assert counts_of(plain) == [(0.99, 1, 0, 0)]
    near, own = (mask_boundary(ids.astype(np.uint8)) for ids in (annotated, predicted))
    own &= annotated > 0
    boundary = match_segments(annotated, truth, predicted, found, 1, boundary=True)
    expected = (near & own).sum() / (near | own).sum()
    assert counts_of(boundary) == [(pytest.approx(expected), 1, 0, 0)]
    assert expected < 0.9


def test_nothing_annotated_and_nothing_found_counts_nothing():
    ids = np.zeros((2, 2), np.int32)
    assert counts_of(match_segments(ids, [], ids, [], 1)) == [(0, 0, 0, 0)]
    assert np.isnan(PanopticCounts.zeros(1).means([0])).all()


def made_up(generator: np.random.Generator) -> tuple[np.ndarray, dict[int, int]]:
    ids = np.zeros((60, 80), np.int32)
    classes = {}
    for number in generator.choice(np.arange(1, 2**24), 12, replace=False).tolist():
        y, x, height, width = generator.integers((0, 0, 5, 5), (50, 70, 40, 40))
        ids[y : y + height, x : x + width] = number
        classes[number] = int(generator.integers(0, 6))
    return ids, {number: label for number, label in classes.items() if (ids == number).any()}


CLASSES = 6
THINGS = {"all": None, "things": True, "stuff": False}
# PQ, SQ and RQ of `comparison` by panopticapi.
PUBLISHED = {
    "all": (0.4116802369887423, 0.7466285364200829, 0.5507684077607812),
    "things": (0.447584366736832, 0.7553713292552177, 0.5911369332421964),
    "stuff": (0.3757761072406525, 0.7378857435849483, 0.5103998822793658),
}


def comparison(folder: Path) -> tuple[PanopticCounts, list[tuple[dict, dict]]]:
    """Match 25 made-up images; return the counts, and what panopticapi reads beside its PNGs."""
    generator = np.random.default_rng(0)
    counts, pairs = PanopticCounts.zeros(CLASSES), []
    for number in range(25):
        annotated, classes = made_up(generator)
        crowd = tuple(generator.choice(list(classes), 2).tolist())
        predicted = np.roll(annotated, generator.integers(-3, 4, 2), (0, 1))
        found = segments(predicted, {n: c for n, c in classes.items() if (predicted == n).any()})
        for segment in found[::4]:
            segment["category_id"] = (segment["category_id"] + 1) % CLASSES
        truth = segments(annotated, classes, crowd)
        counts += match_segments(annotated, truth, predicted, found, CLASSES)
        for name, ids in (("truth", annotated), ("found", predicted)):
            (folder / name).mkdir(exist_ok=True)
            Image.fromarray(encode_segment_ids(ids)).save(folder / name / f"{number}.png")
        entry = {"image_id": number, "file_name": f"{number}.png"}
        pairs.append(({**entry, "segments_info": truth}, {**entry, "segments_info": found}))
    return counts, pairs


def test_numbers_are_those_of_panopticapi(tmp_path):
    counts, _ = comparison(tmp_path)
    for name, things in THINGS.items():
        labels = [label for label in range(CLASSES) if things is None or label % 2 == things]
        np.testing.assert_allclose(counts.means(labels), PUBLISHED[name], atol=1e-9)


def test_panopticapi_gives_these_numbers(tmp_path):
    evaluation = pytest.importorskip("panopticapi.evaluation")
    categories = {label: {"id": label, "isthing": label % 2} for label in range(CLASSES)}
    _, pairs = comparison(tmp_path)
    folders = str(tmp_path / "truth"), str(tmp_path / "found")
    reference = evaluation.pq_compute_single_core(0, pairs, *folders, categories)
    for name, things in THINGS.items():
        found, _ = reference.pq_average(categories, isthing=things)
        np.testing.assert_allclose(
            [found[k] for k in ("pq", "sq", "rq")], PUBLISHED[name], atol=1e-12
        )
