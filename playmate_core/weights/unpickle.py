"""The one reader of pickles: plain containers, numpy arrays and torch tensors, and nothing that a pickle names is run.

A pickle is a program, and LivePortrait's motion templates, JoyVASA's checkpoints and every ``.pth`` contain one.
Instead of the interpreter's own unpickler with a filter, this is a small stack machine over ``pickletools.genops``: it
knows dicts, lists, tuples, numbers, text and bytes, and the names of ``ALLOWED``. Those names are never imported or
called: an array is rebuilt here from its bytes, shape and number format, a tensor becomes a :class:`StoredTensor`
that says where its numbers lie (``weights.tensors`` reads them), argparse's namespace becomes a dict and a path its
text. Anything else ends the reading with the name of what was asked for.

Known ways to exhaust the memory or to crash through the C unpickler (huge memo indices, lengths that the file does not
hold, arrays allocated by shape, keys whose hash takes for ever) do not exist here. ``torch.load(weights_only=True)``
has some of them, refuses JoyVASA's checkpoint, and cannot even build its PosixPath on Windows.
"""

from __future__ import annotations

import math
import pickletools
from dataclasses import dataclass
from typing import Any, BinaryIO

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
       ("torch._utils", "_rebuild_parameter"), ("torch", "Size")}
    | {("torch", storage) for storage in STORAGES}
    # Python 3.13 writes the longer name.
    | {(module, path) for module in ("pathlib", "pathlib._local") for path in PATHS}
)
"""Every name that a pickle may mention."""

MAX_ITEMS = 40_000_000
"""Opcodes in one file; a template takes about 260 a frame."""

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = frozenset(
    "BININT BININT1 BININT2 LONG1 BINFLOAT SHORT_BINUNICODE BINUNICODE BINUNICODE8 "
    "SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8".split()
)
_MARK = object()


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
class _Name:
    """A global that the pickle mentions: a word, never the object."""

    name: str


class _Namespace(dict):
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


