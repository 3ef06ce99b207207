"""A detectron2 `.pkl` checkpoint -> named tensors, with nothing in the file executed.

A pickle is a program: it names functions and calls them. Here every name it may use stands for an inert record of our
own, any other name is refused, and no function of NumPy is called before the records are checked. So a file can build
arrays of numbers, dicts, lists, tuples, strings and numbers, and nothing else; and no more of them than its size
allows (pickle_limits.py).
"""

from __future__ import annotations

import math
import pickle
import reprlib
import zipfile
from collections.abc import Callable
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from .errors import CheckpointError, UnsafeCheckpointError
from .pickle_limits import check_limits

# NumPy's codes of the numbers a weight may consist of
NUMBER_TYPES = {"b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"}


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The weights in a `.pkl` file of the original's model zoo, by their names there; floats are float32.

    The file is a pickled dict whose entry "model" maps names to NumPy arrays; its other entries (author, ...) are read
    and dropped.

    Raises:
        FileNotFoundError: no such file.
        UnsafeCheckpointError: the pickle uses a function or class other than those that rebuild arrays, or would build
            far more than its size allows.
        CheckpointError: it is no pickle, or holds no such dict.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No checkpoint at {path}.")
    if zipfile.is_zipfile(path):
        raise CheckpointError(f"{path} is a file of torch.save, expected a pickle (.pkl) of the original's model zoo.")
    with path.open("rb") as file:
        data = _unpickle(file, path)
    model = data.get("model") if isinstance(data, dict) else None
    if not isinstance(model, dict) or not model:
        found = f"the entries {_names(data)}" if isinstance(data, dict) else f"a {type(data).__name__}"
        raise CheckpointError(f'{path} holds {found}, expected a dict whose entry "model" holds the weights.')
    for name, value in model.items():
        if not isinstance(name, str) or not isinstance(value, _Array) or value.values is None:
            raise CheckpointError(
                f"{path}: weight {reprlib.repr(name)} is a {type(value).__name__}, expected a NumPy array."
            )
    # one at a time, so that file and tensors are never both whole in memory
    return {name: _to_tensor(model.pop(name).values) for name in list(model)}


def _names(entries: dict) -> str:
    """The keys of a dict, shortened where they are many or long."""
    return reprlib.repr(sorted(key if isinstance(key, str) else reprlib.repr(key) for key in entries))


def _to_tensor(array: np.ndarray) -> Tensor:
    dtype = np.float32 if array.dtype.kind == "f" else array.dtype.newbyteorder("=")
    return torch.from_numpy(array.astype(dtype, order="C"))


def _unpickle(file: BinaryIO, path: Path) -> Any:
    try:
        with mmap(file.fileno(), 0, access=ACCESS_READ) as content:  # whatever length the pickle asks for: its own
            check_limits(content)
            content.seek(0)
            # latin1 is how Python 3 reads the strings, and the bytes of arrays, that Python 2 wrote
            return _Unpickler(content, encoding="latin1").load()
    except UnsafeCheckpointError as error:
        raise UnsafeCheckpointError(f"{path} was refused, nothing in it was executed: {error}") from None
    except Exception as error:  # a broken pickle can fail in any way
        raise CheckpointError(f"{path} is not a readable pickle: {error}") from error


class _Unpickler(pickle.Unpickler):
    """Knows the names in `_GLOBALS` only."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _GLOBALS[module, name]
        except KeyError:
            raise UnsafeCheckpointError(
                f"it asks for {module}.{name}, and only NumPy arrays and plain containers are allowed."
            ) from None

    def persistent_load(self, pid: Any) -> Any:
        raise UnsafeCheckpointError(f"it refers to the outside object {reprlib.repr(pid)}.")


class _Dict(dict):
    """An OrderedDict, which may carry attributes (torch's `_metadata`): they are dropped."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


class _DType:
    """A type of numbers: NumPy's code without its byte order, and the byte order, `<` or `>`."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any):
        if code not in NUMBER_TYPES:
            raise UnsafeCheckpointError(
                f"it holds an array of type {reprlib.repr(code)}, and only plain numbers are allowed."
            )
        self.code = code
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        # (version, byte order, subtype, field names, fields, item size, alignment, flags)
        order = state[1]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise UnsafeCheckpointError("it holds an array of structured type, and only plain numbers are allowed.")
        self.order = ">" if order == ">" else "<"


class _Array:
    """An array: empty until its state arrives, then `values`, a read-only NumPy array on the file's bytes."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        # (version, shape, dtype, whether in Fortran's order, bytes)
        _, shape, dtype, fortran_order, data = state
        self.values = _array_of(data, dtype, shape, "F" if fortran_order else "C")


