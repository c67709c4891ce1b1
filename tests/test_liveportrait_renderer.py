"""The LivePortrait renderer with small made-up networks in the real format."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from playmate_core import pipeline
from playmate_core.motion.types import Motion
from playmate_core.render.liveportrait.memory import batch_that_fits, bytes_for, most_frames
from playmate_core.render.liveportrait.renderer import LivePortraitRenderer
from playmate_core.runtime.acceleration import is_out_of_memory
from playmate_core.runtime.errors import PlaymateError


@pytest.fixture(scope="module")
def models(small_liveportrait, models):  # noqa: F811
    renderer = pipeline._liveportrait("liveportrait", models.bridge, torch.device("cpu"), small_liveportrait)
    return replace(models, renderer=renderer)


@pytest.fixture(scope="module")
def appearance(models, portrait):
    return pipeline.extract_appearance(models, portrait)


def moving(frames: int) -> Motion:
    motion = Motion.rest(frames)
    expression = motion.expression.clone()
    expression[:, 19, 1] = torch.linspace(0, 0.05, frames)
    rotation = motion.rotation.clone()
    rotation[:, 1] = torch.linspace(0, 15, frames)
    return replace(motion, expression=expression, rotation=rotation)


def draw(renderer, appearance, motion, **more):
    return torch.cat(list(renderer.render(appearance, motion, **more)))


def test_load_models_takes_a_folder(small_liveportrait):
    assert pipeline.load_models("liveportrait", weights=small_liveportrait).renderer.name == "liveportrait"
    animals = pipeline.load_models("liveportrait-animal", weights=small_liveportrait)
    assert animals.renderer.name == "liveportrait-animal"


def test_missing_weights_end_in_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("PLAYMATE_MODELS", str(tmp_path))
    with pytest.raises(PlaymateError, match="appearance_feature_extractor"):
        pipeline.load_models("liveportrait")
    with pytest.raises(PlaymateError, match="no pack"):
        pipeline.load_models("dead-portrait")


def test_frames_have_the_portraits_size_and_move(models, appearance, portrait):
    told = []
    frames = torch.cat(list(pipeline.render_frames(models, appearance, moving(3), batch_size=2,
                                                   progress=lambda *at: told.append(at))))
    assert frames.shape == (3, *portrait.shape) and frames.dtype == torch.float32
    assert bool((frames >= 0).all()) and bool((frames <= 1).all())
    assert float((frames[0] - frames[2]).abs().max()) > 0.05
    assert told == [(0, 3), (2, 3), (3, 3)]


def test_rest_returns_the_portrait(models, appearance, portrait):
    assert torch.equal(draw(models.renderer, appearance, Motion.rest(2))[1], portrait.clamp(0, 1))
    assert not list(models.renderer.render(appearance, Motion.rest(0)))


def test_batches_do_not_change_frames(models, appearance):
    one = draw(models.renderer, appearance, moving(3), batch_size=1)
    assert torch.allclose(one, draw(models.renderer, appearance, moving(3), batch_size=3), atol=2e-4)


def test_outside_of_the_crop_nothing_changes(models, appearance):
    prepared = appearance.payload
    top, left, bottom, right = prepared.placement.box
    frame = draw(models.renderer, appearance, moving(2))[1]
    outside = torch.ones(frame.shape[:2], dtype=torch.bool)
    outside[top:bottom, left:right] = prepared.placement.mask[0, 0] == 0
    assert torch.equal(frame[outside], appearance.image[outside])


def test_keypoints_count_from_the_neutral_frame(models, appearance):
    """The first frame of a motion that starts in its neutral frame is the portrait's own."""
    renderer = models.renderer
    motion = moving(2)
    shifted = replace(motion, expression=motion.expression + 0.1, rotation=motion.rotation + 0,
                      neutral=replace(motion.neutral, expression=motion.neutral.expression + 0.1))
    found, same = (renderer.keypoints(appearance.payload, m) for m in (motion, shifted))
    assert torch.allclose(found, same, atol=1e-5)
    assert float((found[1] - found[0]).abs().max()) > 0.01


def test_open_lips_are_shut_only_for_speech(models, appearance):
    renderer, motion = models.renderer, moving(2)
    wide = replace(appearance.payload, source=replace(appearance.payload.source, lip=torch.tensor([[0.4]])))
    shut = replace(appearance.payload, source=replace(appearance.payload.source, lip=torch.tensor([[0.0]])))
    assert not torch.allclose(renderer.keypoints(wide, motion), renderer.keypoints(shut, motion), atol=1e-4)
    still = replace(motion, expression=torch.zeros_like(motion.expression))
    assert torch.equal(renderer.keypoints(wide, still), renderer.keypoints(shut, still))


def test_out_of_memory_halves_the_batch(models, appearance, monkeypatch):
    renderer, sizes = models.renderer, []
    draw_crops = LivePortraitRenderer._crops

    def short_of_memory(self, source, keypoints, batch_size):
        sizes.append(len(keypoints))
        if len(keypoints) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return draw_crops(self, source, keypoints, batch_size)

    wanted = draw(renderer, appearance, moving(3), batch_size=1)
    monkeypatch.setattr(LivePortraitRenderer, "_crops", short_of_memory)
    assert torch.equal(draw(renderer, appearance, moving(3), batch_size=4), wanted)
    assert sizes == [3, 1, 1, 1]


def test_other_errors_pass_through(models, appearance, monkeypatch):
    def fails(*_):
        raise RuntimeError("shapes disagree")

    monkeypatch.setattr(LivePortraitRenderer, "_crops", fails)
    with pytest.raises(RuntimeError, match="shapes"):
        draw(models.renderer, appearance, moving(3))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"))
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))


