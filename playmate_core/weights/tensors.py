"""Weights files of other people, safetensors or torch's: what tensors they hold, and the tensors themselves.

Nothing that a file names is run. A safetensors file lists its tensors in a header. A torch file (``.pth``, ``.pt``,
``.bin``) holds a pickle, which ``weights.unpickle`` reads, and the numbers beside it: as a zip archive, or, as torch
wrote them until 2020, one after another.
"""

from __future__ import annotations

import io
import json
import math
import mmap
import os
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Callable, Mapping

from ..runtime.errors import PlaymateError
from . import bundled
from .pickled import Storage, StoredTensor
from .unpickle import read_pickle, replaced
from .unreadable import Unreadable

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MAX_HEADER = 16 * 2**20
"""Bytes of names and shapes in one file; the largest file of the catalogue has 0.1 MB."""

SAFETENSORS_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
                     "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "U32": 4, "U64": 8}
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})

MAX_ENTRIES = 100_000
"""Entries of a torch file's dictionaries; JoyVASA's has about four hundred."""

ARCHIVE = b"PK\x03\x04"
OLD_FORM = (0x1950A86A20F9469CFC6C, 1001)
"""What the two pickles at the beginning of torch's old form say."""


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a file: ``dtype`` in safetensors' words (F32, I64, ...), ``shape`` as numbers."""

    dtype: str
    shape: tuple[int, ...]


def list_tensors(path: str | os.PathLike) -> dict[str, TensorInfo]:
    """Names, number formats and shapes of the tensors in a weights file; their numbers are not read.

    Nested dictionaries of a torch file are joined by dots, so the entry ``retarget_eye`` of LivePortrait's stitching
    file gives names such as ``retarget_eye.module.mlp.0.weight``.

    Raises:
        Unreadable: the file is cut off, of another kind, or names something that no tensors need.
    """
    def table(file: BinaryIO, kind: str, size: int) -> dict[str, TensorInfo]:
        return _safetensors_table(file, size) if kind == "safetensors" else _collect(_READERS[kind](file, size)[0])

    return _opened(path, table)


def load_weights(path: str | os.PathLike) -> Any:
    """What a weights file holds: {name: tensor} of a safetensors file, of a torch file the object that was saved.

    Returns:
        dicts, lists, tuples, numbers, text, numpy arrays and tensors on the CPU; tensors appear wherever they stand
        in lists and as values of dictionaries.

    Raises:
        Unreadable: the file is cut off, of another kind, or names something that no tensors need.
    """
    def content(file: BinaryIO, kind: str, size: int) -> Any:
        if kind == "safetensors":
            return load_safetensors(path)[0]
        held, read = _READERS[kind](file, size)
        whole: dict[str, Tensor] = {}

        def tensor(value: Any) -> Any:
            if not isinstance(value, StoredTensor):
                return value
            key = value.storage.key
            if key not in whole:
                whole[key] = _numbers(value.storage, read(value.storage))
            if math.prod(value.shape) > value.storage.count:  # a few numbers repeated until the memory is full
                raise Unreadable("holds a tensor that reaches beyond its own numbers")
            if 0 in value.shape:
                return whole[key].new_empty(value.shape)
            return whole[key].as_strided(value.shape, value.stride, value.offset)

        return replaced(held, tensor)

    return _opened(path, content)


def load_table(path: str | os.PathLike) -> dict:
    """As :func:`load_weights`, of a file that holds a dictionary, and with a sentence for its user.

    Raises:
        PlaymateError: no such file, one that cannot be read, or without a dictionary.
    """
    if not Path(path).is_file():
        raise PlaymateError(f"There is no file {path}; download it.")
    try:
        held = load_weights(path)
    except Unreadable as error:
        raise PlaymateError(f"{path} is refused because it {error}; download it again.") from None
    if not isinstance(held, dict):
        raise PlaymateError(f"{path} holds no table of tensors; download it again.")
    return held


