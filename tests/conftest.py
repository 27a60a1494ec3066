"""What every test shares."""

import os

import pytest
import torch
from hypothesis import settings

import d2ext
from d2ext._detectron2 import provider

# Recipes fetch weights where there is a network; processes that tests start must not, either.
os.environ.setdefault("D2EXT_OFFLINE", "1")

# Processes that share the cores (pytest -n) take one thread each, and so do those that they start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)

# A loaded machine is no fault of the code.
settings.register_profile("d2ext", deadline=None)
settings.load_profile("d2ext")


def pytest_report_header() -> str:
    import detectron2

    return f"d2ext {d2ext.__version__}, detectron2 {detectron2.__version__} ({provider()})"


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """The CPU always, CUDA where there is one."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)
