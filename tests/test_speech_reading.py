"""Sound in: every format and every kind of bad input, the resampler's joints, and what a message says."""

from __future__ import annotations

import logging
import math
import wave

import numpy as np
import pytest
import torch

from playmate_core.media.audio import SAMPLE_RATE
from playmate_core.media.resampling import Resampler
from playmate_core.media.sound import from_waveform, read_audio
from playmate_core.runtime.errors import PlaymateError


def tone(seconds: float, rate: int, hertz: float = 440.0, level: float = 0.5) -> torch.Tensor:
    return level * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * rate), dtype=torch.float64) / rate)


def at_16k(seconds: float, hertz: float = 440.0, level: float = 0.5) -> torch.Tensor:
    return tone(seconds, SAMPLE_RATE, hertz, level).float()


def write_wav(path, samples: np.ndarray, rate: int) -> None:
    """[C, N] unsigned bytes, int16 or int32."""
    with wave.open(str(path), "wb") as file:
        file.setparams((len(samples), samples.dtype.itemsize, rate, 0, "NONE", ""))
        file.writeframes(np.ascontiguousarray(samples.T).tobytes())


def encode(path, samples: torch.Tensor, rate: int, codec: str, layout: str, form: str, video: bool = False) -> None:
    """Write [C, N] floats with FFmpeg's ``codec``, behind a video stream if asked for."""
    import av

    with av.open(str(path), "w") as container:
        picture = None
        if video:
            picture = container.add_stream("mpeg4", rate=25)
            picture.width = picture.height = 32
            picture.pix_fmt = "yuv420p"
        stream = container.add_stream(codec, rate=rate)
        stream.layout = layout
        stream.format = form
        if picture is not None:
            for _ in range(5):
                frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
                container.mux(picture.encode(frame))
            container.mux(picture.encode(None))
        size = 1024
        for first in range(0, samples.shape[1], size):
            part = np.ascontiguousarray(samples[:, first:first + size].float().numpy())
            frame = av.AudioFrame.from_ndarray(part, "fltp", layout)
            frame.sample_rate, frame.pts = rate, first
            frame = av.AudioResampler(form, layout, rate).resample(frame)
            for each in frame:
                container.mux(stream.encode(each))
        container.mux(stream.encode(None))


def error(pixels: torch.Tensor, wanted: torch.Tensor, edge: int = 400) -> float:
    size = min(len(pixels), len(wanted))
    return float((pixels[:size] - wanted[:size])[edge:size - edge].abs().max())


@pytest.mark.parametrize(("rate", "channels", "kind", "tolerance"), [
    (8000, 1, np.uint8, 0.01), (16000, 1, np.int16, 1e-4), (44100, 2, np.int16, 1e-3), (96000, 6, np.int16, 1e-3),
    (48000, 2, np.int32, 1e-3),
])
def test_wav_of_every_width_is_scaled_and_resampled(tmp_path, rate, channels, kind, tolerance):
    sound = tone(1.0, rate).numpy()[None].repeat(channels, 0)
    if kind is np.uint8:
        data = np.round(sound * 127 + 128).astype(np.uint8)
    else:
        data = np.round(sound * np.iinfo(kind).max).astype(kind)
    write_wav(tmp_path / "a.wav", data, rate)
    audio = read_audio(tmp_path / "a.wav")
    assert audio.duration == 1.0
    assert audio.samples.dtype == torch.float32 and len(audio.samples) == SAMPLE_RATE
    assert error(audio.samples, at_16k(1.0)) < tolerance


@pytest.mark.parametrize(("name", "codec", "layout", "form", "video"), [
    ("a.flac", "flac", "stereo", "s16", False), ("a.mp3", "mp3", "stereo", "fltp", False),
    ("a.ogg", "libopus", "mono", "flt", False), ("a.mp4", "aac", "stereo", "fltp", True),
    ("a.wav", "pcm_f32le", "stereo", "flt", False), ("b.wav", "pcm_f64le", "mono", "dbl", False),
])
def test_formats_of_ffmpeg(tmp_path, name, codec, layout, form, video):
    rate = 48000 if codec == "libopus" else 44100
    sound = tone(2.0, rate)[None].repeat(2 if layout == "stereo" else 1, 1)
    encode(tmp_path / name, sound, rate, codec, layout, form, video)
    audio = read_audio(tmp_path / name)
    # Lossy coders pad to whole frames of up to 2048 samples.
    assert audio.duration == pytest.approx(2.0, abs=0.06 if name[-3:] in ("mp3", "ogg", "mp4") else 1e-9)
    spectrum = torch.fft.rfft(audio.samples[4000:20000]).abs() / 8000
    assert int(spectrum.argmax()) == 440
    assert float(spectrum.max()) == pytest.approx(0.5, rel=0.1)


def test_a_colon_in_the_name_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        write_wav("take:2.wav", np.ones((1, 1600), np.int16), 16000)
    except OSError:
        pytest.skip("this file system knows no colons in names")
    assert read_audio("take:2.wav").duration == 0.1


