import importlib.util
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="module")
def benchmark():
    path = Path(__file__).parents[2] / "tools" / "benchmark.py"
    spec = importlib.util.spec_from_file_location("benchmark", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_everything_that_is_timed_computes_the_same(benchmark):
    inputs = benchmark.problem((1, 3, 4), torch.float32)
    results = {name: way(*inputs) for name, way in benchmark.WAYS.items()}
    torch.testing.assert_close(results["d2ext"], results["torchvision"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(results["reference"], results["torchvision"], rtol=1e-4, atol=1e-4)


def test_a_line_a_way_is_printed_with_the_ratio_to_the_peer(benchmark, capsys):
    benchmark.compare((1, 2, 2), torch.float32, repeats=1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(benchmark.WAYS)
    assert "1.0x" in next(line for line in lines if "torchvision" in line)


def test_memory_that_a_function_takes_is_seen(benchmark):
    taken = benchmark.peak_memory(lambda: torch.ones(64, 2**18))
    if taken != taken:
        pytest.skip("this system does not tell")
    assert 60 < taken < 80
