"""What can be known of a file that is to be written, before minutes of work go into it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Iterable, Sequence

from ..runtime.errors import PlaymateError

LEAST_SPACE = 1 << 20
"""Bytes that must be free; hardly a film is smaller."""


def check_output(path: str | os.PathLike, what: str, suffixes: Sequence[str] = (), *,
                 inputs: Iterable[str | os.PathLike | None] = (), needed: int = LEAST_SPACE) -> Path:
    """``path``, if ``what`` can be written there.

    Args:
        what: how messages call it: "video", "motion" ...
        suffixes: endings that are known, in small letters; none: any.
        inputs: files that are read for it. None among them, and texts that are no files, are passed over.
        needed: bytes that must be free.

    Raises:
        PlaymateError: an unknown ending; a folder of that name; one of the inputs, also through a link; a folder that
            cannot be made or written; or no space.
    """
    path = Path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise PlaymateError(f"The {what} cannot be written as {path.name!r}; end the name in "
                            f"{', '.join(suffixes[:-1])}{' or ' if len(suffixes) > 1 else ''}{suffixes[-1]}.")
    try:
        if path.is_dir():
            raise PlaymateError(f"The {what} cannot be written to {path}, which is a folder; give a file's name.")
        if path.exists():
            for source in inputs:
                if source is not None and _same(path, source):
                    raise PlaymateError(f"The {what} would overwrite {source}, which it is made from; give the output "
                                        "another name.")
            if not os.access(path, os.W_OK):
                raise PlaymateError(f"The {what} {path} is there already and write-protected; give another name.")
        folder = path.absolute().parent
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if not folder.is_dir():
            raise PlaymateError(f"The {what} {path} could not be written: {folder} is a file, not a folder; choose "
                                "another place.")
        # Permissions on paper say little (network drives, containers), so it is tried.
        with tempfile.TemporaryFile(dir=folder, prefix=".playmate"):
            pass
        free = shutil.disk_usage(folder).free
    except PlaymateError:
        raise
    except (OSError, ValueError) as error:
        raise PlaymateError(f"The {what} {path} could not be written ({getattr(error, 'strerror', None) or error}); "
                            "check the name, the folder and its permissions.") from error
    if free < needed:
        raise PlaymateError(f"The {what} {path} could not be written: the disk has {free / 1e6:.1f} MB left; free some "
                            "space, or choose another disk.")
    return path


def refuse_same(*outputs: str | os.PathLike | None) -> None:
    """Raises PlaymateError where two of the outputs are one file."""
    given = [Path(path) for path in outputs if path is not None]
    seen: set[str] = set()
    for path in given:
        place = os.path.normcase(os.path.realpath(path))
        if place in seen:
            raise PlaymateError(f"Two outputs would be written to {path}; give them different names.")
        seen.add(place)


def _same(path: Path, source: str | os.PathLike) -> bool:
    try:
        return os.path.samefile(path, source)
    except (OSError, ValueError):
        return False
