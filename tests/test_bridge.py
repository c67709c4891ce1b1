"""The latent bridge: what latents draw, and latents from what is drawn."""

from __future__ import annotations

import pytest
import torch

from playmate_core.face import geometry as geo
from playmate_core.face.bridge import CLOSED_LIP_GAP, EYE_DISTANCE, LatentBridge, mirror_expression
from playmate_core.runtime.errors import PlaymateError


@pytest.fixture(scope="module")
def bridge():
    return LatentBridge.load()


def latents(*parts):
    """[1, 21, 3] from (keypoint, axis, value)."""
    expression = torch.zeros(1, 21, 3)
    for keypoint, axis, value in parts:
        expression[0, keypoint, "xyz".index(axis)] += value
    return expression


def gap(moved):
    return moved[..., 14, 1] - moved[..., 13, 1]


def width(moved):
    return moved[..., 291, 0] - moved[..., 61, 0]


@pytest.fixture(scope="module")
def likely(bridge):
    """[200, 21, 3] latents drawn from the templates' covariance."""
    noise = torch.randn(200, 63, generator=torch.Generator().manual_seed(3))
    return (noise @ torch.linalg.cholesky(bridge.covariance.double()).float().T).unflatten(1, (21, 3))


def test_rest_moves_nothing_and_the_map_is_linear(bridge, likely):
    assert bridge.displacement(torch.zeros(2, 21, 3)).abs().max() == 0
    assert bridge.expression(torch.zeros(2, 478, 2)).abs().max() == 0
    moved = bridge.displacement(likely)
    assert moved.shape == (200, 478, 3)
    assert torch.allclose(bridge.displacement(2 * likely[0] - likely[1]), 2 * moved[0] - moved[1], atol=1e-5)
    assert torch.equal(bridge.displacement(likely.flatten(1)), moved)


# SPEC.md appendix A says what single latents do; the fit took nothing from it but which keypoints mirror.


def test_smile_widens_and_lifts_the_corners(bridge):
    moved = bridge.displacement(latents((20, "y", -0.01), (14, "y", -0.02), (17, "y", 0.0065), (17, "z", 0.003),
                                        (13, "y", -0.00275), (16, "y", -0.00275), (3, "y", -0.0035),
                                        (7, "y", -0.0035)))[0]
    assert width(moved) > 0.05
    assert moved[61, 1] < -0.03 and moved[291, 1] < -0.03


def test_open_mouth_lowers_the_jaw(bridge):
    expression = latents((19, "y", 0.08), (19, "z", 0.008), (17, "y", -0.008))
    moved = bridge.displacement(expression)[0]
    assert gap(moved) > 0.15 and moved[152, 1] > 0.05
    assert float(bridge.lip_gap(expression)) == pytest.approx(float(gap(moved)), abs=1e-5)


def test_wink_shuts_the_right_eye(bridge):
    moved = bridge.displacement(latents((11, "y", 0.02), (13, "y", -0.006), (17, "x", 0.006), (17, "y", 0.006),
                                        (3, "y", -0.006)))[0]
    before, after = geo.eye_openness(geo.mean_face()), geo.eye_openness(geo.mean_face() + moved)
    upper, lower = (list(lids[0][3:6]) for lids in (geo.EYES_UPPER, geo.EYES_LOWER))
    parted = moved[lower, 1].mean() - moved[upper, 1].mean()
    assert before[0] + parted < 0.35 * before[0]  # or below 0: a renderer stops where lids meet
    # LivePortrait's own wink lowers the other lid by half as much.
    assert after[1] > 0.7 * before[1]


def test_gaze_moves_both_irises_the_same_way(bridge):
    centres = list(geo.IRIS_CENTRES)
    moved = bridge.displacement(latents((11, "x", 0.0105), (15, "x", 0.015)))[0, centres]
    assert (moved[:, 0] > 0.04).all() and (moved[:, 1].abs() < 0.02).all()
    assert (bridge.displacement(latents((11, "y", -0.01), (15, "y", -0.01)))[0, centres, 1] < 0).all()