def test_foreign_appearances_and_batch_sizes_are_refused(models, appearance):
    with pytest.raises(PlaymateError, match="landmark"):
        models.renderer.render(replace(appearance, renderer="landmark"), moving(1))
    with pytest.raises(PlaymateError, match="batch size"):
        models.renderer.render(appearance, moving(1), batch_size=0)
    with pytest.raises(PlaymateError, match="height"):
        models.renderer.prepare(torch.zeros(4, 4), appearance.face)


def test_a_host_is_asked_for_memory(small_liveportrait, models, portrait):
    from playmate_core.render.liveportrait import load_networks

    asked, given = [], []

    def host(networks):
        given.append(networks)
        return asked.append

    renderer = LivePortraitRenderer(load_networks(small_liveportrait), models.bridge, host=host)
    assert given == [renderer.networks] and not asked
    prepared = pipeline.extract_appearance(replace(models, renderer=renderer), portrait)
    assert len(asked) == 1 and asked[0] > 0
    draw(renderer, prepared, moving(1))
    assert len(asked) > 1


def test_the_packs_motion_extractor_reads_clips(small_liveportrait, models, portrait):
    """Through its host, which is asked before every batch: between two, others may have needed the room."""
    from playmate_core.driving.extraction import BATCH, driving_crop
    from playmate_core.driving.film import motion_from_frames
    from playmate_core.face.crop import Roi, as_rgb, sample
    from playmate_core.pipeline import load_models
    from playmate_core.render.liveportrait import load_networks
    from playmate_core.render.liveportrait.extraction import motion_extractor_of

    asked = []
    networks = load_networks(small_liveportrait)
    renderer = LivePortraitRenderer(networks, models.bridge, host=lambda networks: asked.append)
    extractor = motion_extractor_of(renderer)
    face = models.face.analyze(portrait[None])[0][0]

    class Follower:
        def track(self, frames, **_):
            return (face for _ in frames)

    frames = portrait * torch.linspace(1, 0.5, BATCH + 2)[:, None, None, None]
    motion = motion_from_frames(Follower(), models.bridge, [frames], 25.0, motion_extractor=extractor)
    assert len(asked) == 2 and all(working > 0 for working in asked)
    (x, y), side = driving_crop(face.landmarks[None])
    crops = torch.stack([sample(as_rgb(frame), Roi(float(x), float(y), side), 256, "zeros") for frame in frames])
    wanted = renderer.networks.motion.motion(crops)
    assert torch.allclose(motion.expression, wanted["exp"], atol=1e-5)
    assert torch.allclose(motion.rotation, wanted["rotation"], atol=1e-3)
    assert motion_extractor_of(load_models().renderer) is None


def test_animals_move_too(small_liveportrait, models, portrait):
    animals = pipeline._liveportrait("liveportrait-animal", models.bridge, torch.device("cpu"), small_liveportrait)
    prepared = pipeline.extract_appearance(replace(models, renderer=animals), portrait)
    keypoints = animals.keypoints(prepared.payload, moving(3))
    assert float((keypoints[2] - keypoints[0]).abs().max()) > 0.01
    assert draw(animals, prepared, moving(1)).shape[0] == 1


def test_bfloat16_stays_close(small_liveportrait, models, appearance, portrait):
    from playmate_core.render.liveportrait import load_networks

    narrow = LivePortraitRenderer(load_networks(small_liveportrait), models.bridge, dtype=torch.bfloat16)
    prepared = pipeline.extract_appearance(replace(models, renderer=narrow), portrait)
    frames, wanted = (draw(r, a, moving(2)) for r, a in ((narrow, prepared), (models.renderer, appearance)))
    assert frames.dtype == torch.float32
    assert float((frames - wanted).abs().mean()) < 0.02


@pytest.mark.parametrize("free, frames", [(0, 1), (1, 1), (3, 3), (1000, None)])
def test_batch_that_fits(free, frames, monkeypatch):
    """As many frames as a card has memory free for, never none, never more than pays; ``free`` is in frames."""
    card, picture = torch.device("cuda"), (512, 640)
    each = bytes_for(1, torch.float16) + 4 * 4 * 3 * 512 * 640
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free * each / 0.8) + 100, 2**40))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    assert batch_that_fits(card, torch.float16, picture) == (most_frames(card) if frames is None else frames)
    assert batch_that_fits(torch.device("cpu"), torch.float32, picture) == most_frames(torch.device("cpu"))


def test_what_places_keypoints_is_not_rounded(models, portrait, monkeypatch):
    """F and M see float32 as it is, whatever torch may do on a card; what was set before holds afterwards."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    networks, seen = models.renderer.networks, []
    hooks = [network.register_forward_pre_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
             for network in (networks.appearance, networks.motion)]
    try:
        pipeline.extract_appearance(models, portrait)
    finally:
        for hook in hooks:
            hook.remove()
    assert seen and not any(seen) and torch.backends.cudnn.allow_tf32


def test_frames_drawn_apart_are_those_of_the_whole(models, appearance):
    """Lips that only a later frame moves are shut in all of them."""
    motion = moving(6)
    motion = replace(motion, expression=motion.expression * (torch.arange(6) >= 4)[:, None, None])
    whole = draw(models.renderer, appearance, motion, batch_size=2)
    for part in (range(0, 2), range(2, 5), range(5, 6)):
        assert torch.allclose(draw(models.renderer, appearance, motion, batch_size=2, part=part),
                              whole[part.start:part.stop], atol=2e-4)
