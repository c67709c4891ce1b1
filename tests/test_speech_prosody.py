"""Loudness and pitch against sounds whose answers are known."""

from __future__ import annotations

import math

import pytest
import torch

from playmate_core.media.audio import SAMPLE_RATE
from playmate_core.speech.prosody import QUIETEST, loudness, pitch, pitch_chunks


def voice(hertz: float, seconds: float = 6.0, noise: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """A vowel whose pitch swings by 15 % and that pauses every 1.5 s; and its pitch, sample by sample, 0 in pauses."""
    time = torch.arange(round(seconds * SAMPLE_RATE), dtype=torch.float64) / SAMPLE_RATE
    curve = hertz * (1 + 0.15 * torch.sin(2 * math.pi * 0.7 * time))
    phase = torch.cumsum(curve, 0) / SAMPLE_RATE
    sound = torch.zeros_like(time)
    for k in range(1, int(7000 / (1.15 * hertz))):
        height = k * curve
        gain = sum(1 / (1 + ((height - at) / width) ** 2) for at, width in ((600, 160), (1200, 200), (2500, 300)))
        sound += gain * torch.sin(2 * math.pi * (k * phase % 1)) / k**0.3
    on = (time % 1.5 < 1.1).double()
    sound = 0.3 * sound / sound.abs().max() * on
    sound = sound + noise * torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    return sound.float(), (curve * on).float()


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.05])
@pytest.mark.parametrize("hertz", [80, 120, 180, 260, 400])
def test_pitch_of_a_voice(hertz, noise):
    sound, curve = voice(hertz, noise=noise)
    got = pitch(sound, 150, 25.0)
    per_frame = curve.view(150, 640)
    voiced = (per_frame > 0).all(1)
    silent = (per_frame == 0).all(1)
    assert got.shape == (150,) and got.dtype == torch.float32
    ratio = got[voiced] / per_frame[voiced].mean(1)
    assert float(((ratio - 1).abs() > 0.05).float().mean()) <= 0.03
    assert float((ratio - 1).abs().median()) < 0.01
    # A frame that touches a vowel's decaying end may still count as voiced.
    assert float((got[silent] > 0).float().mean()) <= 0.06


def test_pitch_beats_torchaudio():
    """Why there is one of our own: gross errors over five voices in a little noise."""
    from torchaudio.functional import detect_pitch_frequency

    ours, theirs = [], []
    for hertz in (80, 120, 180, 260, 400):
        sound, curve = voice(hertz, noise=0.01)
        voiced = (curve.view(150, 640) > 0).all(1)
        middle = curve.view(150, 640)[:, 320]
        other = detect_pitch_frequency(sound[None], SAMPLE_RATE, freq_low=60, freq_high=500)[0]
        other = other[(torch.arange(150) * 4 + 2).clamp_max(len(other) - 1)]
        for got, into in ((pitch(sound, 150, 25.0), ours), (other, theirs)):
            into.append(((got[voiced] / middle[voiced] - 1).abs() > 0.1).float().mean())
    assert float(torch.stack(ours).mean()) < 0.02 < float(torch.stack(theirs).mean())


@pytest.mark.parametrize("fps", [24.0, 30.0, 60.0, 12.5])
def test_pitch_at_other_rates(fps):
    sound, curve = voice(150)
    frames = round(6 * fps)
    got = pitch(sound, frames, fps)
    at = ((torch.arange(frames) + 0.5) / fps * SAMPLE_RATE).long()
    assert got.shape == (frames,)
    both = (got > 0) & (curve[at] > 0)
    assert float(both.float().mean()) > 0.6
    assert float((got[both] / curve[at][both] - 1).abs().median()) < 0.015


def test_noise_silence_and_hum_are_unvoiced():
    noise = 0.3 * torch.randn(5 * SAMPLE_RATE, generator=torch.Generator().manual_seed(1))
    assert float((pitch(noise, 125, 25.0) > 0).float().mean()) < 0.05
    assert not pitch(torch.zeros(SAMPLE_RATE), 25, 25.0).any()
    assert not pitch(torch.zeros(0), 3, 25.0).any()
    assert not pitch(torch.full((SAMPLE_RATE,), 0.2), 25, 25.0)[2:-2].any()
    faint = 1e-5 * torch.sin(2 * math.pi * 100 * torch.arange(SAMPLE_RATE) / SAMPLE_RATE)
    assert not pitch(faint, 25, 25.0).any()


def test_chunks_do_not_show():
    """Rows either side of a 10 s chunk's end are what they are in the middle of one."""
    sound, _ = voice(140, 24.0, noise=0.003)
    whole = pitch(sound, 600, 25.0)
    later = pitch(sound[5 * SAMPLE_RATE:], 475, 25.0)
    assert torch.allclose(whole[125:][3:], later[3:], atol=0.05)
    told = []
    pitch(sound, 600, 25.0, lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)] and pitch_chunks(sound) == 3
    level = loudness(sound, 600, 25.0)
    assert torch.allclose(level[125:], loudness(sound[5 * SAMPLE_RATE:], 475, 25.0), atol=1e-3)


@pytest.mark.parametrize("fps", [25.0, 29.97, 60.0])
def test_loudness_in_decibels(fps):
    time = torch.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    sound = math.sqrt(2) * torch.sin(2 * math.pi * 1000 * time) * torch.where(time < 1, 0.1, 0.0)
    got = loudness(sound, round(2 * fps), fps)
    assert torch.allclose(got[:int(fps) - 1], torch.tensor(-20.0), atol=0.2)
    assert bool((got[int(fps) + 2:] == QUIETEST).all())
    assert float(loudness(torch.ones(6400), 10, 25.0).max()) == pytest.approx(0.0, abs=1e-4)
