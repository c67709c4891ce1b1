"""Whether a file is the one that its name and place promise: complete, of the right tensors, and harmless to read."""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Mapping

from ..runtime.errors import PlaymateError
from ..runtime.progress import Progress, report
from .entries import Entry, WeightFile
from .tensors import FLOATS, TensorInfo, is_torch_archive, list_tensors
from .unreadable import Unreadable

MAX_SIDE_FILE = 2**20
"""Bytes of a configuration file or of statistics."""


@lru_cache(maxsize=1)
def manifests() -> dict[str, dict]:
    """The tensor lists of ``data/manifests.json``, by name; see ``laboratory/conversions/weight_manifests.py``."""
    return json.loads((Path(__file__).parent / "data" / "manifests.json").read_text(encoding="utf-8"))


def check_file(entry: Entry, file: WeightFile, path: Path, name: str | None = None) -> None:
    """Reads a file's table of contents, not its numbers: a few milliseconds.

    Args:
        name: what the file will be called, where ``path`` is only a temporary name.

    Raises:
        PlaymateError: the file is cut off, another file under its name, or asks for something that no weights need.
    """
    kind = Path(name or path.name).suffix
    try:
        if kind == ".json":
            _check_configuration(file, path)
        elif kind == ".pkl":
            compare(file.manifest, _statistics(path))
        else:
            tensors = list_tensors(path)
            if kind == ".safetensors" and is_torch_archive(path):
                raise Unreadable("is a torch file under the name of a safetensors file")
            if file.manifest is not None:
                compare(file.manifest, tensors)
            _check_marks(file, tensors)
    except Unreadable as error:
        raise refused(entry, path, str(error)) from None


