"""Safe loading of pickles that hold nothing but NumPy arrays and plain values."""

import codecs
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import IO, Any

import numpy as np


def load_arrays(file: IO[bytes]) -> Any:
    """Load the dicts, lists, strings, numbers and arrays of a pickle of Python 2 or 3.

    Raises:
        pickle.UnpicklingError: the pickle is broken or holds anything else; nothing is executed.
    """
    return _ArrayUnpickler(file, encoding="latin1").load()


def _encode_latin1(text: str, encoding: str) -> bytes:
    if codecs.lookup(encoding).name != "iso8859-1":
        raise pickle.UnpicklingError(f"An array's bytes are encoded as {encoding}.")
    return text.encode("latin1")


def _array_functions() -> dict[tuple[str, str], Callable]:
    # The functions that NumPy's __reduce__ refers to, looked up for the installed NumPy.
    reconstruct: Any = np.ones(1).__reduce__()[0]
    scalar: Any = np.float64(0).__reduce__()[0]
    functions: dict[tuple[str, str], Callable] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _encode_latin1,  # how Python 3 writes bytes for Python 2
        ("collections", "OrderedDict"): OrderedDict,
    }
    for package in ("numpy.core", "numpy._core"):  # before and since NumPy 2
        functions[f"{package}.multiarray", "_reconstruct"] = reconstruct
        functions[f"{package}.multiarray", "scalar"] = scalar
        functions[f"{package}.numeric", "_frombuffer"] = _from_buffer
    return functions


def _from_buffer(buffer: bytes, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order="F" if order == "F" else "C")


class _ArrayUnpickler(pickle.Unpickler):
    _ADMITTED = _array_functions()

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in self._ADMITTED:
            raise pickle.UnpicklingError(
                f"it refers to {module_name}.{global_name}, and only NumPy arrays are read"
            )
        return self._ADMITTED[module_name, global_name]
