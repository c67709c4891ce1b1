"""The encoder's numbers: equal to transformers', blind to level, chunking and window position, exact in time."""

from __future__ import annotations

import math
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from playmate_core.media.audio import SAMPLE_RATE, Audio
from playmate_core.runtime.errors import PlaymateError
from playmate_core.speech import encoder as module
from playmate_core.speech.encoder import WhisperSpeechEncoder
from playmate_core.speech.frames import FrameMean, frame_count
from playmate_core.speech.mel import log_mel, mel_power, speech_level
from playmate_core.speech.whisper import WhisperEncoder
from playmate_core.weights import bundled

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("PLAYMATE_SHARED", ROOT.parent / "shared"))
WEIGHTS = "speech_encoder.safetensors"


@pytest.fixture(scope="module")
def encoder() -> WhisperSpeechEncoder:
    return WhisperSpeechEncoder.load()


def babble(seconds: float, seed: int = 0) -> torch.Tensor:
    """[N] a synthetic voice: pulses with a wandering pitch, formants that change five times a second, pauses."""
    draw = torch.Generator().manual_seed(seed)
    size = round(seconds * SAMPLE_RATE)
    time = torch.arange(size, dtype=torch.float64) / SAMPLE_RATE
    pitch = 120 * (1 + 0.2 * torch.sin(2 * math.pi * 0.4 * time) + 0.05 * torch.sin(2 * math.pi * 2.3 * time))
    phase = torch.cumsum(pitch, 0) / SAMPLE_RATE
    part = SAMPLE_RATE // 5
    count = size // part + 2
    formants = torch.rand(count, 2, generator=draw) * torch.tensor([600.0, 1500.0]) + torch.tensor([250.0, 800.0])
    loud = (torch.rand(count, generator=draw) > 0.25).double()
    where = time * 5
    index = where.long()
    mix = (where - index)
    first, second = (formants[index].T * (1 - mix) + formants[index + 1].T * mix)
    sound = torch.zeros(size, dtype=torch.float64)
    for k in range(1, 26):
        height = k * pitch
        gain = 1 / (1 + ((height - first) / 90) ** 2) + 0.5 / (1 + ((height - second) / 120) ** 2)
        sound += gain * torch.sin(2 * math.pi * (k * phase % 1))
    sound = sound * (loud[index] * (1 - mix) + loud[index + 1] * mix)
    return (0.2 * sound / sound.abs().max()).float() + 1e-4 * torch.randn(size, generator=draw)


def spread(features: torch.Tensor) -> float:
    """Mean squared distance from the mean row."""
    return float((features - features.mean(0)).square().sum(1).mean())


def test_network_and_mel_equal_transformers():
    from transformers import WhisperConfig, WhisperFeatureExtractor
    from transformers.models.whisper.modeling_whisper import WhisperEncoder as Theirs

    tensors = load_file(bundled(WEIGHTS))
    tensors.pop("position_response")
    tensors = {name: value.float() for name, value in tensors.items()}
    config = WhisperConfig(d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536)
    theirs = Theirs(config).eval()
    theirs.load_state_dict(tensors)
    sound = babble(30.0)
    wanted_mel = torch.from_numpy(WhisperFeatureExtractor()(sound.numpy(), sampling_rate=SAMPLE_RATE,
                                                            return_tensors="np")["input_features"])
    mel = log_mel(mel_power(sound))[None]
    assert mel.shape == wanted_mel.shape
    assert float((mel - wanted_mel).abs().max()) < 1e-4
    with torch.inference_mode():
        ours = WhisperEncoder.from_tensors(tensors)(wanted_mel)
        wanted = theirs(wanted_mel).last_hidden_state
    assert ours.shape == (1, 1500, 384)
    assert float((ours - wanted).abs().max()) < 1e-3


@pytest.mark.parametrize("seconds", [0.05, 1.99, 3.337])
def test_frames_are_round_of_duration_times_25(encoder, seconds):
    features = encoder.encode(Audio(babble(seconds), seconds))
    assert len(features) == frame_count(seconds, 25.0) == round(seconds * 25)
    assert features.features.shape == (len(features), encoder.features_dim) == (len(features), 384)
    assert features.loudness.shape == features.pitch.shape == (len(features),)
    assert (features.fps, features.duration, features.encoder) == (25.0, seconds, "whisper-tiny.en")
    for value in (features.features, features.loudness, features.pitch):
        assert value.dtype == torch.float32 and bool(torch.isfinite(value).all())


