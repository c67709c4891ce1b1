"""LivePortrait's weight files as they are published, in both forms and at full size, with random numbers."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Iterator

import torch

from playmate_core.weights.entries import LIVEPORTRAIT
from tests.liveportrait_helpers import recipe_of
from tests.weights_helpers import listed

ROOM = 4 * 2**30
"""Free bytes on the disk below which nothing is written: 1.6 GB of weights, and what a server needs beside them."""

Tensors = dict[str, dict[str, torch.Tensor]]


def random_weights(tag: str) -> Tensors:
    """Tensors by role under their published names, drawn so that pictures come out neither flat nor infinite."""
    return {role: recipe_of(f"{tag}/{role}", {key: tuple(shape) for key, (_, shape) in
                                              listed(f"liveportrait/{net.stem}").items()})
            for role, net in LIVEPORTRAIT.items()}


def write_kijai(folder: Path, weights: Tensors) -> None:
    """As in Kijai/LivePortrait_safetensors: everything in one folder."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for role, tensors in weights.items():
        save_file(tensors, str(folder / f"{LIVEPORTRAIT[role].stem}.safetensors"), {"format": "pt"})


def write_kwai(folder: Path, weights: Tensors, networks: str = "base_models") -> None:
    """As in KwaiVGI/LivePortrait: pickled tables of tensors; the stitching file holds one for each of its networks,
    by names that say they were trained on several GPUs."""
    for role, tensors in weights.items():
        path = folder / ("retargeting_models" if role == "stitching" else networks) / f"{LIVEPORTRAIT[role].stem}.pth"
        path.parent.mkdir(parents=True, exist_ok=True)
        held: dict = dict(tensors)
        if role == "stitching":
            held = {}
            for key, value in tensors.items():
                name, rest = key.split("_module.", 1)
                held.setdefault(name, {})[f"module.{rest}"] = value
        torch.save(held, path)


def write_all(folder: Path) -> dict[str, Path]:
    """Three contents for ComfyUI's folder models/liveportrait: people in either form (the same numbers), and people
    and animals side by side."""
    people = random_weights("people")
    write_kijai(folder / "kijai", people)
    write_kwai(folder / "kwai", people)
    del people
    animals = random_weights("animals")
    del animals["stitching"]  # theirs is the human one
    write_kwai(folder / "kijai" / "animal", animals, "base_models_v1.1")
    return {"kijai": folder / "kijai", "kwai": folder / "kwai"}


def room_for_them(folder: Path) -> bool:
    return shutil.disk_usage(folder).free > ROOM


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
