"""The corpus: rooms, noise and other voices leave every sound where it was; engines tell true times."""

import numpy as np
import pytest

from laboratory.corpus import augmentation, non_speech, recipes
from laboratory.corpus.engines import ENGINES, Speech, Voice, available
from laboratory.corpus.engines.hibari import _spell, _stretch
from laboratory.corpus.text import OWN, sentences
from playmate_core.evaluation.phones import CLOSED, SILENCE, Phone

RATE = 16_000


@pytest.fixture
def clicks():
    sound = np.zeros(2 * RATE, np.float32)
    sound[[4000, 16000, 28000]] = 0.8, 0.31, 0.5
    return sound


def _peaks(sound):
    return [4000 - 200 + int(np.abs(sound[3800:4200]).argmax()), 15800 + int(np.abs(sound[15800:16200]).argmax())]


@pytest.mark.parametrize("change", [
    lambda x, r: augmentation.room(x, 0.4, 0.4, r), lambda x, r: augmentation.band(x, 100, 5000),
    lambda x, r: augmentation.tilt(x, -6), lambda x, r: augmentation.companded(x, 8),
    lambda x, r: augmentation.add(x, augmentation.coloured_noise(len(x), 1, r), 30, 0.1)])
def test_augmentation_moves_nothing_in_time(clicks, change):
    changed = change(clicks, np.random.default_rng(0))
    assert changed.shape == clicks.shape and np.isfinite(changed).all()
    assert np.allclose(_peaks(changed), _peaks(clicks), atol=2)
    assert not np.array_equal(changed, clicks)


@pytest.mark.parametrize("factor", [0.85, 1.2])
def test_revoice_moves_pitch_and_keeps_time(factor):
    time = np.arange(RATE) / RATE
    sound = (0.5 * np.sin(2 * np.pi * 200 * time) * (time > 0.5)).astype(np.float32)
    moved = augmentation.revoice(sound, factor)
    assert moved.shape == sound.shape
    spectrum = np.abs(np.fft.rfft(moved[9000:15000]))
    assert np.argmax(spectrum) * RATE / 6000 == pytest.approx(200 * factor, rel=0.05)
    assert np.abs(moved[:7000]).max() < 0.1 < np.abs(moved[8800:]).max()
    assert augmentation.revoice(sound, 1.0) is sound


def test_resampling_keeps_duration_and_pitch():
    sound = np.sin(2 * np.pi * 300 * np.arange(22050) / 22050).astype(np.float32)
    there = augmentation.resample(sound, 22050)
    assert abs(len(there) - RATE) <= 1
    assert np.argmax(np.abs(np.fft.rfft(there))) == pytest.approx(300, abs=2)


def test_degrade_is_bounded_repeatable_and_varied():
    voice = augmentation.tones(RATE, np.random.default_rng(3)) * np.float32(0.1)
    made = [augmentation.degrade(voice, np.random.default_rng(s)) for s in (1, 1, 2, 3, 4)]
    assert np.array_equal(made[0], made[1]) and not np.array_equal(made[0], made[2])
    assert all(np.abs(x).max() <= 1.0 and x.dtype == np.float32 and len(x) == len(voice) for x in made)


@pytest.mark.parametrize("kind", non_speech.KINDS)
def test_non_speech_is_sound_or_silence(kind):
    sound = non_speech.sound(kind, 1.5, np.random.default_rng(0))
    assert len(sound) == 24000 and np.isfinite(sound).all() and np.abs(sound).max() <= 1.5
    assert (np.abs(sound).max() == 0) == (kind == "silence")


def test_unknown_non_speech_is_refused():
    with pytest.raises(ValueError, match="singing"):
        non_speech.sound("singing", 1.0, np.random.default_rng(0))


def test_sentences_are_many_languages_without_any_package(tmp_path):
    for language in OWN:
        found = sentences(language, 0, tmp_path)
        assert sorted(found) == sorted(OWN[language]) and found == sentences(language, 0, tmp_path)
    assert sentences("en", 1, tmp_path) != sentences("en", 2, tmp_path)


def test_sentences_read_fortunes_and_drop_what_cannot_be_said(tmp_path):
    (tmp_path / "wisdom").write_text(
        "A plain sentence that anybody could say aloud.\n\t\t-- Nobody\n%\nSHOUTING ALL THE WAY THROUGH THE LINE.\n%\n"
        "See http://x.y/z for more than 30 characters.\n%\nShort.\n")
    found = set(sentences("en", 0, tmp_path)) - set(OWN["en"])
    assert found == {"A plain sentence that anybody could say aloud."}


def test_joined_sentences_keep_their_phone_times():
    tone = Speech(np.ones(RATE, np.float32), RATE, [Phone("p", CLOSED, 0.25, 0.5)])
    samples, phones = recipes.join([tone, tone], np.random.default_rng(5))
    assert len(samples) % 640 == 0
    for phone in phones:
        assert samples[int(phone.start * RATE)] == pytest.approx(0.6, abs=1e-3)
    first = np.flatnonzero(samples)[0] / RATE
    assert phones[0].start == pytest.approx(first + 0.25, abs=1e-3)


def test_speaking_through_a_shorter_tract_scales_the_times():
    class Tone:
        name = "tone"

        def say(self, text, voice):
            return Speech(np.ones(22050, np.float32), 22050, [Phone("a", "open", 0.0, 1.0)])

    speech = recipes.say(Tone(), "a", Voice("v", tract=1.1))
    assert speech.rate == RATE and speech.seconds == pytest.approx(1 / 1.1, rel=0.01)
    assert speech.phones[-1].end == pytest.approx(speech.seconds, rel=0.01)


def test_hibari_marks_lend_their_time():
    spelled = _spell(["_", "ˈ", "ɑ", "ː", " ", "p", "_"], np.array([0, 0.1, 0.15, 0.3, 0.35, 0.4, 0.5, 0.8]))
    assert [(p.kind, round(p.start, 2), round(p.end, 2)) for p in spelled] == [
        (SILENCE, 0.0, 0.1), ("open", 0.1, 0.35), (CLOSED, 0.35, 0.5), (SILENCE, 0.5, 0.8)]


def test_hibari_filters_stretch_along_frequency():
    filters = np.zeros((601, 3), np.float32)
    filters[200] = 1.0
    assert _stretch(filters, 0.9).argmax(0).tolist() == [180] * 3


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_engine_tells_when_lips_close(name):
    found = available([name])
    if not found:
        pytest.skip(f"{name} is not installed")
    engine = found[name]
    voices = engine.voices("en")
    assert voices and engine.voices("xx") == []
    speech = engine.say("A pub. A map.", Voice(voices[0]))
    assert speech.waveform.dtype == np.float32 and np.abs(speech.waveform).max() <= 1.0
    closed = [p for p in speech.phones if p.kind == CLOSED]
    assert len(closed) == 4
    assert all(a.end <= b.start + 1e-6 for a, b in zip(speech.phones, speech.phones[1:], strict=False))
    assert speech.phones[-1].end == pytest.approx(speech.seconds, abs=0.1)
    # Behind the lips of a p there is no voice.
    stops = [p for p in closed if p.symbol == "p"]
    vowels = [p for p in speech.phones if p.kind == "open"]

    def loud(p):
        return float((speech.waveform[int(p.start * speech.rate):int(p.end * speech.rate)] ** 2).mean())

    assert np.median([loud(p) for p in stops]) < 0.5 * np.median([loud(p) for p in vowels])


def test_missing_engines_are_left_out(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert available(["flite", "festival"]) == {}
