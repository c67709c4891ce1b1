"""How loud and how high a voice is, one number a motion frame."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..media.audio import SAMPLE_RATE
from ..runtime.progress import Progress, report
from .frames import FrameMean

QUIETEST = -80.0
"""Decibels relative to full scale; silence reads as this."""
LOWEST, HIGHEST = 60.0, 500.0
"""Hz between which a voice's pitch is sought."""
VOICED = 0.55
"""Correlation of a sound with itself one period later, above which it counts as voiced."""

_BLOCK = 40  # samples a loudness row
_PITCH_RATE = 100  # pitch rows a second
_DECIMATED = 8_000  # Hz; voicing shows below 1 kHz, so half the rate loses nothing
_SPAN = 240  # samples correlated at the decimated rate: 30 ms, two periods of a low voice
_CHUNK = 10  # seconds analysed at once, which bounds memory


def loudness(samples: Tensor, frames: int, fps: float) -> Tensor:
    """Root-mean-square level of each frame.

    Args:
        samples: [N] at 16 kHz, in -1..1.
        frames: T.
        fps: frames a second.

    Returns:
        [T] decibels relative to full scale, floored at -80.
    """
    rate = SAMPLE_RATE // _BLOCK
    mean = FrameMean(frames, fps, rate, 1, samples.device)
    for index, part in enumerate(samples.split(_CHUNK * SAMPLE_RATE)):
        part = F.pad(part, (0, -len(part) % _BLOCK))
        mean.add(index * _CHUNK * rate, part.view(-1, _BLOCK).square().mean(1, keepdim=True))
    return 10.0 * mean.values[:, 0].clamp_min(10.0 ** (QUIETEST / 10.0)).log10()


def pitch_chunks(samples: Tensor) -> int:
    """How many chunks ``pitch`` reports to its progress callback."""
    return -(-len(samples) // (_CHUNK * SAMPLE_RATE))


def pitch(samples: Tensor, frames: int, fps: float, progress: Progress = None) -> Tensor:
    """Fundamental frequency of each frame.

    Normalised cross-correlation (Talkin 1995, "A robust algorithm for pitch tracking") of 30 ms with itself at every
    lag of a voice, 100 times a second. The shortest lag whose peak comes within 0.85 of the best is taken, so that
    a period is not mistaken for two; a median over five rows removes single slips.

    Args:
        samples: [N] at 16 kHz.
        frames: T.
        fps: frames a second.
        progress: told the 10 s chunks done and their number.

    Returns:
        [T] Hz, 0 where more than half of the frame is unvoiced; elsewhere the geometric mean of the voiced part.
    """
    step = SAMPLE_RATE // _PITCH_RATE
    rows = -(-len(samples) // step)
    mean = FrameMean(frames, fps, _PITCH_RATE, 2, samples.device)
    tracks = [samples.new_zeros(0)]
    for index, first in enumerate(range(0, rows, _CHUNK * _PITCH_RATE)):
        tracks.append(_track(samples, first, min(first + _CHUNK * _PITCH_RATE, rows)))
        report(progress, index + 1, pitch_chunks(samples))
    track = _voiced_median(torch.cat(tracks))
    for first in range(0, rows, _CHUNK * _PITCH_RATE):
        part = track[first:first + _CHUNK * _PITCH_RATE]
        voiced = (part > 0).to(part)
        mean.add(first, torch.stack([voiced, part.clamp_min(1.0).log() * voiced], 1))
    share, logarithm = mean.values.unbind(1)
    return torch.where(share >= 0.5, (logarithm / share.clamp_min(1e-6)).exp(), torch.zeros_like(share))


def _track(samples: Tensor, first: int, last: int) -> Tensor:
    """[last - first] Hz of rows at 100 a second, 0 unvoiced. Row k is centred on (k + 0.5) / 100 s."""
    ratio = SAMPLE_RATE // _DECIMATED
    longest, shortest = int(_DECIMATED / LOWEST) + 2, int(_DECIMATED / HIGHEST) - 1
    length = _SPAN + longest
    step = _DECIMATED // _PITCH_RATE
    # The stretch of sound that all windows of these rows need, silence beyond the ends.
    centre = step // 2
    begin = (first * step + centre - length // 2) * ratio
    end = ((last - 1) * step + centre - length // 2 + length) * ratio
    part = samples[max(begin, 0):max(end, 0)]
    part = F.pad(part, (max(-begin, 0), end - max(begin, 0) - len(part)))
    part = part.view(-1, ratio).mean(1)
    # Below about 1 kHz a voice keeps its harmonics and loses most of the hiss; 9 taps stay under the shortest lag.
    smooth = torch.hann_window(11, periodic=False, device=part.device)[1:-1]
    part = F.conv1d(part[None, None], (smooth / smooth.sum())[None, None], padding=4)[0, 0]
    windows = part.unfold(0, length, step)
    windows = windows - windows.mean(1, keepdim=True)

    size = 512
    head = torch.fft.rfft(windows[:, :_SPAN], size)
    product = torch.fft.irfft(head.conj() * torch.fft.rfft(windows, size), size)[:, :longest + 1]
    energy = F.pad(windows.square().cumsum(1), (1, 0))
    energy = energy[:, _SPAN:_SPAN + longest + 1] - energy[:, :longest + 1]
    # A floor at -66 dB keeps hiss and rounding from looking periodic.
    ncc = product / (energy[:, :1] * energy + (_SPAN * 2.5e-7) ** 2).clamp_min(1e-20).sqrt()

    inner = ncc[:, shortest:longest]
    before, after = ncc[:, shortest - 1:longest - 1], ncc[:, shortest + 1:longest + 1]
    peaks = torch.where((inner >= before) & (inner > after), inner, torch.zeros_like(inner))
    best = peaks.amax(1)
    # argmax of booleans gives the first that is true.
    lag = (peaks >= 0.85 * best[:, None].clamp_min(1e-6)).to(torch.uint8).argmax(1)
    left, top, right = (x.gather(1, lag[:, None])[:, 0] for x in (before, inner, after))
    shift = 0.5 * (left - right) / (left - 2 * top + right).clamp_max(-1e-9)
    hertz = _DECIMATED / (lag + shortest + shift.clamp(-0.5, 0.5))
    voiced = (top > VOICED) & (hertz >= LOWEST) & (hertz <= HIGHEST)
    return torch.where(voiced, hertz, torch.zeros_like(hertz))


def _voiced_median(track: Tensor, reach: int = 2) -> Tensor:
    """Each row's median over the rows within ``reach``, where most of them are voiced; else 0."""
    if not len(track):
        return track
    around = F.pad(track, (reach, reach)).unfold(0, 2 * reach + 1, 1)
    count = (around > 0).sum(1)
    # Unvoiced rows sort to the front; the median of the rest lies in their middle.
    ordered = around.sort(1).values
    middle = (2 * reach + 1 - count) + (count - 1).clamp_min(0) // 2
    value = ordered.gather(1, middle.clamp(0, 2 * reach)[:, None])[:, 0]
    return torch.where(count > reach, value, torch.zeros_like(value))
