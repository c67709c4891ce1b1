"""Where the bundled weights lie."""

from __future__ import annotations

from pathlib import Path

from ..runtime.errors import PlaymateError

BUNDLED = Path(__file__).parent / "bundled"
"""Folder of the files that ship with the package, each with its licence beside it."""


def bundled(name: str) -> Path:
    """The path of bundled file ``name``.

    Raises:
        PlaymateError: the file is missing from the installation.
    """
    path = BUNDLED / name
    if not path.is_file():
        raise PlaymateError(f"The bundled file {name} is missing from {BUNDLED}; install ComfyUI-Playmate again.")
    return path
