"""LivePortrait's keypoint and crop arithmetic against the reference's fixtures (SPEC.md sections 8 to 14)."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from playmate_core.errors import PlaymateError
from playmate_core.motion.geometry import headpose_degrees, rotation_matrix, transform_keypoints
from playmate_core.render.liveportrait import animate as animation
from playmate_core.render.liveportrait.animate import Latents, Options, animate, animate_animal
from playmate_core.render.liveportrait.crop import (
    apply_matrix,
    clip_square,
    square_of,
    square_of_mesh,
)
from playmate_core.render.liveportrait.hull import expression_multiplier, hull_volume
from playmate_core.render.liveportrait.paste import Placement, paste_mask, warp
from playmate_core.render.liveportrait.ratios import eye_ratio, lip_ratio
from playmate_core.render.liveportrait.smoothing import smooth
from playmate_core.render.liveportrait.stitching import Stitching
from tests.liveportrait_helpers import below, fixture, recipe


@pytest.fixture(scope="module")
def reference(shared):
    path = shared / "reference" / "liveportrait" / "parity_geometry.safetensors"
    if not path.is_file():
        pytest.skip("LivePortrait's fixtures are not on this machine")
    return fixture(path)


@pytest.fixture(scope="module")
def stitching():
    """As the reference's: weights by recipe, the last layers small."""
    network = Stitching()
    weights = {}
    for name in ("stitching", "eye", "lip"):
        own = recipe(f"S_{name}", getattr(network, name))
        last = max(int(key.split(".")[1]) for key in own)
        for key in own:
            weights[f"{name}.{key}"] = own[key] * (0.05 if key.startswith(f"mlp.{last}.") else 1.0)
    network.load_state_dict(weights, strict=True)
    return network.eval().requires_grad_(False)


def close(found, wanted, tolerance):
    assert found.shape == wanted.shape
    assert float((found.double() - wanted.double()).abs().max()) < tolerance


def latents(t, name, lmk=None):
    held = below(t, f"motion.{name}.")
    if "R" in held:
        rotation = held["R"]
    else:
        rotation = rotation_matrix(torch.cat([held["pitch"], held["yaw"], held["roll"]], 1))
    eyes, lip = held.get("c_eyes"), held.get("c_lip")
    if lmk is not None:
        points = held[lmk] if held[lmk].ndim == 3 else held[lmk][None]
        eyes, lip = eye_ratio(points), lip_ratio(points)
    return Latents(held["exp"], rotation, held["scale"], held["t"], held.get("kp"), eyes, lip)


def options_of(cfg, **more):
    return Options(relative=cfg["flag_relative_motion"], region=cfg["animation_region"],
                   stitching=cfg["flag_stitching"], normalise_lip=cfg["flag_normalize_lip"],
                   retarget_eyes=cfg["flag_eye_retargeting"], retarget_lips=cfg["flag_lip_retargeting"],
                   retarget_source_eyes=cfg["flag_source_video_eye_retargeting"],
                   expression_friendly=cfg["driving_option"] == "expression-friendly",
                   multiplier=cfg["driving_multiplier"], **more)


def run_case(t, case, stitching, **more):
    source = latents(t, "source", f"lmk_{case['lmk']}") if case["source"] == "image" else latents(
        t, "source_video", "lmk")
    return animate(source, latents(t, "driving")[:case["n_driving"]], options_of(case["cfg"], **more),
                   stitching=stitching, closed_lips=t["motion.lip_array"].float(),
                   source_is_video=case["source"] != "image")


def test_published_cases(reference, stitching):
    t, metadata = reference
    for name in ("source", "source_video"):
        close(latents(t, name).keypoints(), t[f"motion.{name}.x_s"], 2e-5)
    assert len(metadata["motion_cases"]) == 62
    for case in metadata["motion_cases"]:
        close(run_case(t, case, stitching, as_published=True), t[f"motion.{case['id']}.x_d"], 2e-5)


def test_only_the_named_oddities_differ(reference, stitching):
    t, metadata = reference
    different = set()
    for case in metadata["motion_cases"]:
        found = run_case(t, case, stitching)
        assert bool(torch.isfinite(found).all())
        if float((found - t[f"motion.{case['id']}.x_d"]).abs().max()) > 2e-5:
            cfg = case["cfg"]
            assert cfg["flag_eye_retargeting"] or cfg["flag_lip_retargeting"] or (
                case["source"] == "video" and case["n_driving"] == 1 and cfg["animation_region"] == "eyes"), case
            different.add(case["id"])
    assert different


