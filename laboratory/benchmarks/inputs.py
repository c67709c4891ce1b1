"""The portrait and the voice that are measured: the repository's samples, made to size."""

from __future__ import annotations

import wave

import numpy as np
import torch
from torch import Tensor

from playmate_core.cli.demo import SAMPLES
from playmate_core.media.pictures import read_image


def portrait(side: int = 512) -> Tensor:
    """[side, side, 3] the sample portrait, cut square and scaled."""
    image = read_image(next(SAMPLES.glob("portrait.*")))[..., :3]
    edge = min(image.shape[:2])
    image = image[:edge, :edge].permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(image, (side, side), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).contiguous()


def voice(seconds: float) -> tuple[Tensor, int]:
    """``(waveform [1, N], rate)``: the sample voice, repeated to ``seconds``."""
    # By the standard library: machines with a graphics card often lack PyAV.
    with wave.open(str(SAMPLES / "voice.wav")) as file:
        rate, width = file.getframerate(), file.getsampwidth()
        raw = np.frombuffer(file.readframes(file.getnframes()), f"<i{width}").reshape(-1, file.getnchannels())
    samples = torch.from_numpy(raw.mean(1).astype(np.float32) / 2 ** (8 * width - 1))
    wanted = round(seconds * rate)
    return samples.repeat(-(-wanted // len(samples)))[:wanted][None], rate
