"""Augmentation of voices: rooms, noise, music, cheap microphones, telephones.

All functions take and give [N] float32 at 16 kHz and keep every sound where it was: no delay, no change of length,
unless said otherwise. Randomness comes from the generator given, so a clip can be made again.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

RATE = 16_000
Generator = np.random.Generator


def resample(samples: np.ndarray, rate: float, to: float = RATE) -> np.ndarray:
    """Band-limited resampling (torchaudio) from ``rate`` to ``to``; a ratio is taken to three digits."""
    import torch
    from torchaudio.functional import resample as resampled

    ratio = Fraction(to / rate).limit_denominator(1000)
    if ratio == 1:
        return samples.astype(np.float32)
    return resampled(torch.from_numpy(np.ascontiguousarray(samples, np.float32)), ratio.denominator,
                     ratio.numerator).numpy()


def level(samples: np.ndarray) -> float:
    """Root mean square of the louder half of the sound, so that pauses do not count."""
    blocks = samples[: len(samples) // 400 * 400].reshape(-1, 400)
    if not len(blocks):
        return 1e-6
    power = np.sort((blocks ** 2).mean(1))[len(blocks) // 2:]
    return float(np.sqrt(power.mean()) + 1e-6)


def coloured_noise(count: int, slope: float, rng: Generator) -> np.ndarray:
    """[count] noise of unit level, power falling with frequency to the power ``slope`` (0 white, 1 pink, 2 brown)."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    frequency = np.maximum(np.arange(len(spectrum)) * RATE / max(count, 1), 30.0)
    noise = np.fft.irfft(spectrum * frequency ** (-slope / 2), count)
    return (noise / (noise.std() + 1e-9)).astype(np.float32)


def tones(count: int, rng: Generator) -> np.ndarray:
    """[count] music of unit level: chords of a few decaying harmonic notes, a new one every half second or so."""
    music = np.zeros(count, np.float32)
    root = 110.0 * 2 ** (rng.integers(0, 12) / 12)
    start = 0
    while start < count:
        span = int(RATE * rng.uniform(0.25, 0.9))
        time = np.arange(min(span * 2, count - start)) / RATE
        for step in rng.choice([0, 3, 4, 5, 7, 9, 12, 16, 19], 3, replace=False):
            pitch = root * 2 ** (step / 12)
            note = sum(np.sin(2 * np.pi * pitch * k * time) / k ** 1.3 for k in range(1, 6))
            music[start:start + len(time)] += (note * np.exp(-time * rng.uniform(1.0, 4.0))).astype(np.float32)
        if rng.random() < 0.5:
            hit = coloured_noise(min(2400, count - start), 0.5, rng)
            music[start:start + len(hit)] += hit * np.exp(-np.arange(len(hit)) / 500.0).astype(np.float32)
        start += span
    return music / (music.std() + 1e-9)


def add(samples: np.ndarray, other: np.ndarray, ratio: float, speech_level: float | None = None) -> np.ndarray:
    """``samples`` with ``other`` (unit level) ``ratio`` decibels below the speech."""
    loud = level(samples) if speech_level is None else speech_level
    return samples + other * np.float32(loud * 10 ** (-ratio / 20))


def room(samples: np.ndarray, decay: float, wet: float, rng: Generator) -> np.ndarray:
    """Reverberation: the direct sound, a few early reflections and an exponential tail.

    Args:
        samples: [N].
        decay: seconds until the tail has fallen by 60 dB.
        wet: level of the reverberation relative to the direct sound.
        rng: generator.
    """
    count = int(RATE * min(decay, 1.2))
    tail = rng.standard_normal(count) * 10 ** (-3 * np.arange(count) / (RATE * decay))
    tail[: int(0.004 * RATE)] = 0.0
    for place in rng.integers(int(0.003 * RATE), int(0.04 * RATE), 6):
        tail[min(place, count - 1)] += rng.uniform(-3.0, 3.0)
    tail *= wet / (np.sqrt((tail ** 2).sum()) + 1e-9)
    size = 1 << (len(samples) + count - 1).bit_length()
    wet_sound = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(tail, size), size)[: len(samples)]
    return (samples + wet_sound).astype(np.float32)


