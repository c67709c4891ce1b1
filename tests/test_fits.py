"""The laboratory's small linear models: emotions that keep a face's anatomy, a motion model under another bridge."""

from __future__ import annotations

import pytest
import torch

from playmate_core.emotion.curve import EMOTIONS
from playmate_core.emotion.offsets import emotion_table
from playmate_core.face import geometry as geo
from playmate_core.face.arkit import ArkitShapes
from playmate_core.face.bridge import LatentBridge

emotions = pytest.importorskip("laboratory.fits.emotions", reason="the laboratory is not part of this installation")
translation = pytest.importorskip("laboratory.fits.translation")

BOUNDS = {"nose width": (0.90, 1.10), "face width": (0.97, 1.035), "face height": (0.95, 1.12),
          "brow thickness": (0.93, 1.15)}
"""What a face keeps in every emotion at strength 1, against itself at rest."""
OPEN = {"happy": 0.75, "angry": 0.80, "disgusted": 0.75, "sad": 0.70, "contempt": 0.80, "fear": 1.0, "surprised": 1.0}
"""How far its eyes stay open."""


@pytest.fixture(scope="module")
def bridge():
    return LatentBridge.load()


@pytest.mark.parametrize("label", EMOTIONS)
def test_an_emotion_keeps_the_face_it_moves(bridge, label):
    drawn = bridge.displacement(emotion_table()[EMOTIONS.index(label)])
    found = emotions.ratios(drawn)
    for name, (low, high) in BOUNDS.items():
        assert all(low <= value <= high for value in found[name]), (name, found[name])
    assert min(found["eye opening"]) >= OPEN[label] and max(found["eye opening"]) <= 1.7


def test_emotions_are_their_expressions(bridge):
    shapes = ArkitShapes.load()
    for label, parts in emotions.EXPRESSIONS.items():
        # Halves, because single expressions are held at 1.5.
        made = 2 * shapes.expression(emotions.weights_of(parts) / 2).flatten()
        assert torch.allclose(made, emotion_table()[EMOTIONS.index(label)], atol=1e-4), label
    drawn = {label: bridge.displacement(emotion_table()[i]) for i, label in enumerate(EMOTIONS)}
    inner, outer, corners = [107, 336], [70, 300], [61, 291]
    assert drawn["angry"][inner, 1].mean() > 0.03, "anger draws the inner brows down"
    assert drawn["sad"][inner, 1].mean() < -0.03 < drawn["sad"][outer, 1].mean(), "sadness lifts the inner brows alone"
    assert drawn["happy"][corners, 1].mean() < -0.08 and drawn["sad"][corners, 1].mean() > 0.01
    assert drawn["surprised"][inner + outer, 1].max() < -0.04, "surprise lifts whole brows"
    left, right = drawn["contempt"][291, 1], drawn["contempt"][61, 1]
    assert left < 2.5 * right and left < -0.05, "contempt is one-sided"


def test_an_expression_without_a_name_is_refused():
    with pytest.raises(SystemExit, match="smirk"):
        emotions.weights_of({"smirk": 1.0})


def _checkpoint(draw):
    axes = 0.01 * torch.randn(5, 63, generator=draw)
    return {"statistics.axes": axes, "statistics.mean": axes.mean(0), "statistics.inverse": torch.linalg.pinv(axes),
            "statistics.pose_deviation": torch.ones(6)}


def test_a_model_draws_the_same_faces_under_another_bridge(bridge):
    draw = torch.Generator().manual_seed(0)
    turned = torch.linalg.qr(torch.randn(63, 63, generator=draw))[0]
    other = LatentBridge(turned @ bridge.forward, turned @ bridge.covariance @ turned.T, bridge.noise,
                         bridge.blendshapes, bridge.blendshapes_rest)
    before = _checkpoint(draw)
    after = translation.translated(before, other, bridge)
    wanted = other.displacement(before["statistics.axes"])
    found = bridge.displacement(after["statistics.axes"])
    assert float((found - wanted).square().sum() / wanted.square().sum()) < 0.1
    units = torch.randn(7, 5, generator=draw)
    read = units @ after["statistics.axes"] @ after["statistics.inverse"]
    assert torch.allclose(read, units, atol=1e-2)


def test_livelier_moves_brows_further_and_leaves_lips(bridge):
    before = _checkpoint(torch.Generator().manual_seed(1))
    after = translation.livelier(before, bridge)
    drawn = [bridge.displacement(tensors["statistics.axes"]) for tensors in (before, after)]
    brows = [d[:, [i for ring in geo.BROWS for i in ring], 1].abs().mean() for d in drawn]
    widths = [d[:, 291, 0] - d[:, 61, 0] for d in drawn]
    assert 1.3 < float(brows[1] / brows[0]) < 2.2
    assert float((widths[1] - widths[0]).abs().max()) < 0.2 * float(widths[0].abs().max())
