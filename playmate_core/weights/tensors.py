"""What tensors a weights file holds, read without loading them and without running anything that the file names.

A safetensors file says it in its header. A torch file (``.pth``, ``.pt``, ``.bin``) is a zip archive with a pickle,
and a pickle is a program: it is first read as a list of instructions, then replayed with stand-ins for the few names
that a state dict consists of. Whatever else it names ends the reading with that name.
"""

from __future__ import annotations

import json
import math
import os
import pickletools
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .unpickle import PickleRefused, TorchMachine, run

MAX_HEADER = 16 * 2**20
"""Bytes of names and shapes in one file; the largest file of the catalogue has 0.1 MB."""

SAFETENSORS_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
                     "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "U32": 4, "U64": 8}
STORAGES = {"DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
            "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
            "BoolStorage": "BOOL"}
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})


MAX_ENTRIES = 100_000
"""Entries of a torch file's dictionaries; JoyVASA's has about four hundred."""


class Unreadable(Exception):
    """The file is damaged, foreign or hostile; the message completes "NAME is refused because it ..."."""


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a file: ``dtype`` in safetensors' words (F32, I64, ...), ``shape`` as numbers."""

    dtype: str
    shape: tuple[int, ...]


def read_tensors(path: str | os.PathLike) -> dict[str, TensorInfo]:
    """Names, number formats and shapes of the tensors in a weights file; only its table of contents is read.

    Nested dictionaries of a torch file are joined by dots, so the entry ``retarget_eye`` of LivePortrait's stitching
    file gives names such as ``retarget_eye.module.mlp.0.weight``.

    Raises:
        Unreadable: the file is cut off, of another kind, or names something that no state dict needs.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            start = file.read(64)
            if not start:
                raise Unreadable("is empty")
            if start.startswith(b"version https://git-lfs"):
                raise Unreadable("is only a Git LFS pointer; the real file was not fetched")
            if start.lstrip()[:1] == b"<":
                raise Unreadable("is a web page, not weights; the download went wrong")
            if start.startswith(b"PK"):
                return _torch_tensors(file)
            if start[:1] == b"\x80":
                raise Unreadable("is a pickle of torch's oldest kind; save it again with a current torch")
            if path.suffix.lower() in (".pth", ".pt", ".bin", ".ckpt"):
                raise Unreadable("is not a torch file, or its beginning is damaged")
            return _safetensors(file, size)
    except OSError as error:
        raise Unreadable(f"cannot be opened ({error.strerror or error})") from None


def is_torch(path: str | os.PathLike) -> bool:
    """Whether a file begins as torch's archives do, whatever it is called."""
    with open(path, "rb") as file:
        return file.read(2) == b"PK"


def refuse_programs(path: str | os.PathLike) -> None:
    """Ends the reading of a file that ``torch.load`` should not see, whatever ``weights_only`` says.

    torch before 2.6 runs TorchScript archives and unpacks its oldest form, a tar, to wherever it says
    (CVE-2025-32434); and every version can be made to crash or to fill the memory by a pickle.

    Raises:
        Unreadable: it is one of these, or a damaged archive.
        OSError: it cannot be opened.
    """
    if is_torch(path):
        read_tensors(path)
    elif tarfile.is_tarfile(path):
        raise Unreadable("is a tar archive, which no weights are kept in any more")


def _refuse_script(names: list[str]) -> None:
    # This one part is what torch knows TorchScript by.
    if any(name.rsplit("/", 1)[-1].lower() == "constants.pkl" for name in names):
        raise Unreadable("is a TorchScript program, not weights alone")
    if len(set(names)) < len(names):
        raise Unreadable("holds two parts of one name")


