"""A clip's own sound as ComfyUI's AUDIO, decoded when somebody asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from .container import MediaFile
from .film_sound import film_sound
from .sound_file import has_sound, open_sound

_EVER = 1e8  # seconds


class ClipSound(Mapping):
    """``waveform`` [1, C, N] float32 with one or two channels, and ``sample_rate``, of a part of a file.

    It counts from ``Clock.zero``, so it is in step with the motion and the pictures of the same part. Nothing is
    decoded before the first key is asked for.
    """

    def __init__(self, source: MediaFile, start: float = 0.0, seconds: float | None = None) -> None:
        self._place = source, start, seconds
        self._content: dict[str, Any] | None = None

    def __getitem__(self, key: str) -> Any:
        if self._content is None:
            sound = film_sound(open_sound(*self._place), _EVER)
            blocks = [torch.from_numpy(block) for block in sound.blocks]
            waveform = torch.cat(blocks, 1) if blocks else torch.zeros(sound.channels, 1)
            self._content = {"waveform": waveform[None], "sample_rate": sound.rate}
        return self._content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(("waveform", "sample_rate"))

    def __len__(self) -> int:
        return 2


def clip_sound(source: MediaFile, start: float = 0.0, seconds: float | None = None) -> ClipSound | None:
    """The sound of a part of a file, None where it has none.

    Raises:
        PlaymateError: no such file, or nothing that can be read.
    """
    return ClipSound(source, start, seconds) if has_sound(source) else None