def test_brow_slider_lifts_both_brows_and_knits_them(bridge):
    middle = [105, 334]
    assert (bridge.displacement(latents((1, "y", 0.01), (2, "y", -0.01)))[0, middle, 1] < -0.01).all()
    frown = bridge.displacement(latents((1, "x", 0.01), (2, "x", -0.01), (1, "y", -0.003), (2, "y", 0.003)))[0]
    assert (frown[middle, 1] > 0.003).all()
    assert frown[336, 0] - frown[107, 0] < 0


def test_mirrored_latents_draw_the_mirrored_face(bridge, likely):
    assert torch.equal(mirror_expression(mirror_expression(likely)), likely)
    moved = bridge.displacement(likely)
    mirrored = bridge.displacement(mirror_expression(likely))
    error = (geo.mirror(moved) - mirrored)[..., :2].square().mean().sqrt()
    assert error < 0.1 * moved[..., :2].square().mean().sqrt()


@pytest.mark.parametrize("axes", [2, 3])
def test_the_inverse_keeps_mouth_and_lids(bridge, likely, axes):
    moved = bridge.displacement(likely)
    back = bridge.displacement(bridge.expression(moved[..., :axes]))
    assert (gap(back) - gap(moved)).abs().max() < 0.1 * gap(moved).abs().max()
    for measure in (gap, width):
        truth, found = measure(moved), measure(back)
        assert float((truth * found).sum() / truth.square().sum()) == pytest.approx(1.0, abs=0.06)
    assert float((back - moved).square().sum() / moved.square().sum()) < 0.05


def test_the_inverse_is_one_product_and_shrinks_the_unlikely(bridge):
    nonsense = torch.randn(5, 478, 3, generator=torch.Generator().manual_seed(0)) * 0.05
    found = bridge.expression(nonsense)
    assert found.isfinite().all()
    assert (bridge.displacement(found) - nonsense).norm() > 0.9 * nonsense.norm()


def test_weights_leave_landmarks_out(bridge):
    moved = bridge.displacement(latents((19, "y", 0.05)))
    weights = torch.ones(478)
    upper_face = geo.mean_face()[:, 1] < 0.3
    weights[upper_face] = 0.0
    spoiled = moved.clone()
    spoiled[:, upper_face] += 0.3
    assert torch.allclose(bridge.expression(spoiled, weights), bridge.expression(moved, weights), atol=1e-5)
    assert not torch.allclose(bridge.expression(spoiled), bridge.expression(moved), atol=1e-3)
    assert torch.allclose(bridge.expression(moved, bridge.evidence), bridge.expression(moved), atol=1e-5)


def test_neutral_blendshapes_are_no_expression(bridge):
    assert bridge.from_blendshapes(bridge.blendshapes_rest.square()).abs().max() < 1e-5


def test_blendshapes_open_and_widen_the_mouth(bridge):
    from playmate_core.face.blendshapes import NAMES

    scores = bridge.blendshapes_rest.square().repeat(3, 1)
    scores[1, NAMES.index("jawOpen")] = 0.4
    for name in ("mouthSmileLeft", "mouthSmileRight"):
        scores[2, NAMES.index(name)] = 0.8
    moved = bridge.displacement(bridge.from_blendshapes(scores))
    assert gap(moved)[1] > 0.05
    assert width(moved)[2] > 0.03 and (moved[2, [61, 291], 1] < 0).all()


def test_a_measured_lip_gap_is_met_exactly(bridge):
    scores = torch.rand(4, 52, generator=torch.Generator().manual_seed(2)) * 0.3
    wanted = torch.tensor([0.0, 0.05, 0.12, 0.3])
    found = bridge.from_blendshapes(scores, wanted)
    assert torch.allclose(bridge.lip_gap(found), (wanted - CLOSED_LIP_GAP).clamp_min(0), atol=1e-4)
    assert found.shape == (4, 21, 3)


