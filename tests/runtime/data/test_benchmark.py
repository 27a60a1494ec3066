import itertools
import logging

import pytest

from d2ext._detectron2 import provider
from detectron2.data.benchmark import DataLoaderBenchmark, iter_benchmark


def test_steps_after_the_warmup_are_timed():
    numbers = itertools.count()
    average, times = iter_benchmark(numbers, num_iter=4, warmup=3)
    assert len(times) == 4
    assert average >= max(times) / 4
    assert next(numbers) == 7


@pytest.mark.skipif(provider() == "official", reason="the official one divides by zero")
def test_timing_stops_at_the_time_limit():
    assert len(iter_benchmark(itertools.count(), 100, warmup=0, max_time_seconds=0)[1]) == 1


@pytest.mark.skipif(provider() == "official", reason="the official one needs an older NumPy")
@pytest.mark.parametrize("what", ["dataset", "mapper", "workers", "IPC", "distributed"])
def test_each_part_of_a_loader_is_timed(what, caplog):
    mapped = []

    def mapper(sample):
        mapped.append(sample["x"])
        return sample

    benchmark = DataLoaderBenchmark(
        [{"x": 1}, {"x": 2}], mapper=mapper, total_batch_size=2, num_workers=0
    )
    with caplog.at_level(logging.INFO):
        getattr(benchmark, f"benchmark_{what}")(num_iter=2, warmup=1)
    assert bool(mapped) == (what != "dataset")
    assert "it/s" in caplog.text
