"""Reads pickles of plain containers and numpy arrays without running anything that they name.

LivePortrait keeps motion templates as pickles, and a pickle is a program. Instead of the interpreter's own unpickler
with a filter, this is a small stack machine over ``pickletools.genops``: it knows dicts, lists, tuples, numbers, text
and bytes, and it knows the handful of names that a pickled array consists of (SPEC.md section 14). Those names are
never imported or called; an array is rebuilt here from its bytes, shape and number format. Anything else ends the
reading with the name of what was asked for. Known ways to exhaust memory through the C unpickler (huge memo indices,
lengths that the file does not hold, arrays allocated by shape, keys whose hash takes for ever) do not exist here.
"""

from __future__ import annotations

import math
import pickletools
from typing import Any

import numpy as np

ALLOWED = frozenset(
    {
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.numeric", "_frombuffer"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    }
)
"""Every name that a template may mention (SPEC.md section 14)."""

MAX_ITEMS = 40_000_000
"""Opcodes in one file; a template takes about 260 a frame."""

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = frozenset(
    "BININT BININT1 BININT2 LONG1 BINFLOAT SHORT_BINUNICODE BINUNICODE BINUNICODE8 "
    "SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8".split()
)
_MARK = object()


class PickleRefused(Exception):
    """The pickle is damaged or asks for something that is not admitted. The message completes "because it ..."."""


class _Name:
    """A global that the pickle mentions: a word, never the object."""

    def __init__(self, module: str, name: str) -> None:
        if (module, name) not in ALLOWED:
            raise PickleRefused(f"asks for {f'{module}.{name}'[:120]!r}, which is not part of a numpy array")
        self.name = name


class _Format:
    """A number format: what ``numpy.dtype`` would be."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "<"

    def set_state(self, state: Any) -> None:
        # (version, byte order, sub-array, names, fields, size, alignment, flags): plain numbers have only an order.
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise PickleRefused("holds an array of records")
        if state[1] not in ("<", ">", "|", "="):
            raise PickleRefused("holds an array in an unknown byte order")
        self.order = state[1]

    def dtype(self) -> np.dtype:
        if self.code not in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"):
            raise PickleRefused(f"holds an array of {self.code[:20]!r} where numbers are needed")
        return np.dtype(self.order.replace("|", "=") + self.code)


class _Array:
    """An array that waits for its contents."""

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise PickleRefused("holds a damaged array")
        _, shape, form, fortran, data = state
        self.value = _array(data, form, shape, "F" if fortran else "C")


def _array(data: Any, form: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(form, _Format):
        raise PickleRefused("holds an array without a number format")
    dtype = form.dtype()
    if not isinstance(data, (bytes, bytearray)) or order not in ("C", "F"):
        raise PickleRefused("holds a damaged array")
    if not isinstance(shape, tuple) or len(shape) > 8 or not all(type(n) is int and n >= 0 for n in shape):
        raise PickleRefused("holds an array of impossible shape")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise PickleRefused("holds an array whose shape and contents disagree")
    if not data:
        return np.zeros(0, dtype)
    return np.frombuffer(bytes(data), dtype).reshape(shape, order=order)


def _call(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        raise PickleRefused("calls something that is not a name")
    if function.name == "dtype":
        if not arguments or not isinstance(arguments[0], str):
            raise PickleRefused("holds an array without a number format")
        return _Format(arguments[0])
    if function.name == "_reconstruct":
        kind = arguments[0] if arguments else None
        if not isinstance(kind, _Name) or kind.name != "ndarray" or arguments[1:2] != ((0,),):
            raise PickleRefused("holds a damaged array")
        return _Array()
    if function.name == "_frombuffer" and len(arguments) == 4:
        result = _Array()
        result.value = _array(*arguments)
        return result
    raise PickleRefused(f"calls numpy's {function.name} in a way that no array needs")


def _finished(value: Any) -> Any:
    """The array itself once its contents have come."""
    return value.value if isinstance(value, _Array) and value.value is not None else value


class Machine:
    """The stack and memo of one pickle; what names mean can be changed (``diffusion.joyvasa.unpickle``)."""

    purpose = "motion template"

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def named(self, module: str, name: str) -> Any:
        """What stands for a global that the pickle mentions."""
        return _Name(module, name)

    def called(self, function: Any, arguments: Any) -> Any:
        """What a call of one of ``named`` gives."""
        return _call(function, arguments)

    def built(self, target: Any, state: Any) -> None:
        """Gives ``target`` its state."""
        if not isinstance(target, (_Array, _Format)):
            raise PickleRefused("sets the state of something that is not an array")
        target.set_state(state)

    def since_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise PickleRefused("is damaged")

    def top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise PickleRefused("is damaged")
        return self.stack[-1]

    def put(self, pairs: list[Any]) -> None:
        target = self.top(dict)
        if len(pairs) % 2 or not all(isinstance(key, (str, int)) for key in pairs[::2]):
            raise PickleRefused("holds a dictionary whose keys are not names")
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
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            items = tuple(stack[-count:])
            if len(items) < count:
                raise PickleRefused("is damaged")
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
            stack.append(self.named(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            if not isinstance(module, str) or not isinstance(attribute, str):
                raise PickleRefused("is damaged")
            stack.append(self.named(module, attribute))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(self.called(function, arguments))
        elif name == "BUILD":
            state = stack.pop()
            self.built(stack[-1], state)
        elif name not in ("PROTO", "FRAME"):
            raise PickleRefused(f"uses the pickle instruction {name}, which no {self.purpose} needs")


class TorchMachine(Machine):
    """One that also knows what torch's pickles need: new objects, and numbers kept outside of the pickle."""

    def stored(self, mark: Any) -> Any:
        """What stands for the numbers that ``mark`` refers to."""
        raise NotImplementedError

    def step(self, name: str, argument: Any) -> None:
        if name == "NEWOBJ":
            arguments, kind = self.stack.pop(), self.stack.pop()
            self.stack.append(self.called(kind, arguments))
        elif name == "BINPERSID":
            self.stack.append(self.stored(self.stack.pop()))
        else:
            super().step(name, argument)


def read_arrays(data: bytes) -> Any:
    """The object in a pickle that holds nothing but plain containers, numbers, text and numpy arrays.

    Arrays appear wherever they stand in lists and as values of dictionaries; they are read-only. The result may
    share parts, as the pickle does.

    Args:
        data: the whole file.

    Returns:
        dicts (keys are text or whole numbers), lists, tuples, numbers, text, bytes, None and numpy arrays.

    Raises:
        PickleRefused: anything else; the message completes "because it ...".
    """
    return resolve(run(Machine(), data))


def run(machine: Machine, data: bytes) -> Any:
    """What is left on the stack of ``machine`` after the whole pickle ``data``.

    Raises:
        PickleRefused: damage, or anything that the machine does not admit.
    """
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > MAX_ITEMS:
                raise PickleRefused(f"is far longer than a {machine.purpose} can be")
            if opcode.name == "STOP":
                break
            machine.step(opcode.name, argument)
        if len(machine.stack) != 1 or machine.stack[0] is _MARK:
            raise PickleRefused("is damaged")
    except PickleRefused:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, AttributeError, EOFError):
        raise PickleRefused("is damaged or not a pickle") from None
    return machine.stack[0]


def resolve(value: Any) -> Any:
    """Containers with the finished arrays in the place of what stood for them while reading."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if not isinstance(item, (dict, list)) or id(item) in seen:
            continue
        seen.add(id(item))
        for key, part in list(item.items() if isinstance(item, dict) else enumerate(item)):
            item[key] = _finished(part)
            waiting.append(part)
    return _finished(value)
