"""The one reader of pickles: plain containers, numpy arrays and torch tensors, and nothing that a pickle names is run.

A pickle is a program, and LivePortrait's motion templates, JoyVASA's checkpoints and every ``.pth`` contain one.
Instead of the interpreter's own unpickler with a filter, this is a small stack machine over ``pickletools.genops``: it
knows dicts, lists, tuples, numbers, text and bytes, and the names of ``pickled.ALLOWED``. Those names are never
imported or called: an array is rebuilt from its bytes, shape and number format, a tensor becomes a ``StoredTensor``
that says where its numbers lie (``weights.tensors`` reads them), argparse's namespace becomes a dict and a path its
text. Anything else ends the reading with the name of what was asked for.

Known ways to exhaust the memory or to crash through the C unpickler (huge memo indices, lengths that the file does not
hold, arrays allocated by shape, keys whose hash takes for ever) do not exist here. ``torch.load(weights_only=True)``
has some of them, refuses JoyVASA's checkpoint, and cannot even build its PosixPath on Windows.
"""

from __future__ import annotations

import mmap
import pickletools
from typing import Any, BinaryIO, Callable

from .pickled import ALLOWED, STORAGES, Name, Storage, build, call, finished
from .unreadable import Unreadable

MAX_ITEMS = 40_000_000
"""Opcodes in one file; a template takes about 260 a frame."""

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = frozenset(
    "BININT BININT1 BININT2 LONG1 BINFLOAT SHORT_BINUNICODE BINUNICODE BINUNICODE8 "
    "SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8 "
    "SHORT_BINSTRING BINSTRING".split()  # Python 2's text, in weights of 2017
)
_MARK = object()


class _Machine:
    """The stack and memo of one pickle, and the storages that it refers to, by key."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def name(self, module: str, name: str) -> Name:
        if (module, name) not in ALLOWED:
            raise Unreadable(f"asks for {f'{module}.{name}'[:120]!r}, which no array or tensor needs")
        return Name(name)

    def stored(self, reference: Any) -> Storage:
        # (word, kind of numbers, key, device, count), and in torch's oldest form what it is a view of.
        if not isinstance(reference, tuple) or len(reference) not in (5, 6) or reference[0] != "storage" \
                or not isinstance(reference[1], Name) or reference[1].name not in STORAGES \
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
            stack.append(call(function, arguments))
        elif name == "BUILD":
            state = stack.pop()
            build(stack[-1], state)
        elif name == "BINPERSID":
            stack.append(self.stored(stack.pop()))
        elif name not in ("PROTO", "FRAME"):
            raise Unreadable(f"uses the pickle instruction {name}, which no array or tensor needs")


def read_pickle(data: bytes | BinaryIO | mmap.mmap) -> tuple[Any, dict[str, Storage]]:
    """The object in a pickle, and the storages that its tensors refer to, by key.

    Args:
        data: the pickle, or something with ``read`` and ``readline`` that stands at its beginning and afterwards
            stands behind it. No plain file: that would make room for whatever length the pickle claims.

    Returns:
        dicts (keys are text or whole numbers), lists, tuples, numbers, text, bytes, None, read-only numpy arrays and
        ``StoredTensor``. Arrays appear wherever they stand in lists and as values of dictionaries. The result
        may share parts, as the pickle does.

    Raises:
        Unreadable: anything else.
    """
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):  # type: ignore[arg-type]  # a mapped file reads as one
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
    return replaced(machine.stack[0], finished), machine.storages


def read_arrays(data: bytes) -> Any:
    """The object in a pickle of plain containers and numpy arrays, as :func:`read_pickle` gives it.

    Raises:
        Unreadable: anything else, tensors among it.
    """
    content, storages = read_pickle(data)
    if storages:
        raise Unreadable("refers to numbers outside of itself")
    return content


def replaced(value: Any, change: Callable[[Any], Any]) -> Any:
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
