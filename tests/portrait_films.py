"""Small films made of the sample portrait: moved about, cut, crossed by somebody else."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 144
"""Pixels of a person's picture; the face is half as wide."""


def person(portrait: Tensor, side: int = SIDE) -> Tensor:
    """[side, side, 3] the sample portrait."""
    planes = portrait.permute(2, 0, 1)[None]
    return F.interpolate(planes, (side, side), mode="bilinear", antialias=True)[0].permute(1, 2, 0).clamp(0, 1)


def stranger(portrait: Tensor, side: int = SIDE) -> Tensor:
    """Somebody else: the other side of the face in front, darker, of another complexion."""
    return (person(portrait, side).flip(1) ** 1.6 * torch.tensor([0.8, 0.9, 1.1])).clamp(0, 1)


def scene(height: int, width: int, *people: tuple[Tensor, float, float]) -> Tensor:
    """[height, width, 3] grey with people ``(picture, x, y)`` at their left upper corners, the last in front."""
    picture = torch.full((height, width, 3), 0.55)
    for one, x, y in people:
        x, y = round(x), round(y)
        x0, y0 = max(x, 0), max(y, 0)
        x1, y1 = min(x + one.shape[1], width), min(y + one.shape[0], height)
        if x1 > x0 and y1 > y0:
            picture[y0:y1, x0:x1] = one[y0 - y:y1 - y, x0 - x:x1 - x]
    return picture


def timed(pictures, fps: float = 25.0) -> list[tuple[float, Tensor]]:
    """Pictures with their seconds."""
    return [(number / fps, picture) for number, picture in enumerate(pictures)]


def write_film(path, pictures, fps=Fraction(25), stamps=None, gop: int = 250, sound: float = 0.0):
    """A film of pictures [H, W, 3], float 0..1, with B-frames and one key frame in ``gop``.

    Args:
        stamps: seconds of the pictures in milliseconds, for a varying rate.
        sound: seconds of a quiet tone beside them.
    """
    base = 1 / Fraction(fps) if stamps is None else Fraction(1, 1000)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=Fraction(fps), options={"crf": "12", "preset": "veryfast",
                                                                             "g": str(gop)})
        height, width = pictures[0].shape[:2]
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.time_base = video.codec_context.time_base = base
        heard = container.add_stream("aac", rate=16000) if sound else None
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray((picture * 255).round().byte().numpy(), "rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = number if stamps is None else stamps[number], base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if heard is not None:
            tone = 0.1 * np.sin(np.arange(round(16000 * sound)) * 0.1).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(tone, "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, 0, Fraction(1, 16000)
            container.mux(heard.encode(frame))
            container.mux(heard.encode(None))
    return path
