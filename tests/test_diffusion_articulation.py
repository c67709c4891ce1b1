"""The regression that has a say in how far lips part."""

from __future__ import annotations

import pytest
import torch

from playmate_core.diffusion.articulation import OPEN_GAP, REACH, Articulation
from playmate_core.diffusion.model import PlaymateMotionModel
from playmate_core.runtime.errors import PlaymateError

from .diffusion_helpers import CONFIG, toy_features, toy_model


def plain_articulation(share=0.5, width_gain=1.3, channels=CONFIG.features_dim) -> Articulation:
    """Gap is the first latent, width the second, and the regression listens to the middle frame's first feature."""
    weight = torch.zeros(2 * REACH + 1, channels)
    weight[REACH, 0] = 0.1
    readout = torch.zeros(63, 2)
    readout[0, 0] = readout[1, 1] = 1.0
    return Articulation(weight, torch.tensor([0.02]), readout, readout.T.clone(), torch.tensor([share]),
                        torch.tensor([width_gain]))


def test_open_lips_go_half_way_to_the_regression():
    face = torch.zeros(4, 63)
    face[:, 0] = torch.tensor([2 * OPEN_GAP, 2 * OPEN_GAP, OPEN_GAP / 2, 0.0])
    moved = plain_articulation()(face, torch.tensor([0.10, 0.02, 0.10, 0.10]))
    assert float(moved[0, 0]) == pytest.approx(OPEN_GAP + 0.05, abs=1e-5)
    assert float(moved[1, 0]) == pytest.approx(OPEN_GAP + 0.01, abs=1e-5)
    assert 0 < float(moved[2, 0] - face[2, 0]) < 0.5 * (0.10 - OPEN_GAP / 2)
    assert float(moved[3, 0]) == 0.0  # closed lips stay closed


def test_width_moves_further_and_nothing_else_does():
    face = torch.randn(5, 63) * 0.01
    face[:, 0] = -0.001
    moved = plain_articulation()(face, torch.full((5,), 0.1))
    assert torch.allclose(moved[:, 1], 1.3 * face[:, 1], atol=1e-5)
    assert torch.equal(moved[:, 2:], face[:, 2:]) and torch.equal(moved[:, 0], face[:, 0])


def test_the_regression_hears_its_neighbours_and_holds_the_ends():
    said = plain_articulation()
    features = torch.zeros(9, CONFIG.features_dim)
    features[4, 0] = 1.0
    assert torch.allclose(said.gap(features), torch.full((9,), 0.02) + 0.1 * (torch.arange(9) == 4), atol=1e-5)
    shifted = torch.zeros_like(said.weight)
    shifted[-1, 0] = 0.1
    ahead = Articulation(**{**said.tensors(), "weight": shifted})
    assert float(ahead.gap(features)[1]) == pytest.approx(0.12, rel=1e-5)  # it hears three frames ahead
    features[-1, 0] = 1.0
    assert torch.allclose(ahead.gap(features)[-3:], torch.full((3,), 0.12), atol=1e-5)
    assert ahead.gap(features[:1]).shape == (1,)


def test_it_travels_with_the_checkpoint(tmp_path):
    model = toy_model()
    with_it = PlaymateMotionModel(model.denoiser, model.statistics, articulation=plain_articulation())
    with_it.save(tmp_path / "model.safetensors")
    again = PlaymateMotionModel.load(tmp_path / "model.safetensors")
    features = toy_features(30)
    assert torch.allclose(again.sample(features).expression, with_it.sample(features).expression, atol=1e-2)
    difference = with_it.sample(features).expression - model.sample(features).expression
    assert difference.flatten(1)[:, :2].abs().max() > 1e-4 and difference.flatten(1)[:, 2:].abs().max() == 0


def test_a_half_regression_is_refused(tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    model = toy_model()
    whole = PlaymateMotionModel(model.denoiser, model.statistics, articulation=plain_articulation())
    whole.save(tmp_path / "whole.safetensors")
    with safe_open(str(tmp_path / "whole.safetensors"), "pt") as file:
        metadata, tensors = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}
    del tensors["articulation.readout"]
    save_file(tensors, str(tmp_path / "half.safetensors"), metadata)
    with pytest.raises(PlaymateError, match="articulation.readout"):
        PlaymateMotionModel.load(tmp_path / "half.safetensors")


def test_long_speech_is_the_same_in_windows():
    """What is said of a frame does not depend on where its window begins."""
    said = plain_articulation()
    features = torch.randn(100, CONFIG.features_dim)
    assert torch.allclose(said.gap(features)[20:60], said.gap(features[10:80])[10:50], atol=1e-5)


def test_long_speech_is_heard_piece_by_piece(monkeypatch):
    from playmate_core.diffusion import articulation

    said, features = plain_articulation(), torch.randn(50, CONFIG.features_dim)
    said = Articulation(**{**said.tensors(), "weight": torch.randn(said.weight.shape)})
    whole = said.gap(features)
    monkeypatch.setattr(articulation, "AT_ONCE", 8)
    assert torch.allclose(said.gap(features), whole, atol=1e-4, rtol=1e-4)