def check_published(entry: Entry, file: WeightFile, path: Path, progress: Progress = None) -> str:
    """Reads all of a file and holds it against the published size and checksum.

    Returns:
        "published" (the checksum agrees), "complete" (no checksum is known; the archive's own agrees) or "changed"
        (the tensors fit, the contents are somebody else's: converted, retrained, or another revision).

    Raises:
        PlaymateError: as ``check_file``; also where a file is known to be another of the catalogue.
    """
    check_file(entry, file, path)
    digest = hash_file(path, progress)
    if file.sha256 == digest:
        return "published"
    owner = _known().get(digest)
    if owner is not None and owner != (file.home or entry.folder, file.role):
        raise refused(entry, path, f"holds {owner[0]}'s {owner[1]}, another file than its place promises")
    if is_torch_archive(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise refused(entry, path, f"is damaged in its part {damaged!r}")
    return "complete" if file.sha256 is None else "changed"


def refused(entry: Entry, path: Path, reason: str) -> PlaymateError:
    """The sentence about a file that cannot be used."""
    cure = "install ComfyUI-Playmate again" if entry.bundled else \
        f"delete it and run: {command(entry)}"
    return PlaymateError(f"{path.name} in {path.parent} is refused because it {reason}; {cure}")


def command(entry: Entry) -> str:
    """What fetches an entry, as typed in the folder of ComfyUI-Playmate."""
    return f"python -m playmate_core weights download {entry.name}"


def hash_file(path: Path, progress: Progress = None) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with open(path, "rb") as file:
        while block := file.read(4 * 2**20):
            digest.update(block)
            done += len(block)
            report(progress, done, total)
    return digest.hexdigest()


def compare(name: str, tensors: Mapping[str, TensorInfo]) -> None:
    """Holds tensors against a list of ``manifests``.

    Raises:
        Unreadable: something is missing, has another shape or number format, or does not belong; the message names
            the network that the file does hold if it is another of the catalogue's.
    """
    problem = _difference(manifests()[name], tensors)
    if problem is None:
        return
    for other, manifest in manifests().items():
        if other != name and _difference(manifest, tensors) is None:
            raise Unreadable(f"holds the tensors of {other}, not of {name}")
    raise Unreadable(problem)


def _difference(manifest: dict, tensors: Mapping[str, TensorInfo]) -> str | None:
    tensors, aliases = _without_prefix(manifest, tensors), manifest.get("aliases", {})
    optional, free, used = tuple(manifest.get("optional", ())), manifest.get("sizes_vary", ()), set()
    for key, shape in manifest["tensors"].items():
        here = next((found for found in _spellings(key, aliases, tensors) if found in tensors), None)
        if here is None:
            if key.endswith(optional) or _folded(key, tensors):
                continue
            return f"lacks the tensor {key}"
        used.add(here)
        info = tensors[here]
        if len(info.shape) != len(shape) or (list(info.shape) != shape and key not in free):
            return f"holds {key} with shape {list(info.shape)} where {shape} is needed"
        wanted = next((dtype for end, dtype in manifest.get("dtypes", {}).items() if key.endswith(end)), "float")
        if info.dtype not in (FLOATS if wanted == "float" else {wanted}):
            return f"holds {key} as {info.dtype}, which no such file does"
    left = [] if manifest.get("extra") else sorted(set(tensors) - used)
    return f"holds the tensor {left[0][:80]}, which does not belong there" if left else None


def _spellings(key: str, aliases: Mapping[str, str], tensors: Mapping[str, TensorInfo]) -> tuple[str, ...]:
    """Names under which a tensor may be stored; spectral norm folded into a plain weight is one (SPEC.md 7)."""
    names = (key, aliases.get(key, key))
    return (*names, f"{key[:-len('_orig')]}") if key.endswith(".weight_orig") else names


def _folded(key: str, tensors: Mapping[str, TensorInfo]) -> bool:
    return key.endswith((".weight_u", ".weight_v")) and f"{key[:-2]}" in tensors


def _without_prefix(manifest: dict, tensors: Mapping[str, TensorInfo]) -> Mapping[str, TensorInfo]:
    for prefix in manifest.get("prefixes", ()):
        cut = {name[len(prefix):]: info for name, info in tensors.items() if name.startswith(prefix)}
        if cut:
            return cut if manifest.get("extra") else {**{n: i for n, i in tensors.items()
                                                         if not n.startswith(prefix)}, **cut}
    return tensors


def _check_marks(file: WeightFile, tensors: Mapping[str, TensorInfo]) -> None:
    for mark in file.marks:
        if not any(name.startswith(mark) for name in tensors):
            raise Unreadable(f"holds no tensor {mark}*, so it is another file")


def _check_configuration(file: WeightFile, path: Path) -> None:
    if path.stat().st_size > MAX_SIDE_FILE:
        raise Unreadable("is far too large for a configuration")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError):
        raise Unreadable("is not JSON") from None
    if not isinstance(content, dict):
        raise Unreadable("is no configuration")
    if file.role == "config" and content.get("hidden_size") != 768:
        raise Unreadable(f"describes a network of width {content.get('hidden_size')!r:.20}, not 768")


def _statistics(path: Path) -> dict[str, TensorInfo]:
    """JoyVASA's motion template: a pickle of numpy arrays, read by the restricted reader."""
    from .unpickle import read_arrays

    if path.stat().st_size > MAX_SIDE_FILE:
        raise Unreadable("is far too large for a motion template")
    content = read_arrays(path.read_bytes())
    if not isinstance(content, dict):
        raise Unreadable("is no dictionary of statistics")
    # A number of one column may be stored without an axis.
    return {str(name): TensorInfo("F32" if value.dtype.kind == "f" else "I64", (math.prod(value.shape),))
            for name, value in content.items() if hasattr(value, "dtype")}


def _known() -> dict[str, tuple[str, str]]:
    """(folder, role) of every file whose checksum the catalogue knows."""
    from .entries import ENTRIES

    return {file.sha256: (file.home or entry.folder, file.role)
            for entry in ENTRIES for source in entry.sources for file in source.files if file.sha256}