def test_animals(reference, stitching):
    t, metadata = reference
    source, driving = latents(t, "source"), latents(t, "driving")
    for case in metadata["motion_animal_cases"]:
        options = Options(stitching=case["flag_stitching"], multiplier=case["driving_multiplier"])
        close(animate_animal(source, driving, options, stitching=stitching), t[f"motion_animal.{case['id']}.x_d"], 2e-5)


def test_keypoint_arithmetic(reference):
    t, _ = reference
    close(headpose_degrees(t["headpose.logits"]), t["headpose.degree"], 1e-4)
    for name in ("rotation", "transform"):
        held = below(t, f"{name}.")
        matrix = rotation_matrix(torch.cat([held["pitch"], held["yaw"], held["roll"]], 1))
        if name == "rotation":
            close(matrix, held["R"], 1e-5)
        else:
            close(transform_keypoints(held["kp"], matrix, held["exp"], held["scale"], held["t"]), held["out"], 1e-5)


def test_ratios(reference):
    t, _ = reference
    close(eye_ratio(t["ratio.lmk"]), t["ratio.eye"], 1e-5)
    close(lip_ratio(t["ratio.lmk"]), t["ratio.lip"], 1e-5)
    with pytest.raises(PlaymateError, match="203"):
        eye_ratio(torch.zeros(68, 2))


def test_multiplier(reference):
    t, _ = reference
    for source, driving, wanted in zip(t["multiplier.kp_source"], t["multiplier.kp_driving"], t["multiplier.out"],
                                       strict=True):
        assert expression_multiplier(source, driving) == pytest.approx(float(wanted), abs=1e-5)


def test_hull_of_a_cube():
    corners = torch.tensor([[x, y, z] for x in (0.0, 2) for y in (0.0, 1) for z in (0.0, 3)])
    inside = torch.rand(8, 3) * torch.tensor([2.0, 1, 3])
    assert hull_volume(torch.cat([corners, inside])) == pytest.approx(6, rel=1e-6)


def test_smoothing(reference):
    t, _ = reference
    for variance in ("3e-07", "3e-06", "0.0001"):
        close(smooth(t["smooth.in"][:, 0], float(variance)), t[f"smooth.out_{variance}"], 1e-6)


def _check_crop(held, square, side, rotate=True):
    matrix = square.matrix(side, rotate)
    # Matrices are compared by where they send points: their shift is large where the face is far from the corner.
    close(apply_matrix(matrix, held["pts"]), held["pt_crop"], 5e-3)
    close(apply_matrix(torch.linalg.inv(matrix), held["pt_crop"]), held["pts"], 5e-3)
    if "center_size_angle" in held:
        x, y, width, height, angle = held["center_size_angle"].tolist()
        assert math.hypot(square.x - x, square.y - y) < 5e-3 and abs(square.size - width) < 5e-3 and width == height
        assert abs((square.angle - angle) * square.size) < 0.5 or not rotate


def test_crops(reference):
    t, metadata = reference
    for case in metadata["crop_cases"]:
        held = below(t, f"crop.{case['name']}.")
        square = square_of(held["pts"], case["scale"], 0.0, case["vy_ratio"])
        _check_crop(held, square, case["dsize"], case.get("flag_do_rot", True))
    for case in metadata["kjcrop_cases"]:
        held = below(t, f"kjcrop.{case['name']}.")
        points = held["pts"]
        axes = None
        if case["n_points"] == 68:
            axes = torch.stack([torch.stack([points[42:48].mean(0), points[36:42].mean(0)]).mean(0),
                                points[[48, 54]].mean(0)])
        square = square_of(points, case["scale"], case["vx_ratio"], case["vy_ratio"], axes=axes)
        _check_crop(held, square, case["dsize"])


def test_eye_axis(reference):
    t, _ = reference
    for name in ("n106", "n203", "n5"):
        held = below(t, f"rect_eyes.{name}.")
        square = square_of(held["pts"], 2.3, 0.0, -0.125, eye_axis=True)
        x, y, width, _, angle = held["center_size_angle"].tolist()
        assert (square.x, square.y, square.size) == pytest.approx((x, y, width), abs=5e-3)
        assert square.angle == pytest.approx(angle, abs=1e-3)


def test_driving_crop(reference):
    t, _ = reference
    squares = [square_of(points, 2.2, 0.0, -0.1) for points in t["driving_crop.lmk"]]
    for square, box in zip(squares, t["driving_crop.bbox"], strict=True):
        half = square.size / 2
        assert (square.x - half, square.y - half, square.x + half, square.y + half) == pytest.approx(
            box.tolist(), abs=5e-3)
    square = clip_square(squares)
    close(apply_matrix(square.matrix(512), t["driving_crop.lmk"][0]), t["driving_crop.lmk0_crop"], 5e-3)


