"""Pytest plugin: tests of the operators on emulated CUDA kernels.

`python -m pytest -p tests.cuda_emulation.plugin tests/ops [--checked]`. Tensors stay on the CPU:
the emulated kernels take the place of those for CPUs. Only tests that take the `device` fixture
run, since these serve any device, and of them none that calls an operator hundreds of times or
fills the tiles of a GPU, which the emulator makes small.
"""

import ctypes
import os
import re
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["D2EXT_EXTENSION"] = "off"  # before d2ext.ops is imported: the kernels for CPUs

from tests.cuda_emulation.build import CSRC, build

LONG = ("opcheck", "gradcheck", "compile", "finite_differences", "several_tiles")
_state: dict[str, ctypes.CDLL] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the build; the last two are for mutations."""
    text = "watch races, bounds, alignment and unwritten shared memory in the emulated kernels"
    parser.addoption("--checked", action="store_true", help=text)
    parser.addoption("--csrc", type=Path, default=CSRC, help="folder of the CUDA sources")
    parser.addoption("--operator", default="", help="emulate this operator only")


def pytest_configure(config: pytest.Config) -> None:
    """Build the kernels and register them."""
    import torch

    import d2ext.ops  # noqa: F401  the operators are defined

    assert config.cache is not None
    library = build(
        Path(config.cache.mkdir("cuda_emulation")),
        checked=config.getoption("checked"),
        csrc=config.getoption("csrc"),
        only=config.getoption("operator"),
    )
    torch.ops.load_library(str(library))
    torch.set_num_threads(1)
    _state["library"] = ctypes.CDLL(str(library))
    _state["library"].emulated_faults.restype = ctypes.c_char_p


def pytest_report_header() -> str:
    """Return the CPU seconds of the build."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return f"emulated CUDA kernels, built in {used.ru_utime + used.ru_stime:.1f} CPU seconds"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that serve any device."""
    kept = [item for item in items if _serves_emulator(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _serves_emulator(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    device = callspec.params.get("device") if callspec else None
    return device == "cpu" and not any(word in item.name for word in LONG)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test whose kernels did what CUDA forbids, even if it expected an error."""
    try:
        yield
    finally:
        faults = _state["library"].emulated_faults().decode()
        if faults:
            pytest.fail(re.sub(r"\+(0x[0-9a-f]+)", _line_of, faults), pytrace=False)


def _line_of(offset: re.Match) -> str:
    """Return the file and line of code at an offset in the library."""
    command = ["addr2line", "-e", _state["library"]._name, offset[1]]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how many kernels were launched: none means that nothing was tested."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = used.ru_utime + used.ru_stime
    launches = _state["library"].emulated_launches()
    terminalreporter.write_line(f"{launches} emulated launches, {seconds:.1f} CPU seconds")
