"""A VIDEO's pictures, one after another where it is a file, and its sound: its trim and its crop are what the user sees
of it."""

from __future__ import annotations

import os
from typing import Any

from comfy_api.latest import InputImpl
from torch import Tensor

from ..playmate_core.media.clip_sound import clip_sound
from ..playmate_core.media.video_reader import open_video
from ..playmate_core.runtime.errors import PlaymateError
from .values import pictures

SAME = 0.1
"""Seconds by which a film's length may differ from its file's without having been cut."""


def film(video: Any, start: float, seconds: float):
    """``(frames, frames a second, how many, the AUDIO of the same part or None)`` of a VIDEO.

    A film that is a file is read from it picture by picture, within its trim. One that is held in memory, or that
    shows its file otherwise than whole or trimmed (cropped, for instance), gives its pictures itself.

    Args:
        video: whatever answers to ``get_stream_source`` or ``get_components`` as ComfyUI's VIDEO does, or a path.
        start: seconds to leave out at the beginning.
        seconds: how many to read; 0 is all.

    Raises:
        PlaymateError: no film, or a start beyond its end.
    """
    if isinstance(video, (str, os.PathLike)):
        video = InputImpl.VideoFromFile(os.fspath(video))
    source = _file(video)
    trim = None if source is None else _trim(video, source)
    if trim is None:
        if not hasattr(video, "get_components"):
            raise PlaymateError(f"The VIDEO is a {type(video).__name__}, which gives neither a file nor pictures; "
                                "connect Load Video.")
        parts = video.get_components()
        return (*part_of(pictures(parts.images, "video"), float(parts.frame_rate), start, seconds),
                _part_of_sound(parts.audio, start, seconds))
    begin, length = trim
    if length and start >= length:
        raise PlaymateError(f"The clip lasts {length:.2f} seconds; start before that.")
    left = length - start if length else 0.0
    wanted = min((span for span in (seconds, left) if span), default=None)
    reader = open_video(source, begin + start, wanted)
    return reader, reader.fps, reader.total, clip_sound(source, begin + start, wanted)


def part_of(images: Tensor, fps: float, start: float, seconds: float):
    """``(frames, frames a second, how many)`` of a part of pictures [T, H, W, C] that were filmed at ``fps``."""
    first = round(start * fps)
    if first >= len(images):
        raise PlaymateError(f"The clip lasts {len(images) / fps:.2f} seconds; start before that.")
    images = images[first:first + max(round(seconds * fps), 1) if seconds else None]
    return [images], fps, len(images)


def _part_of_sound(audio: Any, start: float, seconds: float):
    """The AUDIO of the same part, None where there is none."""
    if audio is None:
        return None
    rate = int(audio["sample_rate"])
    first = round(start * rate)
    return {"waveform": audio["waveform"][..., first:first + round(seconds * rate) if seconds else None],
            "sample_rate": rate}


def _file(video: Any):
    """The file that a film is read from, or None: what is only in memory would have to be encoded for it."""
    if isinstance(video, InputImpl.VideoFromComponents) or not hasattr(video, "get_stream_source"):
        return None
    return video.get_stream_source()


def _trim(video: Any, source) -> tuple[float, float] | None:
    """(first second, how many or 0 for all) of the file that a film shows; None if it is not simply a part of it.

    Newer versions of ComfyUI tell the trim; in those between, the length alone gives it away.
    """
    window = getattr(video, "get_active_trim_window", None)
    begin, length = (float(value) for value in window()) if window else (0.0, 0.0)
    whole = InputImpl.VideoFromFile(source)
    for told in ("get_dimensions", "get_duration"):
        if not hasattr(video, told):
            continue
        shown, full = getattr(video, told)(), getattr(whole, told)()
        if told == "get_dimensions" and tuple(shown) != tuple(full):
            return None
        if told == "get_duration" and not window and abs(shown - full) > SAME:
            return None
    return begin, length
