"""Many channels to one or two: as loud as the source, without clipping, and with nothing lost."""

import math
import wave

import numpy as np
import pytest
import torch

from playmate_core.media.film_sound import film_sound
from playmate_core.media.mixing import weights_of
from playmate_core.media.sound import from_waveform, read_audio

from .test_media_files import make_sound

RATE = 16000


def tone(hertz=440.0, level=0.5, seconds=1.0):
    return level * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * RATE)) / RATE)


def loudness(samples):
    return float(samples.square().mean(-1).max().sqrt())


def played(source, seconds=1.0):
    """[2, N] what the film's sound stream is given."""
    return torch.from_numpy(np.concatenate(list(film_sound(source, seconds).blocks), 1))


def test_six_microphones_are_as_loud_as_one_and_do_not_clip(tmp_path):
    six = tone(level=0.9).expand(6, -1)
    path = make_sound(tmp_path / "a.wav", six.numpy(), RATE)
    for source in (path, (six, RATE)):
        assert loudness(read_audio(source).samples) == pytest.approx(loudness(six), rel=1e-3)
        film = played(source)
        assert film.shape[0] == 2 and float(film.abs().max()) < 0.91
        assert loudness(film) == pytest.approx(loudness(six), rel=1e-3)


@pytest.mark.parametrize("channel", range(6))
def test_a_voice_in_one_of_six_channels_is_heard(tmp_path, channel):
    """Centre or side of a film, or the microphone that lies where a cinema's bass would."""
    six = torch.zeros(6, RATE)
    six[channel] = tone()
    path = make_sound(tmp_path / "a.wav", six.numpy(), RATE)
    assert loudness(read_audio(path).samples) == pytest.approx(loudness(six), rel=1e-3)
    film = played(path)
    assert loudness(film) == pytest.approx(loudness(six), rel=1e-3) and float(film.abs().max()) < 0.51
    left, right = film.square().mean(1)
    assert bool(left > right) == (channel in (0, 4)) and bool(right > left) == (channel in (1, 5))


def test_the_voice_in_the_centre_stands_before_the_music():
    film = torch.stack([tone(300), tone(350), tone(1000), tone(60), tone(500), tone(550)])
    spectrum = torch.fft.rfft(from_waveform(film, RATE).samples).abs()
    assert float(spectrum[1000]) > 1.3 * max(float(spectrum[hertz]) for hertz in (300, 350, 500, 550))
    assert float(spectrum[60]) < 0.01 * float(spectrum[1000])


def test_related_channels_that_would_clip_are_turned_down():
    loud = tone(level=1.0).expand(6, -1).clone()
    loud[1] *= 0.2
    for mixed in (played((loud, RATE)), from_waveform(loud, RATE).samples[None]):
        assert 0.7 < float(mixed.abs().max()) <= 1.0
        spectrum = torch.fft.rfft(mixed[0]).abs()
        assert float(spectrum[1320]) < 1e-3 * float(spectrum[440])  # the third harmonic of a clipped tone


@pytest.mark.parametrize("channels", [3, 5, 12, 16])
def test_unknown_layouts_are_averaged(channels):
    sound = tone().expand(channels, -1)
    assert loudness(from_waveform(sound, RATE).samples) == pytest.approx(loudness(sound), rel=1e-3)
    assert loudness(played((sound, RATE))) == pytest.approx(loudness(sound), rel=1e-3)
    apart = torch.stack([tone(200 + 50 * number, 0.4) for number in range(channels)])
    mixed = from_waveform(apart, RATE).samples
    assert float(mixed.abs().max()) <= 1.0 and loudness(mixed) > 0.6 * loudness(apart)


@pytest.mark.parametrize("channels", [4, 7, 10])
def test_files_of_any_number_of_channels(tmp_path, channels):
    sound = tone().expand(channels, -1)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((channels, 2, RATE, 0, "NONE", ""))
        file.writeframes((sound.T * 32767).short().contiguous().numpy().tobytes())
    assert loudness(read_audio(tmp_path / "a.wav").samples) == pytest.approx(loudness(sound), rel=2e-3)
    assert loudness(played(tmp_path / "a.wav")) == pytest.approx(loudness(sound), rel=2e-3)


def test_channels_that_cancel_are_handled_in_films_too():
    sound = tone()
    four = torch.stack([sound, -sound, sound, -sound])
    assert loudness(played((four, RATE))) == pytest.approx(loudness(sound), rel=1e-3)
    assert loudness(from_waveform(four, RATE).samples) == pytest.approx(loudness(sound), rel=1e-3)


def test_stereo_stays_stereo_and_a_one_sided_voice_as_loud():
    sides = torch.stack([tone(), torch.zeros(RATE)])
    assert torch.allclose(played((sides, RATE)), sides, atol=1e-6)
    assert loudness(from_waveform(sides, RATE).samples) == pytest.approx(loudness(sides), rel=1e-3)


def test_weights_add_up_to_one():
    for names in (("FL", "FR", "FC", "LFE", "SL", "SR"), ("FL", "FR", "LFE"), ("FL", "FR", "BC"), ("a", "b", "c"), ()):
        for outputs in (1, 2):
            weights = weights_of(names, len(names) or 4, outputs)
            assert torch.allclose(weights.sum(1), torch.ones(outputs)) and bool((weights >= 0).all())


def test_rates_that_change_on_the_way(tmp_path):
    """Blocks of another rate or another number of channels, as some streams have them."""
    from playmate_core.media.film_sound import _sound

    blocks = [(tone()[None], RATE), (torch.stack([tone()] * 2), RATE), (tone(seconds=2.0)[None], 2 * RATE)]
    sound = _sound(lambda: iter(blocks), RATE, 1, (), 2.5, "The audio")
    made = np.concatenate(list(sound.blocks), 1)
    assert made.shape[0] == 1 and abs(made.shape[1] / sound.rate - 2.5) < 0.01


def test_the_reference_file(shared):
    path = shared / "cases" / "six_mics.wav"
    if not path.is_file():
        pytest.skip("no cases among the reference material")
    assert loudness(played(path)) == pytest.approx(0.0733, abs=5e-4)
    assert loudness(read_audio(path).samples) == pytest.approx(0.0733, abs=5e-4)
    assert float(played(path).abs().max()) < 0.38
