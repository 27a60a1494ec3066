"""The wheel that is built where no extension can be."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("setuptools", minversion="77.0.3")  # reads an SPDX licence

IGNORED = shutil.ignore_patterns("__pycache__", "*.so", "runtime", "tests")


@pytest.mark.skipif(os.name == "nt", reason="CC and CXX do not choose MSVC")
def test_a_wheel_without_an_extension_is_for_any_machine(tmp_path):
    source = tmp_path / "source"
    for name in ("d2ext", "build_support", "configs", "projects"):
        shutil.copytree(ROOT / name, source / name, ignore=IGNORED)
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    environment = {**os.environ, "CC": "/bin/false", "CXX": "/bin/false"}
    environment.pop("D2EXT_REQUIRE_EXTENSION", None)
    command = [sys.executable, "setup.py", "--quiet", "bdist_wheel", "--dist-dir", "../dist"]
    subprocess.run(command, cwd=source, env=environment, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").iterdir()
    assert wheel.name.endswith("-py3-none-any.whl")
    names = ZipFile(wheel).namelist()
    assert {"d2ext/py.typed", "d2ext/configs/dyhead_swint.yaml"} <= set(names)
    assert sum(name.endswith(("licenses/LICENSE", "licenses/NOTICE")) for name in names) == 2
    assert not [name for name in names if ".data/" in name or name.endswith(".so")]
