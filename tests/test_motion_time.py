"""Retiming, looping and masking motion."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from playmate_core.motion import edits
from playmate_core.motion.loop import SEAMS, loop
from playmate_core.motion.pose import override_pose
from playmate_core.motion.types import Motion
from playmate_core.runtime.errors import PlaymateError

from .motion_helpers import FIELDS, random_motion


def same(a, b):
    return a.fps == b.fps and all(torch.equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


def wave(frames, fps=25.0, hertz=1.0):
    """Yaw, one expression number and the scale swing smoothly."""
    swing = torch.sin(torch.arange(frames) / fps * hertz * 2 * torch.pi)
    rest = Motion.rest(frames, fps)
    expression, rotation = rest.expression.clone(), rest.rotation.clone()
    expression[:, 19, 1], rotation[:, 1] = 0.05 * swing, 10 * swing
    return dataclasses.replace(rest, expression=expression, rotation=rotation, scale=1 + 0.1 * swing[:, None])


# --- another neutral frame

def test_heads_of_different_size_move_by_as_many_of_their_own_sizes():
    from playmate_core.face.bridge import LatentBridge

    motion, other = random_motion(8), random_motion(8, seed=1)
    small = dataclasses.replace(other.neutral, scale=torch.tensor([0.9]))

    def shift(m):
        return LatentBridge.head_shift(m.translation - m.neutral.translation, m.neutral.scale)

    moved = edits.rebase(motion, small)
    assert torch.allclose(shift(moved), shift(motion), atol=1e-5)
    assert torch.allclose(shift(edits.blend(dataclasses.replace(other, neutral=small), motion, 1.0)), shift(motion),
                          atol=1e-5)
    posed = override_pose(dataclasses.replace(other, neutral=small), motion,
                          limits={axis: None for axis in ("x", "y", "scale", "pitch", "yaw", "roll")})
    assert torch.allclose(shift(posed), shift(motion), atol=1e-5)


# --- retime

@pytest.mark.parametrize("speed, frames", [(2.0, 25), (0.5, 100), (1.3, 38)])
def test_speed_changes_length_and_keeps_the_curve(speed, frames):
    motion = wave(50)
    fast = edits.retime(motion, speed)
    assert len(fast) == frames and fast.fps == 25
    inside = torch.arange(frames) * len(motion) / frames < len(motion) - 1
    wanted = 10 * torch.sin(torch.arange(frames) * (len(motion) / frames) / 25 * 2 * torch.pi)
    assert torch.allclose(fast.rotation[inside, 1], wanted[inside], atol=0.1)
    assert torch.equal(fast.expression[0], motion.expression[0])
    assert same(edits.retime(motion), motion)


@pytest.mark.parametrize("seconds", [0.96, 2.0, 3.333, 0.02])
def test_a_length_in_seconds_is_met_exactly(seconds):
    stretched = edits.retime(wave(50), 1.5, seconds)
    assert len(stretched) == max(round(seconds * 25), 1) and stretched.fps == 25


@pytest.mark.parametrize("frames, speed, seconds", [(5, 0.0, None), (5, float("nan"), None), (5, 1.0, 0.0),
                                                    (0, 1.0, 2.0)])
def test_impossible_times_are_refused(frames, speed, seconds):
    with pytest.raises(PlaymateError, match="give"):
        edits.retime(random_motion(frames), speed, seconds)
    assert len(edits.retime(random_motion(0), 2.0)) == 0


# --- loop

@pytest.mark.parametrize("seam", SEAMS)
@pytest.mark.parametrize("frames", [0, 3, 30, 31, 200])
def test_a_loop_has_the_wanted_length_and_begins_as_the_motion(seam, frames):
    motion = random_motion(30)
    repeated = loop(motion, frames, seam)
    assert len(repeated) == frames and repeated.fps == motion.fps
    shown = min(frames, 20)
    assert same(edits.slice_frames(repeated, 0, shown), edits.slice_frames(motion, 0, shown))


def largest_step(motion):
    return max(float(getattr(motion, name).diff(dim=0).abs().max()) / scale
               for name, scale in (("expression", 0.05), ("rotation", 10), ("scale", 0.1)))


def test_seams_do_not_jump():
    motion = wave(32, hertz=0.6)  # ends far from where it began
    assert largest_step(loop(motion, 150, "hard")) > 3 * largest_step(motion)
    for seam in ("crossfade", "ping-pong"):
        assert largest_step(loop(motion, 150, seam, 12)) < 1.5 * largest_step(motion), seam


def test_every_round_after_the_first_fade_is_the_same():
    repeated = loop(wave(40), 200, "crossfade", 10)
    assert torch.equal(repeated.expression[10:40], repeated.expression[40:70])
    assert torch.equal(repeated.rotation[10:40], repeated.rotation[160:190])
    assert same(loop(wave(40), 90, "crossfade", 0), loop(wave(40), 90, "hard"))


def test_short_motions_and_bad_loops():
    assert len(loop(random_motion(1), 9)) == 9 and len(loop(random_motion(3), 20, "crossfade", 50)) == 20
    for call in (lambda: loop(random_motion(3), 5, "tape"), lambda: loop(random_motion(3), -1),
                 lambda: loop(random_motion(3), 5, "crossfade", -2), lambda: loop(random_motion(0), 5)):
        with pytest.raises(PlaymateError):
            call()


# --- regions

def test_only_the_kept_regions_move():
    motion = random_motion(12)
    kept = edits.keep_regions(motion, {"mouth": 1.0, "rest": 0.5})
    rest, masks = edits.still(motion), edits.region_masks()
    assert torch.equal(rest.expression[3], motion.neutral.expression)
    offset = motion.expression_offset
    for name, amount in (("mouth", 1.0), ("rest", 0.5), ("eyes", 0.0), ("brows", 0.0)):
        assert torch.allclose(kept.expression_offset * masks[name], amount * offset * masks[name], atol=1e-5), name
    for name in ("rotation", "translation", "scale"):
        assert torch.equal(getattr(kept, name), getattr(rest, name))
    assert same(edits.keep_regions(motion, dict.fromkeys(edits.REGIONS, 1.0)), motion)


def test_the_rest_can_come_from_another_motion():
    motion, other = random_motion(12, neutral=False), random_motion(5, seed=1, neutral=False)
    kept = edits.keep_regions(motion, {"pose": 1.0}, other, "cycle")
    assert torch.equal(kept.rotation, motion.rotation) and torch.equal(kept.scale, motion.scale)
    assert torch.allclose(kept.expression, other.expression[torch.arange(12) % 5], atol=1e-5)
    half = edits.keep_regions(motion, {"brows": torch.linspace(0, 1, 12)}, other)
    brows = edits.region_masks()["brows"] > 0
    assert torch.allclose(half.expression[-1][brows], motion.expression[-1][brows], atol=1e-5)
    with pytest.raises(PlaymateError, match="region"):
        edits.keep_regions(motion, {"nose": 1.0})
    with pytest.raises(PlaymateError, match="0 to 1"):
        edits.keep_regions(motion, {"mouth": 1.5})


def test_pose_from_one_clip_mouth_from_speech_brows_from_another():
    speech, clip, actor = (random_motion(10, seed=seed) for seed in (0, 1, 2))
    spliced = edits.blend(edits.blend(speech, clip, {"pose": 1.0}), actor, {"brows": 1.0})
    masks = edits.region_masks()
    for name, source in (("mouth", speech), ("rest", speech), ("eyes", speech), ("brows", actor)):
        assert torch.allclose(spliced.expression_offset * masks[name], source.expression_offset * masks[name],
                              atol=1e-5)
    assert torch.allclose(spliced.scale / spliced.neutral.scale, clip.scale / clip.neutral.scale, atol=1e-5)
