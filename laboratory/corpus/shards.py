"""Files of the corpus: shards of clips, and the manifest that lists them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from playmate_core.runtime.errors import PlaymateError

MANIFEST = "manifest.json"
FORMAT = "playmate-corpus-1"
_HALF = ("features", "expression")


@dataclass(frozen=True)
class Clip:
    """One training clip at 25 frames a second.

    Attributes:
        features: [T, 384] encoder features.
        loudness: [T] decibels.
        pitch: [T] Hz.
        expression: [T, 63] latent offsets from rest.
        pose: [T, 7] pitch, yaw, roll (degrees), translation x, y, z (latent units), scale (about 1).
        identity: [63] identity feature.
        about: source, language, seconds, split ("train", "heldout" or "phones") and what else is known of the clip;
            ``phones``, where stored, is a list of [symbol, kind, start, end].
    """

    features: Tensor
    loudness: Tensor
    pitch: Tensor
    expression: Tensor
    pose: Tensor
    identity: Tensor
    about: dict = field(default_factory=dict)


TENSORS = ("features", "loudness", "pitch", "expression", "pose", "identity")


def write_shard(path: Path, clips: list[Clip]) -> list[dict]:
    """Write a shard under a temporary name and move it into place; returns what is known of each clip."""
    from safetensors.torch import save_file

    # A copy each: clips of one speaker share their identity, and the file format shares nothing.
    tensors = {f"{i}.{name}": getattr(clip, name).to(torch.float16 if name in _HALF else torch.float32).clone()
               for i, clip in enumerate(clips) for name in TENSORS}
    about = [clip.about for clip in clips]
    part = path.with_name(path.name + f".{os.getpid()}.part")
    flat = {name: value.contiguous() for name, value in tensors.items()}
    save_file(flat, str(part), metadata={"format": FORMAT, "clips": json.dumps(about)})
    os.replace(part, path)
    return about


def read_about(path: Path) -> list[dict]:
    """What is known of each clip of a shard, without reading its numbers.

    Raises:
        PlaymateError: not a shard of the corpus.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as stored:
            metadata = stored.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise PlaymateError(f"The corpus shard {path} cannot be read ({error}); delete it and build again.") from error
    if metadata.get("format") != FORMAT:
        raise PlaymateError(f"{path} is no shard of a Playmate corpus; build one with the corpus command.")
    return json.loads(metadata["clips"])


def read_shard(path: Path) -> list[Clip]:
    """All clips of a shard, tensors in float32; raises PlaymateError as :func:`read_about`."""
    from safetensors import safe_open

    about = read_about(path)
    with safe_open(str(path), "pt") as stored:
        return [Clip(*(stored.get_tensor(f"{i}.{name}").float() for name in TENSORS), about=about[i])
                for i in range(len(about))]


def write_manifest(folder: Path, settings: dict, shards: dict[str, list[dict]]) -> None:
    """``manifest.json``: the settings, and of every shard its clips; replaced in one step."""
    listed = {name: [{k: v for k, v in clip.items() if k != "phones"} for clip in clips]
              for name, clips in sorted(shards.items())}
    part = folder / (MANIFEST + ".part")
    part.write_text(json.dumps({"format": FORMAT, "settings": settings, "shards": listed}, indent=1))
    os.replace(part, folder / MANIFEST)


def hours(shards: dict[str, list[dict]], *keys: str) -> dict[tuple, float]:
    """Hours of clips grouped by the named entries of ``about``."""
    table: dict[tuple, float] = {}
    for clips in shards.values():
        for clip in clips:
            group = tuple(str(clip.get(key)) for key in keys)
            table[group] = table.get(group, 0.0) + clip["seconds"] / 3600
    return dict(sorted(table.items()))