def test_25_frames_a_second_are_the_means_of_pairs(encoder):
    audio = Audio(babble(4.0), 4.0)
    fine, gain = torch.zeros(200, 384), module.level_gain(audio.samples)
    with torch.no_grad():
        for start in module.window_starts(200):
            window = encoder.encode_window(audio.samples, start, gain) * module.window_weights()[:, None]
            fine[max(start, 0):start + len(window)] += window[max(-start, 0):200 - start]
    assert torch.allclose(encoder.encode(audio).features, fine.view(100, 2, 384).mean(1), atol=1e-4)


def test_frame_mean_weighs_by_overlap_in_any_blocks():
    rows = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0))
    for fps, rate in ((29.97, 50), (60, 50), (25, 400), (7.3, 100)):
        frames = int(5000 / rate * fps) - 1
        mean = FrameMean(frames, fps, rate, 3)
        for first in range(0, 5000, 777):
            mean.add(first, rows[first:first + 777])
        # The integral of a staircase, by interpolating its running sum.
        running = np.concatenate([np.zeros((1, 3)), rows.double().cumsum(0).numpy()])
        at = np.arange(frames + 1) * rate / fps
        wanted = np.stack([np.diff(np.interp(at, np.arange(5001), running[:, c])) for c in range(3)], 1) * fps / rate
        assert np.abs(mean.values.numpy() - wanted).max() < 1e-4


def test_sound_is_heard_in_its_own_frame(encoder):
    """Two sounds that part at 2 s have features that part at frame 50."""
    one, two = babble(4.0), babble(4.0)
    two[2 * SAMPLE_RATE:] = babble(2.0, seed=9)
    first, second = (encoder.encode(Audio(sound, 4.0)).features for sound in (one, two))
    apart = (first - second).norm(dim=1)
    apart = apart / apart[60:].mean()
    assert float(apart[:46].mean()) < 0.35
    assert abs(int((apart > 0.6).nonzero()[0]) - 50) <= 3


def test_level_does_not_matter(encoder):
    sound = babble(6.0)
    one = encoder.encode(Audio(sound, 6.0)).features
    for gain in (0.1, 3.0):
        other = encoder.encode(Audio(sound * gain, 6.0)).features
        assert float((one - other).square().sum(1).mean()) < 1e-4 * spread(one)


def apart(encoder, sound: torch.Tensor, *cuts: float) -> list[tuple[float, float]]:
    """By what share of their variance features change, in the mean and at most, when the first seconds are cut off.

    Two seconds either side are left out: there the one recording knows sound that the other does not.
    """
    found = []
    whole = encoder.encode(Audio(sound, len(sound) / SAMPLE_RATE)).features
    for seconds in cuts:
        part = sound[round(seconds * SAMPLE_RATE):]
        later = encoder.encode(Audio(part, len(part) / SAMPLE_RATE)).features
        difference = (whole[round(seconds * 25):][:len(later)] - later)[50:-50].square().sum(1) / spread(whole)
        found.append((float(difference.mean()), float(difference.max())))
    return found


def test_features_do_not_depend_on_where_a_recording_is_cut(encoder):
    """Loud and quiet stretches and silence: with one window a moment, means of 0.27 and 0.30 and peaks of 2.4."""
    sound = babble(24.0)
    for first, last, gain in ((6, 9, 0.05), (12, 13, 0.0), (15, 18, 0.2), (20, 21, 0.01)):
        sound[first * SAMPLE_RATE:last * SAMPLE_RATE] *= gain
    for mean, most in apart(encoder, sound, 1.32, 4.0):
        assert mean < 0.06 and most < 0.8