def test_truncated_mp3_gives_what_decodes_and_warns(tmp_path, caplog):
    encode(tmp_path / "whole.mp3", tone(4.0, 44100)[None], 44100, "mp3", "mono", "fltp")
    data = (tmp_path / "whole.mp3").read_bytes()
    (tmp_path / "cut.mp3").write_bytes(data[:len(data) // 2 + 37])
    with caplog.at_level(logging.WARNING):
        audio = read_audio(tmp_path / "cut.mp3")
    assert 1.5 < audio.duration < 2.5
    assert abs(len(audio.samples) - audio.duration * SAMPLE_RATE) <= 1
    assert "damaged or cut off" in caplog.text and "cut.mp3" in caplog.text


def test_damage_in_the_middle_is_skipped(tmp_path):
    encode(tmp_path / "a.mp3", tone(4.0, 44100)[None], 44100, "mp3", "mono", "fltp")
    data = bytearray((tmp_path / "a.mp3").read_bytes())
    middle = len(data) // 2
    data[middle:middle + 3000] = bytes(range(250)) * 12
    (tmp_path / "a.mp3").write_bytes(bytes(data))
    assert read_audio(tmp_path / "a.mp3").duration > 3.0


def test_bad_files_end_in_one_sentence(tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.mp3").write_text("this is no sound " * 50)
    write_wav(tmp_path / "none.wav", np.zeros((1, 0), np.int16), 16000)
    encode_silent_film(tmp_path / "film.mp4")
    said = {
        "missing.wav": "no audio file at", "": "is a folder", "empty.wav": "is empty",
        "text.mp3": "holds text and is no audio or video file", "none.wav": "No sound could be decoded",
        "film.mp4": "no sound track",
    }
    for name, words in said.items():
        with pytest.raises(PlaymateError, match=words) as raised:
            read_audio(tmp_path / name)
        assert str(raised.value).count(". ") == 0 and str(raised.value).endswith(".")


def encode_silent_film(path) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")))
        container.mux(stream.encode(None))


def test_progress_is_told_and_may_cancel(tmp_path):
    write_wav(tmp_path / "a.wav", np.zeros((2, 48000 * 30), np.int16) + np.int16(5), 48000)
    seen = []
    read_audio(tmp_path / "a.wav", lambda done, total: seen.append((done, total)))
    assert seen and seen == sorted(seen) and seen[-1][1] == 300

    def cancel(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_audio(tmp_path / "a.wav", cancel)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000, 192000, 16000, 7919, 44101])
def test_blocks_join_as_if_resampled_in_one(rate):
    from torchaudio.functional import resample

    sound = torch.randn(round(rate * 23.7), generator=torch.Generator().manual_seed(0)) * 0.1
    resampler = Resampler(rate)
    blocks = []
    for part in sound.split(12_345):
        blocks += resampler.push(part)
    blocks += resampler.finish()
    joined = torch.cat(blocks)
    whole = resample(sound, resampler.original, resampler.target, 16, 0.95) if rate != SAMPLE_RATE else sound
    assert len(joined) == len(whole)
    assert abs(len(joined) - 23.7 * SAMPLE_RATE) <= 1
    assert float((joined - whole).abs().max()) < 1e-5
    assert max(len(block) for block in blocks) < 22 * SAMPLE_RATE


def test_odd_rates_keep_time_and_pitch():
    audio = from_waveform(tone(5.0, 44101), 44101)
    assert audio.duration == 5.0
    assert error(audio.samples, at_16k(5.0)) < 2e-3


@pytest.mark.parametrize("kind", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16,
                                  torch.bfloat16, torch.float32, torch.float64])
def test_every_type_has_its_scale(kind):
    sound = tone(0.5, SAMPLE_RATE)
    if kind == torch.uint8:
        data = (sound * 127 + 128).round().to(kind)
    elif not kind.is_floating_point:
        data = (sound * min(torch.iinfo(kind).max, 2**31 - 1)).round().to(kind)
    else:
        data = sound.to(kind)
    tolerance = 4e-3 if kind.is_floating_point else 0.01 if torch.iinfo(kind).bits == 8 else 1e-4
    assert error(from_waveform(data, SAMPLE_RATE).samples, at_16k(0.5), 0) < tolerance


def test_arrays_of_numpy():
    sound = tone(0.5, SAMPLE_RATE).numpy()
    for data in (sound[::-1][::-1], sound.astype(">f4"), (sound * 32767).astype(">i2"), list(sound),
                 ((sound + 1) * 32767.5).astype(np.uint16), sound.astype(np.longdouble),
                 torch.from_numpy(((sound + 1) * 32767.5).astype(np.uint16))):
        assert error(from_waveform(data, SAMPLE_RATE).samples, at_16k(0.5), 0) < 2e-4
    small = (sound * 20000).astype(np.int64)
    assert float(from_waveform(small, SAMPLE_RATE).samples.abs().max()) == pytest.approx(0.305, abs=0.01)


def test_shapes_and_batches(caplog):
    sound = tone(0.5, SAMPLE_RATE).float()
    silence = torch.zeros(1, len(sound))
    holes = torch.full((1, len(sound)), math.nan)
    for data in (sound, sound[None], sound[None, None], torch.stack([sound, sound]), torch.stack([sound, sound], 1),
                 torch.stack([silence, holes, sound[None]])):
        assert error(from_waveform(data, SAMPLE_RATE).samples, sound, 0) < 1e-5
    assert "entry 3" in caplog.text
    assert not from_waveform(torch.zeros(2, 1, 100), SAMPLE_RATE).samples.any()
    comfy = read_audio({"waveform": sound[None, None], "sample_rate": SAMPLE_RATE})
    assert torch.equal(comfy.samples, read_audio((sound, SAMPLE_RATE)).samples)


@pytest.mark.parametrize(("waveform", "rate", "words"), [
    (torch.zeros(1, 1, 0), 16000, "empty"), (torch.zeros(0, 2, 100), 16000, "empty"), (torch.zeros(10), 0, "rate"),
    (torch.zeros(10), -8000, "rate"), (torch.zeros(10), math.nan, "rate"), (torch.zeros(10), None, "rate"),
    (torch.zeros(10), 10**9, "rate"), (torch.full((2, 50), math.nan), 16000, "NaN"),
    (torch.tensor(1.0), 16000, "shape"),
    (torch.zeros(1, 1, 1, 5), 16000, "shape"), (torch.zeros(5, dtype=torch.complex64), 16000, "type"),
    ("word", 16000, "no array"),
    (torch.zeros(5, dtype=torch.bool), 16000, "type"), ([[1, 2], [3]], 16000, "no array"),
])
def test_what_is_no_sound_is_refused(waveform, rate, words):
    with pytest.raises(PlaymateError, match=words):
        from_waveform(waveform, rate)


def test_sources_that_are_none_of_the_kinds():
    for source in ({"samples": 1}, (1, 2, 3), 5, None):
        with pytest.raises(PlaymateError):
            read_audio(source)


def test_holes_become_silence_and_do_not_spread(caplog):
    sound = tone(1.0, 44100).float()
    sound[1000], sound[2000], sound[3000] = math.nan, math.inf, -math.inf
    audio = from_waveform(sound, 44100)
    assert bool(torch.isfinite(audio.samples).all())
    assert "3 samples were NaN" in caplog.text
    assert error(audio.samples[1400:], at_16k(1.0)[1400:]) < 2e-3


def test_absurd_floats_are_scaled_and_mild_ones_clipped(caplog):
    sound = at_16k(0.5)
    assert error(from_waveform(sound * 32768, SAMPLE_RATE).samples, sound, 0) < 1e-4
    assert "divided by" in caplog.text
    assert bool(torch.isfinite(from_waveform(torch.full((4, 500), 3e38), SAMPLE_RATE).samples).all())
    assert float(from_waveform(sound * 1e9, SAMPLE_RATE).samples.abs().max()) == 1.0
    assert float(from_waveform(sound * 4, SAMPLE_RATE).samples.abs().max()) == 1.0


def test_direct_current_goes():
    audio = from_waveform(at_16k(1.0, level=0.2) + 0.3, SAMPLE_RATE)
    assert abs(float(audio.samples.mean())) < 1e-5
    assert error(audio.samples, at_16k(1.0, level=0.2), 0) < 1e-3


def test_channels_that_cancel_leave_the_loudest(tmp_path, caplog):
    sound = at_16k(1.0)
    audio = from_waveform(torch.stack([-0.99 * sound, sound]), SAMPLE_RATE)
    assert error(audio.samples, sound, 0) < 1e-4
    assert "channel 2 is used alone" in caplog.text
    data = (torch.stack([sound, -sound]) * 32767).to(torch.int16).numpy()
    write_wav(tmp_path / "a.wav", data, SAMPLE_RATE)
    assert error(read_audio(tmp_path / "a.wav").samples, sound, 0) < 1e-3
    # A voice in one of six channels is not cancelled, and as loud as it is there.
    for channel in range(6):
        six = torch.zeros(6, len(sound))
        six[channel] = sound
        assert error(from_waveform(six, SAMPLE_RATE).samples, sound, 0) < 1e-5


def test_an_hour_needs_little_more_than_its_result(monkeypatch):
    """Blocks are what is held: none larger than a few seconds, however long the sound."""
    from playmate_core.media.speech_mix import SpeechMix

    largest = []
    add = SpeechMix.add
    monkeypatch.setattr(SpeechMix, "add", lambda self, block, rate: (largest.append(block.numel()),
                                                                     add(self, block, rate))[1])
    audio = from_waveform(torch.zeros(2, 1, dtype=torch.int16).expand(2, 48000 * 300), 48000)
    assert len(audio.samples) == 300 * SAMPLE_RATE
    assert max(largest) <= 1 << 19


def test_tiny_sounds():
    for size in (1, 2, 50):
        audio = from_waveform(torch.ones(size), 44100)
        assert audio.duration == size / 44100
        assert len(audio.samples) == math.ceil(size * SAMPLE_RATE / 44100)
