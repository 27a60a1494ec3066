"""Speed of data loading compared with the official package, for 640x480 photos.

The photos are resized to a short side of 800 pixels.

Run as a script, it times the one package that its process imports as `detectron2`.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.providers import in_turns
from benchmarks.registry import register_benchmark

WIDTH, HEIGHT, OBJECTS = 640, 480, 7
GOAL = 2.0


def report(official: str | None, images: int, rounds: int) -> None:
    """Print images per second of one process, for d2ext and the official package.

    Args:
        official: folder that holds the official `detectron2`, or None to leave it out.
        images: photos per round.
        rounds: the providers take turns; the best round of each counts.
    """
    print(f"\ndata loading, {WIDTH}x{HEIGHT} JPEGs to a short side of 800  [goal: {GOAL:g}x]")
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder), images)
        speeds = {
            name: max(found)
            for name, found in in_turns(__file__, [folder], official, rounds).items()
        }
    for name, speed in speeds.items():
        ratio = f"{speed / speeds['official']:6.1f}x" if official is not None else ""
        print(f"  {name:24} {speed:9.1f} images/s {ratio}")


def write_photos(folder: Path, count: int) -> None:
    """Write JPEGs with the detail of photos, about 120 kB each, named by their numbers."""
    # The time to decode a JPEG depends on its detail: plain colours would flatter the decoder.
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = rng.integers(0, 256, (HEIGHT // 16, WIDTH // 16, 3), dtype=np.uint8)
        smooth = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        grain = rng.integers(-8, 9, smooth.shape)
        photo = (smooth + grain).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number}.jpg"), photo, [cv2.IMWRITE_JPEG_QUALITY, 90])


def images_per_second(folder: Path) -> float:
    """Return the speed of the default training mapper, after a warm-up."""
    # Imported here, in the process whose search path decides which detectron2 this is.
    import d2ext  # noqa: F401
    from detectron2.config import get_cfg
    from detectron2.data import DatasetMapper
    from detectron2.structures import BoxMode

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    mapper = DatasetMapper(get_cfg(), is_train=True)
    box = {"bbox": [50, 60, 200, 300], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1}
    samples = [
        {
            "file_name": str(path),
            "height": HEIGHT,
            "width": WIDTH,
            "annotations": [{**box, "iscrowd": 0} for _ in range(OBJECTS)],
        }
        for path in sorted(folder.glob("*.jpg"))
    ]
    for sample in samples[:5]:
        mapper(sample)
    start = time.perf_counter()
    for sample in samples:
        mapper(sample)
    return len(samples) / (time.perf_counter() - start)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--official", metavar="FOLDER", help="holds the official detectron2")
    parser.add_argument("--images", type=int, default=100, help="photos per round")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; the best one counts")


def _run(args: argparse.Namespace) -> None:
    report(args.official, args.images, args.repeats)


register_benchmark(
    "data_loading", "speed of the training mapper, compared with Detectron2's", _add_arguments, _run
)

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    print(json.dumps(images_per_second(parser.parse_args().folder)))