def test_windows_leave_no_seams(encoder):
    """Frames at the edges of windows jump no more than others."""
    whole = encoder.encode(Audio(babble(40.0), 40.0)).features
    jumps = (whole[1:] - whole[:-1]).norm(dim=1)
    joint = torch.zeros(len(jumps), dtype=torch.bool)
    for start in module.window_starts(2000):
        for edge in (start + module.DROPPED, start + module.WINDOW - module.DROPPED - module.FADE):
            first = max(edge // 2, 0)
            joint[first:max((edge + module.FADE) // 2, 0)] = True
    assert 0.85 < float(jumps[joint].mean() / jumps[~joint].mean()) < 1.15


def test_position_table_takes_most_of_the_positions_imprint(encoder):
    """The mean over many windows still depends on the place in the window, far less than the raw layer's."""
    sound = babble(40.0, seed=3)
    gain = module.level_gain(sound)
    windows = torch.stack([encoder.encode_window(sound, start, gain) for start in range(1, 1300, 100)])
    raw = windows + encoder.position_response
    assert spread(windows.mean(0)) < 0.5 * spread(raw.mean(0))


def test_long_sound_is_encoded_window_by_window(encoder, monkeypatch):
    sizes = []
    forward = encoder.network.forward
    monkeypatch.setattr(encoder.network, "forward", lambda mel: (sizes.append(tuple(mel.shape)), forward(mel))[1])
    told = []
    encoder.encode(Audio(babble(31.0), 31.0), progress=lambda done, total: told.append((done, total)))
    assert set(sizes) == {(1, 80, 2 * module.WINDOW)} and len(sizes) == len(module.window_starts(31 * module.RATE))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1] == len(sizes) + 4

    def cancel(done, total):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encoder.encode(Audio(babble(31.0), 31.0), progress=cancel)


@pytest.mark.parametrize("seconds", [11.98, 12.0, 12.02, 20.99, 21.0, 21.02, 30.0])
def test_windows_weights_add_up_to_one(encoder, monkeypatch, seconds):
    monkeypatch.setattr(encoder, "encode_window", lambda *_: torch.ones(module.WINDOW, 384))
    features = encoder.encode(Audio(torch.zeros(round(seconds * SAMPLE_RATE)), seconds)).features
    assert torch.allclose(features, torch.ones_like(features), atol=1e-5)


@pytest.mark.parametrize("sound", [torch.zeros(16000), torch.zeros(1600), torch.full((16000,), 0.0) + 1e-9,
                                   0.2 * torch.randn(48000, generator=torch.Generator().manual_seed(2)),
                                   torch.ones(700)])
def test_silence_noise_and_very_short_sounds(encoder, sound):
    features = encoder.encode(Audio(sound, len(sound) / SAMPLE_RATE))
    assert bool(torch.isfinite(features.features).all()) and len(features) >= 1
    assert float(features.features.norm(dim=1).max()) < 60


def test_same_bits_every_time(encoder):
    audio = Audio(babble(14.0), 14.0)
    features = encoder.encode(audio).features
    assert torch.equal(features, encoder.encode(audio).features)
    assert not features.is_inference() and not features.requires_grad  # training may take them as they are


def test_refusals(encoder, tmp_path):
    with pytest.raises(PlaymateError, match="less than one frame"):
        encoder.encode(Audio(torch.zeros(100), 100 / SAMPLE_RATE))
    with pytest.raises(PlaymateError, match="no speech encoder called 'hubert'"):
        WhisperSpeechEncoder.load("hubert")
    with pytest.raises(PlaymateError, match="no speech encoder at"):
        WhisperSpeechEncoder.load(path=tmp_path / "none.safetensors")
    save_file({"a.weight": torch.zeros(2, 2)}, tmp_path / "foreign.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    missing = load_file(bundled(WEIGHTS))
    del missing["layers.2.fc1.weight"]
    save_file(missing, tmp_path / "missing.safetensors")
    for name in ("foreign", "text", "missing"):
        with pytest.raises(PlaymateError, match="is not a speech encoder"):
            WhisperSpeechEncoder.load(path=tmp_path / f"{name}.safetensors")


def test_speech_level_leaves_pauses_out():
    tone = 0.1 * math.sqrt(2) * torch.sin(2 * math.pi * 200 * torch.arange(3 * SAMPLE_RATE) / SAMPLE_RATE)
    assert speech_level(tone) == pytest.approx(-20.0, abs=0.01)
    assert speech_level(torch.cat([tone, torch.zeros(30 * SAMPLE_RATE)])) == pytest.approx(-20.0, abs=0.5)
    assert speech_level(torch.zeros(1000)) == -math.inf
    assert speech_level(torch.full((10,), 0.1)) == pytest.approx(-20.0 + 10 * math.log10(10 / 1600), abs=0.01)
    assert module.level_gain(torch.zeros(50)) == 1.0
    assert module.level_gain(tone) == pytest.approx(10 ** (-3 / 20), rel=1e-3)
    assert module.level_gain(tone * 0.01) == pytest.approx(10 ** (30 / 20), rel=1e-5)


def tool():
    from laboratory.conversions import speech_encoder

    return speech_encoder


def model_bin(variables: dict[str, np.ndarray], name: str = "WhisperSpec") -> bytes:
    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    codes = {"float16": 4, "float32": 0, "int8": 1}
    out = struct.pack("<I", 6) + text(name) + struct.pack("<II", 3, len(variables))
    for key, value in variables.items():
        out += text(key) + struct.pack("<B", value.ndim) + struct.pack(f"<{value.ndim}I", *value.shape)
        out += struct.pack("<BI", codes[value.dtype.name], value.nbytes) + value.tobytes()
    return out


def test_conversion_reads_variables_and_names_them_as_transformers():
    convert = tool()
    stacked = np.arange(12, dtype=np.float16).reshape(6, 2)
    bias = np.array([1, 2, 0, 0, 5, 6], np.float16)
    variables = {"encoder/layer_3/self_attention/linear_0/weight": stacked,
                 "encoder/layer_3/self_attention/linear_0/bias": bias,
                 "encoder/layer_3/ffn/layer_norm/gamma": bias, "encoder/conv1/weight": stacked,
                 "encoder/num_heads": np.int8(6).reshape(()), "decoder/layer_0/ffn/linear_0/weight": stacked}
    read = convert.read_variables(model_bin(variables))
    assert set(read) == set(variables)
    tensors = convert.encoder_tensors(read)
    assert set(tensors) == {"conv1.weight", "layers.3.final_layer_norm.weight", "layers.3.self_attn.q_proj.weight",
                            "layers.3.self_attn.k_proj.weight", "layers.3.self_attn.v_proj.weight",
                            "layers.3.self_attn.q_proj.bias", "layers.3.self_attn.v_proj.bias"}
    assert (tensors["layers.3.self_attn.k_proj.weight"] == stacked[2:4]).all()
    assert (tensors["layers.3.self_attn.v_proj.bias"] == [5, 6]).all()
    with pytest.raises(ValueError, match="key projection"):
        convert.encoder_tensors({"encoder/layer_0/self_attention/linear_0/bias": bias[::-1] + 1})
    with pytest.raises(ValueError, match="unknown"):
        convert.encoder_tensors({"encoder/strange": stacked})
    for data in (b"", b"\1\2\3", model_bin(variables)[:60], model_bin(variables, "TransformerSpec")):
        with pytest.raises(ValueError):
            convert.read_variables(data)


def test_bundled_file_is_small_half_precision_and_licensed():
    tensors = load_file(bundled(WEIGHTS))
    assert {value.dtype for value in tensors.values()} == {torch.float16}
    assert bundled(WEIGHTS).stat().st_size < 17_500_000
    assert "Copyright (c) 2022 OpenAI" in bundled("speech_encoder.LICENSE.txt").read_text(encoding="utf-8")


def test_importing_the_encoder_loads_no_heavy_package():
    code = ("import sys, playmate_core.speech.encoder, playmate_core.media.sound; "
            "print([n for n in ('transformers', 'torchaudio', 'av', 'diffusers', 'cv2') if n in sys.modules])")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.skipif(not (SHARED / "data" / "talking_tracks_more").is_dir(), reason="no talking tracks at hand")
@pytest.mark.parametrize("folder,names", [("talking_tracks", "*"), ("talking_tracks_more", "grid_*"),
                                          ("talking_tracks_more", "cued_*")])
def test_features_of_real_speech_do_not_depend_on_where_it_is_cut(encoder, folder, names):
    """0.07 in the first six of the first folder and 0.2 to 0.27 in the others with one window a moment."""
    from safetensors import safe_open

    sounds = []
    for path in sorted((SHARED / "data" / folder).glob(f"{names}.safetensors"))[:6]:
        with safe_open(str(path), "pt") as file:
            sound = file.get_tensor("audio").float() / 32768
        sounds.append(sound * module.level_gain(sound))
    (mean, _), = apart(encoder, torch.cat(sounds)[:SAMPLE_RATE * 18], 4.0)
    assert mean < 0.05
