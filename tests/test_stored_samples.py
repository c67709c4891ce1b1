"""Long sound that lies in a file: the very samples and features that sound in memory has."""

import numpy as np
import pytest
import torch

from playmate_core.media import sound, stored_samples
from playmate_core.media.sound import read_audio
from playmate_core.media.stored_samples import StoredSamples
from playmate_core.runtime.errors import PlaymateError


def test_laid_aside_or_not_samples_and_features_are_the_same(voice_path, models, monkeypatch):
    held = read_audio(voice_path)
    monkeypatch.setattr(sound, "LONG", 20_000)
    aside = read_audio(voice_path, stored=True)
    assert isinstance(aside.samples, StoredSamples) and isinstance(read_audio(voice_path).samples, torch.Tensor)
    assert len(aside.samples) == len(held.samples) and aside.duration == held.duration
    assert torch.equal(aside.samples[:], held.samples)
    assert torch.equal(aside.samples[1000:1800], held.samples[1000:1800])
    assert len(aside.samples[len(held.samples):]) == 0
    one, other = models.speech.encode(held), models.speech.encode(aside)
    for name in ("features", "loudness", "pitch"):
        assert torch.equal(getattr(one, name), getattr(other, name))


def test_changes_are_made_in_their_order_whenever_samples_are_read():
    samples = StoredSamples()
    samples.append(np.array([1.0, 2.0], np.float32))
    samples.append(np.array([3.0], np.float32))
    samples.change(lambda part: part.sub_(1.0))
    samples.change(lambda part: part.mul_(10.0))
    assert samples[:].tolist() == [0.0, 10.0, 20.0] and samples[1:].tolist() == [10.0, 20.0]
    assert [part.tolist() for part in samples.split(2)] == [[0.0, 10.0], [20.0]]
    with pytest.raises(IndexError):
        samples[::2]


def test_a_full_disk_is_said(monkeypatch):
    class Full:
        def seek(self, *_):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(stored_samples.tempfile, "TemporaryFile", lambda **_: Full())
    with pytest.raises(PlaymateError, match="No space left on device"):
        StoredSamples().append(np.zeros(4, np.float32))
