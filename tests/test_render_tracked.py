"""Rendered frames, looked at by the face tracker: what was asked for is what can be seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from playmate_core.face import geometry
from playmate_core.face.analyzer import FaceAnalyzer
from playmate_core.face.bridge import LatentBridge
from playmate_core.media.pictures import read_image
from playmate_core.render.landmark import LandmarkRenderer

from .render_helpers import blink_latent, gap_latent, motion_of


@pytest.fixture(scope="module")
def analyzer():
    return FaceAnalyzer.load()


@pytest.fixture(scope="module")
def bridge():
    return LatentBridge.load()


@pytest.fixture(scope="module")
def renderer(bridge):
    return LandmarkRenderer(bridge)


@pytest.fixture(scope="module")
def portrait(renderer, analyzer, portrait_path):
    image = read_image(portrait_path)
    return renderer.prepare(image, analyzer.analyze(image[None])[0][0])


@pytest.fixture(scope="module")
def smiling(renderer, analyzer):
    """A photograph that shows its teeth."""
    data = pytest.importorskip("skimage.data", reason="scikit-image, which ships the photograph, is not installed")
    image = torch.from_numpy(data.astronaut().astype(np.float32) / 255)
    return renderer.prepare(image, analyzer.analyze(image[None])[0][0])


def track(analyzer, renderer, appearance, motion) -> torch.Tensor:
    """[T, 478, 3] landmarks found on the rendered frames, each frame by itself."""
    frames = torch.cat(list(renderer.render(appearance, motion)))
    faces = analyzer.analyze(frames, detector="short")
    assert all(faces), "a face is found in every frame"
    return torch.stack([max(found, key=lambda face: float(face.box[2] - face.box[0])).landmarks for found in faces])


@pytest.mark.parametrize("axis,limit", [(0, 20), (1, 20), (2, 20)], ids=["pitch", "yaw", "roll"])
def test_the_head_follows_the_request(analyzer, renderer, portrait, axis, limit):
    asked = np.linspace(-limit, limit, 5)
    rotation = np.zeros((5, 3))
    rotation[:, axis] = asked
    points = track(analyzer, renderer, portrait, motion_of(rotation=rotation.tolist()))
    seen = geometry.head_pose(points)[:, axis].numpy()
    assert np.corrcoef(asked, seen)[0, 1] >= 0.97
    assert np.polyfit(asked, seen, 1)[0] == pytest.approx(1.0, abs=0.25)


def test_the_lip_gap_follows_the_request(analyzer, renderer, portrait, bridge):
    asked = np.array([0.0, 0.04, 0.08, 0.12, 0.16, 0.20])
    points = track(analyzer, renderer, portrait, motion_of([gap_latent(bridge, gap) for gap in asked]))
    seen = geometry.lip_gap(points).numpy()
    assert seen[0] <= 0.02
    assert np.corrcoef(asked, seen)[0, 1] >= 0.97
    assert np.polyfit(asked, seen, 1)[0] == pytest.approx(1.0, abs=0.35)


def test_a_smile_with_teeth_closes_its_lips(analyzer, renderer, smiling, bridge):
    assert geometry.lip_gap(smiling.face.landmarks) > 0.08
    points = track(analyzer, renderer, smiling, motion_of([gap_latent(bridge, gap) for gap in (0.0, 0.12)]))
    closed, opened = geometry.lip_gap(points).tolist()
    assert closed <= 0.02
    assert opened == pytest.approx(0.12, abs=0.05)


def test_eyes_shut_and_stay_where_they_are(analyzer, renderer, portrait, bridge):
    points = track(analyzer, renderer, portrait, motion_of([blink_latent(bridge, a) for a in (0.0, 0.035, 0.11)]))
    openness = geometry.eye_openness(points).mean(-1)
    assert openness[0] > 0.06
    assert openness[1] < 0.85 * openness[0]
    assert openness[2] < 0.05
    drift = (points[2, [33, 133, 362, 263]] - points[0, [33, 133, 362, 263]])[:, :2].norm(dim=-1)
    assert drift.max() < 0.08 * geometry.outer_eye_distance(points[0])


def test_brows_raised_far_make_no_rings(renderer, portrait, monkeypatch):
    """Above them the skin is squeezed so much that plain Newton steps threw single nodes pixels away."""
    from playmate_core.emotion.curve import EMOTIONS
    from playmate_core.emotion.offsets import emotion_table
    from playmate_core.motion.eyes import eye_offset
    from playmate_core.render.landmark import renderer as drawing
    from playmate_core.render.landmark.warp import invert

    missed = []

    def watched(field, grid, targets, *more):
        found = invert(field, grid, targets, *more)
        missed.append((found + grid.sample(field, found)[:, :2].permute(0, 2, 3, 1) - targets).norm(dim=-1).max())
        return found

    monkeypatch.setattr(drawing, "invert", watched)
    surprised = emotion_table()[EMOTIONS.index("surprised")].reshape(-1, 3)
    lids = eye_offset(torch.tensor([0.0, 0.2, 0.6, 0.8])[:, None].expand(-1, 2), torch.zeros(4, 2))
    list(renderer.render(portrait, motion_of(1.2 * surprised + lids)))
    assert missed and max(missed) < 0.5
