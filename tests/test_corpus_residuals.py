"""Pieces of real movement: chosen by what is said, joined without a step, another face for another seed."""

import numpy as np
import pytest
import torch

from laboratory.corpus import recipes, residuals
from laboratory.corpus.latents import BROWS, EYES, GAPS, GAZE, Measures
from playmate_core.face import geometry
from playmate_core.face.bridge import LatentBridge
from playmate_core.runtime.errors import PlaymateError

OPENNESS = float(geometry.eye_openness(geometry.mean_face()).mean())


@pytest.fixture(scope="module")
def measures():
    bridge = LatentBridge.load()
    return Measures(bridge, bridge.covariance)


def _voice(frames, rng, sounds=4):
    """[T, 12] features that say one of some sounds for half a second each, and which."""
    which = np.repeat(rng.integers(0, sounds, frames // 12 + 1), 12)[:frames]
    features = np.eye(12)[which] + 0.1 * rng.standard_normal((frames, 12))
    return torch.from_numpy(features).float(), which


def _source(speaker, rng, frames=400):
    """A speaker whose brows rise with sound 0 and whose lips widen with sound 1, beyond what a teacher says."""
    features, which = _voice(frames, rng)
    mouth, upper = torch.zeros(frames, 63), torch.zeros(frames, 63)
    mouth[:, 3] = torch.from_numpy(which == 1).float()
    upper[:, 1] = torch.from_numpy(which == 0).float()
    mouth[:, 5] = upper[:, 5] = 0.2 * torch.from_numpy(rng.standard_normal(frames).cumsum() / 10).float()
    return residuals.Source(speaker, features, torch.zeros(frames), torch.zeros(frames), torch.zeros(frames, 63), mouth,
                            upper)


@pytest.fixture(scope="module")
def library():
    rng = np.random.default_rng(0)
    return residuals.Library.build([_source(f"s{i % 7}", rng) for i in range(12)])


def _draw(library, seed, frames=250):
    features, which = _voice(frames, np.random.default_rng(99))
    nothing = torch.zeros(frames)
    drawn = library.draw(features, nothing, nothing, torch.zeros(frames, 63), np.random.default_rng(seed))
    return *drawn[:2], which


def test_movement_goes_with_what_is_said_and_keeps_its_size(library):
    lower, upper, which = _draw(library, 1, 1000)
    assert upper[which == 0, 1].mean() > 2 * upper[which != 0, 1].mean()
    assert lower[which == 1, 3].mean() > 2 * lower[which != 1, 3].mean()
    # A mean over speakers would have none of what the sounds do not tell.
    real = library.tensors["upper"][:, 5].std()
    assert 0.5 < float(upper[:, 5].std() / real) < 1.6
    # Mouth and upper face are one piece's.
    assert torch.corrcoef(torch.stack((upper[:, 5], lower[:, 5])))[0, 1] > 0.999


def test_a_seed_is_a_face(library):
    lower, upper, _ = _draw(library, 1)
    again, other = _draw(library, 1), _draw(library, 2)
    assert torch.equal(lower, again[0]) and torch.equal(upper, again[1])
    assert not torch.allclose(upper, other[1], atol=0.1)


def test_joins_are_no_faster_than_faces(library):
    smooth = {**library.tensors, "upper": torch.zeros(len(library), 63), "lower": torch.zeros(len(library), 63)}
    wave = torch.sin(torch.arange(len(library)) / 9.0)
    smooth["upper"][:, 7] = wave
    _, upper, _ = _draw(residuals.Library(smooth), 3, 500)
    assert upper[:, 7].diff().abs().max() < 2.5 * wave.diff().abs().max() and upper[:, 7].std() > 0.4 * wave.std()


@pytest.mark.parametrize("frames", [1, 7, 20, 40])
def test_short_clips_have_a_face_too(library, frames):
    lower, upper, _ = _draw(library, 0, frames)
    assert lower.shape == upper.shape == (frames, 63) and torch.isfinite(lower).all() and torch.isfinite(upper).all()


def test_a_library_is_kept_and_short_clips_are_no_library(library, tmp_path):
    library.save(tmp_path / "x.safetensors")
    assert torch.equal(residuals.Library.load(tmp_path / "x.safetensors").tensors["key"], library.tensors["key"])
    with pytest.raises(PlaymateError, match="long enough"):
        residuals.Library.build([_source("a", np.random.default_rng(0), 30)])


def _face(measures, frames=200, blinks=(40, 120)):
    """[T, 63] brows that rise slowly, eyes that look about and blink."""
    time = torch.arange(frames) / 25
    face = measures.move(torch.zeros(frames, 63), 0.03 * torch.sin(time)[:, None].expand(-1, 2), BROWS, EYES)
    face = measures.move(face, 0.02 * torch.cos(time)[:, None].expand(-1, 2), GAZE, EYES + BROWS)
    shut = torch.zeros(frames)
    for at in blinks:
        shut[at:at + 5] = torch.tensor([0.4, 1.0, 0.9, 0.6, 0.2])
    return measures.move(face, -(OPENNESS * shut)[:, None].expand(-1, 2), EYES, (*GAPS, "width", *BROWS))


def test_the_upper_face_is_kept_without_blinks_and_gaze(measures):
    face = _face(measures)
    upper = residuals.upper_of(face, torch.zeros(200, 63), measures, OPENNESS)
    assert measures.read(face, *EYES).min() < -0.9 * OPENNESS and measures.read(upper, *EYES).min() > -0.15 * OPENNESS
    brows = measures.read(upper, *BROWS)
    assert torch.corrcoef(torch.stack((brows[:, 0], measures.read(face, *BROWS)[:, 0])))[0, 1] > 0.98
    assert measures.read(upper, *GAZE).abs().max() < 0.006 and measures.read(upper, *GAPS, "width").abs().max() < 0.003


def _tops(measures, face):
    eyes = measures.read(face, *EYES).mean(1)
    return [t for t in range(1, len(eyes) - 1) if eyes[t] < -0.7 * OPENNESS and eyes[t] <= eyes[t - 1]
            and eyes[t] < eyes[t + 1]]


def test_a_real_face_blinks_at_other_times_as_often(measures):
    face = _face(measures)
    seeds = [recipes.other_blinks(measures, face, np.random.default_rng(s)) for s in range(3)]
    tops = [_tops(measures, moved) for moved in seeds]
    assert _tops(measures, face) == [41, 121] and all(len(found) == 2 for found in tops) and tops[0] != tops[1]
    assert measures.read(seeds[0] - face, *BROWS, *GAPS, "width").abs().max() < 0.004
    assert torch.equal(seeds[0], recipes.other_blinks(measures, face, np.random.default_rng(0)))
