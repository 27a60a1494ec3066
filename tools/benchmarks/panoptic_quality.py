"""CPU time of panoptic quality on made-up images, compared with panopticapi if installed."""

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.registry import register_benchmark
from d2ext.data.segment_maps import Ids, encode_segment_ids, read_segment_ids
from d2ext.evaluation.panoptic_quality import PanopticCounts, match_segments

HEIGHT, WIDTH, CLASSES, THINGS = 480, 640, 53, 30

Segments = list[dict[str, Any]]
Prediction = tuple[Ids, Segments]


def _segment_map(generator: np.random.Generator) -> Prediction:
    """Return ids and segments of 8 to 30 rectangles on top of each other."""
    ids = np.zeros((HEIGHT, WIDTH), dtype=np.int32)
    numbers = generator.choice(2**24 - 1, generator.integers(8, 31), replace=False) + 1
    for number in numbers:
        y, x = generator.integers(0, (HEIGHT - 20, WIDTH - 20))
        height, width = generator.integers(20, 240, 2)
        ids[y : y + height, x : x + width] = number
    return ids, _segments(ids, {int(n): int(generator.integers(CLASSES)) for n in numbers})


def _segments(ids: Ids, classes: dict[int, int]) -> Segments:
    areas = {number: int((ids == number).sum()) for number in classes}
    return [
        {"id": number, "category_id": label, "area": areas[number], "iscrowd": 0}
        for number, label in classes.items()
        if areas[number]
    ]


def _prediction(truth: Prediction, generator: np.random.Generator) -> Prediction:
    """Return the truth, moved by a few pixels, with some classes changed."""
    ids = np.roll(truth[0], generator.integers(-8, 9, 2), (0, 1))
    labels = {s["id"]: s["category_id"] for s in truth[1]}
    for number in [*labels][::5]:
        labels[number] = int(generator.integers(CLASSES))
    return ids, _segments(ids, labels)


def _write(folder: Path, number: int, ids: Ids) -> None:
    Image.fromarray(encode_segment_ids(ids)).save(folder / f"{number}.png")


def _entries(segments: list[Segments]) -> list[dict[str, Any]]:
    return [
        {"image_id": number, "file_name": f"{number}.png", "segments_info": own}
        for number, own in enumerate(segments)
    ]


def _ours(truth: Path, annotated: list[Segments], predictions: list[Prediction]) -> list[float]:
    counts = PanopticCounts.zeros(CLASSES)
    for number, (segments, (ids, found)) in enumerate(zip(annotated, predictions, strict=True)):
        map_of = read_segment_ids(truth / f"{number}.png")
        counts += match_segments(map_of, segments, ids, found, CLASSES)
    return counts.means(range(CLASSES)).tolist()


def _theirs(
    truth: Path, found: Path, annotated: list[Segments], predictions: list[Prediction], write: bool
) -> list[float]:
    from panopticapi.evaluation import pq_compute_single_core

    if write:
        for number, (ids, _) in enumerate(predictions):
            _write(found, number, ids)
    categories = {n: {"id": n, "isthing": int(n < THINGS)} for n in range(CLASSES)}
    own = _entries([segments for _, segments in predictions])
    pairs = list(zip(_entries(annotated), own, strict=True))
    with redirect_stdout(StringIO()):
        stat = pq_compute_single_core(0, pairs, str(truth), str(found), categories)
    means, _ = stat.pq_average(categories, isthing=None)
    return [float(means[key]) for key in ("pq", "sq", "rq")]


def _timed(name: str, compute: Callable[[], list[float]], count: int) -> tuple[list[float], float]:
    start = time.process_time()
    values = compute()
    seconds = time.process_time() - start
    shown = ", ".join(f"{key} {v:.6f}" for key, v in zip(("PQ", "SQ", "RQ"), values, strict=True))
    print(f"  {name}: {seconds:.2f} CPU s, {1000 * seconds / count:.2f} ms per image; {shown}")
    return values, seconds


def _run(args: argparse.Namespace) -> None:
    generator = np.random.default_rng(0)
    print(f"panoptic quality, {args.images} images of {WIDTH} x {HEIGHT}, {CLASSES} classes")
    with tempfile.TemporaryDirectory() as name:
        truth, found = Path(name, "truth"), Path(name, "found")
        truth.mkdir()
        found.mkdir()
        annotated: list[Segments] = []
        predictions: list[Prediction] = []
        for number in range(args.images):
            pair = _segment_map(generator)
            _write(truth, number, pair[0])
            annotated.append(pair[1])
            predictions.append(_prediction(pair, generator))
        given = annotated, predictions
        ours, own = _timed(
            "d2ext, predictions in memory", lambda: _ours(truth, *given), args.images
        )
        try:
            import panopticapi  # noqa: F401
        except ImportError:
            print("  panopticapi: not installed")
            return
        for title, write in (("writing predictions", True), ("predictions written", False)):
            theirs, seconds = _timed(
                f"panopticapi, {title}",
                lambda write=write: _theirs(truth, found, *given, write),  # type: ignore[misc]
                args.images,
            )
            apart = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
            print(f"    d2ext takes {own / seconds:.2f} of it; largest difference {apart:.1e}")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=1000, help="number (default: 1000)")


register_benchmark("panoptic_quality", "time of PQ, and of panopticapi", _add_arguments, _run)
