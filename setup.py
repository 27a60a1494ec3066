"""Build of the extensions d2ext._C and d2ext._C_cuda; configs and projects are added to wheels.

The rest of the packaging is in pyproject.toml. `python setup.py build_ext --inplace` builds in a
checkout and shows the compiler's messages. When pip installs, a failed build is no error, since it
costs only speed; D2EXT_REQUIRE_EXTENSION=1 makes it one. FORCE_CUDA=1 compiles the CUDA kernels on
a machine without a GPU, for TORCH_CUDA_ARCH_LIST.
"""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import PlatformError

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT / "build_support"))
import cuda_build  # noqa: E402

STABLE_SINCE = "0x020a000000000000"  # PyTorch 2.10: the oldest that the extension runs on
FLAGS = ["/std:c++17", "/O2"]
if os.name != "nt":
    # Nothing reads floating-point exception flags, so vectorised code may compute both branches.
    FLAGS = ["-std=c++17", "-O3", "-fopenmp-simd", "-fno-trapping-math"]


class BuildExtension(build_ext):
    """`build_ext` against the installed PyTorch, which is located but never imported."""

    def run(self) -> None:
        """Build; unless the extension is required, failures are printed but not raised."""
        asked_for = self.inplace and not self.editable_mode
        required = asked_for or os.environ.get("D2EXT_REQUIRE_EXTENSION") == "1"
        for extension in self.extensions:
            extension.optional = not required
        super().run()

    def build_extensions(self) -> None:
        """Build all extensions, compiling their sources in parallel."""
        self.compiler.compile = in_parallel(self.compiler.compile)
        super().build_extensions()

    def build_extension(self, extension: Extension) -> None:
        """Build one extension with the headers and libraries of the installed PyTorch.

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
        if extension.name.endswith("_cuda"):
            self._compile_cuda(extension, pytorch)
        super().build_extension(extension)

    def _compile_cuda(self, extension: Extension, pytorch: Path) -> None:
        """Compile CUDA sources and leave only their objects to setuptools, which knows no nvcc.

        Raises:
            PlatformError: PyTorch has no CUDA, or nvcc fails.
        """
        if not list((pytorch / "lib").glob("*torch_cuda.*")):
            raise PlatformError("PyTorch was built without CUDA")
        try:
            extension.extra_objects = cuda_build.compile_all(
                extension.sources, self.build_temp, extension.include_dirs, extension.define_macros
            )
        except OSError as error:
            raise PlatformError(str(error)) from error
        extension.sources = []
        extension.depends = extension.depends + extension.extra_objects  # so that they are linked
        lib = cuda_build.toolkit() / ("lib/x64" if os.name == "nt" else "lib64")
        extension.library_dirs.append(str(lib))

    def get_export_symbols(self, extension: Extension) -> list[str]:
        """Return no symbols: it is a library of PyTorch operators, not a Python module."""
        return []


def in_parallel(compile_all: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """Wrap a setuptools compiler's `compile` to run once per source, each in its own thread."""

    def compile_each(sources: list[str], *args: object, **options: object) -> list[str]:
        with ThreadPoolExecutor(cuda_build.jobs()) as pool:
            found = pool.map(lambda source: compile_all([source], *args, **options), sources)
            return [target for targets in found for target in targets]

    return compile_each


class BuildPackage(build_py):
    """`build_py` that copies configs and projects into the package, for installs from a wheel."""

    def run(self) -> None:
        """Build, then copy them unless the install is editable."""
        super().run()
        if self.editable_mode:
            return
        package = Path(self.build_lib) / "d2ext"
        ignore = shutil.ignore_patterns("__pycache__", "tests")
        for source in filter(Path.is_dir, (ROOT / "configs", ROOT / "projects")):
            shutil.copytree(source, package / source.name, ignore=ignore, dirs_exist_ok=True)


class BuildWheel(bdist_wheel):
    """`bdist_wheel` whose wheel is for any machine if no extension could be built."""

    def run(self) -> None:
        """Build, look for the extensions, and pack."""
        self.run_command("build")
        self.skip_build = True
        build = self.get_finalized_command("build_ext")
        paths = [build.get_ext_fullpath(one.name) for one in self.distribution.ext_modules]
        if not any(map(os.path.exists, paths)):
            self.distribution.ext_modules = []
            self.root_is_pure = True
        super().run()


def extension(name: str, sources: str, libraries: list[str], **options: object) -> Extension:
    """Describe one extension; its binary fits PyTorch 2.10 and later and any Python from 3.10."""
    headers = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("d2ext/csrc/**/*.h"))
    return Extension(
        name,
        sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(f"d2ext/csrc/*/{sources}")),
        depends=headers,
        libraries=libraries,
        language="c++",
        py_limited_api=True,
        **options,
    )


def extensions() -> list[Extension]:
    """Return the extension of the CPU kernels and, if CUDA is wanted, that of the CUDA kernels.

    Two libraries, since the second does not load into a PyTorch without CUDA.
    """
    stable = ("TORCH_TARGET_VERSION", STABLE_SINCE)
    pytorch = ["torch_cpu", "c10"]
    cpu = extension(
        "d2ext._C", "cpu.cpp", pytorch, define_macros=[stable], extra_compile_args=FLAGS
    )
    if not cuda_build.is_wanted():
        return [cpu]
    # CUDA's runtime is linked statically, so that PyTorch may bring another version of it.
    runtime = ["cudart"] if os.name == "nt" else ["cudart_static", "rt", "dl", "pthread"]
    macros = [stable, ("USE_CUDA", "1")]
    libraries = ["torch_cuda", *pytorch, *runtime]
    return [cpu, extension("d2ext._C_cuda", "cuda.cu", libraries, define_macros=macros)]


setup(
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildExtension, "build_py": BuildPackage, "bdist_wheel": BuildWheel},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
