"""The sheets to look at, and the measures beside them: at toy size, and on made-up faces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from laboratory.looks import __main__ as command
from laboratory.looks import drawing, published, sheets
from laboratory.looks.sheet import Row, compose
from laboratory.measures import amplitude, anatomy
from playmate_core import pipeline
from playmate_core.face.geometry import mean_face
from playmate_core.media.pictures import smaller
from playmate_core.motion.geometry import rotation_matrix
from playmate_core.motion.types import Motion


@pytest.fixture(scope="module")
def small(portrait):
    height, width = portrait.shape[:2]
    return smaller(portrait, 192, round(192 * width / height))


def stretched(face: torch.Tensor, pair: tuple[int, int], factor: float) -> torch.Tensor:
    """The face with one distance changed."""
    face, (a, b) = face.clone(), pair
    middle = (face[a] + face[b]) / 2
    face[[a, b]] = middle + (face[[a, b]] - middle) * factor
    return face


def clip_of(*faces: torch.Tensor, scores: float = 0.1) -> anatomy.Tracked:
    return anatomy.Tracked(torch.stack(faces), torch.full((len(faces), 52), scores))


# ---- anatomy


def test_lengths_know_neither_size_nor_turn():
    face = mean_face()
    turned = 240 * face @ rotation_matrix(torch.tensor([10.0, -20.0, 15.0])) + 300
    for name, own in anatomy.lengths(face).items():
        torch.testing.assert_close(anatomy.lengths(turned)[name], own, atol=1e-4, rtol=0)
        assert all(abs(share - 1) < 1e-3 for share in anatomy.shares(turned[None], face)[name])


@pytest.mark.parametrize("length, factor, out", [
    ("nose width", 1.08, False), ("nose width", 1.12, True), ("nose width", 0.88, True), ("face width", 1.03, False),
    ("face width", 1.05, True), ("face height", 1.10, False), ("face height", 0.95, True),
    ("brow thickness", 0.95, False), ("brow thickness", 0.90, True), ("brow thickness", 1.2, True)])
def test_one_part_beyond_its_bounds_is_outside(length, factor, out):
    face = mean_face()
    for pair in anatomy.LENGTHS[length]:
        judged = anatomy.outside("happy", anatomy.shares(stretched(face, pair, factor)[None], face))
        assert judged[length] is out
        assert not any(value for name, value in judged.items() if name != length)


@pytest.mark.parametrize("label, opening, out", [
    ("happy", 0.76, False), ("happy", 0.74, True), ("angry", 0.79, True), ("sad", 0.71, False),
    ("contempt", 0.78, True), ("disgusted", 0.76, False), ("fear", 0.95, True), ("fear", 1.6, False),
    ("surprised", 1.75, True), ("happy", 1.75, False)])
def test_eyes_have_bounds_of_their_own_in_each_emotion(label, opening, out):
    shares = {name: [1.0] * len(pairs) for name, pairs in anatomy.LENGTHS.items()}
    assert anatomy.outside(label, shares | {"eye opening": [opening, 1.1]})["eye opening"] is out


def test_a_portrait_is_judged_by_medians_and_counted_once_a_length():
    face = mean_face()
    wide = stretched(face, (48, 278), 1.3)
    lost = torch.full_like(face, float("nan"))
    clips = {("neutral", 1.0): clip_of(face, face, face, face),
             ("happy", 1.0): clip_of(wide, lost, wide, face, scores=0.2), ("sad", 1.0): clip_of(face, face, wide, face)}
    report = anatomy.judge(face, clips)
    assert report["strengths"]["1"]["outside"] == 1 and report["strengths"]["1"]["judged"] == 10
    assert [row["outside"]["nose width"] for row in report["rows"]] == [False, True, False]
    assert report["strengths"]["1"]["separation"]["smallest"] == pytest.approx(0.1 * 52 ** 0.5, rel=1e-4)
    said = anatomy.table("somebody", report)
    assert "1.30*" in said and "1 of 10 outside" in said


def test_growth_and_shut_lips_are_told():
    shut, face = mean_face(), mean_face()
    shut[14, :2] = shut[13, :2]
    face[14, 1] = face[13, 1] + 0.1
    clips = {("neutral", 1.0): clip_of(shut, face, shut, face), ("happy", 1.0): clip_of(shut, face, face, face),
             ("happy", 1.5): clip_of(shut, face, shut, face, scores=0.3)}
    report = anatomy.judge(mean_face(), clips)
    kept = {(row["emotion"], row["strength"]): row.get("shut frames kept") for row in report["rows"]}
    assert kept == {("neutral", 1.0): None, ("happy", 1.0): 0.5, ("happy", 1.5): 1.0}
    assert report["growth"]["happy"]["smile"]["rises"]


def test_drawn_clips_and_folders_of_pictures_are_tracked(models, small, voice_path, tmp_path):
    path = tmp_path / "small.png"
    Image.fromarray((small * 255).byte().numpy()).save(path)
    still, clips = anatomy.drawn_clips(models, path, voice_path, [1.0], labels=["happy"], seconds=0.4, every=5)
    assert set(clips) == {("neutral", 1.0), ("happy", 1.0)} and len(clips["happy", 1.0].landmarks) == 2
    folder = tmp_path / "happy"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(path.read_bytes())
    found = anatomy.finished_clip(models, folder, 3.0, 2)
    assert len(found.landmarks) == 2
    torch.testing.assert_close(found.landmarks[0], still, atol=0.5, rtol=0)
    assert not any(anatomy.outside("neutral", anatomy.shares(found.landmarks, still)).values())


# ---- amplitude


def test_amplitude_is_ratio_and_slope_through_theirs():
    theirs = torch.sin(torch.arange(40.0))
    found = amplitude.compare(0.5 * theirs + 3, theirs)
    assert found["r"] == pytest.approx(1, abs=1e-5) and found["ratio"] == pytest.approx(0.5, abs=1e-5)
    assert found["slope"] == pytest.approx(0.5, abs=1e-5) and not amplitude.holds(found)
    gone = theirs.clone()
    gone[3] = float("nan")
    assert amplitude.holds(amplitude.compare(gone, theirs))
    assert amplitude.compare(theirs, torch.ones(40))["ratio"] == 0


def test_gaze_rises_to_the_pictures_right():
    face = mean_face()
    right = face.clone()
    right[[468, 473], 0] += 0.03
    assert float(amplitude.gaze(right) - amplitude.gaze(face)) > 0.05
    torch.testing.assert_close(amplitude.gaze(right * 100 + 7), amplitude.gaze(right), atol=1e-4, rtol=0)


# ---- what LivePortrait made


def test_relative_motion_counts_from_the_first_frame():
    angles = torch.tensor([[5.0, 0.0, 0.0], [5.0, 12.0, 0.0]])
    template = {"exp": torch.randn(2, 21, 3) * 0.01, "R": rotation_matrix(angles), "t": torch.randn(2, 3) * 0.1,
                "scale": torch.tensor([[1.2], [1.5]])}
    motion = published.relative_motion(template, 25.0)
    assert float(motion.expression_offset[0].abs().max()) == 0
    torch.testing.assert_close(motion.expression_offset[1], template["exp"][1] - template["exp"][0])
    torch.testing.assert_close(motion.rotation, angles, atol=1e-3, rtol=0)
    torch.testing.assert_close(motion.neutral.scale, template["scale"][0])


def test_panels_moments_and_names():
    assert [part.shape[1] for part in published.panels(torch.zeros(8, 24, 3))] == [8, 8, 8]
    assert len(published.panels(torch.zeros(8, 8, 3))) == 1
    motion = Motion.rest(60)
    motion.expression[10:12, 3, 0], motion.expression[30:34, 5, 1] = 0.05, -0.04
    shown = published.moments(motion, 3)
    assert any(10 <= n < 12 for n in shown) and any(30 <= n < 34 for n in shown)
    assert all(b - a > 3 for a, b in zip(shown, shown[1:], strict=False))
    assert published.slider_values("lp_smile0.94_gaze-22.49") == {"smile": 0.94, "pupil_x": -22.49}


def test_liveportraits_pictures_are_read(shared):
    if not published.rendered().is_dir():
        pytest.skip("LivePortrait's renderings are not on this machine")
    clip = published.read_clip("s9--d5_concat", [3, 7])
    assert clip.source.shape == (512, 512, 3) and len(clip.frames) == 2 and len(clip.motion) == 148
    # The source is the panel beside LivePortrait's picture, which hardly moves at first.
    assert float((clip.frames[0].float() / 255 - clip.source).abs().mean()) < 0.05
    assert [len(edited.motion) for edited in published.single_latents()] == [5, 5]
    assert all(len(edited.pictures) == len(edited.motion) for edited in published.sliders())


# ---- drawing and sheets


def test_single_frames_look_as_in_the_whole_clip(models, small):
    motion = Motion.rest(9)
    motion.translation[:, 0] = torch.linspace(0, 0.2, 9)
    motion.expression[4, 19, 1] = 0.06
    appearance = pipeline.extract_appearance(models, small)
    whole = torch.cat(list(pipeline.render_frames(models, appearance, motion)))
    frames = drawing.draw(models, appearance, motion, [5, 2])
    assert len(frames) == 2
    torch.testing.assert_close(torch.stack(frames), whole[[5, 2]], atol=2e-3, rtol=0)
    assert float((whole[5] - whole[2]).abs().max()) > 0.05
    # Alone they look otherwise: a movement that reaches less far fades nearer to the head.
    alone = torch.cat(list(pipeline.render_frames(models, appearance, drawing.pick(motion, [2]))))[0]
    assert float((alone - whole[2]).abs().max()) > 2e-3


def test_boxes_lie_inside_and_hold_the_face(models, small):
    face = pipeline.extract_appearance(models, small).face
    size = tuple(small.shape[:2])
    for box, chosen in ((drawing.face_box(face.landmarks, size), range(478)),
                        (drawing.mouth_box(face.landmarks, size), drawing.LIPS)):
        left, top, right, bottom = box
        assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1
        points = face.landmarks[list(chosen), :2] / torch.tensor([size[1], size[0]])
        assert bool((points >= torch.tensor([left, top]) - 0.02).all())
        assert bool((points <= torch.tensor([right, bottom]) + 0.02).all())
    assert drawing.drawn_at((0.25, 0.0, 0.75, 1.0), (400, 300), 75) == 200


def test_rows_keep_their_widths_and_order():
    red, blue = Image.new("RGB", (30, 20), (255, 0, 0)), Image.new("RGB", (30, 20), (0, 0, 255))
    sheet = compose(["words", Row([red, blue], ["a", "b"]), Row([blue])])
    assert sheet.getpixel((5, sheet.height - 5)) == (0, 0, 255)
    assert sheet.getpixel((35, sheet.height - 30)) == (0, 0, 255)
    assert sheet.getpixel((5, sheet.height - 30)) == (255, 0, 0)


def test_a_portraits_sheet(models, small, voice_path, tmp_path):
    path = tmp_path / "small.png"
    Image.fromarray((small * 255).byte().numpy()).save(path)
    made = sheets.portrait(models, tmp_path / "out", path, voice_path, labels=["happy"], strengths=[1.0], width=48,
                           mouths=2, seconds=0.4)
    assert made.name == "portrait_small.png"
    with Image.open(made) as sheet:
        assert sheet.width >= 4 * 48 and sheet.height > 3 * 40 and len(sheet.convert("L").getcolors()) > 50


def test_the_emotions_side_by_side(models, small, voice_path, tmp_path):
    path = tmp_path / "small.png"
    Image.fromarray((small * 255).byte().numpy()).save(path)
    made = sheets.emotions(models, tmp_path, [path], voice_path, labels=["surprised"], width=48)
    with Image.open(made) as sheet:
        assert made.name == "emotions.jpg" and sheet.width == 2 * 48
        calm, startled = (np.asarray(sheet.convert("L").crop((x, 22, x + 48, sheet.height)), float) for x in (0, 48))
        assert np.abs(calm - startled).mean() > 1.0


def test_comparisons_are_left_out_without_the_shared_folder(models, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("PLAYMATE_SHARED", str(tmp_path / "nothing"))
    monkeypatch.setattr(pipeline, "load_models", lambda **_: replace(models))
    caplog.set_level("INFO")
    assert command.main(["--only", "same_latents", "emotions_p46", "--out", str(tmp_path / "out")]) == 0
    assert caplog.text.count("left out") == 2 and not (tmp_path / "out").exists()
