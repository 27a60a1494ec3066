import sys

import pytest
import torch

from d2ext.engine.memory import peak_memory


@pytest.mark.skipif(sys.platform == "win32", reason="not known there")
def test_peak_memory_is_in_mebibytes() -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU's memory is measured there")
    assert 50 < peak_memory() < 100_000
