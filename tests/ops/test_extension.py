import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from d2ext.ops import extension


@pytest.fixture(autouse=True)
def _no_setting(monkeypatch):
    monkeypatch.delenv(extension.ENVIRONMENT_VARIABLE, raising=False)


def test_a_missing_extension_logs_the_build_command(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(extension, "PACKAGE", tmp_path / "d2ext")
    (tmp_path / "setup.py").touch()
    with caplog.at_level(logging.WARNING):
        state = extension.load_extension()
    assert f"cd {tmp_path} && python setup.py build_ext --inplace" in state
    assert "\n" not in state
    assert caplog.messages == [state]


def test_an_extension_that_fails_to_load_logs_the_reason(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(extension, "PACKAGE", tmp_path)
    (tmp_path / "_C.abi3.so").write_text("not a library")
    state = extension.load_extension()
    assert "does not load" in state
    assert "_C.abi3.so" in state
    assert "\n" not in state
    assert caplog.messages == [state]


@pytest.fixture
def cpu_kernels(monkeypatch, tmp_path):
    """Return a package folder whose CPU library loads; PyTorch loads any other library in it."""
    load = torch.ops.load_library
    monkeypatch.setattr(extension, "PACKAGE", tmp_path)
    monkeypatch.setattr(
        torch.ops, "load_library", lambda name: None if "_C." in name else load(name)
    )
    (tmp_path / "_C.abi3.so").touch()
    return tmp_path


def test_cuda_kernels_that_fail_to_load_log_the_reason(monkeypatch, cpu_kernels, caplog):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    (cpu_kernels / "_C_cuda.abi3.so").write_text("not a library")
    state = extension.load_extension()
    assert state.startswith("operators: compiled for CPU; plain and slower on CUDA")
    assert "_C_cuda.abi3.so does not load" in state
    assert "\n" not in state
    assert caplog.messages == [state]


@pytest.mark.parametrize(
    ("cuda", "driver", "is_told"),
    [("13.0", "/usr/bin/nvidia-smi", True), ("13.0", None, False), (None, "nvidia-smi", False)],
)
def test_missing_cuda_kernels_are_logged_only_where_usable(
    monkeypatch, cpu_kernels, caplog, cuda, driver, is_told
):
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(extension.shutil, "which", {"nvidia-smi": driver}.get)
    state = extension.load_extension()
    assert state.startswith("operators: compiled for CPU")
    assert ("not built, which takes nvcc" in state) == is_told
    assert caplog.messages == ([state] if is_told else [])


def test_cuda_kernels_are_not_loaded_by_pytorch_without_cuda(monkeypatch, cpu_kernels):
    monkeypatch.setattr(torch.version, "cuda", None)
    (cpu_kernels / "_C_cuda.abi3.so").write_text("not a library")
    assert extension.load_extension() == "operators: compiled for CPU"


def test_only_the_main_process_logs(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(extension, "PACKAGE", tmp_path)
    monkeypatch.setenv("LOCAL_RANK", "1")
    extension.load_extension()
    assert caplog.messages == []


def test_environment_variable_switches_the_extension_off(monkeypatch):
    monkeypatch.setenv(extension.ENVIRONMENT_VARIABLE, "off")
    assert "off" in extension.load_extension()
    monkeypatch.setenv(extension.ENVIRONMENT_VARIABLE, "no")
    with pytest.raises(ImportError, match="D2EXT_EXTENSION=no"):
        extension.load_extension()


def test_importing_ops_imports_no_detectron2_and_starts_no_cuda():
    script = (
        "import sys, torch, d2ext.ops; "
        "print('detectron2' in sys.modules, torch.cuda.is_initialized())"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert answer.stdout.split() == ["False", "False"], answer.stderr


def test_kernels_are_registered_if_the_extension_is_loaded():
    from d2ext.ops import EXTENSION_STATE

    loaded = torch._C._dispatch_has_kernel_for_dispatch_key("d2ext::deform_conv2d", "CPU")
    assert loaded == EXTENSION_STATE.startswith("operators: compiled")


# PyTorch's are fast on GPUs, and levels go one by one there.
CPU_ONLY = ("channel_affine", "deform_conv2d_levels", "depthwise_conv2d", "winograd_conv2d")


@pytest.mark.parametrize("device", ["CPU", "CUDA"])
def test_every_operator_has_a_compiled_kernel(device):
    from d2ext.ops import EXTENSION_STATE

    if device not in EXTENSION_STATE.split(";")[0]:
        pytest.skip(f"not compiled for {device}")
    names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("d2ext::")]
    if device == "CUDA":
        names = [name for name in names if not name.removeprefix("d2ext::").startswith(CPU_ONLY)]
    assert names
    without = [n for n in names if not torch._C._dispatch_has_kernel_for_dispatch_key(n, device)]
    assert without == []


def test_no_two_headers_define_a_type_of_the_same_name():
    """The linker would merge functions of both, and one of them would read beyond its buffers."""
    places = {}
    for header in sorted(Path(extension.__file__).parents[1].glob("csrc/**/*.h")):
        for name in re.findall(r"^(?:struct|class) (\w+)\b(?!;)", header.read_text(), re.MULTILINE):
            places.setdefault(name, set()).add(header.parent.name + "/" + header.name)
    assert len(places) > 30
    assert not {name: found for name, found in places.items() if len(found) > 1}