def test_too_few_landmarks():
    with pytest.raises(PlaymateError, match="landmarks"):
        square_of(torch.rand(7, 2))
    with pytest.raises(PlaymateError, match="one point"):
        square_of(torch.ones(5, 2))


def test_paste_back(reference):
    t, _ = reference
    template = t["paste.mask_template_512"].float() / 255
    assert float((paste_mask(512)[0, 0] - template).abs().max()) < 1.01 / 255
    matrix, original = t["paste.M_o2c"], t["paste.original"].permute(2, 0, 1).float() / 255
    crop = warp(original[None], torch.linalg.inv(matrix.double()), (64, 64))[0].permute(1, 2, 0) * 255
    difference = (crop - t["paste.img_crop"].float()).abs()
    assert difference.max() <= 5 and difference.mean() < 0.15
    mask = t["paste.mask_crop"].permute(2, 0, 1)[None, :1].float() / 255
    placement = Placement.of(matrix, 64, (120, 160), mask=mask)
    generated = t["paste.generated"].permute(2, 0, 1)[None].float() / 255
    found = placement.paste(generated, original)[0] * 255
    difference = (found - t["paste.result"].float()).abs()
    # Upstream rounds the crop and the mask to bytes and truncates the sum; this stays in floats, hence the wider mean.
    assert difference.max() <= 5 and difference.mean() < 0.2
    outside = torch.ones(120, 160, dtype=torch.bool)
    top, left, bottom, right = placement.box
    outside[top:bottom, left:right] = placement.mask[0, 0] == 0
    assert torch.equal(found[outside], original.permute(1, 2, 0)[outside] * 255)


def test_paste_puts_a_crop_back_where_it_was():
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(0, 3, 90), torch.linspace(0, 4, 120), indexing="ij")
    picture = torch.stack([x.sin(), y.cos(), (x + y).sin()]).abs()
    points = torch.tensor([[50.0, 40], [70, 38], [60, 50], [54, 60], [68, 59]])
    square = square_of(points)
    to_crop = square.matrix(128)
    crop = warp(picture[None], torch.linalg.inv(to_crop), (128, 128))
    found = Placement.of(to_crop, 128, (90, 120)).paste(crop, picture)[0]
    assert float((found - picture.permute(1, 2, 0)).abs().max()) < 0.04


def test_crop_outside_the_picture_leaves_it_alone():
    picture = torch.rand(3, 20, 30)
    to_crop = torch.eye(3)
    to_crop[0, 2] = -500
    assert torch.equal(Placement.of(to_crop, 64, (20, 30)).paste(torch.ones(2, 3, 64, 64), picture)[1],
                       picture.permute(1, 2, 0))


def test_mesh_crop_is_as_large_as_the_jaw_and_brows(models, portrait):
    face = models.face.analyze(portrait[None])[0][0]
    square = square_of_mesh(face.landmarks)
    whole = square_of(face.landmarks[:, :2] - 0.5)
    assert 0.7 < square.size / whole.size < 1.0
    assert abs(square.angle) < 0.35


def test_retargeting_keeps_the_head_moving(stitching):
    torch.manual_seed(1)
    turn = rotation_matrix(torch.tensor([[0.0, 0, 0], [0, 20, 0]]))
    source = Latents(torch.zeros(1, 21, 3), turn[:1], torch.ones(1, 1), torch.zeros(1, 3), torch.randn(1, 21, 3),
                     torch.tensor([[0.3, 0.3]]), torch.tensor([[0.1]]))
    driving = Latents(torch.zeros(2, 21, 3), turn, torch.ones(2, 1), torch.zeros(2, 3), None,
                      torch.tensor([[0.3, 0.3], [0.1, 0.1]]), torch.tensor([[0.1], [0.4]]))
    found = animate(source, driving, Options(retarget_eyes=True, retarget_lips=True), stitching=stitching)
    published = animate(source, driving, Options(retarget_eyes=True, retarget_lips=True, as_published=True),
                        stitching=stitching)
    assert float((found[1] - found[0]).abs().max()) > 0.2 > float((published[1] - published[0]).abs().max())


def test_what_is_missing_is_named(stitching):
    still = Latents(torch.zeros(1, 21, 3), torch.eye(3)[None], torch.ones(1, 1), torch.zeros(1, 3),
                    torch.zeros(1, 21, 3))
    with pytest.raises(PlaymateError, match="ratios"):
        animate(still, still, Options(retarget_eyes=True), stitching=stitching)
    with pytest.raises(PlaymateError, match="stitching networks"):
        animate(still, still)
    with pytest.raises(PlaymateError, match="region"):
        Options(region="nose")
    found = animate(replace(still), still, Options(stitching=False))
    assert torch.equal(found, still.keypoints())
    assert json.dumps(animation.REGIONS)
