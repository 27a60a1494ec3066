"""Whether CUDA sources are compiled, for which GPUs and with which flags."""

import importlib.util
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

SOURCE = Path(__file__).parents[2] / "build_support/cuda_build.py"
SETTINGS = ("CUDA_HOME", "CUDA_PATH", "FORCE_CUDA", "MAX_JOBS", "TORCH_CUDA_ARCH_LIST")

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the compilers of these tests are scripts")


@pytest.fixture
def cuda_build(monkeypatch):
    """Return the module as on a machine with one Hopper GPU and no settings."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    spec = importlib.util.spec_from_file_location("cuda_build", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "_present_architectures", lambda: ["9.0"])
    return module


@pytest.fixture
def toolkit(tmp_path, monkeypatch):
    """Return a toolkit whose nvcc writes its arguments into the object file."""
    home = tmp_path / "toolkit"
    (home / "include").mkdir(parents=True)
    (home / "include/cuda_runtime.h").touch()
    (home / "bin").mkdir()
    nvcc = home / "bin/nvcc"
    nvcc.write_text('#!/bin/sh\ncase "$2" in *broken*) exit 1;; esac\necho "$@" >"$4"\n')
    nvcc.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(home))
    return home


@pytest.mark.parametrize(
    ("forced", "gpus", "wanted"),
    [("", ["9.0"], True), ("", [], False), ("1", [], True), ("0", ["9.0"], False)],
)
def test_cuda_is_built_for_a_gpu_or_by_force_cuda(
    cuda_build, toolkit, monkeypatch, forced, gpus, wanted
):
    monkeypatch.setenv("FORCE_CUDA", forced)
    monkeypatch.setattr(cuda_build, "_present_architectures", lambda: gpus)
    assert cuda_build.is_wanted() == wanted


def test_without_a_toolkit_cuda_is_not_built(cuda_build, monkeypatch):
    monkeypatch.setattr(cuda_build, "toolkit", lambda: None)
    assert not cuda_build.is_wanted()
    with pytest.raises(OSError, match="set CUDA_HOME"):
        cuda_build.compile_all(["a.cu"], "build", [], [])


def test_a_link_to_nvcc_leads_to_the_toolkit_but_a_wrapper_does_not(
    cuda_build, toolkit, monkeypatch, tmp_path
):
    monkeypatch.delenv("CUDA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/nvcc").symlink_to(toolkit / "bin/nvcc")
    assert cuda_build.toolkit() == toolkit
    (tmp_path / "bin/nvcc").unlink()
    (tmp_path / "bin/nvcc").write_text("#!/bin/sh\n")
    (tmp_path / "bin/nvcc").chmod(0o755)
    assert cuda_build.toolkit() in (None, Path("/usr/local/cuda"))


def test_each_source_is_compiled_for_the_listed_architectures(
    cuda_build, toolkit, monkeypatch, tmp_path
):
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0;9.0a+PTX")
    sources = ["ops/one/cuda.cu", "ops/two/cuda.cu"]
    objects = cuda_build.compile_all(sources, str(tmp_path), ["include"], [("A", "1")])
    assert len(set(objects)) == 2
    for source, made in zip(sources, objects, strict=True):
        flags = Path(made).read_text().split()
        assert flags[:2] == ["-c", source]
        assert {"-Iinclude", "-DA=1"} <= set(flags)
        assert [flag for flag in flags if flag.startswith("-gencode")] == [
            "-gencode=arch=compute_80,code=sm_80",
            "-gencode=arch=compute_90a,code=sm_90a",
            "-gencode=arch=compute_90a,code=compute_90a",
        ]


@pytest.mark.parametrize(
    ("gpus", "last"),
    [
        (["8.6"], "-gencode=arch=compute_86,code=sm_86"),
        ([], "-gencode=arch=compute_90,code=compute_90"),
    ],
)
def test_default_architectures_are_the_present_gpu_or_a_list(cuda_build, monkeypatch, gpus, last):
    monkeypatch.setattr(cuda_build, "_present_architectures", lambda: gpus)
    monkeypatch.setattr(cuda_build, "_known_architectures", lambda: ["8.0", "9.0+PTX"])
    targets = cuda_build._targets()
    assert targets[-1] == last
    assert (len(targets) == 1) == bool(gpus)


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ("sm_75 sm_80 sm_86 sm_89 sm_90 sm_100 sm_120 sm_121", "7.5 8.0 8.6 8.9 9.0 10.0 12.0+PTX"),
        ("sm_70 sm_75 sm_80 sm_86 sm_89 sm_90", "7.5 8.0 8.6 8.9 9.0+PTX"),
        ("", ""),
    ],
)
def test_known_architectures_are_those_that_nvcc_lists(cuda_build, listed, expected):
    def run(command: list[str], **_: object) -> SimpleNamespace:
        return SimpleNamespace(stdout=listed.replace(" ", "\n"))

    assert " ".join(cuda_build._known_architectures(run)) == expected


def test_an_unknown_architecture_raises(cuda_build, monkeypatch):
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0 Hopper")
    with pytest.raises(OSError, match=r"'Hopper' is not of the form 9\.0"):
        cuda_build._targets()


def test_a_source_that_does_not_compile_is_named(cuda_build, toolkit, tmp_path):
    with pytest.raises(OSError, match=r"does not compile ops/broken\.cu"):
        cuda_build.compile_all(["ops/broken.cu"], str(tmp_path), [], [])


def test_no_driver_means_no_gpu(cuda_build, monkeypatch):
    spec = importlib.util.spec_from_file_location("cuda_build", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("PATH", "")
    assert module._present_architectures() == []
