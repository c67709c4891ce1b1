"""Motion models as files."""


import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from playmate_core.diffusion.model import PlaymateMotionModel
from playmate_core.runtime.errors import PlaymateError
from tests.diffusion_helpers import toy_features, toy_model


@pytest.fixture()
def saved(tmp_path):
    model = toy_model()
    model.sampling, model.reached = dict(audio_guidance=1.25), dict(gap_r=0.5)
    path = tmp_path / "model.safetensors"
    model.save(path)
    return model, path


def rewritten(path, change=lambda t: None, **metadata):
    with safe_open(str(path), "pt") as file:
        tensors, old = {k: file.get_tensor(k) for k in file.keys()}, file.metadata()
    change(tensors)
    save_file(tensors, path, {**old, **metadata})
    return path


def test_a_saved_model_speaks_alike(saved):
    model, path = saved
    again = PlaymateMotionModel.load(path)
    assert again.config == model.config and again.reached == dict(gap_r=0.5)
    assert again.sampling == dict(audio_guidance=1.25) and again.encoder == "toy"
    a, b = (m.sample(toy_features(), seed=1, steps=4) for m in (model, again))
    assert (a.expression - b.expression).abs().max() < 0.02 * a.expression.abs().max()  # half precision
    assert all(p.dtype == torch.float32 for p in again.denoiser.parameters())


def test_weights_are_halves_and_nothing_temporary_stays(saved):
    _, path = saved
    with safe_open(str(path), "pt") as file:
        kinds = {file.get_tensor(k).dtype for k in file.keys() if k.startswith("denoiser.")}
    assert kinds == {torch.float16} and [p.name for p in path.parent.iterdir()] == [path.name]


def test_missing_file(tmp_path):
    with pytest.raises(PlaymateError, match="no motion model"):
        PlaymateMotionModel.load(tmp_path / "none.safetensors")


def test_not_safetensors(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"hello, this is no tensor file at all")
    with pytest.raises(PlaymateError, match="not a readable safetensors"):
        PlaymateMotionModel.load(path)


def test_foreign_safetensors(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(PlaymateError, match="not a Playmate motion model"):
        PlaymateMotionModel.load(path)


def test_truncated(saved):
    _, path = saved
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(PlaymateError, match="not a readable"):
        PlaymateMotionModel.load(path)


@pytest.mark.parametrize("change, word", [
    (lambda t: t.pop("denoiser.motion.bias"), "lacks denoiser.motion.bias"),
    (lambda t: t.update({"denoiser.motion.bias": torch.zeros(3)}), "has shape"),
    (lambda t: t.update({"statistics.mean": torch.zeros(62)}), "has shape"),
    (lambda t: t["statistics.mean"].fill_(float("nan")), "not finite"),
    (lambda t: t.update({"denoiser.hat": torch.zeros(3)}), "does not know"),
])
def test_tensors_that_do_not_fit(saved, change, word):
    with pytest.raises(PlaymateError, match=word):
        PlaymateMotionModel.load(rewritten(saved[1], change))


@pytest.mark.parametrize("metadata, word", [
    (dict(version="9"), "version"), (dict(config="{"), "not readable"), (dict(config='{"width": 31}'), "width"),
])
def test_metadata_that_does_not_fit(saved, metadata, word):
    with pytest.raises(PlaymateError, match=word):
        PlaymateMotionModel.load(rewritten(saved[1], **metadata))


def test_unreadable_extras_are_harmless(saved):
    model = PlaymateMotionModel.load(rewritten(saved[1], reached="?", sampling="[1]"))
    assert model.reached == {} and model.sampling == {}
