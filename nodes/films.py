"""A VIDEO's pictures, one after another where it is a file, and its sound: its trim and its crop are what the user sees
of it."""

from __future__ import annotations

import os
from typing import Any

from comfy_api.latest import Input, InputImpl
from torch import Tensor

from ..playmate_core.media.clip_sound import clip_sound
from ..playmate_core.media.film_pictures import FilmBatch, FilmFile, batch_film, open_film
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
    part = file_part(video, start, seconds)
    if part is not None:
        reader = open_video(*part)
        return reader, reader.fps, reader.total, clip_sound(*part)
    if not hasattr(video, "get_components"):
        raise PlaymateError(f"The VIDEO is a {type(video).__name__}, which gives neither a file nor pictures; connect "
                            "Load Video.")
    parts = video.get_components()
    return (*part_of(pictures(parts.images, "video"), float(parts.frame_rate), start, seconds),
            _part_of_sound(parts.audio, start, seconds))


def film_pictures(video: Any) -> tuple[FilmFile | FilmBatch, Any]:
    """``(pictures, the AUDIO or None)`` of a VIDEO, to be drawn on: from its file where it is one, as ``film`` has it.

    Raises:
        PlaymateError: no film.
    """
    part = file_part(video, 0.0, 0.0)
    if part is not None:
        return open_film(*part), clip_sound(*part)
    if not hasattr(video, "get_components"):
        raise PlaymateError(f"The VIDEO is a {type(video).__name__}, which gives neither a file nor pictures; connect "
                            "Load Video.")
    parts = video.get_components()
    return batch_film(pictures(parts.images, "video"), float(parts.frame_rate)), _part_of_sound(parts.audio, 0.0, 0.0)


def file_part(video: Any, start: float, seconds: float) -> tuple[Any, float, float | None] | None:
    """``(file, first second, how many or None for all)`` of a part of a film that is read from a file, else None.

    Args:
        video, start, seconds: as for ``film``.

    Raises:
        PlaymateError: a start beyond the film's end.
    """
    if isinstance(video, (str, os.PathLike)):
        return os.fspath(video), start, seconds or None
    source = _file(video)
    trim = None if source is None else _trim(video, source)
    if trim is None:
        return None
    begin, length = trim
    if length and start >= length:
        raise PlaymateError(f"The clip lasts {length:.2f} seconds; start before that.")
    left = length - start if length else 0.0
    return source, begin + start, min((span for span in (seconds, left) if span), default=None)


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
    gives = getattr(type(video), "get_stream_source", None)
    if gives is None or gives is Input.Video.get_stream_source or isinstance(video, InputImpl.VideoFromComponents):
        return None
    return video.get_stream_source()


def _trim(video: Any, source) -> tuple[float, float] | None:
    """(first second, how many or 0 for all) of the file that a film shows; None if it is not simply a part of it.

    Newer versions of ComfyUI tell the trim; in those between, the length alone gives it away.
    """
    window = getattr(video, "get_active_trim_window", None)
    begin, length = (float(value) for value in window()) if window else (0.0, 0.0)
    whole = InputImpl.VideoFromFile(source)
    try:
        cropped = hasattr(video, "get_dimensions") and tuple(video.get_dimensions()) != tuple(whole.get_dimensions())
        cut = not window and hasattr(video, "get_duration") and \
            abs(video.get_duration() - whole.get_duration()) > SAME
    except Exception:
        return begin, length  # a file that cannot be read: who opens it says why
    return None if cropped or cut else (begin, length)
