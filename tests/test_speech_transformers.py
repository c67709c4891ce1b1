"""wav2vec2 and HuBERT from folders in transformers' format, on tiny random networks."""

import json
import pickle
import zipfile

import pytest
import torch

from playmate_core.media.audio import Audio
from playmate_core.pipeline import load_speech_encoder
from playmate_core.runtime.errors import PlaymateError
from playmate_core.speech import transformer_encoders as encoders
from playmate_core.speech.transformer_encoders import TransformersSpeechEncoder, window_starts, window_weights
from tests.joyvasa_helpers import write_encoder

RATE = 16_000


def voice(seconds, seed=0):
    """A hum that changes, over a little noise."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(round(seconds * RATE)) / RATE
    hum = torch.sin(2 * torch.pi * (150 + 20 * torch.sin(3 * time)) * time) * (0.5 + 0.5 * torch.sin(4 * time))
    return Audio(0.1 * hum + 0.01 * torch.randn(len(time), generator=generator), seconds)


@pytest.mark.parametrize("kind, headed, weights", [
    ("wav2vec2", True, "safetensors"), ("hubert", False, "bin"), ("hubert", True, "safetensors")])
def test_features_are_transformers_own(tmp_path, kind, headed, weights):
    network = write_encoder(tmp_path / f"{kind}-tiny", kind, headed, weights)
    encoder = load_speech_encoder(tmp_path / f"{kind}-tiny")
    assert encoder.name == f"{kind}-tiny" and encoder.features_dim == 64
    sound = voice(2.0)
    made = encoder.encode(sound)
    assert made.features.shape == (50, 64) and made.encoder == f"{kind}-tiny" and made.fps == 25.0
    assert made.loudness.shape == made.pitch.shape == (50,)
    from transformers import Wav2Vec2FeatureExtractor
    ready = Wav2Vec2FeatureExtractor(do_normalize=True)(sound.samples.numpy(), sampling_rate=RATE, return_tensors="pt")
    padded = torch.nn.functional.pad(sound.samples, (40, 40))
    scaled = torch.nn.functional.pad(ready.input_values[0], (40, 40))
    assert len(padded) == len(scaled)
    with torch.no_grad():
        rows = network(scaled[None]).last_hidden_state[0]
    assert torch.allclose(made.features, rows.unflatten(0, (50, 2)).mean(1), atol=1e-4)


def test_level_is_left_alone_where_the_folder_says_so(tmp_path):
    write_encoder(tmp_path / "plain", normalise=False)
    write_encoder(tmp_path / "levelled")
    quiet = Audio(voice(1.0).samples * 0.05, 1.0)
    found = {}
    for name in ("plain", "levelled"):
        encoder = TransformersSpeechEncoder.load(tmp_path / name)
        found[name] = (encoder.encode(voice(1.0)).features - encoder.encode(quiet).features).abs().max()
    assert found["levelled"] < 0.05 < found["plain"]


def test_windows_cover_every_row_once():
    for rows in (1, 30, 600, 601, 1049, 1050, 1051, 1500, 5000):
        starts, length = window_starts(rows)
        total = torch.zeros(max(rows, length))
        for index, start in enumerate(starts):
            total[start:start + length] += window_weights(starts, length, index)
        assert torch.allclose(total[:rows], torch.ones(rows), atol=1e-5), rows
        assert starts[-1] + length == max(rows, 25)
        assert all(b - a <= encoders.STRIDE for a, b in zip(starts, starts[1:], strict=False))


def test_long_sound_is_heard_in_windows_without_an_edge(tmp_path, monkeypatch):
    """Windows of 2 s against one pass: alike in the middle of a window and across the changes between two."""
    write_encoder(tmp_path / "tiny")
    encoder = TransformersSpeechEncoder.load(tmp_path / "tiny")
    sound = voice(7.3)
    whole = encoder.encode(sound).features
    for name, value in (("WINDOW", 100), ("STRIDE", 60), ("FADE", 10)):
        monkeypatch.setattr(encoders, name, value)
    parts = encoder.encode(sound).features
    assert parts.shape == whole.shape == (182, 64)
    spread = (whole - whole.mean(0)).pow(2).mean().sqrt()
    assert (parts - whole).pow(2).mean().sqrt() < 0.5 * spread
    step = (parts[1:] - parts[:-1]).norm(dim=1)
    assert step.max() < 2.0 * (whole[1:] - whole[:-1]).norm(dim=1).max()


@pytest.mark.parametrize("seconds, frames", [(0.05, 1), (1.0, 25), (0.49, 12)])
def test_any_length(tmp_path, seconds, frames):
    write_encoder(tmp_path / "tiny", "hubert")
    encoder = TransformersSpeechEncoder.load(tmp_path / "tiny")
    told = []
    made = encoder.encode(voice(seconds), lambda done, total: told.append((done, total)))
    assert len(made) == frames and torch.isfinite(made.features).all() and made.features.abs().sum() > 0
    assert told and all(0 <= done <= total for done, total in told)
    silent = encoder.encode(Audio(torch.zeros(round(seconds * RATE)), seconds))
    assert torch.isfinite(silent.features).all()


def test_a_folder_of_the_hubs_cache_has_the_networks_name(tmp_path):
    folder = tmp_path / "models--facebook--wav2vec2-base-960h" / "snapshots" / "0123abcd"
    write_encoder(folder)
    assert TransformersSpeechEncoder.load(folder).name == "wav2vec2-base-960h"


def spoil(folder, what):
    from safetensors.torch import load_file, save_file
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    config = json.loads((folder / "config.json").read_text())
    if what == "type":
        (folder / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    elif what == "json":
        (folder / "config.json").write_text("{")
    elif what == "no config":
        (folder / "config.json").unlink()
    elif what == "no weights":
        weights.unlink()
    elif what == "cut":
        weights.write_bytes(weights.read_bytes()[:2000])
    elif what == "size":
        (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 96}))
    elif what == "layers":
        (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 10**9}))
    elif what == "sense":
        (folder / "config.json").write_text(json.dumps(config | {"conv_stride": [5]}))
    elif what == "pickle":
        weights.unlink()
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": print}))
    elif what == "script":
        weights.unlink()
        torch.save({"a": torch.zeros(1)}, folder / "pytorch_model.bin")
        with zipfile.ZipFile(folder / "pytorch_model.bin", "a") as file:
            file.writestr("pytorch_model/constants.pkl", b"\x80\x02).")
    elif what == "nameless":
        weights.unlink()
        torch.save({3: torch.zeros(1)}, folder / "pytorch_model.bin")
    elif what == "list":
        weights.unlink()
        torch.save([torch.zeros(1)], folder / "pytorch_model.bin")
    else:
        name = "wav2vec2.encoder.layer_norm.weight"
        tensors |= {"lacks": {}, "foreign": {"wav2vec2.more": torch.zeros(1)},
                    "nan": {name: torch.full((64,), float("nan"))}}[what]
        if what == "lacks":
            del tensors[name]
        save_file(tensors, weights)


@pytest.mark.parametrize("what, said", [
    ("type", "type 'bert'; a wav2vec2 or HuBERT"), ("json", "config.json cannot be read"),
    ("no config", "no config.json"), ("no weights", "neither model.safetensors nor pytorch_model.bin"),
    ("cut", "is damaged"), ("size", "where the config says"), ("sense", "not one of a wav2vec2 network"),
    ("pickle", "asks for 'builtins.print'"), ("list", "no table of tensors"),
    ("script", "TorchScript"), ("layers", "speaks of 1000000000 layers"), ("nameless", "other than tensors"),
    ("lacks", "lacks encoder.layer_norm.weight"),
    ("foreign", "more belongs to no wav2vec2"), ("nan", "not finite")])
def test_spoilt_folders_are_refused_by_name(tmp_path, what, said):
    folder = tmp_path / "tiny"
    write_encoder(folder)
    spoil(folder, what)
    with pytest.raises(PlaymateError, match=said):
        TransformersSpeechEncoder.load(folder)


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_a_config_cannot_name_code_to_be_fetched(tmp_path, key):
    """transformers would fetch the repository that such an entry names, and run what is in it."""
    folder = tmp_path / "tiny"
    write_encoder(folder)
    config = json.loads((folder / "config.json").read_text())
    adapters = {"add_adapter": True, "num_adapter_layers": 10**9}
    (folder / "config.json").write_text(json.dumps(config | adapters | {key: "somebody/kernel"}))
    assert TransformersSpeechEncoder.load(folder).network.config._attn_implementation in ("sdpa", "eager")


def test_impossible_requests(tmp_path):
    write_encoder(tmp_path / "tiny")
    encoder = TransformersSpeechEncoder.load(tmp_path / "tiny")
    with pytest.raises(PlaymateError, match="less than one frame"):
        encoder.encode(voice(0.01))