def band(samples: np.ndarray, low: float, high: float) -> np.ndarray:
    """Keep ``low`` to ``high`` Hz, without phase shift, with soft edges a fifth of an octave wide."""
    spectrum = np.fft.rfft(samples)
    octave = np.log2(np.maximum(np.arange(len(spectrum)) * RATE / max(len(samples), 1), 1.0))
    keep = 1 / (1 + np.exp(-20 * (octave - np.log2(low)))) / (1 + np.exp(20 * (octave - np.log2(high))))
    return np.fft.irfft(spectrum * keep, len(samples)).astype(np.float32)


def companded(samples: np.ndarray, bits: int) -> np.ndarray:
    """Quantised on a mu-law scale, as telephones and old codecs do."""
    peak = np.abs(samples).max() + 1e-9
    steps = 2 ** (bits - 1)
    squeezed = np.sign(samples) * np.log1p(255 * np.abs(samples) / peak) / np.log(256)
    squeezed = np.round(squeezed * steps) / steps
    return (np.sign(squeezed) * np.expm1(np.abs(squeezed) * np.log(256)) / 255 * peak).astype(np.float32)


def tilt(samples: np.ndarray, decibels: float) -> np.ndarray:
    """A slope of ``decibels`` from 100 Hz to 8 kHz, as microphones and rooms differ."""
    spectrum = np.fft.rfft(samples)
    frequency = np.maximum(np.arange(len(spectrum)) * RATE / max(len(samples), 1), 100.0)
    gain = 10 ** (decibels * np.log2(frequency / 100.0) / np.log2(80.0) / 20)
    return np.fft.irfft(spectrum * gain, len(samples)).astype(np.float32)


def revoice(samples: np.ndarray, factor: float) -> np.ndarray:
    """Another person at the same pace: pitch and formants moved by ``factor`` (0.8 to 1.25), time as it was.

    A phase vocoder (torchaudio) stretches time, resampling takes it back.
    """
    import torch
    from torchaudio.functional import phase_vocoder

    if abs(factor - 1.0) < 1e-3 or len(samples) < 2048:
        return samples
    size, hop = 512, 128
    window = torch.hann_window(size)
    spectrum = torch.stft(torch.from_numpy(samples), size, hop, window=window, return_complex=True)
    advance = torch.linspace(0, torch.pi * hop, size // 2 + 1)[:, None]
    slow = phase_vocoder(spectrum, 1.0 / factor, advance)
    stretched = torch.istft(slow, size, hop, window=window, length=int(round(len(samples) * factor)))
    moved = resample(stretched.numpy(), RATE * factor)[: len(samples)]
    return np.pad(moved, (0, len(samples) - len(moved))).astype(np.float32)


def degrade(samples: np.ndarray, rng: Generator, strength: float = 1.0) -> np.ndarray:
    """A random chain of the above, as found in real recordings; about a quarter stays nearly clean.

    Args:
        samples: [N].
        rng: generator.
        strength: 0 changes only the level, 1 is the corpus' own.
    """
    loud = level(samples)
    if rng.random() < 0.35 * strength:
        samples = room(samples, rng.uniform(0.15, 0.8), rng.uniform(0.1, 0.7), rng)
    if rng.random() < 0.4 * strength:
        samples = tilt(samples, rng.uniform(-10, 8))
    if rng.random() < 0.55 * strength:
        noise = coloured_noise(len(samples), rng.uniform(0, 2), rng)
        samples = add(samples, noise, rng.uniform(8, 40), loud)
    if rng.random() < 0.18 * strength:
        samples = add(samples, tones(len(samples), rng), rng.uniform(6, 28), loud)
    if rng.random() < 0.2 * strength:
        samples = band(samples, rng.uniform(60, 300), rng.choice([3400.0, 4000.0, 5500.0, 7000.0]))
    if rng.random() < 0.1 * strength:
        samples = companded(samples, int(rng.integers(6, 9)))
    peak = np.abs(samples).max() + 1e-9
    samples = samples * np.float32(10 ** (rng.uniform(-24, -1) / 20) / peak)
    if rng.random() < 0.06 * strength:
        samples = np.clip(samples * rng.uniform(1.5, 3.0), -peak, peak)
    return np.clip(samples, -1.0, 1.0).astype(np.float32)