def test_mahalanobis_of_the_templates_own_spread_is_one(bridge, likely):
    assert float(bridge.mahalanobis(likely).square().mean()) == pytest.approx(1.0, abs=0.05)
    assert bridge.expression_std.shape == (21, 3)
    assert torch.allclose(likely.std(0), bridge.expression_std, rtol=0.35, atol=1e-5)
    assert bridge.expression_std.argmax() == 19 * 3 + 1  # the lower lip, up and down


def test_head_shift_in_eye_distances():
    shift = LatentBridge.head_shift(torch.tensor([[EYE_DISTANCE * 1.5, 0.0, 9.0]]), 1.5)
    assert torch.allclose(shift, torch.tensor([[1.0, 0.0]]), atol=1e-5)
    there = torch.tensor([[0.3, -0.2], [0.0, 0.1]])
    scale = torch.tensor([[1.2], [1.4]])
    assert torch.allclose(LatentBridge.head_shift(LatentBridge.head_translation(there, scale), scale), there, atol=1e-5)


@pytest.mark.parametrize("call", [
    lambda b: b.displacement(torch.zeros(3, 20, 3)), lambda b: b.expression(torch.zeros(3, 468, 2)),
    lambda b: b.expression(torch.zeros(3, 478, 3), torch.ones(3)), lambda b: b.from_blendshapes(torch.zeros(51)),
    lambda b: b.lip_gap(torch.zeros(7)), lambda b: b.expression(torch.zeros(3)),
])
def test_other_shapes_are_refused(bridge, call):
    with pytest.raises(PlaymateError, match="needed"):
        call(bridge)