def load_safetensors(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, on the CPU, and its metadata.

    Raises:
        Unreadable: the file is missing, cut off, or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise Unreadable(f"is not a readable safetensors file, or is damaged ({error})") from None


def bundled_tensors(name: str, holds: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The tensors ``shapes`` of the bundled safetensors file ``name``, on the CPU.

    Args:
        holds: what they are, for the sentence that says that it does not hold them.
        shapes: by name; -1 for any length.

    Raises:
        PlaymateError: the file is missing, damaged, or holds something else.
    """
    path = bundled(name)
    try:
        tensors = load_safetensors(path)[0]
    except Unreadable as error:
        raise PlaymateError(f"{path} is refused because it {error}; install ComfyUI-Playmate again.") from None
    for key, shape in shapes.items():
        found = tuple(tensors[key].shape) if key in tensors else ()
        if len(found) != len(shape) or any(w not in (-1, f) for w, f in zip(shape, found, strict=True)):
            raise PlaymateError(f"{path} holds no {holds}; install ComfyUI-Playmate again.")
    return {key: tensors[key] for key in shapes}


def is_torch_archive(path: str | os.PathLike) -> bool:
    """Whether a file begins as torch's archives do, whatever it is called."""
    with open(path, "rb") as file:
        return file.read(len(ARCHIVE)) == ARCHIVE


def _opened(path: str | os.PathLike, use: Callable[[BinaryIO, str, int], Any]) -> Any:
    """``use(file, kind, size)`` of a weights file."""
    try:
        size = Path(path).stat().st_size
        with open(path, "rb") as file:
            return use(file, _kind(file, Path(path)), size)
    except OSError as error:
        raise Unreadable(f"cannot be opened ({error.strerror or error})") from None


def _kind(file: BinaryIO, path: Path) -> str:
    start = file.read(64)
    if not start:
        raise Unreadable("is empty")
    # A safetensors file begins with a length, whose bytes may look like anything; its header comes next.
    named_torch = path.suffix.lower() in (".pth", ".pt", ".bin", ".ckpt")
    if start[8:9] == b"{" and not named_torch:
        return "safetensors"
    if start.startswith(b"version https://git-lfs"):
        raise Unreadable("is only a Git LFS pointer; the real file was not fetched")
    if start.lstrip()[:1] == b"<":
        raise Unreadable("is a web page, not weights; the download went wrong")
    if start.startswith(ARCHIVE):
        return "archive"
    if start[:1] == b"\x80":
        return "old"
    if named_torch:
        if tarfile.is_tarfile(path):  # torch unpacks its very oldest form to wherever it says
            raise Unreadable("is a tar archive, in which no weights are kept any more")
        raise Unreadable("is not a torch file, or its beginning is damaged")
    return "safetensors"


# ---- safetensors


def _safetensors_table(file: BinaryIO, size: int) -> dict[str, TensorInfo]:
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


# ---- torch

Reader = Callable[[Storage], bytes]
"""The bytes of a storage."""


def _archive(file: BinaryIO, size: int) -> tuple[Any, Reader]:
    """The object in an archive of torch's, its tensors as :class:`StoredTensor`, and what reads their numbers."""
    try:
        archive = zipfile.ZipFile(file)
    except Exception:  # zipfile has many names for damage
        raise Unreadable("is cut off or damaged: its table of contents at the end is missing") from None
    parts = {info.filename: info for info in archive.infolist()}
    # This one part is what torch knows TorchScript by.
    if any(name.rsplit("/", 1)[-1].lower() == "constants.pkl" for name in parts):
        raise Unreadable("is a TorchScript program, not weights alone")
    if len(parts) < len(archive.infolist()):
        raise Unreadable("holds two parts of one name")
    pickles = [name for name in parts if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise Unreadable("is a zip archive, but not one that torch wrote")
    if any(info.compress_type != zipfile.ZIP_STORED for info in parts.values()):
        raise Unreadable("is a compressed archive, which torch never writes")
    if parts[pickles[0]].file_size > MAX_HEADER:
        raise Unreadable("has a table of contents that is far too long")
    root = pickles[0].removesuffix("data.pkl")
    order = root + "byteorder"
    if order in parts and parts[order].file_size < 16 and _part(archive, order) != b"little":
        raise Unreadable("was written on a machine with another byte order")
    content, storages = read_pickle(_part(archive, pickles[0]))
    for storage in storages.values():
        info = parts.get(f"{root}data/{storage.key}")
        if info is None or info.file_size != _bytes(storage):
            raise Unreadable(f"lacks the numbers of one of its tensors (part {storage.key[:40]!r} of the archive)")
    return content, lambda storage: _part(archive, f"{root}data/{storage.key}")


def _part(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except Exception:
        raise Unreadable(f"is damaged in its part {name[-40:]!r}") from None


def _old_form(file: BinaryIO, size: int) -> tuple[Any, Reader]:
    """As :func:`_archive`, of a file as torch wrote it until 2020: five pickles, then every storage's length and
    numbers."""
    # Asked for more than there is, a mapped file gives what there is; a plain one first makes room for all of it.
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    head = io.BytesIO(mapped[:64])
    for said in OLD_FORM:
        found = read_pickle(head)[0]
        if type(found) is not int or found != said:
            raise Unreadable("is a pickle, but not one that torch wrote")
    mapped.seek(head.tell())
    machine = read_pickle(mapped)[0]
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise Unreadable("was written on a machine with another byte order")
    content, storages = read_pickle(mapped)
    keys = read_pickle(mapped)[0]
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) \
            or not set(storages) == set(keys) or len(set(keys)) < len(keys):
        raise Unreadable("lacks the numbers of one of its tensors")
    places = {}
    for key in keys:
        count = int.from_bytes(mapped.read(8), "little")
        places[key] = mapped.tell()
        if count != storages[key].count or places[key] + _bytes(storages[key]) > size:
            raise Unreadable("is cut off, or damaged where the numbers of its tensors begin")
        mapped.seek(places[key] + _bytes(storages[key]))
    return content, lambda storage: mapped[places[storage.key]:places[storage.key] + _bytes(storage)]


_READERS: dict[str, Callable[[BinaryIO, int], tuple[Any, Reader]]] = {"archive": _archive, "old": _old_form}


def _bytes(storage: Storage) -> int:
    return storage.count * SAFETENSORS_BYTES[storage.dtype]


def _numbers(storage: Storage, data: bytes) -> Tensor:
    """[count] tensor of a storage's bytes."""
    import torch

    dtype = _dtypes()[storage.dtype]
    return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)


def _dtypes() -> dict[str, torch.dtype]:
    import torch

    return {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
            "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
            "BOOL": torch.bool}


def _collect(content: Any) -> dict[str, TensorInfo]:
    """Tensors by their dotted names."""
    found: dict[str, TensorInfo] = {}
    waiting, looked = [(content, "", 0)], 0
    while waiting:
        value, name, depth = waiting.pop()
        if isinstance(value, StoredTensor):
            found[name] = TensorInfo(value.storage.dtype, value.shape)
        elif isinstance(value, dict) and depth < 6:
            looked += len(value)
            # A pickle can hold one dictionary under many names, and so on in every dictionary above it.
            if looked > MAX_ENTRIES:
                raise Unreadable("holds far more entries than any weights")
            waiting += [(part, f"{name}.{key}" if name else key, depth + 1)
                        for key, part in reversed(value.items()) if isinstance(key, str)]
    return found
