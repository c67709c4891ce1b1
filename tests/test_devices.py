"""Everything on a device other than the CPU: a pretended one, which is as strict as a graphics card about devices.

The real cards were not at hand. What these tests show is that no tensor is left behind on the CPU, that the numbers
are the CPU's, and what the program waits for.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from playmate_core import pipeline
from playmate_core.emotion.plan import EmotionPlan
from playmate_core.motion.types import Motion
from playmate_core.render.liveportrait import LivePortraitRenderer, load_networks
from playmate_core.render.liveportrait.stacked_planes import PlanarDenseMotion
from playmate_core.runtime.acceleration import GRAPHS
from playmate_core.runtime.errors import PlaymateError
from tests.joyvasa_helpers import write_checkpoint, write_encoder
from tests.pretend_device import Wrapped, held, pretended

CARD = "cuda:0"


@pytest.fixture(scope="module")
def voice():
    random = torch.Generator().manual_seed(0)
    time = torch.arange(24000) / 16000
    tone = torch.sin(2 * torch.pi * 140 * time) * (1 + torch.sin(2 * torch.pi * 4 * time)) * 0.2
    return tone[None] + 0.01 * torch.randn(1, 24000, generator=random), 16000


@pytest.fixture
def card(monkeypatch):
    with pretended("cuda", monkeypatch) as device:
        yield device


def film(models, appearance, motion, **more):
    return torch.cat([held(frames) for frames in models.renderer.render(appearance, motion, **more)])


def turning(frames: int) -> Motion:
    motion = Motion.rest(frames)
    motion.rotation[:, 1] = torch.linspace(0, 10, frames)
    motion.expression[:, 19, 1] = 0.03
    return motion


def test_the_pretence_is_strict(card):
    there = torch.ones(3, device=CARD)
    assert there.is_cuda and isinstance(there + 1, Wrapped)
    with pytest.raises(RuntimeError, match="same device"):
        there + torch.ones(3)
    assert not card.waits
    assert float(there.sum()) == 3 and there.cpu().tolist() == [1, 1, 1]
    assert card.waits == ["item", "cpu"]
    there[[0, 2]] = 5.0
    assert there[torch.tensor([0, 1])].tolist() == [5, 1]


def test_the_bundled_pack(models, portrait, voice, card):
    plan = EmotionPlan.parse("happy 1")

    def made(using):
        appearance = pipeline.extract_appearance(using, portrait)
        features = pipeline.encode_audio(using, voice)
        motion = pipeline.generate_motion(using, features, appearance, seed=3, steps=4, emotion=plan)
        part = replace(motion, **{name: getattr(motion, name)[:6]
                                  for name in ("expression", "rotation", "translation", "scale")})
        return features, motion, film(using, appearance, part)

    on_card = pipeline.load_models(device=CARD)
    assert isinstance(next(on_card.motion.denoiser.parameters()).data, Wrapped)
    there, here = made(on_card), made(models)
    torch.testing.assert_close(there[0].features, here[0].features, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(there[1].expression, here[1].expression, rtol=1e-3, atol=1e-5)
    assert there[1].expression.device.type == "cpu", "motion is handed on on the CPU"
    # Landmarks that differ by rounding move a few pixels over the edge of a hole or a mask.
    error = (there[2] - here[2]).abs() * 255
    assert float(error.mean()) < 0.02 and float(error.quantile(0.999)) < 1 and float(error.max()) < 24


@pytest.mark.parametrize("pack", ["liveportrait", "liveportrait-animal"])
def test_liveportrait(models, portrait, small_liveportrait, card, pack):
    animal = pack.endswith("animal")
    renderer = LivePortraitRenderer(load_networks(small_liveportrait), models.bridge, CARD, animal=animal)
    assert renderer.dtype is torch.float16
    assert isinstance(renderer.networks.warping.dense_motion_network, PlanarDenseMotion)
    there = replace(models, renderer=renderer)
    plain = LivePortraitRenderer(load_networks(small_liveportrait), models.bridge, animal=animal)
    here = replace(models, renderer=plain)
    frames = [film(using, pipeline.extract_appearance(using, portrait), turning(5), batch_size=2)
              for using in (there, here)]
    error = (frames[0] - frames[1]).abs() * 255
    assert float(error.max()) < 6 and float(error.mean()) < 0.2
    assert float((frames[1] - portrait).abs().max()) > 0.1


def test_frames_are_drawn_without_waiting(models, portrait, small_liveportrait, card):
    """Longer films wait no more often than shorter ones: nothing is read back between two frames."""
    renderer = LivePortraitRenderer(load_networks(small_liveportrait), models.bridge, CARD)
    appearance = pipeline.extract_appearance(replace(models, renderer=renderer), portrait)
    waits = []
    for frames in (2, 8):
        before = len(card.waits)
        batches = list(renderer.render(appearance, turning(frames), batch_size=2))
        assert len(batches) == frames // 2 and all(isinstance(batch, Wrapped) for batch in batches)
        waits.append(Counter(card.waits[before:]))
    assert waits[0] == waits[1]
    assert sum(waits[0].values()) < 12


def test_drawn_by_a_recorded_graph(models, portrait, small_liveportrait, card, monkeypatch):
    from tests.test_acceleration import Recorder

    plain = LivePortraitRenderer(load_networks(small_liveportrait), models.bridge, CARD)
    appearance = pipeline.extract_appearance(replace(models, renderer=plain), portrait)
    wanted = torch.cat([held(frames) for frames in plain.render(appearance, turning(5), batch_size=2)])
    recorder = Recorder(monkeypatch)
    graphed = LivePortraitRenderer(load_networks(small_liveportrait), models.bridge, CARD, acceleration=GRAPHS)
    found = torch.cat([held(frames) for frames in graphed.render(appearance, turning(5), batch_size=2)])
    assert torch.equal(found, wanted)
    # The last, shorter batch is filled up instead of recorded anew.
    assert recorder.recorded == 1 and recorder.replayed == 3


def test_a_card_without_half_precision(models, portrait, small_liveportrait, card, monkeypatch):
    renderer = LivePortraitRenderer(load_networks(small_liveportrait), models.bridge, CARD)
    appearance = pipeline.extract_appearance(replace(models, renderer=renderer), portrait)
    draw = renderer._draw
    monkeypatch.setattr(renderer, "_draw", lambda *tensors: draw(*tensors) * float("nan"))
    with pytest.raises(PlaymateError, match="wrongly in half precision; choose the device cpu"):
        next(renderer.render(appearance, turning(2)))


def test_reading_a_clip_through_the_motion_extractor(models, portrait, small_liveportrait, card):
    from playmate_core.driving.film import motion_from_frames
    from playmate_core.render.liveportrait.extraction import motion_extractor_of

    frames = portrait * torch.linspace(1, 0.7, 3)[:, None, None, None]
    found = []
    for device in (CARD, "cpu"):
        renderer = LivePortraitRenderer(load_networks(small_liveportrait), models.bridge, device)
        found.append(motion_from_frames(models.face, models.bridge, [frames], 25.0,
                                        motion_extractor=motion_extractor_of(renderer)))
    torch.testing.assert_close(found[0].expression, found[1].expression, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found[0].rotation, found[1].rotation, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert"])
def test_speech_encoders_of_transformers(tmp_path, voice, card, kind):
    from playmate_core.media.sound import from_waveform
    from playmate_core.pipeline import load_speech_encoder

    write_encoder(tmp_path / kind, kind)
    sound = from_waveform(*voice)
    there, here = (load_speech_encoder(tmp_path / kind, device).encode(sound) for device in (CARD, "cpu"))
    assert there.features.device.type == "cpu"
    torch.testing.assert_close(there.features, here.features, rtol=1e-3, atol=1e-4)


def test_joyvasa(tmp_path, voice, card):
    from playmate_core.media.sound import from_waveform
    from playmate_core.pipeline import load_motion_and_speech

    sound, path = from_waveform(*voice), write_checkpoint(tmp_path)
    found = []
    for device in (CARD, "cpu"):
        model, encoder = load_motion_and_speech(path, device=device)
        found.append(model.sample(encoder.encode(sound), seed=1, steps=3))
    torch.testing.assert_close(found[0].expression, found[1].expression, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found[0].rotation, found[1].rotation, rtol=1e-3, atol=1e-3)
