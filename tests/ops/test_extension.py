import logging
import subprocess
import sys

import pytest
import torch

from d2ext.ops import extension


@pytest.fixture(autouse=True)
def _no_setting(monkeypatch):
    monkeypatch.delenv(extension.ENVIRONMENT_VARIABLE, raising=False)


def test_a_missing_extension_is_said_in_one_line_with_the_command_that_builds_it(
    monkeypatch, tmp_path, caplog
):
    monkeypatch.setattr(extension, "PACKAGE", tmp_path / "d2ext")
    (tmp_path / "setup.py").touch()
    with caplog.at_level(logging.WARNING):
        state = extension.load_extension()
    assert f"cd {tmp_path} && python setup.py build_ext --inplace" in state
    assert "\n" not in state
    assert caplog.messages == [state]


def test_an_extension_that_does_not_load_is_no_error_and_says_why(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(extension, "PACKAGE", tmp_path)
    (tmp_path / "_C.abi3.so").write_text("not a library")
    state = extension.load_extension()
    assert "does not load" in state
    assert "_C.abi3.so" in state
    assert "\n" not in state
    assert caplog.messages == [state]


def test_processes_other_than_the_first_stay_silent(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(extension, "PACKAGE", tmp_path)
    monkeypatch.setenv("LOCAL_RANK", "1")
    extension.load_extension()
    assert caplog.messages == []


def test_the_variable_switches_the_extension_off(monkeypatch):
    monkeypatch.setenv(extension.ENVIRONMENT_VARIABLE, "off")
    assert "off" in extension.load_extension()
    monkeypatch.setenv(extension.ENVIRONMENT_VARIABLE, "no")
    with pytest.raises(ImportError, match="D2EXT_EXTENSION=no"):
        extension.load_extension()


def test_importing_the_operators_does_not_import_detectron2_or_start_cuda():
    script = (
        "import sys, torch, d2ext.ops; "
        "print('detectron2' in sys.modules, torch.cuda.is_initialized())"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert answer.stdout.split() == ["False", "False"], answer.stderr


def test_the_kernels_are_registered_when_the_extension_is_loaded():
    from d2ext.ops import EXTENSION_STATE

    loaded = torch._C._dispatch_has_kernel_for_dispatch_key("d2ext::deform_conv2d", "CPU")
    assert loaded == EXTENSION_STATE.startswith("operators: compiled")
