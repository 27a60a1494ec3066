"""Worker processes share the data set instead of each having a copy."""

import pytest

from tests.helpers.memory import ROLLUP, measured


@pytest.mark.skipif(not ROLLUP.exists(), reason="memory is read from Linux's /proc")
@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_a_worker_takes_no_copy_of_the_data_set(method):
    size, extra = measured(method)
    print(f"{size:.0f} MiB of data, {extra:.1f} MiB more in a worker")
    assert extra < 0.3 * size