def _safetensors(file, size: int) -> dict[str, TensorInfo]:
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER or length < 2:
        raise Unreadable("is not a safetensors file")
    if 8 + length > size:
        raise Unreadable(f"is cut off: {size} bytes do not even hold its header")
    try:
        header = json.loads(file.read(length).decode("utf-8"))
        entries = {name: (entry["dtype"], tuple(entry["shape"]), tuple(entry["data_offsets"]))
                   for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Unreadable("is not a safetensors file, or its header is damaged") from None
    found, end = {}, 0
    for name, (dtype, shape, offsets) in sorted(entries.items(), key=lambda item: str(item[1][2])):
        numbers = (*shape, *offsets)
        if not all(type(n) is int and n >= 0 for n in numbers) or len(offsets) != 2 or len(shape) > 8:
            raise Unreadable(f"gives tensor {name[:80]!r} an impossible shape or place")
        if dtype not in SAFETENSORS_BYTES:
            raise Unreadable(f"holds tensor {name[:80]!r} in the unknown format {str(dtype)[:20]!r}")
        if offsets[1] - offsets[0] != math.prod(shape) * SAFETENSORS_BYTES[dtype]:
            raise Unreadable(f"gives tensor {name[:80]!r} a place that does not fit its shape")
        found[name] = TensorInfo(dtype, shape)
    for begin, stop in sorted(entry[2] for entry in entries.values()):
        if begin != end:
            raise Unreadable("holds tensors that overlap or leave gaps")
        end = stop
    expected = 8 + length + end
    if size < expected:
        raise Unreadable(f"is cut off: it has {size:,} of {expected:,} bytes")
    if size > expected:
        raise Unreadable(f"is {size - expected:,} bytes longer than its header says")
    return found


@dataclass(frozen=True)
class _Storage:
    dtype: str
    key: str
    count: int


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any) -> TensorInfo:
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple) \
            or len(shape) != len(stride) or type(offset) is not int \
            or not all(type(n) is int and n >= 0 for n in (offset, *shape, *stride)):
        raise Unreadable("holds a damaged tensor")
    last = sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) if 0 not in shape else -1
    if offset + last >= storage.count:
        raise Unreadable("holds a tensor that reaches beyond its own numbers")
    return TensorInfo(storage.dtype, shape)


_NAMES = frozenset(
    {("collections", "OrderedDict"), ("argparse", "Namespace"), ("torch._utils", "_rebuild_tensor_v2"),
     ("torch._utils", "_rebuild_parameter"), ("torch", "Size")}
    # Python 3.13 writes the longer name.
    | {(module, path) for module in ("pathlib", "pathlib._local")
       for path in ("Path", "PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath")}
    | {("torch", name) for name in STORAGES})
"""Everything that a public checkpoint's pickle may mention."""

_OPCODES = frozenset(
    "PROTO FRAME STOP MARK GLOBAL STACK_GLOBAL REDUCE BUILD NEWOBJ BINPERSID NONE NEWTRUE NEWFALSE BININT BININT1 "
    "BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8 EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 "
    "TUPLE2 TUPLE3 APPEND APPENDS SETITEM SETITEMS BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET POP".split())


@dataclass(frozen=True)
class _Name:
    """A name that the pickle mentions: a word, never the object."""

    name: str


