"""Features from ComfyUI's own audio encoders."""

import pytest
import torch

from playmate_core.runtime.errors import PlaymateError
from playmate_core.speech.external import external_features

RATE = 16_000


def tone(seconds):
    return 0.2 * torch.sin(2 * torch.pi * 150 * torch.arange(round(seconds * RATE)) / RATE)[None], RATE


def rows(count, width=8):
    """Row k holds the number k."""
    return torch.arange(count, dtype=torch.float32)[None, :, None].expand(1, count, width)


def test_rows_are_averaged_over_frames():
    features = external_features(tone(2.0), rows(100), 2 * RATE, "toy", 8)
    assert features.features.shape == (50, 8) and features.encoder == "toy" and features.duration == 2.0
    assert torch.allclose(features.features[:, 0], 2 * torch.arange(50.0) + 0.5, atol=1e-5)
    assert features.pitch[10:40].mean() == pytest.approx(150, rel=0.02)


def test_a_padded_window_is_cut_to_the_sound():
    features = external_features(tone(2.0), rows(1500), 2 * RATE, "toy", 8)
    assert torch.allclose(features.features[:, 0], 2 * torch.arange(50.0) + 0.5, atol=1e-5)


def test_one_row_less_than_the_sound_is_usual():
    features = external_features(tone(2.0), rows(99), 2 * RATE, "toy", 8)
    assert len(features) == 50 and torch.isfinite(features.features).all()
    assert features.features[-1, 0] > 95


@pytest.mark.parametrize("encoded, samples, said", [
    (rows(100, 768), 2 * RATE, "768 numbers a row .wav2vec2 or HuBERT base.*toy with 8"),
    (rows(100, 9), 2 * RATE, "9 numbers a row, but"),
    (rows(100).expand(2, -1, -1), 2 * RATE, "of 2 sounds"),
    (rows(100), 3 * RATE, "3.00 s of sound, but the audio lasts 2.00 s"),
    (torch.zeros(1, 0, 8), 2 * RATE, "shape"),
])
def test_what_does_not_fit_is_refused_in_one_sentence(encoded, samples, said):
    with pytest.raises(PlaymateError, match=said):
        external_features(tone(2.0), encoded, samples, "toy", 8)


def test_whisper_window_shorter_than_the_sound():
    with pytest.raises(PlaymateError, match="end after 30 s of 40 s"):
        external_features(tone(40.0), rows(1500), 40 * RATE, "toy", 8)