def test_missing_and_foreign_files_are_refused(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(PlaymateError, match="cannot be read"):
        LatentBridge.load(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("not safetensors")
    with pytest.raises(PlaymateError, match="cannot be read"):
        LatentBridge.load(tmp_path / "text.safetensors")
    save_file({"forward": torch.zeros(2)}, str(tmp_path / "other.safetensors"))
    with pytest.raises(PlaymateError, match="no latent bridge"):
        LatentBridge.load(tmp_path / "other.safetensors")


def test_wink_template_shuts_one_eye(bridge, shared):
    from safetensors.torch import load_file

    wink = load_file(str(shared / "data" / "liveportrait_templates" / "wink.safetensors"))["exp"]
    eyes = geo.eye_openness(geo.mean_face() + bridge.displacement(wink - wink[:5].median(0).values))
    assert eyes[:, 0].min() < 0.02 and eyes[:, 1].min() > 1.5 * eyes[:, 0].min()


@pytest.mark.parametrize("name", ["d5", "d8"])
def test_lip_ratios_published_with_the_templates(bridge, shared, name):
    from safetensors.torch import load_file

    data = load_file(str(shared / "data" / "liveportrait_templates" / f"{name}.safetensors"))
    found = bridge.lip_gap(data["exp"])
    assert float(torch.corrcoef(torch.stack([found, data["c_lip"][:, 0]]))[0, 1]) > 0.88


def test_speech_survives_the_round_trip(bridge, shared):
    from safetensors.torch import load_file

    track = load_file(str(shared / "data" / "talking_tracks" / "sadtalker_1.safetensors"))["landmarks"].float()
    shape = geo.to_head_frame(track[torch.isfinite(track[:, 0, 0])])
    measured = geo.lip_gap(shape)
    moved = shape - shape[measured <= measured.quantile(0.15)].median(0).values
    expression = bridge.expression(moved)
    back = bridge.displacement(expression)
    for measure in (gap, width):
        truth, found = measure(moved), measure(back)
        assert float(torch.corrcoef(torch.stack([truth, found]))[0, 1]) > 0.98
        assert 0.9 < float(found.std() / truth.std()) < 1.1
    shut = measured <= 0.015
    assert float((gap(back)[shut] <= 0.02).float().mean()) > 0.9
    assert bridge.mahalanobis(expression).mean() < 1.0


def test_a_clip_tracked_here_moves_as_its_latents_say(bridge, shared):
    """The fit script's reading of a clip (16 frames, a blink) against the bundled map of its published latents."""
    from safetensors.torch import load_file

    from playmate_core.face.analyzer import FaceAnalyzer

    fit_bridge = pytest.importorskip("laboratory.fits.bridge", reason="the laboratory is not part of this installation")
    folder = shared / "data" / "liveportrait_templates"
    landmarks, scores = fit_bridge.clip_landmarks(folder / "d2.mp4", FaceAnalyzer.load())
    exp = load_file(str(folder / "d2.safetensors"))["exp"]
    assert landmarks.shape == (len(exp), 478, 3) and scores.shape == (len(exp), 52)
    shape = geo.to_head_frame(landmarks)
    eyes = [geo.eye_openness(shape), geo.eye_openness(geo.mean_face() + bridge.displacement(exp - exp[0]))]
    for side in (0, 1):
        assert float(torch.corrcoef(torch.stack([e[:, side] for e in eyes]))[0, 1]) > 0.95


def test_ridge_and_regions_of_the_fit_script():
    fit_bridge = pytest.importorskip("laboratory.fits.bridge", reason="the laboratory is not part of this installation")
    draw = torch.Generator().manual_seed(0)
    truth = torch.randn(63, 1434, generator=draw, dtype=torch.float64)
    x = torch.randn(400, 63, generator=draw, dtype=torch.float64)
    assert torch.allclose(fit_bridge.ridge(x, x @ truth, 1e-6), truth, atol=1e-4)
    assert fit_bridge.ridge(x, x @ truth, 1e6).abs().max() < 0.01
    fitted = fit_bridge.fit_forward(x * 1e-3, x @ truth, geo.mean_face().double()).unflatten(1, (478, 3))
    foreign = torch.tensor([k * 3 + a for k in fit_bridge.EYE_KEYPOINTS for a in range(3)])
    own = torch.tensor([i for i in range(63) if i not in foreign.tolist()])
    eyes = fitted[:, [geo.EYES[0][4], geo.EYES[1][4]]].abs().mean((1, 2))
    assert eyes[own].mean() < 0.2 * eyes[foreign].mean(), "a lid follows the keypoints of eyes alone"
    assert fitted[own][:, list(geo.LIPS)].abs().mean() > 0.1


def test_what_a_turned_head_does_to_the_mesh_is_no_expression():
    movement = pytest.importorskip("laboratory.fits.movement", reason="the laboratory is not part of this installation")
    draw = torch.Generator().manual_seed(1)
    mean, smile = geo.mean_face().double(), torch.zeros(478, 3, dtype=torch.float64)
    smile[[61, 291], 1] = -0.1
    sources = {}
    for name in map(str, range(20)):
        amount = torch.rand(80, generator=draw, dtype=torch.float64)
        yaw = 20 * torch.rand(80, generator=draw, dtype=torch.float64) - 10
        shape = mean + amount[:, None, None] * smile
        shape[:, 48, 0] += 0.004 * yaw  # the mesh reads a nose that turns as a wide one
        turned = torch.deg2rad(yaw)
        turn = torch.zeros(80, 3, 3, dtype=torch.float64)
        turn[:, 0, 0] = turn[:, 2, 2] = turned.cos()
        turn[:, 0, 2], turn[:, 2, 0], turn[:, 1, 1] = turned.sin(), -turned.sin(), 1.0
        scores = torch.zeros(80, 52, dtype=torch.float64)
        scores[:, 44] = scores[:, 45] = amount
        sources[name] = {"landmarks": 100 * shape @ turn, "blendshapes": scores, "yaw": yaw}
    found = movement.Recordings(sources, mean)
    moved = found.movement("0")
    assert moved[:, 48, 0].std() < 0.4 * movement.centred(found.shape["0"])[:, 48, 0].std()
    few = movement.Recordings({name: sources[name] for name in ("0", "1")}, mean)
    assert not few.pose_error.any(), "two recordings cannot tell a turn from an expression"
    assert 0.9 < float(moved[:, 61, 1].std() / movement.centred(found.shape["0"])[:, 61, 1].std()) < 1.1
    basis = found.basis(geo.mirror_index(), dimensions=2)
    assert basis.shape == (2, 1434) and torch.allclose(basis @ basis.T, torch.eye(2, dtype=torch.float64), atol=1e-5)
