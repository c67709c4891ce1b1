"""LivePortrait's weight files as they are published, in both forms, of small networks."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Iterator

from tests.liveportrait_helpers import small_weights, write_pickles, write_safetensors


def write_all(folder: Path) -> dict[str, Path]:
    """Three contents for ComfyUI's folder models/liveportrait: people in either form (the same numbers), and people
    and animals side by side."""
    people = small_weights(halvings=4)
    write_safetensors(folder / "kijai", people)
    write_pickles(folder / "kwai", people)
    animals = small_weights(halvings=4)
    for value in animals["generator"].values():
        if value.ndim == 4:  # another network, as lively as the first
            value.copy_(value.flip(0))
    write_safetensors(folder / "kijai" / "animal", animals)
    return {"kijai": folder / "kijai", "kwai": folder / "kwai"}


@contextlib.contextmanager
def in_place(models: Path, content: Path | None) -> Iterator[None]:
    """models/liveportrait is ``content`` meanwhile, or absent."""
    place, aside = models / "liveportrait", models / f"liveportrait.{os.getpid()}"
    if place.is_symlink() or place.exists():
        place.rename(aside)
    try:
        if content is not None:
            place.symlink_to(content, target_is_directory=True)
        yield
    finally:
        if place.is_symlink():
            place.unlink()
        if aside.is_symlink() or aside.exists():
            aside.rename(place)
