"""Which weights exist, where they lie on this machine, and the sentence that says which are missing.

    locate("liveportrait", folders)          {role: path}, or a PlaymateError that names folder, files and command
    find("liveportrait", folders)            the same without complaint, for lists
"""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path
from typing import Mapping, Sequence, Union

from ..runtime.errors import PlaymateError
from . import BUNDLED
from .check import check_file, command
from .entries import ENTRIES, Entry, Source, WeightFile

Folders = Union[str, PathLike, Sequence[Union[str, PathLike]], Mapping[str, Sequence[Union[str, PathLike]]], None]
"""Where to look: folders "models" (each with ``liveportrait`` and ``playmate`` in it), or, as ComfyUI's folder_paths
knows them, the folders for each of these names. None: ``default_models``."""

ENVIRONMENT = "PLAYMATE_MODELS"
REPOSITORY = Path(__file__).resolve().parents[2]


def names() -> tuple[str, ...]:
    """Names of all entries."""
    return tuple(entry.name for entry in ENTRIES)


def entry_of(name: str) -> Entry:
    """The entry called ``name``.

    Raises:
        PlaymateError: there is none.
    """
    for entry in ENTRIES:
        if entry.name == name:
            return entry
    raise PlaymateError(f"There are no weights called {name!r}; choose one of: {', '.join(names())}.")


def default_models() -> Path:
    """The folder "models" when nobody says otherwise: $PLAYMATE_MODELS; that of the ComfyUI in whose custom_nodes
    this package lies; else one in the user's cache."""
    given = os.environ.get(ENVIRONMENT)
    if given:
        return Path(given)
    # Not resolved: custom_nodes may hold a link to a checkout elsewhere.
    for package in (Path(os.path.abspath(__file__)).parents[2], REPOSITORY):
        if package.parent.name == "custom_nodes" and (package.parent.parent / "models").is_dir():
            return package.parent.parent / "models"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "playmate" / "models"


def homes(entry: Entry, file: WeightFile, folders: Folders = None) -> list[Path]:
    """Folders in which ``file.name`` is looked for, the one that new files go to first."""
    if entry.bundled:
        return [BUNDLED]
    rest = (file.home or entry.folder).partition("/")[2]
    return [root / rest if rest else root for root in _roots(entry, file, folders)]


def _roots(entry: Entry, file: WeightFile, folders: Folders) -> list[Path]:
    """The folders that ComfyUI calls "liveportrait" or "playmate", whichever the file belongs to."""
    first = (file.home or entry.folder).partition("/")[0]
    if isinstance(folders, Mapping):
        return [Path(folder) for folder in folders.get(first, ())]
    if folders is None:
        folders = [default_models()]
    elif isinstance(folders, (str, PathLike)):
        folders = [folders]
    return [Path(folder) / first for folder in folders]


def find(name: str, folders: Folders = None, form: str | None = None) -> dict[str, Path]:
    """The files of an entry that are there, by role; missing ones are left out, and nothing is read.

    Args:
        name: an entry's name.
        folders: where to look.
        form: only this published form (``Source.form``); by default any, the first of the catalogue first.
    """
    entry = entry_of(name)
    found: dict[str, Path] = {}
    for source in entry.sources:
        if form in (None, source.form):
            for file in source.files:
                path = _lies(entry, file, folders)
                if path is not None:
                    found.setdefault(file.role, path)
    return found


def locate(name: str, folders: Folders = None, check: bool = True) -> dict[str, Path]:
    """Where an entry's files lie, ready to be loaded. No network.

    Roles: LivePortrait ``appearance``, ``motion``, ``warping``, ``generator`` and ``stitching`` (each .safetensors or
    .pth; the animals' stitching is the human file); JoyVASA ``checkpoint`` and ``template``; speech encoders
    ``model``, ``config`` and ``preprocessor``, which lie in one folder.

    Args:
        name: an entry's name.
        folders: where to look.
        check: hold every file's table of contents against the catalogue.

    Raises:
        PlaymateError: unknown name; files that are missing (the sentence says where they belong and what fetches
            them); a file that is cut off, another one, or hostile.
    """
    entry = entry_of(name)
    found = find(name, folders)
    missing = [file for file in entry.sources[0].files if file.role not in found]
    if missing:
        raise PlaymateError(_missing(entry, missing, folders))
    if check:
        for role, path in found.items():
            check_file(entry, file_at(entry, role, path, folders), path)
    return found


def file_at(entry: Entry, role: str, path: Path, folders: Folders = None) -> WeightFile:
    """The catalogue's description of a file that ``find`` returned."""
    files = [file for source in entry.sources for file in source.files if file.role == role]
    return next((file for file in files if _lies(entry, file, folders) == path), files[0])


def published(entry: Entry, form: str | None = None) -> Source:
    """The form that is downloaded.

    Raises:
        PlaymateError: the entry has no such form, or ships with the package.
    """
    if entry.bundled:
        raise PlaymateError(f"{entry.title} ships with ComfyUI-Playmate; there is nothing to download.")
    for source in entry.sources:
        if form in (None, source.form):
            return source
    raise PlaymateError(f"{entry.title} is not published as {form!r}; choose one of: "
                        f"{', '.join(source.form for source in entry.sources)}.")


def workflow_models(name: str) -> list[dict[str, str]]:
    """What a workflow says of an entry's files so that ComfyUI's missing-model dialog can offer them.

    ``directory`` is ComfyUI's name of a model folder and ``name`` the path in it, as its model list gives them.
    """
    entry = entry_of(name)
    source = published(entry)
    listed = []
    for file in source.files:
        directory, _, rest = (file.home or entry.folder).partition("/")
        hash_ = {"hash": file.sha256, "hash_type": "SHA256"} if file.sha256 else {}
        listed.append({"name": f"{rest}/{file.name}" if rest else file.name,
                       "url": f"https://huggingface.co/{source.repository}/resolve/{source.revision}/{file.remote}",
                       "directory": directory, **hash_})
    return listed


def _lies(entry: Entry, file: WeightFile, folders: Folders) -> Path | None:
    for home in homes(entry, file, folders):
        for name in (file.name, *file.also):
            if (home / name).is_file():
                return home / name
    return None


def _missing(entry: Entry, missing: Sequence[WeightFile], folders: Folders) -> str:
    if entry.bundled:
        return f"The bundled file {missing[0].name} is missing from {BUNDLED}; install ComfyUI-Playmate again."
    places: dict[str, list[str]] = {}
    for file in missing:
        home = homes(entry, file, folders)
        places.setdefault(str(home[0]) if home else file.home or entry.folder, []).append(file.name)
    where = " and ".join(f"{', '.join(files)} into {folder}" for folder, files in places.items())
    roots = _roots(entry, entry.sources[0].files[0], folders)
    more = "" if not roots or roots[:1] == _roots(entry, missing[0], None) else f" --into {_quoted(roots[0])}"
    return (f"{entry.title}'s weights are missing: put {where}, or let them be fetched ({_megabytes(missing)}) by "
            f"running in {REPOSITORY}: {command(entry)}{more}")


def _quoted(path: Path) -> str:
    return f'"{path}"' if " " in str(path) else str(path)


def _megabytes(files: Sequence[WeightFile]) -> str:
    return f"{max(sum(file.about for file in files) / 1e6, 1):.0f} MB"
