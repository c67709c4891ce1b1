"""The portrait and the voice that are measured: the repository's samples, made to size."""

from __future__ import annotations

import torch
from torch import Tensor

from playmate_core.cli import SAMPLES
from playmate_core.images import read_image
from playmate_core.speech.reading import read_audio
from playmate_core.speech.types import SAMPLE_RATE


def portrait(side: int = 512) -> Tensor:
    """[side, side, 3] the sample portrait, cut square and scaled."""
    image = read_image(next(SAMPLES.glob("portrait.*")))[..., :3]
    edge = min(image.shape[:2])
    image = image[:edge, :edge].permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(image, (side, side), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).contiguous()


def voice(seconds: float) -> tuple[Tensor, int]:
    """``(waveform [1, N], rate)``: the sample voice, repeated to ``seconds``."""
    samples = read_audio(next(SAMPLES.glob("voice.*"))).samples
    wanted = round(seconds * SAMPLE_RATE)
    return samples.repeat(-(-wanted // len(samples)))[:wanted][None], SAMPLE_RATE
