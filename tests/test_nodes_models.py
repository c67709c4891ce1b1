"""Load Playmate Models without a server: what it offers, and what it says when weights are missing."""

import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from tests.node_helpers import node_modules
from tests.weights_helpers import liveportrait


@pytest.fixture()
def studio(tmp_path, monkeypatch):
    """The node's modules on top of ComfyUI's folder_paths in miniature, with ``models`` as its folder."""
    models, known = tmp_path / "models", {}
    paths = ModuleType("folder_paths")
    paths.models_dir = str(models)
    paths.add_model_folder_path = lambda name, path: known.setdefault(name, []).append(path)
    paths.get_folder_paths = lambda name: list(known[name])
    paths.get_filename_list = lambda name: sorted(
        str(file.relative_to(folder)) for folder in known[name] for file in Path(folder).rglob("*")
        if file.is_file())
    paths.get_full_path = lambda name, file: next(
        (f"{folder}/{file}" for folder in known[name] if os.path.isfile(f"{folder}/{file}")), None)
    monkeypatch.setitem(sys.modules, "folder_paths", paths)
    with node_modules("folders", "load_models") as pack:
        sys.modules["comfy.model_management"].get_torch_device = lambda: torch.device("cpu")
        pack.folders.register_folders()
        called = []
        pack.pipeline.load_models = lambda *args, **more: called.append((args, more)) or "models"
        yield SimpleNamespace(node=pack.load_models.LoadModels, folders=pack.folders, models=models, called=called)


