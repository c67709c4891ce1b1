"""The whole default path on a pretended Apple GPU, which refuses what torch lacks there: the CPU's numbers come out."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from playmate_core import pipeline
from playmate_core.render.landmark import LandmarkRenderer
from playmate_core.render.liveportrait import LivePortraitRenderer, load_networks
from playmate_core.runtime import sampling
from playmate_core.runtime.sampling import by_indexing, by_moving_inside
from tests.joyvasa_helpers import write_checkpoint, write_encoder
from tests.pretend_device import Wrapped, held, pretended
from tests.test_devices import film, turning, voice  # noqa: F401

APPLE = "mps"


@pytest.fixture
def apple(monkeypatch):
    with pretended("mps", monkeypatch) as device:
        yield device


def test_the_pretence_is_strict(apple):
    there = torch.ones(3, device=APPLE)
    assert there.device.type == "mps" and there.is_mps and not there.is_cuda
    assert isinstance(there + 1, Wrapped) and float(there.sum()) == 3
    with pytest.raises(RuntimeError, match="same device"):
        there + torch.ones(3)
    with pytest.raises(NotImplementedError, match="cummax"):
        there.cummax(0)
    with pytest.raises(TypeError, match="float64"):
        there.double()
    with pytest.raises(TypeError, match="float64"):
        torch.zeros(2, dtype=torch.float64).to(APPLE)
    picture, grid = torch.rand(1, 1, 4, 4, device=APPLE), torch.rand(1, 2, 2, 2, device=APPLE)
    with pytest.raises(RuntimeError, match="Border"):
        F.grid_sample(picture, grid, padding_mode="border", align_corners=False)
    with pytest.raises(NotImplementedError, match="grid_sampler_3d"):
        F.grid_sample(picture[None], torch.rand(1, 1, 2, 2, 3, device=APPLE), align_corners=False)
    assert held(F.grid_sample(picture, grid, align_corners=False)).shape == (1, 1, 2, 2)


def test_what_it_lacks_is_made_of_what_it_has(apple, caplog):
    with caplog.at_level(logging.WARNING):
        sampling.check_device(torch.device(APPLE))
    assert sampling._ways["mps"] == {(2, "zeros"): sampling.as_torch_does, (2, "border"): by_moving_inside,
                                     (3, "zeros"): by_indexing, (3, "border"): by_indexing}
    assert "cannot look volumes up itself; a slower way is used" in caplog.text


def test_the_bundled_pack(models, portrait, voice, apple, caplog):  # noqa: F811
    def made(using):
        appearance = pipeline.extract_appearance(using, portrait)
        features = pipeline.encode_audio(using, voice)
        motion = pipeline.generate_motion(using, features, appearance, seed=3, steps=4, emotion="happy 1")
        part = replace(motion, **{name: getattr(motion, name)[:6]
                                  for name in ("expression", "rotation", "translation", "scale")})
        return features, motion, film(using, appearance, part)

    on_apple = pipeline.load_models(device=APPLE)
    assert isinstance(next(on_apple.motion.denoiser.parameters()).data, Wrapped)
    there, here = made(on_apple), made(models)
    assert on_apple.renderer.device.type == on_apple.face.device.type == on_apple.speech.device.type == "mps"
    assert "goes on on the CPU" not in caplog.text
    torch.testing.assert_close(there[0].features, here[0].features, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(there[1].expression, here[1].expression, rtol=1e-3, atol=1e-5)
    error = (there[2] - here[2]).abs() * 255
    assert float(error.mean()) < 0.02 and float(error.quantile(0.999)) < 1 and float(error.max()) < 24


def test_a_head_that_is_tested_for_its_turns(models, portrait, apple):
    """The tracker reads frames that were drawn on the device."""
    films = []
    for device in (APPLE, "cpu"):
        using = pipeline.load_models(device=device)
        films.append(film(using, pipeline.extract_appearance(using, portrait), turning(3)))
    assert float((films[0] - films[1]).abs().mean()) * 255 < 0.05


@pytest.mark.parametrize("animal", [False, True])
def test_liveportrait(models, portrait, small_liveportrait, apple, caplog, animal):
    frames = []
    for device in (APPLE, "cpu"):
        renderer = LivePortraitRenderer(load_networks(small_liveportrait), models.bridge, device, animal=animal)
        using = replace(models, renderer=renderer)
        frames.append(film(using, pipeline.extract_appearance(using, portrait), turning(3), batch_size=2))
        assert renderer.device.type == torch.device(device).type and renderer.dtype is torch.float32
    assert "goes on on the CPU" not in caplog.text
    error = (frames[0] - frames[1]).abs() * 255
    assert float(error.max()) < 0.5 and float(error.mean()) < 0.01


def test_joyvasa(tmp_path, voice, apple):  # noqa: F811
    from playmate_core.media.sound import from_waveform
    from playmate_core.pipeline import load_motion_and_speech

    sound, path = from_waveform(*voice), write_checkpoint(tmp_path)
    found = []
    for device in (APPLE, "cpu"):
        model, encoder = load_motion_and_speech(path, device=device)
        found.append(model.sample(encoder.encode(sound), seed=1, steps=3))
    torch.testing.assert_close(found[0].expression, found[1].expression, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found[0].rotation, found[1].rotation, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert"])
def test_speech_encoders_of_transformers(tmp_path, voice, apple, kind):  # noqa: F811
    from playmate_core.media.sound import from_waveform
    from playmate_core.pipeline import load_speech_encoder

    write_encoder(tmp_path / kind, kind)
    there, here = (load_speech_encoder(tmp_path / kind, device).encode(from_waveform(*voice))
                   for device in (APPLE, "cpu"))
    torch.testing.assert_close(there.features, here.features, rtol=1e-3, atol=1e-4)


# --- a device that lacks more than is known


def lacking(monkeypatch, *names):
    from tests import pretend_device

    monkeypatch.setattr(pretend_device, "LACKING", pretend_device.LACKING | set(names))


@pytest.mark.parametrize("operation", ["convolution", "_softmax", "lerp"])
def test_liveportrait_goes_on_on_the_cpu(models, portrait, small_liveportrait, apple, monkeypatch, caplog, operation):
    wanted = LivePortraitRenderer(load_networks(small_liveportrait), models.bridge)
    plain = film(replace(models, renderer=wanted),
                 pipeline.extract_appearance(replace(models, renderer=wanted), portrait), turning(4), batch_size=2)
    renderer = LivePortraitRenderer(load_networks(small_liveportrait), models.bridge, APPLE)
    using = replace(models, renderer=renderer)
    appearance = pipeline.extract_appearance(using, portrait)
    batches = renderer.render(appearance, turning(4), batch_size=2)
    first = held(next(batches))
    lacking(monkeypatch, operation)
    with caplog.at_level(logging.WARNING):
        rest = [held(frames) for frames in batches]
    monkeypatch.undo()
    found = torch.cat([first, *rest])
    assert float((found - plain).abs().max()) * 255 < 0.5
    assert caplog.text.count("goes on on the CPU") == 1 and f"aten::{operation}" in caplog.text
    assert renderer.device.type == "cpu"
    assert not any(isinstance(weight.data, Wrapped) for weight in renderer.networks.parameters())


def test_both_renderers_of_the_same_networks_leave_together(models, portrait, small_liveportrait, apple, monkeypatch):
    renderer = LivePortraitRenderer(load_networks(small_liveportrait), models.bridge, APPLE)
    other = renderer.with_options(replace(renderer.options, multiplier=0.5))
    appearance = pipeline.extract_appearance(replace(models, renderer=renderer), portrait)
    lacking(monkeypatch, "convolution")
    first = film(replace(models, renderer=renderer), appearance, turning(2))
    assert first.shape[0] == 2 and other.device.type == "cpu"
    assert film(replace(models, renderer=other), appearance, turning(2)).shape[0] == 2


def test_the_landmark_renderer_goes_on_on_the_cpu(models, portrait, apple, monkeypatch, caplog):
    here = LandmarkRenderer(models.bridge)
    plain = film(replace(models, renderer=here), pipeline.extract_appearance(replace(models, renderer=here), portrait),
                 turning(6), batch_size=2)
    renderer = LandmarkRenderer(models.bridge, APPLE)
    appearance = pipeline.extract_appearance(replace(models, renderer=renderer), portrait)
    batches = renderer.render(appearance, turning(6), batch_size=2)
    first = held(next(batches))
    lacking(monkeypatch, "addcmul")
    with caplog.at_level(logging.WARNING):
        found = torch.cat([first, *(held(frames) for frames in batches)])
    assert renderer.device.type == "cpu" and caplog.text.count("goes on on the CPU") == 1
    assert "the landmark renderer needs (The operator 'aten::addcmul' is not currently implemented" in caplog.text
    assert found.shape == plain.shape and float((found - plain).abs().mean()) * 255 < 0.02


def test_networks_that_cannot_run_there_run_on_the_cpu(models, portrait, voice, apple, monkeypatch, caplog):  # noqa: F811
    lacking(monkeypatch, "convolution", "native_layer_norm")
    with caplog.at_level(logging.WARNING):
        using = pipeline.load_models(device=APPLE)
        appearance = pipeline.extract_appearance(using, portrait)
        features = pipeline.encode_audio(using, voice)
        motion = pipeline.generate_motion(using, features, appearance, steps=2)
    assert using.face.device.type == using.speech.device.type == using.motion.device.type == "cpu"
    for what in ("the face finder", "the speech encoder", "the motion model"):
        assert f"{what} needs" in caplog.text
    assert torch.equal(motion.expression, pipeline.generate_motion(
        models, pipeline.encode_audio(models, voice), pipeline.extract_appearance(models, portrait),
        steps=2).expression)


def test_faults_of_the_program_are_told_and_not_drawn_over(models, portrait, small_liveportrait, apple, monkeypatch):
    renderer = LivePortraitRenderer(load_networks(small_liveportrait), models.bridge, APPLE)
    appearance = pipeline.extract_appearance(replace(models, renderer=renderer), portrait)

    def fails(*_):
        raise RuntimeError("shapes disagree")

    monkeypatch.setattr(renderer, "_crops", fails)
    with pytest.raises(RuntimeError, match="shapes disagree"):
        next(renderer.render(appearance, turning(2)))
    assert renderer.device.type == "mps"