def _array_of(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """The array of these bytes, after every part was found to be what it must be."""
    if isinstance(data, str):
        data = data.encode("latin1")
    if not isinstance(data, (bytes, bytearray)) or not isinstance(dtype, _DType) or order not in ("C", "F"):
        raise UnsafeCheckpointError("it holds an array that is not made of the bytes of numbers.")
    if not _is_shape(shape):
        raise UnsafeCheckpointError(f"it holds an array of shape {reprlib.repr(shape)}.")
    expected = math.prod(shape) * int(dtype.code[1:])
    if len(data) != expected:
        raise UnsafeCheckpointError(f"it holds an array of {len(data)} bytes, expected {expected} for shape {shape}.")
    return np.frombuffer(data, dtype=dtype.order + dtype.code).reshape(shape, order=order)


def _is_shape(shape: Any) -> bool:
    """Whether these are lengths that NumPy can count with, in at most as many dimensions as it has."""
    return (
        isinstance(shape, tuple)
        and len(shape) <= 32
        and all(type(length) is int and 0 <= length < 1 << 40 for length in shape)
    )


class _Constructor:
    """A name that the pickle may call. It cannot be changed, whatever the pickle does with it."""

    __slots__ = ("_build",)

    def __init__(self, build: Callable[..., Any]):
        object.__setattr__(self, "_build", build)

    def __call__(self, *args: Any) -> Any:
        return self._build(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise UnsafeCheckpointError(f"it sets the attribute {reprlib.repr(name)} of a function.")

    def __setstate__(self, state: Any) -> None:
        raise UnsafeCheckpointError("it changes a function.")


def _ndarray(*args: Any) -> Any:
    raise UnsafeCheckpointError("it calls numpy.ndarray itself.")


_NDARRAY = _Constructor(_ndarray)


def _reconstruct(array_class: Any, shape: Any, code: Any) -> _Array:
    if array_class is not _NDARRAY:
        raise UnsafeCheckpointError("it holds a subclass of NumPy's array.")
    return _Array()


def _scalar(dtype: Any, data: Any) -> _Array:
    array = _Array()
    array.values = _array_of(data, dtype, (), "C")
    return array


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.values = _array_of(data, dtype, shape, order)
    return array


def _ordered_dict(items: Any = ()) -> _Dict:
    return _Dict(items)


def _dtype(code: Any, align: Any = False, copy: Any = True) -> _DType:
    return _DType(code)


def _encode(text: Any, encoding: Any) -> bytes:
    """How Python 3 writes bytes in the pickle protocols of Python 2."""
    if not isinstance(text, str) or encoding != "latin1":
        raise UnsafeCheckpointError(f"it encodes text as {reprlib.repr(encoding)}.")
    return text.encode("latin1")


_GLOBALS: dict[tuple[str, str], _Constructor] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Constructor(_dtype),
    ("collections", "OrderedDict"): _Constructor(_ordered_dict),
    ("_codecs", "encode"): _Constructor(_encode),
}
for _core in ("numpy.core", "numpy._core"):  # before and since NumPy 2
    _GLOBALS[f"{_core}.multiarray", "_reconstruct"] = _Constructor(_reconstruct)
    _GLOBALS[f"{_core}.multiarray", "scalar"] = _Constructor(_scalar)
    _GLOBALS[f"{_core}.numeric", "_frombuffer"] = _Constructor(_from_buffer)
