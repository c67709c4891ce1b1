"""Whisper's log-mel spectrogram and the loudness gain that comes before it."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from ..media.audio import SAMPLE_RATE

WINDOW = 400
"""Samples under the Hann window (25 ms), also the transform's length."""
HOP = 160
"""Samples between spectra: 100 a second."""
DYNAMIC_RANGE = 8.0
"""Powers of ten below the loudest bin that are kept; what is quieter is raised to that floor."""


@lru_cache(maxsize=4)
def _filterbank(bands: int) -> Tensor:
    """[bands, 201] Slaney's mel filters, area-normalised, 0 to 8 kHz, as Whisper's and librosa's."""
    from torchaudio.functional import melscale_fbanks

    bank = melscale_fbanks(WINDOW // 2 + 1, 0.0, SAMPLE_RATE / 2, bands, SAMPLE_RATE, norm="slaney",
                           mel_scale="slaney")
    return bank.T.contiguous()


def mel_power(samples: Tensor, bands: int = 80) -> Tensor:
    """Mel power spectrum with spectrum k centred on sample 160 k; the ends are mirrored.

    Args:
        samples: [..., N] at 16 kHz, N at least 201.

    Returns:
        [..., bands, N // 160].
    """
    window = torch.hann_window(WINDOW, device=samples.device)
    spectrum = torch.stft(samples, WINDOW, HOP, window=window, center=True, pad_mode="reflect", return_complex=True)
    power = spectrum[..., :-1].abs().square()
    return _filterbank(bands).to(samples.device) @ power


def log_mel(power: Tensor, floor: float | None = None) -> Tensor:
    """Whisper's compression of mel power: decades, raised to a floor, scaled to about -1..1.5.

    Args:
        power: [..., bands, K].
        floor: in decades; by default ``DYNAMIC_RANGE`` below the loudest bin of ``power``, as Whisper does with
            its 30 s windows.
    """
    decades = power.clamp_min(1e-10).log10()
    if floor is None:
        floor = float(decades.max()) - DYNAMIC_RANGE
    return (decades.clamp_min(floor) + 4.0) / 4.0


def speech_level(samples: Tensor) -> float:
    """Loudness of the speech in a recording: mean power of the 400 ms blocks that are not pauses.

    The gates are those of ITU-R BS.1770 (blocks under -70 dB, then under 10 dB below the mean, are left out); its
    ear-weighting filter is not applied.

    Args:
        samples: [N] at 16 kHz.

    Returns:
        Decibels relative to full scale, ``-inf`` where everything is below the gate.
    """
    step = SAMPLE_RATE // 10
    parts = [part.square().sum() if len(part) < step else part[:len(part) // step * step].view(-1, step).square().sum(1)
             for part in samples.split(600 * step)]
    tenths = torch.cat([part.reshape(-1) for part in parts]).double() / step
    blocks = tenths.unfold(0, 4, 1).mean(1) if len(tenths) >= 4 else tenths.mean().reshape(1)
    blocks = blocks[blocks > 1e-7]
    if not len(blocks):
        return -math.inf
    blocks = blocks[blocks > 0.1 * blocks.mean()]
    return 10.0 * math.log10(float(blocks.mean()))
