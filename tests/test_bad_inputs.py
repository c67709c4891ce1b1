"""What a user may drop in by mistake: a sensible result or one clear sentence, never a stack of code."""

import io
import pickle
import wave

import numpy as np
import pytest
import torch

from playmate_core.motion.files import load_motion
from playmate_core.pipeline import check_image, encode_audio, extract_appearance, generate_motion, render_frames
from playmate_core.runtime.errors import PlaymateError


def talks(models, appearance, audio):
    """Frames of a whole run; every one must be a picture."""
    features = encode_audio(models, audio)
    motion = generate_motion(models, features, appearance, steps=2)
    frames = torch.cat(list(render_frames(models, appearance, motion)))
    assert frames.shape == (len(features), *appearance.image.shape)
    assert torch.isfinite(frames).all() and 0 <= frames.min() and frames.max() <= 1
    return motion, frames


def noise(seconds, rate=16000, channels=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(channels, round(seconds * rate), generator=generator)


def test_no_face(models):
    with pytest.raises(PlaymateError, match="(?i)no face"):
        extract_appearance(models, torch.full((200, 200, 3), 0.5))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 3)])
def test_pictures_too_small_for_a_face(models, size):
    with pytest.raises(PlaymateError, match="(?i)face"):
        extract_appearance(models, torch.rand(*size, 3))


def test_two_faces_largest_by_default_any_by_choice(models, portrait):
    small = torch.nn.functional.interpolate(portrait.permute(2, 0, 1)[None], (160, 160), mode="area")[0]
    small = small.permute(1, 2, 0)
    both = torch.full((256, 430, 3), 0.5)
    both[:, 174:] = portrait
    both[40:200, :160] = small
    centre = {policy: float(extract_appearance(models, both, policy=policy).face.landmarks[:, 0].mean())
              for policy in ("largest", "left", "right")}
    assert centre["largest"] > 215 and centre["left"] < 215 < centre["right"]
    mask = torch.zeros(256, 430)
    mask[:, :170] = 1
    assert float(extract_appearance(models, both, mask=mask).face.landmarks[:, 0].mean()) < 215
    with pytest.raises(PlaymateError, match="2"):
        extract_appearance(models, both, policy="index", index=5)


def test_rgba_and_grey(models, portrait):
    clear = torch.cat([portrait, torch.ones(256, 256, 1)], -1)
    assert torch.allclose(extract_appearance(models, clear).image, portrait, atol=1e-5)
    grey = extract_appearance(models, portrait.mean(-1))
    assert grey.image.shape == (256, 256, 3)


def test_batch_of_pictures(portrait):
    with pytest.raises(PlaymateError, match="2 pictures"):
        check_image(portrait[None].expand(2, -1, -1, -1))


def test_empty_picture(models):
    with pytest.raises(PlaymateError, match="shape"):
        extract_appearance(models, torch.empty(0, 0, 3))


@pytest.mark.parametrize("waveform, rate", [
    (torch.empty(1, 0), 16000), (torch.full((1, 16000), float("nan")), 16000), (torch.zeros(1, 16000), 0),
], ids=["empty", "nan", "rate"])
def test_sound_that_is_none(models, waveform, rate):
    with pytest.raises(PlaymateError) as error:
        encode_audio(models, (waveform, rate))
    assert "\n" not in str(error.value)


def test_silence_rests_the_mouth(models, appearance):
    motion, _ = talks(models, appearance, (torch.zeros(1, 2 * 16000), 16000))
    gap = models.bridge.displacement(motion.expression_offset)
    assert float((gap[:, 14, 1] - gap[:, 13, 1]).max()) < 0.06  # of the outer-eye distance


def test_three_seconds_of_noise(models, appearance):
    talks(models, appearance, (noise(3), 16000))


def test_some_nan_and_some_infinity(models, appearance):
    sound = noise(1)
    sound[0, ::50] = float("nan")
    sound[0, 1::50] = float("inf")
    talks(models, appearance, (sound, 16000))


def test_ninety_six_kilohertz_in_six_channels(models, appearance):
    talks(models, appearance, (noise(1, 96000, 6), 96000))


def test_eight_bit_eight_kilohertz_mono(models, appearance, tmp_path):
    path = tmp_path / "old.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        file.writeframes((128 + 40 * np.sin(np.arange(8000) / 5)).astype(np.uint8).tobytes())
    motion, _ = talks(models, appearance, path)
    assert len(motion) == 25


def test_truncated_mp3_gives_what_is_there(models, tmp_path):
    import av

    whole = io.BytesIO()
    with av.open(whole, "w", format="mp3") as container:
        stream = container.add_stream("mp3", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray((noise(4).numpy() * 32767).astype(np.int16), format="s16", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    path = tmp_path / "half.mp3"
    path.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    assert 25 < len(encode_audio(models, path)) <= 100


def test_a_text_file_as_sound(models, tmp_path):
    (tmp_path / "voice.wav").write_text("not a sound")
    with pytest.raises(PlaymateError, match="voice.wav"):
        encode_audio(models, tmp_path / "voice.wav")


def test_foreign_safetensors_as_motion_and_as_model(tmp_path):
    from safetensors.torch import save_file

    from playmate_core.pipeline import load_models

    save_file({"weight": torch.ones(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(PlaymateError, match="foreign.safetensors"):
        load_motion(tmp_path / "foreign.safetensors")
    with pytest.raises(PlaymateError, match="foreign.safetensors"):
        load_models(motion_model=tmp_path / "foreign.safetensors")


def test_an_evil_pickle_does_nothing(tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "owned"), "w")

    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"motion": Evil()}))
    with pytest.raises(PlaymateError, match="evil.pkl"):
        load_motion(tmp_path / "evil.pkl")
    assert not (tmp_path / "owned").exists()
