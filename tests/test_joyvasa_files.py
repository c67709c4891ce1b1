"""JoyVASA's published files: what is read from them, and what is refused."""

import argparse
import collections
import json
import os
import pathlib
import pickle
import warnings
import zipfile

import pytest
import torch

from playmate_core.diffusion.joyvasa.checkpoint import is_joyvasa, load_joyvasa, save_joyvasa
from playmate_core.diffusion.joyvasa.config import JoyVasaConfig
from playmate_core.diffusion.joyvasa.model import JoyVasaMotionModel
from playmate_core.pipeline import load_motion_and_speech
from playmate_core.runtime.errors import PlaymateError
from playmate_core.weights.tensors import load_weights
from playmate_core.weights.unreadable import Unreadable
from tests.joyvasa_helpers import CONFIG, other, published_tensors, template_arrays, write_checkpoint
from tests.test_speech_transformers import voice


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("joyvasa"))


@pytest.fixture(scope="module")
def pair(path):
    return load_motion_and_speech(path)


@pytest.fixture(scope="module")
def heard(pair):
    return pair[1].encode(voice(2.2))


def test_sizes_come_from_args_and_layers_from_the_tensors(path, pair):
    assert is_joyvasa(path)
    model, encoder = pair
    assert model.config == CONFIG and model.config.n_layers == 2 and model.config.positions == "legacy_constant"
    assert (encoder.name, encoder.features_dim, encoder.frames) == ("joyvasa", 64, 20) == (
        model.encoder, model.config.features_dim, model.config.n_motions)
    assert load_joyvasa(path, positions="per_frame").generator.config.positions == "per_frame"


def test_args_decide_even_against_convention(tmp_path):
    config = other(motion_feat_dim=70, n_prev_motions=7, n_motions=25, n_diff_steps=20)
    assert load_joyvasa(write_checkpoint(tmp_path, config)).generator.config == config


def test_every_tensor_arrives(path):
    loaded, wanted = load_joyvasa(path), published_tensors()
    for name, value in loaded.generator.state_dict().items():
        assert torch.equal(value, wanted[name]), name
    assert set(loaded.audio) == {k.removeprefix("audio_encoder.") for k in wanted if k.startswith("audio_encoder.")}
    statistics = template_arrays()
    assert torch.equal(loaded.template.mean_exp, torch.tensor(statistics["mean_exp"]))
    assert loaded.template.max_pose.tolist() == pytest.approx([1.4, 0.1, 0.1, 0.1, 15, 15, 15])


def test_one_safetensors_file_holds_all_of_it(tmp_path, path, heard):
    loaded = load_joyvasa(path, positions="per_frame")
    alone = tmp_path / "alone" / "joyvasa.safetensors"
    alone.parent.mkdir()
    save_joyvasa(alone, loaded)
    assert is_joyvasa(alone) and [p.name for p in alone.parent.iterdir()] == ["joyvasa.safetensors"]
    model, encoder = load_motion_and_speech(alone)
    assert model.config.positions == "per_frame"
    assert torch.equal(encoder.encode(voice(2.2)).features, heard.features)
    again = JoyVasaMotionModel.of(loaded)
    assert torch.equal(model.sample(heard, steps=2).expression, again.sample(heard, steps=2).expression)


def test_a_claim_of_a_huge_network_is_refused_before_it_is_built(tmp_path, path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    save_joyvasa(tmp_path / "whole.safetensors", load_joyvasa(path))
    with safe_open(tmp_path / "whole.safetensors", "pt") as file:
        metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}
    metadata["config"] = json.dumps(json.loads(metadata["config"]) | {"mlp_ratio": 100_000})
    save_file(tensors, tmp_path / "claim.safetensors", metadata)
    with pytest.raises(PlaymateError, match="not those of its tensors"):
        load_joyvasa(tmp_path / "claim.safetensors")


def test_a_conversion_without_sizes_tells_them_by_its_shapes(tmp_path, path):
    from safetensors.torch import save_file

    converted = tmp_path / "joyvasa.safetensors"
    save_file({k: v.contiguous() for k, v in published_tensors().items()}, converted)
    with pytest.raises(PlaymateError, match="motion_template.pkl"):
        load_joyvasa(converted)
    (tmp_path / "motion_template.pkl").write_bytes(pickle.dumps(template_arrays(), protocol=3))
    assert load_joyvasa(converted).generator.config == CONFIG


class Evil:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("value, asked", [
    (Evil(os.system, ("echo reached",)), "system"), (Evil(eval, ("1",)), "eval"),
    (Evil(os.path.exists, ("x",)), "exists"), (Evil(getattr, (1, "real")), "getattr"),
    (collections.Counter, "Counter")])
def test_hostile_checkpoints_are_refused_by_name(tmp_path, value, asked):
    path = write_checkpoint(tmp_path, args={"extra": value})
    with pytest.raises(PlaymateError, match=f"asks for .*{asked}.*no array or tensor"):
        load_joyvasa(path)


def test_admitted_names_are_never_the_real_things(path):
    args = load_weights(path)["args"]
    assert type(args["data_root"]) is str and args["data_root"] == "/data/talking/faces"
    assert isinstance(args, dict) and not isinstance(args, argparse.Namespace)