def put(path, content="{}"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_the_bundled_pack_asks_for_nothing(studio):
    studio.node.execute("bundled", "auto", "bundled")
    assert studio.called == [(("bundled", torch.device("cpu")), {"motion_model": None})]
    assert studio.node.fingerprint_inputs("bundled", "auto", "bundled") == ""


def test_acceleration_is_handed_on(studio):
    studio.node.execute("bundled", "auto", "bundled", acceleration="cuda graphs")
    assert studio.called == [(("bundled", torch.device("cpu")),
                              {"motion_model": None, "acceleration": "cuda graphs"})]
    assert "acceleration is 'turbo'" in studio.node.validate_inputs("bundled", "auto", "bundled", "auto", "turbo")


@pytest.mark.parametrize("pack", ["liveportrait", "liveportrait-animal"])
def test_missing_weights_end_in_one_sentence(studio, pack):
    with pytest.raises(ValueError) as error:
        studio.node.execute(pack, "auto", "bundled")
    text = str(error.value)
    assert type(error.value).__name__ == "PlaymateError" and "\n" not in text
    assert str(studio.models / "liveportrait") in text and "spade_generator.safetensors" in text
    assert f"python -m playmate_core weights download {pack}" in text
    assert not studio.called


def test_liveportrait_is_handed_on_by_role(studio):
    written = liveportrait(studio.models)
    studio.node.execute("liveportrait", "cpu", "bundled")
    (args, more), = studio.called
    assert args == ("liveportrait", "cpu") and more["weights"] == written
    before = studio.node.fingerprint_inputs("liveportrait", "cpu", "bundled")
    written["motion"].write_bytes(b"another")
    assert studio.node.fingerprint_inputs("liveportrait", "cpu", "bundled") != before
    with pytest.raises(ValueError, match="motion_extractor.safetensors .* refused because"):
        studio.node.execute("liveportrait", "cpu", "bundled")


def test_what_lies_in_the_folder_is_offered(studio):
    playmate = studio.models / "playmate"
    encoder = playmate / "wav2vec2-base-960h"
    for name in ("config.json", "preprocessor_config.json", "model.safetensors", "fairseq.pt"):
        put(encoder / name, json.dumps({"hidden_size": 768}))
    jaw = put(playmate / "joyvasa" / "motion_generator_hubert_chinese.pt")
    put(playmate / "joyvasa" / "motion_template.pkl")
    put(playmate / "mine.safetensors")
    put(playmate / "motions" / "wave.safetensors")
    assert studio.folders.motion_model_files() == ["joyvasa/motion_generator_hubert_chinese.pt", "mine.safetensors"]
    assert studio.folders.speech_encoder_folders() == ["wav2vec2-base-960h"]
    assert studio.node.validate_inputs("bundled", "auto", "joyvasa/motion_generator_hubert_chinese.pt",
                                       "wav2vec2-base-960h") is True
    assert "speech_encoder is 'hubert'" in studio.node.validate_inputs("bundled", "auto", "bundled", "hubert")
    assert "pack is 'x'" in studio.node.validate_inputs("x", "auto", "bundled")
    studio.node.execute("bundled", "cpu", "joyvasa/motion_generator_hubert_chinese.pt", "wav2vec2-base-960h")
    (_, more), = studio.called
    assert callable(more.pop("host")) and more == {"motion_model": jaw, "speech_encoder": encoder}
    state = studio.node.fingerprint_inputs("bundled", "cpu", "bundled", "wav2vec2-base-960h")
    put(encoder / "config.json", "{ }")
    assert studio.node.fingerprint_inputs("bundled", "cpu", "bundled", "wav2vec2-base-960h") != state
    state = studio.node.fingerprint_inputs("bundled", "cpu", "joyvasa/motion_generator_hubert_chinese.pt")
    put(playmate / "joyvasa" / "motion_template.pkl", "other statistics")
    assert studio.node.fingerprint_inputs("bundled", "cpu", "joyvasa/motion_generator_hubert_chinese.pt") != state


def test_an_encoder_that_is_found_beside_the_motion_model_counts(studio):
    """A checkpoint names its encoder, which is looked for near it: another one there is another set of models."""
    from dataclasses import asdict

    from safetensors.torch import save_file

    from playmate_core.diffusion.checkpoint import FORMAT
    from playmate_core.diffusion.config import DenoiserConfig

    def state(*more):
        return studio.node.fingerprint_inputs("bundled", "cpu", "takes/mine.safetensors", *more)

    folder = studio.models / "playmate" / "takes"
    folder.mkdir(parents=True)
    config = json.dumps(asdict(DenoiserConfig(encoder="wav2vec2-mine", features_dim=8)))
    save_file({"x": torch.zeros(1)}, folder / "mine.safetensors", {"format": FORMAT, "config": config})
    alone = state()
    assert state() == alone
    weights = put(studio.models / "playmate" / "wav2vec2-mine" / "model.safetensors", "weights")
    put(weights.with_name("config.json"))
    near = state()
    assert near != alone
    put(weights, "other weights")
    assert state() != near
    put(folder / "wav2vec2-mine" / "config.json")
    put(folder / "wav2vec2-mine" / "model.safetensors", "other weights")
    assert "takes/wav2vec2-mine" in state(), "the nearer one is taken"
    assert "wav2vec2-mine" not in state("wav2vec2-mine").replace(str(weights.parent), ""), "the chosen one alone counts"


def test_joyvasa_s_template_counts_wherever_it_is_found(studio):
    def state():
        return studio.node.fingerprint_inputs("bundled", "cpu", "joyvasa/motion_generator/net.pt")

    put(studio.models / "playmate" / "joyvasa" / "motion_generator" / "net.pt")
    alone = state()
    template = put(studio.models / "playmate" / "joyvasa" / "motion_template" / "motion_template.pkl")
    near = state()
    assert near != alone
    put(template, "other statistics")
    assert state() != near


@pytest.mark.parametrize("name", ["../elsewhere", "/etc", "none", ""])
def test_speech_encoders_outside_the_folder_are_refused(studio, name):
    put(studio.models / "elsewhere" / "config.json")
    with pytest.raises(ValueError, match="put its folder there"):
        studio.folders.speech_encoder_path(name)
