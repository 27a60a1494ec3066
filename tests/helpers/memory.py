"""How much memory a worker of a loader takes of its own; measured in a process of its own.

In a process that ran other tests, a garbage collection or another thread writes to pages that a
forked worker shares, and so copies them.
"""

import pickle
import subprocess
import sys
from pathlib import Path

from torch.utils.data import DataLoader

from d2ext.data.loader import SeededDataset
from d2ext.data.sampling import Sample
from detectron2.data import DatasetFromList
from detectron2.structures import BoxMode

ROLLUP = Path("/proc/self/smaps_rollup")
ROOT = Path(__file__).parents[2]
IMAGES, OBJECTS = 8_000, 20


def measured(method: str) -> tuple[float, float]:
    """MiB of a made-up data set, and of it in a worker that `method` starts."""
    code = f"from tests.helpers.memory import measure; print(*measure({method!r}))"
    command = [sys.executable, "-c", code]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    size, extra = map(float, lines.splitlines()[-1].split())
    return size, extra


def measure(method):
    dicts = made_up(IMAGES)
    size = sum(len(pickle.dumps(item, -1)) for item in dicts) / 2**20
    return size, worker_memory(dicts, method) - worker_memory(dicts[:20], method)


def made_up(count):
    """Dicts; the pickles of 8,000 take some 9 MB, as Python objects about ten times that."""
    box = {"bbox_mode": BoxMode.XYXY_ABS, "category_id": 1}
    return [
        {
            "file_name": f"{number}.jpg",
            "image_id": number,
            "annotations": [
                {**box, "bbox": [number + 0.1, i + 0.2, number + 9.3, i + 9.4]}
                for i in range(OBJECTS)
            ],
        }
        for number in range(count)
    ]


def worker_memory(dicts, method):
    items = DatasetFromList(dicts, copy=False)
    loader = DataLoader(
        SeededDataset(items, Reads(items), seed=0),
        batch_size=None,
        sampler=[Sample(0, 0)],
        num_workers=1,
        multiprocessing_context=method,
    )
    return next(iter(loader))


class Reads:
    """Reads all dicts, as a mapper that mixes pictures may, and says how much memory that took."""

    def __init__(self, items):
        self.items = items

    def __call__(self, item):
        for position in range(len(self.items)):
            self.items[position]
        return private_megabytes()


def private_megabytes():
    lines = ROLLUP.read_text().splitlines()
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("Private_")]
    return sum(kilobytes) / 1024
