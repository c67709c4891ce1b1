"""What a pickle may speak of: the names of arrays, tensors and a few plain containers, and what stands for each.

Nothing here imports or calls what a pickle names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .unreadable import Unreadable

ARRAYS = frozenset(
    {
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.numeric", "_frombuffer"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    }
)
"""What a pickled array consists of (LivePortrait's SPEC.md section 14)."""

STORAGES = {"DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
            "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
            "BoolStorage": "BOOL"}
"""torch's kinds of numbers in safetensors' words."""

PATHS = frozenset(("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path"))

ALLOWED = (
    ARRAYS
    | {("collections", "OrderedDict"), ("argparse", "Namespace"), ("torch._utils", "_rebuild_tensor_v2"),
       ("torch._utils", "_rebuild_tensor"), ("torch._utils", "_rebuild_parameter"), ("torch", "Size")}
    | {("torch", storage) for storage in STORAGES}
    # Python 3.13 writes the longer name.
    | {(module, path) for module in ("pathlib", "pathlib._local") for path in PATHS}
)
"""Every name that a pickle may mention."""

@dataclass(frozen=True)
class Storage:
    """Numbers that lie beside a pickle.

    Attributes:
        key: their name in the archive.
        dtype: number format in safetensors' words.
        count: how many.
    """

    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor's numbers lie: ``offset``, ``shape`` and ``stride`` in numbers of ``storage``, never beyond it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Name:
    """A global that the pickle mentions: a word, never the object."""

    name: str


class Namespace(dict):
    """argparse's, as names and values."""


class _Format:
    """A number format: what ``numpy.dtype`` would be."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "<"

    def set_state(self, state: Any) -> None:
        # (version, byte order, sub-array, names, fields, size, alignment, flags): plain numbers have only an order.
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise Unreadable("holds an array of records")
        if state[1] not in ("<", ">", "|", "="):
            raise Unreadable("holds an array in an unknown byte order")
        self.order = state[1]

    def dtype(self) -> np.dtype:
        if self.code not in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"):
            raise Unreadable(f"holds an array of {self.code[:20]!r} where numbers are needed")
        return np.dtype(self.order.replace("|", "=") + self.code)


class _Array:
    """An array that waits for its contents."""

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise Unreadable("holds a damaged array")
        _, shape, form, fortran, data = state
        self.value = _array(data, form, shape, "F" if fortran else "C")


def _array(data: Any, form: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(form, _Format):
        raise Unreadable("holds an array without a number format")
    dtype = form.dtype()
    if not isinstance(data, (bytes, bytearray)) or order not in ("C", "F"):
        raise Unreadable("holds a damaged array")
    if not isinstance(shape, tuple) or len(shape) > 8 or not all(type(n) is int and n >= 0 for n in shape):
        raise Unreadable("holds an array of impossible shape")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise Unreadable("holds an array whose shape and contents disagree")
    if not data:
        return np.zeros(0, dtype)
    return np.frombuffer(bytes(data), dtype).reshape(shape, order=order)


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any) -> StoredTensor:
    whole = isinstance(shape, tuple) and isinstance(stride, tuple) and len(shape) == len(stride) <= 16 \
        and all(type(n) is int and n >= 0 for n in (offset, *shape, *stride))
    if not isinstance(storage, Storage) or not whole:
        raise Unreadable("holds a damaged tensor")
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if 0 not in shape and last >= storage.count:
        raise Unreadable("holds a tensor that reaches beyond its own numbers")
    return StoredTensor(storage, offset, shape, stride)


def _dictionary(pairs: Any = ()) -> dict:
    """Python 2 gives an ordered dictionary's items where it is made, as lists of two."""
    if not isinstance(pairs, (list, tuple)) or not all(isinstance(pair, (list, tuple)) and len(pair) == 2
                                                       and isinstance(pair[0], (str, int)) for pair in pairs):
        raise Unreadable("holds a dictionary whose keys are not names")
    return {key: value for key, value in pairs}


def call(function: Any, arguments: Any) -> Any:
    """What a pickle's call of a :class:`Name` gives."""
    if not isinstance(function, Name) or not isinstance(arguments, tuple):
        raise Unreadable("calls something that is not a name")
    name = function.name
    if name == "dtype" and arguments and isinstance(arguments[0], str):
        return _Format(arguments[0])
    if name == "_reconstruct" and arguments and arguments[0] == Name("ndarray") and arguments[1:2] == ((0,),):
        return _Array()
    if name == "_frombuffer" and len(arguments) == 4:
        result = _Array()
        result.value = _array(*arguments)
        return result
    if name in ("_rebuild_tensor", "_rebuild_tensor_v2") and len(arguments) >= 4:
        return _tensor(*arguments[:4])
    if name == "_rebuild_parameter" and arguments and isinstance(arguments[0], StoredTensor):
        return arguments[0]
    if name == "Size" and len(arguments) == 1 and isinstance(arguments[0], (tuple, list)):
        return tuple(arguments[0])
    if name == "OrderedDict" and len(arguments) <= 1:
        return _dictionary(*arguments)
    if name == "Namespace" and not arguments:
        return Namespace()
    if name in PATHS and all(isinstance(part, str) for part in arguments):
        head, *rest = arguments or ("",)
        return "/".join([head.rstrip("/"), *rest]) if rest else head
    raise Unreadable(f"calls {name} in a way that no array or tensor needs")


def build(target: Any, state: Any) -> None:
    """Gives ``target`` the state that a pickle has for it."""
    if isinstance(target, (_Array, _Format)):
        target.set_state(state)
    elif isinstance(target, Namespace):
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise Unreadable("holds a damaged namespace")
        target.update(state)
    elif not isinstance(target, dict):  # a state dict's own state is the version numbers of modules
        raise Unreadable("sets the state of something that has none")


def finished(value: Any) -> Any:
    """The array itself once its contents have come."""
    return value.value if isinstance(value, _Array) and value.value is not None else value