class _Contents(TorchMachine):
    """Replays a pickle with stand-ins, and remembers what storages were asked for, to hold them against the archive.

    Not the interpreter's own unpickler: that one hashes what is made a key, and tuples nested a million deep then
    end the whole process.
    """

    purpose = "weights"

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, _Storage] = {}

    def named(self, module: str, name: str) -> _Name:
        if (module, name) not in _NAMES:
            raise Unreadable(f"asks for {f'{module}.{name}'[:120]!r}, which no weights need")
        return _Name(name)

    def called(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise Unreadable("calls something that is not a name")
        if function.name == "_rebuild_tensor_v2" and len(arguments) >= 4:
            return _tensor(*arguments[:4])
        if function.name == "_rebuild_parameter" and arguments:
            return arguments[0]
        if function.name == "Size" and len(arguments) == 1 and isinstance(arguments[0], (tuple, list)):
            return tuple(arguments[0])
        if function.name in ("OrderedDict", "Namespace"):
            return {}
        if function.name.endswith("Path"):
            return None
        raise Unreadable(f"calls {function.name} in a way that no weights need")

    def built(self, target: Any, state: Any) -> None:
        # Versions of modules, or a namespace's values: nothing that is looked at here.
        if not isinstance(target, dict):
            raise Unreadable("sets the state of something that has none")

    def step(self, name: str, argument: Any) -> None:
        if name == "POP":
            self.stack.pop()
        else:
            super().step(name, argument)

    def stored(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], _Name) \
                or pid[1].name not in STORAGES or not isinstance(pid[2], str) or type(pid[4]) is not int or pid[4] < 0:
            raise Unreadable("refers to numbers in an unknown way")
        self.seen[pid[2]] = _Storage(STORAGES[pid[1].name], pid[2], pid[4])
        return self.seen[pid[2]]


def _torch_tensors(file) -> dict[str, TensorInfo]:
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, OSError):
        raise Unreadable("is cut off or damaged: its table of contents at the end is missing") from None
    infos = {info.filename: info for info in archive.infolist()}
    _refuse_script(archive.namelist())
    pickles = [name for name in infos if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise Unreadable("is a zip archive, but not one that torch wrote")
    if any(info.compress_type != zipfile.ZIP_STORED for info in infos.values()):
        raise Unreadable("is a compressed archive, which torch never writes")
    if infos[pickles[0]].file_size > MAX_HEADER:
        raise Unreadable("has a table of contents that is far too long")
    try:
        data = archive.read(pickles[0])
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError):
        raise Unreadable("has a damaged table of contents") from None
    content, storages = _replay(data)
    root = pickles[0].split("/")[0]
    for storage in storages.values():
        info = infos.get(f"{root}/data/{storage.key}")
        if info is None or info.file_size != storage.count * SAFETENSORS_BYTES[storage.dtype]:
            raise Unreadable(f"lacks the numbers of one of its tensors (part {storage.key[:40]!r} of the archive)")
    return _collect(content)


def _replay(data: bytes) -> tuple[Any, dict[str, _Storage]]:
    """The object of a pickle with stand-ins, and the storages it refers to, by key."""
    try:
        count = 0
        for opcode, argument, _ in pickletools.genops(data):
            count += 1
            if opcode.name not in _OPCODES:
                raise Unreadable(f"uses the pickle instruction {opcode.name}, which no weights need")
            if opcode.name == "GLOBAL" and tuple(argument.split(" ", 1)) not in _NAMES:
                raise Unreadable(f"asks for {argument.replace(' ', '.')[:120]!r}, which no weights need")
            # A memo index is an address that the C unpickler reserves memory up to.
            if opcode.name in ("BINPUT", "LONG_BINPUT") and argument > count:
                raise Unreadable("is a pickle made to exhaust the memory")
        contents = _Contents()
        return run(contents, data), contents.seen
    except Unreadable:
        raise
    except PickleRefused as refused:
        raise Unreadable(str(refused)) from None
    except Exception:  # whatever a damaged pickle makes the unpickler raise
        raise Unreadable("has a damaged table of contents") from None


def _collect(content: Any) -> dict[str, TensorInfo]:
    """Tensors by their dotted names."""
    found: dict[str, TensorInfo] = {}
    waiting, looked = [(content, "", 0)], 0
    while waiting:
        value, name, depth = waiting.pop()
        if isinstance(value, TensorInfo):
            found[name] = value
        elif isinstance(value, dict) and depth < 6:
            looked += len(value)
            # A pickle can hold one dictionary under many names, and so on in every dictionary above it.
            if looked > MAX_ENTRIES:
                raise Unreadable("holds far more entries than any weights")
            waiting += [(part, f"{name}.{key}" if name else key, depth + 1)
                        for key, part in reversed(value.items()) if isinstance(key, str)]
    return found
