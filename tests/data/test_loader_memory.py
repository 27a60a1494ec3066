"""Worker processes share the data set instead of each having a copy."""

import gc
import pickle

import pytest
from torch.utils.data import DataLoader

from d2ext.data.loader import SeededDataset
from d2ext.data.sampling import Sample
from detectron2.data import DatasetFromList
from detectron2.structures import BoxMode
from tests.helpers.memory import ROLLUP, Reads

IMAGES, OBJECTS = 8_000, 20


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


@pytest.mark.skipif(not ROLLUP.exists(), reason="memory is read from Linux's /proc")
@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_a_worker_takes_no_copy_of_the_data_set(method):
    dicts = made_up(IMAGES)
    size = sum(len(pickle.dumps(item, -1)) for item in dicts) / 2**20
    extra = worker_memory(dicts, method) - worker_memory(dicts[:20], method)
    print(f"{size:.0f} MiB of data, {extra:.1f} MiB more in a worker")
    assert extra < 0.3 * size


def worker_memory(dicts, method):
    items = DatasetFromList(dicts, copy=False)
    loader = DataLoader(
        SeededDataset(items, Reads(items), seed=0),
        batch_size=None,
        sampler=[Sample(0, 0)],
        num_workers=1,
        multiprocessing_context=method,
    )
    # A garbage collection in a forked worker writes to every object that earlier tests left in
    # the parent, and so copies their pages; frozen ones it leaves alone.
    gc.collect()
    gc.freeze()
    try:
        return next(iter(loader))
    finally:
        gc.unfreeze()
