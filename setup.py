"""Builds the extension d2ext._C, and adds configs and projects to wheels; the rest of the
packaging is in pyproject.toml.

`python setup.py build_ext --inplace` builds the extension in a checkout and shows what the compiler
says. While pip installs, a failure costs speed only; with D2EXT_REQUIRE_EXTENSION=1 it is an error.
"""

import importlib.util
import os
import shutil
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import PlatformError

ROOT = Path(__file__).parent
STABLE_SINCE = "0x020a000000000000"  # PyTorch 2.10: the oldest that the extension runs on
FLAGS = ["/std:c++17", "/O2"] if os.name == "nt" else ["-std=c++17", "-O3", "-fopenmp-simd"]


class BuildExtension(build_ext):
    """Compiles against the installed PyTorch, which is looked for but never imported."""

    def run(self) -> None:
        """Build, or say in a line why not."""
        asked_for = self.inplace and not self.editable_mode
        required = asked_for or os.environ.get("D2EXT_REQUIRE_EXTENSION") == "1"
        for extension in self.extensions:
            extension.optional = not required
        super().run()

    def build_extension(self, extension: Extension) -> None:
        """Add what depends on PyTorch's place.

        Raises:
            PlatformError: there is no PyTorch to build against.
        """
        spec = importlib.util.find_spec("torch")
        if spec is None or spec.origin is None:
            raise PlatformError("PyTorch is not installed")
        pytorch = Path(spec.origin).parent
        include = pytorch / "include"
        extension.include_dirs += [str(include), str(include / "torch/csrc/api/include")]
        extension.library_dirs.append(str(pytorch / "lib"))
        super().build_extension(extension)

    def get_export_symbols(self, extension: Extension) -> list[str]:
        """None: it is a library of PyTorch operators, not a Python module."""
        return []


class BuildPackage(build_py):
    """Carries configs and projects inside the package where there is no checkout."""

    def run(self) -> None:
        """Copy them unless the install is editable."""
        super().run()
        if self.editable_mode:
            return
        package = Path(self.build_lib) / "d2ext"
        ignore = shutil.ignore_patterns("__pycache__", "tests")
        for source in filter(Path.is_dir, (ROOT / "configs", ROOT / "projects")):
            shutil.copytree(source, package / source.name, ignore=ignore, dirs_exist_ok=True)


def extension() -> Extension:
    """The operators' kernels: one binary for every PyTorch from 2.10 on and every Python."""
    sources = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("d2ext/csrc/*/cpu.cpp"))
    headers = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("d2ext/csrc/**/*.h"))
    return Extension(
        "d2ext._C",
        sources,
        depends=headers,
        define_macros=[("TORCH_TARGET_VERSION", STABLE_SINCE)],
        extra_compile_args=FLAGS,
        libraries=["torch_cpu", "c10"],
        language="c++",
        py_limited_api=True,
    )


setup(
    ext_modules=[extension()],
    cmdclass={"build_ext": BuildExtension, "build_py": BuildPackage},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