def _call(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        raise Unreadable("calls something that is not a name")
    name = function.name
    if name == "dtype" and arguments and isinstance(arguments[0], str):
        return _Format(arguments[0])
    if name == "_reconstruct" and arguments and arguments[0] == _Name("ndarray") and arguments[1:2] == ((0,),):
        return _Array()
    if name == "_frombuffer" and len(arguments) == 4:
        result = _Array()
        result.value = _array(*arguments)
        return result
    if name == "_rebuild_tensor_v2" and len(arguments) >= 4:
        return _tensor(*arguments[:4])
    if name == "_rebuild_parameter" and arguments and isinstance(arguments[0], StoredTensor):
        return arguments[0]
    if name == "Size" and len(arguments) == 1 and isinstance(arguments[0], (tuple, list)):
        return tuple(arguments[0])
    if name == "OrderedDict" and arguments in ((), ([],)):
        return {}
    if name == "Namespace" and not arguments:
        return _Namespace()
    if name in PATHS and all(isinstance(part, str) for part in arguments):
        head, *rest = arguments or ("",)
        return "/".join([head.rstrip("/"), *rest]) if rest else head
    raise Unreadable(f"calls {name} in a way that no array or tensor needs")


def _build(target: Any, state: Any) -> None:
    if isinstance(target, (_Array, _Format)):
        target.set_state(state)
    elif isinstance(target, _Namespace):
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise Unreadable("holds a damaged namespace")
        target.update(state)
    elif not isinstance(target, dict):  # a state dict's own state is the version numbers of modules
        raise Unreadable("sets the state of something that has none")


class _Machine:
    """The stack and memo of one pickle, and the storages that it refers to, by key."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def name(self, module: str, name: str) -> _Name:
        if (module, name) not in ALLOWED:
            raise Unreadable(f"asks for {f'{module}.{name}'[:120]!r}, which no array or tensor needs")
        return _Name(name)

    def stored(self, reference: Any) -> Storage:
        # (word, kind of numbers, key, device, count), and in torch's oldest form what it is a view of.
        if not isinstance(reference, tuple) or len(reference) not in (5, 6) or reference[0] != "storage" \
                or not isinstance(reference[1], _Name) or reference[1].name not in STORAGES \
                or not isinstance(reference[2], str) or type(reference[4]) is not int or reference[4] < 0 \
                or reference[5:] not in ((), (None,)):
            raise Unreadable("refers to numbers in an unknown way")
        found = Storage(reference[2], STORAGES[reference[1].name], reference[4])
        if self.storages.setdefault(found.key, found) != found:
            raise Unreadable("refers to the same numbers in two ways")
        return found

    def since_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise Unreadable("is damaged")

    def top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise Unreadable("is damaged")
        return self.stack[-1]

    def put(self, pairs: list[Any]) -> None:
        target = self.top(dict)
        if len(pairs) % 2 or not all(isinstance(key, (str, int)) for key in pairs[::2]):
            raise Unreadable("holds a dictionary whose keys are not names")
        target.update(zip(pairs[::2], pairs[1::2], strict=True))

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "POP":
            stack.pop()
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            items = tuple(stack[-count:])
            if len(items) < count:
                raise Unreadable("is damaged")
            stack[-count:] = [items]
        elif name == "EMPTY_TUPLE":
            stack.append(())
        elif name == "TUPLE":
            stack.append(tuple(self.since_mark()))
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "APPEND":
            item = stack.pop()
            self.top(list).append(item)
        elif name == "APPENDS":
            items = self.since_mark()
            self.top(list).extend(items)
        elif name == "SETITEM":
            pair = [stack.pop(-2), stack.pop()]
            self.put(pair)
        elif name == "SETITEMS":
            self.put(self.since_mark())
        elif name == "GLOBAL":
            stack.append(self.name(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            if not isinstance(module, str) or not isinstance(attribute, str):
                raise Unreadable("is damaged")
            stack.append(self.name(module, attribute))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, function = stack.pop(), stack.pop()
            stack.append(_call(function, arguments))
        elif name == "BUILD":
            state = stack.pop()
            _build(stack[-1], state)
        elif name == "BINPERSID":
            stack.append(self.stored(stack.pop()))
        elif name not in ("PROTO", "FRAME"):
            raise Unreadable(f"uses the pickle instruction {name}, which no array or tensor needs")


def read_pickle(data: bytes | BinaryIO) -> tuple[Any, dict[str, Storage]]:
    """The object in a pickle, and the storages that its tensors refer to, by key.

    Args:
        data: the pickle, or a file that stands at its beginning and afterwards stands behind it.

    Returns:
        dicts (keys are text or whole numbers), lists, tuples, numbers, text, bytes, None, read-only numpy arrays and
        :class:`StoredTensor`. Arrays appear wherever they stand in lists and as values of dictionaries. The result
        may share parts, as the pickle does.

    Raises:
        Unreadable: anything else.
    """
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > MAX_ITEMS:
                raise Unreadable("is far longer than any table of arrays or tensors")
            if opcode.name == "STOP":
                break
            machine.step(opcode.name, argument)
        if len(machine.stack) != 1 or machine.stack[0] is _MARK:
            raise Unreadable("is damaged")
    except Unreadable:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, AttributeError, EOFError):
        raise Unreadable("is damaged or not a pickle") from None
    return replaced(machine.stack[0], _finished), machine.storages


def read_arrays(data: bytes) -> Any:
    """The object in a pickle of plain containers and numpy arrays, as :func:`read_pickle` gives it.

    Raises:
        Unreadable: anything else, tensors among it.
    """
    content, storages = read_pickle(data)
    if storages:
        raise Unreadable("refers to numbers outside of itself")
    return content


def _finished(value: Any) -> Any:
    """The array itself once its contents have come."""
    return value.value if isinstance(value, _Array) and value.value is not None else value


def replaced(value: Any, change) -> Any:
    """Containers with ``change(part)`` in the place of every part of a list or dictionary, however they are nested."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if not isinstance(item, (dict, list)) or id(item) in seen:
            continue
        seen.add(id(item))
        for key, part in list(item.items() if isinstance(item, dict) else enumerate(item)):
            item[key] = change(part)
            waiting.append(part)
    return change(value)