def rewritten(path, target, change):
    """A copy of a torch archive whose entries went through ``change(name, data) -> (data, compression) | None``."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for info in old.infolist():
            result = change(info.filename, old.read(info))
            if result is not None:
                new.writestr(info.filename, *result)
    return target


@pytest.mark.parametrize("change, said", [
    (lambda n, d: None if n.endswith("/data/3") else (d,), "lacks the numbers of one of its tensors"),
    (lambda n, d: (d[:-4],) if n.endswith("/data/3") else (d,), "lacks the numbers of one of its tensors"),
    (lambda n, d: (d, zipfile.ZIP_DEFLATED), "compressed"),
    (lambda n, d: (b"big",) if n.endswith("byteorder") else (d,), "byte order"),
    (lambda n, d: None if n.endswith("data.pkl") else (d,), "not one that torch wrote"),
    (lambda n, d: (d[:500],) if n.endswith("data.pkl") else (d,), "damaged"),
])
def test_damaged_archives_are_refused(tmp_path, path, change, said):
    with pytest.raises(Unreadable, match=said):
        load_weights(rewritten(path, tmp_path / "damaged.pt", change))


@pytest.mark.parametrize("size, stride, offset", [
    ((4,), (1,), 1), ((2, 3), (3, 1), 0), ((5, 1), (0, 1), 0), ((2,), (-1,), 0), ((4,), (1,), -1)])
def test_tensors_stay_inside_their_numbers(tmp_path, size, stride, offset):
    import torch._utils

    class Typed:
        def __reduce__(self):
            typed = torch.storage.TypedStorage(wrap_storage=torch.zeros(4).untyped_storage(), dtype=torch.float32,
                                               _internal=True)
            return torch._utils._rebuild_tensor_v2, (typed, offset, size, stride, False, {})

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save({"x": Typed()}, tmp_path / "reaching.pt")
    with pytest.raises(Unreadable, match="reaches beyond its own numbers|damaged tensor"):
        load_weights(tmp_path / "reaching.pt")


@pytest.mark.parametrize("content", [b"", b"not a zip", pickle.dumps({"model": {}})])
def test_no_torch_file(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(PlaymateError, match="x.pt was not loaded, because it is"):
        load_joyvasa(tmp_path / "x.pt")


def test_foreign_and_spoilt_models_are_refused(tmp_path):
    def refused(said, **changes):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        with pytest.raises(PlaymateError, match=said):
            load_motion_and_speech(write_checkpoint(folder, **changes))

    def spoilt(name, value=None):
        tensors = published_tensors()
        tensors.pop(name, None)
        return tensors if value is None else tensors | {name: value}

    norm = "denoising_net.transformer.layers.0.norm1.weight"
    refused("no JoyVASA motion generator", model={"weight": torch.zeros(2)})
    refused("no JoyVASA motion generator", model={3: torch.zeros(2)})
    refused("listens through 'wav2vec2'", args={"audio_model": "wav2vec2"})
    for name in ("n_prev_motions", "n_motions", "feature_dim", "motion_feat_dim"):
        refused("args are not those of its tensors", args={name: 80})
    refused("where its args say", model=spoilt(norm, torch.zeros(33)))
    refused("feature_dim is 'wide'", args={"feature_dim": "wide"})
    refused("n_motions is 'long'", args={"n_motions": "long"}, model=spoilt("denoising_net.alignment_mask"))
    refused(f"lacks {norm}", model=spoilt(norm))
    refused("not finite", model=spoilt(norm, torch.full((32,), float("inf"))))
    refused("belongs to no JoyVASA", model=spoilt("surplus", torch.zeros(1)))
    refused("lacks tensors of a JoyVASA", model=spoilt("start_motion_feat"))
    refused("lacks the tensors of its speech encoder",
            model={k: v for k, v in published_tensors().items() if not k.startswith("audio_encoder.")})
    refused("lacks encoder.layer_norm.weight", model=spoilt("audio_encoder.encoder.layer_norm.weight"))
    refused("put motion_template.pkl", template=False)
    with pytest.raises(PlaymateError, match="There is no motion model"):
        load_joyvasa(tmp_path / "none.pt")


@pytest.mark.parametrize("content, said", [
    (b"\x80\x04\x95", "damaged"), (pickle.dumps([1]), "no dictionary"),
    (pickle.dumps({"mean_exp": 1}), "mean_exp must be"), (pickle.dumps({}), "lacks mean_exp"),
    (pickle.dumps({"a": os.system}), "asks for 'posix.system'"),
    (pickle.dumps(template_arrays() | {"std_exp": template_arrays()["std_exp"][:9]}), "std_exp must be 63")])
def test_spoilt_templates_are_refused(tmp_path, content, said):
    path = write_checkpoint(tmp_path)
    (tmp_path / "motion_template" / "motion_template.pkl").write_bytes(content)
    with pytest.raises(PlaymateError, match=said):
        load_joyvasa(path)


def test_a_config_is_checked():
    for changes in (dict(n_motions=0), dict(feature_dim=20), dict(motion_feat_dim=63), dict(target="both"),
                    dict(positions="none"), dict(n_heads=True)):
        with pytest.raises(PlaymateError):
            JoyVasaConfig(**changes)


def test_paths_of_any_system_become_text(tmp_path):
    torch.save({"args": pathlib.PurePosixPath("a/b"), "root": pathlib.PurePosixPath("/"),
                "none": pathlib.PurePosixPath("")}, tmp_path / "paths.pt")
    assert load_weights(tmp_path / "paths.pt") == {"args": "a/b", "root": "/", "none": ""}
