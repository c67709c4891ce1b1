"""Reads torch's .pt files without running what they name: an allow-list of tensors, plain containers, argparse's
namespace and paths.

``torch.load(weights_only=True)`` refuses JoyVASA's checkpoint, because its ``args`` is a Namespace that holds a
PosixPath (SPEC.md section 1), and on Windows such a path cannot even be built. Here a Namespace becomes a dict, a path
its text, and tensors are put together from the archive's bytes; no name in the file is ever imported or called.
"""

from __future__ import annotations

import math
import os
import zipfile
from typing import Any, Callable

import torch
from torch import Tensor

from ...runtime.errors import PlaymateError
from ...weights.unpickle import PickleRefused, TorchMachine, run

PATHS = frozenset(("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path"))
DTYPES = {
    "FloatStorage": torch.float32, "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}
ALLOWED = frozenset(
    {("collections", "OrderedDict"), ("argparse", "Namespace"), ("torch._utils", "_rebuild_tensor_v2"),
     ("torch._utils", "_rebuild_parameter")}
    | {(module, path) for module in ("pathlib", "pathlib._local") for path in PATHS}
    | {("torch", storage) for storage in DTYPES}
)
"""Every name that a checkpoint may mention."""

LARGEST_PROGRAM = 64 << 20
"""Bytes of the pickle beside the tensors; JoyVASA's has about 60 thousand."""


class _Name:
    def __init__(self, module: str, name: str) -> None:
        if (module, name) not in ALLOWED:
            raise PickleRefused(f"asks for {f'{module}.{name}'[:120]!r}, which no checkpoint of tensors needs")
        self.name = name


class _Namespace(dict):
    """argparse's, as names and values."""


class _Storage:
    def __init__(self, data: Tensor) -> None:
        self.data = data


class _CheckpointMachine(TorchMachine):
    purpose = "checkpoint"

    def __init__(self, storage: Callable[[str, torch.dtype, int], Tensor]) -> None:
        super().__init__()
        self._read = storage
        self._storages: dict[str, _Storage] = {}

    def named(self, module: str, name: str) -> _Name:
        return _Name(module, name)

    def called(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise PickleRefused("calls something that is not a name")
        if function.name == "OrderedDict" and arguments in ((), ([],)):
            return {}
        if function.name == "Namespace" and not arguments:
            return _Namespace()
        if function.name in PATHS and all(isinstance(part, str) for part in arguments):
            head, *rest = arguments or ("",)
            return "/".join([head.rstrip("/"), *rest]) if rest else head
        if function.name == "_rebuild_parameter" and arguments and isinstance(arguments[0], Tensor):
            return arguments[0]
        if function.name == "_rebuild_tensor_v2" and len(arguments) >= 4:
            return _tensor(*arguments[:4])
        raise PickleRefused(f"calls {function.name} in a way that no checkpoint needs")

    def built(self, target: Any, state: Any) -> None:
        if isinstance(target, _Namespace):
            if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
                raise PickleRefused("holds a damaged namespace")
            target.update(state)
        elif not isinstance(target, dict):  # a state dict's own state is its modules' version numbers
            raise PickleRefused("sets the state of something that is no namespace")

    def stored(self, mark: Any) -> _Storage:
        if not isinstance(mark, tuple) or len(mark) != 5 or mark[0] != "storage" or not isinstance(mark[1], _Name) \
                or mark[1].name not in DTYPES or not isinstance(mark[2], str) or type(mark[4]) is not int:
            raise PickleRefused("refers to numbers in a way that is not torch's")
        key = mark[2]
        if key not in self._storages:
            self._storages[key] = _Storage(self._read(key, DTYPES[mark[1].name], mark[4]))
        return self._storages[key]


def _tensor(storage: Any, offset: Any, size: Any, stride: Any) -> Tensor:
    whole = isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride) <= 16 \
        and all(type(n) is int and n >= 0 for n in (offset, *size, *stride))
    if not isinstance(storage, _Storage) or not whole:
        raise PickleRefused("holds a damaged tensor")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 not in size and last >= len(storage.data) or math.prod(size) > len(storage.data):
        raise PickleRefused("holds a tensor that reaches beyond its numbers")
    return torch.as_strided(storage.data, size, stride, offset) if 0 not in size else storage.data.new_empty(size)


def read_checkpoint(path: str | os.PathLike) -> Any:
    """The object in a file of ``torch.save``: dicts, lists, numbers, text, and tensors on the CPU.

    Raises:
        PlaymateError: not such a file, damaged, or one that asks for anything beyond ``ALLOWED``.
    """
    shown = os.path.basename(os.fspath(path))
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {info.filename: info for info in archive.infolist()}
            program = next((name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")), None)
            if program is None or entries[program].file_size > LARGEST_PROGRAM:
                raise PickleRefused("is no archive that torch.save writes")
            root = program[: -len("data.pkl")]
            order = _plain(archive, entries.get(root + "byteorder")) if root + "byteorder" in entries else b"little"
            if order != b"little":
                raise PickleRefused("was written on a machine with another byte order")

            def storage(key: str, dtype: torch.dtype, count: int) -> Tensor:
                info = entries.get(f"{root}data/{key}")
                if info is None or info.file_size != count * dtype.itemsize:
                    raise PickleRefused("lacks a part of its tensors")
                return torch.frombuffer(bytearray(_plain(archive, info)), dtype=dtype) if count \
                    else torch.empty(0, dtype=dtype)

            return run(_CheckpointMachine(storage), _plain(archive, entries[program]))
    except PickleRefused as refused:
        raise PlaymateError(f"{shown} was not loaded, because it {refused}; download it again from where it is "
                            "published.") from None
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError) as error:
        raise PlaymateError(f"{shown} is no readable torch checkpoint ({str(error)[:120]}); download it again.") \
            from None


def _plain(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """An entry's bytes; torch never compresses, so neither can an entry be larger than the file."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise PickleRefused("is compressed, as torch.save never does")
    return archive.read(info)
