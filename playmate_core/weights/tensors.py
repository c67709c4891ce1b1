"""What tensors a weights file holds, read without loading them and without running anything that the file names.

A safetensors file says it in its header. A torch file (``.pth``, ``.pt``, ``.bin``) is a zip archive with a pickle,
and a pickle is a program: it is first read as a list of instructions, then replayed with stand-ins for the few names
that a state dict consists of. Whatever else it names ends the reading with that name.
"""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import pickletools
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_HEADER = 16 * 2**20
"""Bytes of names and shapes in one file; the largest file of the catalogue has 0.1 MB."""

SAFETENSORS_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
                     "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "U32": 4, "U64": 8}
STORAGES = {"DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
            "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
            "BoolStorage": "BOOL"}
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})


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
    """Ends the reading of a file that torch before 2.6 would run, or unpack anywhere, though ``weights_only`` is asked
    for (CVE-2025-32434): TorchScript archives, and torch's oldest form, a tar.

    Raises:
        Unreadable: it is one of these, or a damaged archive.
        OSError: it cannot be opened.
    """
    try:
        if is_torch(path):
            with zipfile.ZipFile(path) as archive:
                _refuse_script(archive.namelist())
        elif tarfile.is_tarfile(path):
            raise Unreadable("is a tar archive, which no weights are kept in any more")
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise Unreadable("is cut off or damaged") from None


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


class _Dict(dict):
    """Stands for OrderedDict and argparse.Namespace: attributes that a pickle sets stay in an inert __dict__."""

    def __init__(self, *items: Any) -> None:
        super().__init__(items[0] if items and isinstance(items[0], (dict, list)) else {})


class _Text:
    """Stands for a path."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts


@dataclass(frozen=True)
class _Storage:
    dtype: str
    key: str
    count: int


def _tensor(storage: Any, offset: Any = 0, shape: Any = (), stride: Any = (), *_: Any) -> TensorInfo:
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple) \
            or len(shape) != len(stride) or type(offset) is not int \
            or not all(type(n) is int and n >= 0 for n in (offset, *shape, *stride)):
        raise Unreadable("holds a damaged tensor")
    last = sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) if 0 not in shape else -1
    if offset + last >= storage.count:
        raise Unreadable("holds a tensor that reaches beyond its own numbers")
    return TensorInfo(storage.dtype, shape)


def _parameter(data: Any = None, *_: Any) -> Any:
    return data


_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Dict, ("argparse", "Namespace"): _Dict,
    ("pathlib", "PosixPath"): _Text, ("pathlib", "WindowsPath"): _Text, ("pathlib", "PurePosixPath"): _Text,
    ("pathlib._local", "PosixPath"): _Text,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor, ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "Size"): tuple,
    **{("torch", name): name for name in STORAGES},
}
"""Everything that a public checkpoint's pickle may mention, and what stands for it here."""

_OPCODES = frozenset(
    "PROTO FRAME STOP MARK GLOBAL STACK_GLOBAL REDUCE BUILD NEWOBJ BINPERSID NONE NEWTRUE NEWFALSE BININT BININT1 "
    "BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8 EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 "
    "TUPLE2 TUPLE3 APPEND APPENDS SETITEM SETITEMS BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET POP".split())


class _Replay(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise Unreadable(f"asks for {f'{module}.{name}'[:120]!r}, which no weights need")
        return _NAMES[(module, name)]

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or pid[1] not in STORAGES \
                or not isinstance(pid[2], str) or type(pid[4]) is not int or pid[4] < 0:
            raise Unreadable("refers to numbers in an unknown way")
        return _Storage(STORAGES[pid[1]], pid[2], pid[4])


class _Storages(_Replay):
    """Remembers what storages were asked for, to hold them against the archive."""

    def __init__(self, file) -> None:
        super().__init__(file)
        self.seen: dict[str, _Storage] = {}

    def persistent_load(self, pid: Any) -> _Storage:
        storage = super().persistent_load(pid)
        self.seen[storage.key] = storage
        return storage


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
    found: dict[str, TensorInfo] = {}
    _collect(content, "", found, 0)
    return found


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
        replay = _Storages(io.BytesIO(data))
        return replay.load(), replay.seen
    except Unreadable:
        raise
    except Exception:  # whatever a damaged pickle makes the unpickler raise
        raise Unreadable("has a damaged table of contents") from None


def _collect(value: Any, name: str, found: dict[str, TensorInfo], depth: int) -> None:
    if isinstance(value, TensorInfo):
        found[name] = value
    elif isinstance(value, dict) and depth < 6:
        for key, part in value.items():
            if isinstance(key, str):
                _collect(part, f"{name}.{key}" if name else key, found, depth + 1)
