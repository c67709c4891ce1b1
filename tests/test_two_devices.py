"""Two sets of models on different devices in one graph: what one made, the other takes.

The second device is pretended, as strict about tensors of two devices as a graphics card.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from playmate_core import pipeline
from playmate_core.render.liveportrait import LivePortraitRenderer, load_networks
from tests.joyvasa_helpers import write_checkpoint, write_encoder
from tests.pretend_device import Wrapped, held, pretended
from tests.test_devices import CARD, film, turning


@pytest.fixture
def card(monkeypatch):
    with pretended("cuda", monkeypatch) as device:
        yield device


@pytest.fixture(scope="module")
def voice():
    time = torch.arange(16000) / 16000
    return (torch.sin(2 * torch.pi * 140 * time) * (1 + torch.sin(2 * torch.pi * 4 * time)) * 0.2)[None], 16000


def test_the_landmark_renderer_draws_what_another_device_prepared(models, portrait, card):
    there = pipeline.load_models(device=CARD)
    kept = {name: pipeline.extract_appearance(using, portrait) for name, using in (("cpu", models), ("card", there))}
    assert isinstance(kept["card"].image, Wrapped) and not isinstance(kept["cpu"].image, Wrapped)
    motion = turning(2)
    wanted = film(models, kept["cpu"], motion)
    for using, appearance in ((there, kept["cpu"]), (models, kept["card"])):
        frames = list(pipeline.render_frames(using, appearance, motion))
        assert all(isinstance(batch, Wrapped) == (using is there) for batch in frames)
        error = (torch.cat([held(batch) for batch in frames]) - wanted).abs() * 255
        assert float(error.mean()) < 0.02 and float(error.max()) < 24


@pytest.mark.parametrize("pack", ["liveportrait", "liveportrait-animal"])
def test_liveportrait_draws_what_another_device_prepared(models, portrait, small_liveportrait, card, pack):
    def loaded(device):
        renderer = LivePortraitRenderer(load_networks(small_liveportrait), models.bridge, device,
                                        animal=pack.endswith("animal"))
        return replace(models, renderer=renderer)

    here, there = loaded("cpu"), loaded(CARD)
    wanted = film(here, pipeline.extract_appearance(here, portrait), turning(2))
    for made, drawn in ((here, there), (there, here)):
        frames = film(drawn, pipeline.extract_appearance(made, portrait), turning(2), batch_size=2)
        error = (frames - wanted).abs() * 255
        assert float(error.max()) < 6 and float(error.mean()) < 0.2


def test_features_and_identity_of_another_device_become_motion(models, appearance, voice, card):
    there = pipeline.load_models(device=CARD)
    features, face = pipeline.encode_audio(models, voice), appearance
    wanted = pipeline.generate_motion(models, features, face, seed=3, steps=2, emotion="happy 0.5")
    moved = features.to(CARD), replace(face, identity=face.identity.to(CARD))
    for using, (heard, whose) in ((there, (features, face)), (models, moved)):
        motion = pipeline.generate_motion(using, heard, whose, seed=3, steps=2, emotion="happy 0.5")
        assert motion.expression.device.type == "cpu"
        torch.testing.assert_close(motion.expression, wanted.expression, rtol=1e-3, atol=1e-4)


def test_joyvasa_s_features_of_another_device(tmp_path, voice, card):
    from playmate_core.media.sound import from_waveform

    sound, path = from_waveform(*voice), write_checkpoint(tmp_path)
    (here, ear), (there, other_ear) = (pipeline.load_motion_and_speech(path, device=device)
                                       for device in ("cpu", CARD))
    wanted = here.sample(ear.encode(sound), seed=1, steps=3)
    for model, features in ((there, ear.encode(sound)), (here, other_ear.encode(sound).to(CARD))):
        found = model.sample(features, seed=1, steps=3)
        torch.testing.assert_close(found.expression, wanted.expression, rtol=1e-3, atol=1e-4)


def test_external_encoders_hand_over_on_the_cpu(tmp_path, voice, card):
    from playmate_core.media.sound import from_waveform

    write_encoder(tmp_path / "wav2vec2", "wav2vec2")
    features = pipeline.load_speech_encoder(tmp_path / "wav2vec2", CARD).encode(from_waveform(*voice))
    assert not isinstance(features.features, Wrapped) and not isinstance(features.loudness, Wrapped)


def test_masks_and_pictures_on_the_card(models, portrait, card):
    """IMAGE and MASK of a node that left them on the card."""
    from tests.node_helpers import node_modules

    wanted = pipeline.extract_appearance(models, portrait)
    with node_modules("values") as pack:
        image = pack.values.pictures(portrait[None].to(CARD).half())
        mask = pack.values.masks(torch.ones(1, *portrait.shape[:2]).to(CARD))
        assert not isinstance(image, Wrapped) and image.dtype == torch.float32 and not isinstance(mask, Wrapped)
    found = pipeline.extract_appearance(models, image[0], mask=mask[0])
    assert float((found.face.landmarks - wanted.face.landmarks).abs().max()) < 1
