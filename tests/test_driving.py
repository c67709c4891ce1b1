"""Motion From Video: faces of known motion, drawn and synthetic, read back; and real clips whose latents are known."""

from __future__ import annotations

import math

import pytest
import torch

from playmate_core.cli import main as cli
from playmate_core.driving import film as driving
from playmate_core.face import geometry
from playmate_core.face.blendshapes import NAMES
from playmate_core.face.bridge import EYE_DISTANCE, LatentBridge
from playmate_core.motion.geometry import euler_degrees
from playmate_core.motion.types import Motion, Neutral
from playmate_core.runtime.errors import PlaymateError

from .driving_helpers import BLANK, Actors, actor, speech
from .render_helpers import gap_latent


@pytest.fixture(scope="module")
def bridge():
    return LatentBridge.load()


def correlation(a, b):
    return float(torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1])


def centred(value):
    return value - value.mean(0)


# ---- synthetic faces: no pictures, no networks


def read(bridge, faces, fps=25.0, stamps=None, **options):
    frames = [BLANK] * len(faces) if stamps is None else [(t, BLANK) for t in stamps]
    return driving.motion_from_frames(Actors(faces), bridge, iter(frames), fps, **options)


def test_latents_and_pose_come_back(bridge):
    expression = speech(bridge, 40)
    swing = torch.sin(torch.arange(40) * 0.3)
    angles = torch.stack([6 * swing, -15 * swing, 9 * swing], 1)
    faces = [actor(bridge, e, tuple(a.tolist()), (200 + 20 * float(s), 180), 80 * (1 + 0.1 * float(s)))
             for e, a, s in zip(expression, angles, swing, strict=True)]
    motion = read(bridge, faces)
    assert len(motion) == 40 and motion.fps == 25 and not motion.neutral.expression.any()
    assert float((centred(motion.rotation) - centred(angles)).abs().max()) < 0.5
    found, truth = bridge.lip_gap(motion.expression), bridge.lip_gap(expression)
    assert correlation(found, truth) > 0.99 and float((found - truth).abs().max()) < 0.02
    assert correlation(motion.scale[:, 0], 1 + 0.1 * swing) > 0.99
    assert float(motion.scale.max() / motion.scale.min()) == pytest.approx(1.1 / 0.9, rel=0.02)


def test_translation_is_in_the_units_of_the_bridge(bridge):
    """One eye distance to the right and half of one down, in a crop that stands still."""
    motion = read(bridge, [actor(bridge, torch.zeros(21, 3), place=place) for place in
                           ((200, 180), (280, 180), (280, 220))], neutral="first frame")
    shift = bridge.head_shift(motion.translation - motion.neutral.translation, motion.neutral.scale)
    assert torch.allclose(shift, torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.5]]), atol=0.02)
    assert torch.equal(motion.neutral.translation, motion.translation[0])
    assert 1.1 < float(motion.scale[0]) < 1.7  # as in LivePortrait's templates


def test_the_crop_is_that_of_liveportrait(bridge):
    """SPEC.md section 12: 2.2 times the face, moved up by a tenth of its side; upright however the head tilts."""
    flat = actor(bridge, torch.zeros(21, 3)).landmarks[None]
    centre, side = driving.driving_crop(flat)
    tilted = actor(bridge, torch.zeros(21, 3), (0.0, 0.0, 30.0)).landmarks[None]
    assert driving.driving_crop(tilted)[1] == pytest.approx(side, rel=1e-3)
    height = geometry.mean_face()[:, 1]
    box = flat[0, height >= height[list(sum(geometry.BROWS, ()))].min(), :2]
    extent = box.amax(0) - box.amin(0)
    assert side == pytest.approx(2.2 * float(extent.max()), rel=0.01)
    assert float(centre[1]) == pytest.approx(float((box.amax(0) + box.amin(0))[1] / 2) - 0.1 * side, abs=1.0)
    _, scale = driving.head_place(flat)
    assert float(scale) == pytest.approx(80 / (side / 2) / EYE_DISTANCE, rel=0.03)


@pytest.mark.parametrize("neutral", driving.NEUTRALS)
def test_where_expressions_count_from(bridge, neutral):
    """A person who smiles throughout; only the blendshapes can tell."""
    scores = bridge.blendshapes_rest.square().clone()
    for name in ("mouthSmileLeft", "mouthSmileRight"):
        scores[NAMES.index(name)] = 0.8
    smile = bridge.from_blendshapes(scores)
    faces = [actor(bridge, smile + e, scores=scores) for e in speech(bridge, 30)]
    motion = read(bridge, faces, neutral=neutral)
    moved = bridge.displacement(motion.expression)
    wide, smiles = (m[..., 291, 0] - m[..., 61, 0] for m in (moved, bridge.displacement(smile)))
    if neutral == "auto":
        assert 0.6 * smiles < wide.median() < 1.2 * smiles
        assert abs(float(bridge.lip_gap(motion.expression).min())) < 0.03
    else:
        assert abs(wide.median()) < 0.3 * smiles
    if neutral == "first frame":
        assert not motion.expression[0].any() and torch.equal(motion.neutral.rotation, motion.rotation[0])


def test_a_persons_own_looks_are_no_expression(bridge):
    """What blendshapes say of calm faces, as strong as it is among real speakers, is mostly taken out."""
    scores = bridge.blendshapes_rest.square().clone()
    scores[NAMES.index("browDownLeft")] += 0.05
    looks = bridge.from_blendshapes(scores).flatten()
    strength = float(bridge.mahalanobis(looks))
    weak = driving._believed(looks * (0.1 / strength), bridge)
    strong = driving._believed(looks * (1.0 / strength), bridge)
    assert float(bridge.mahalanobis(weak)) < 0.03 and float(bridge.mahalanobis(strong)) > 0.9
    shut = torch.randn(63, generator=torch.Generator().manual_seed(0)) * 0.002
    assert torch.allclose(bridge.lip_gap(driving._believed(shut, bridge)), bridge.lip_gap(shut), atol=1e-5)


@pytest.mark.parametrize("missing", driving.MISSING)
def test_frames_without_a_face(bridge, missing):
    faces = [actor(bridge, torch.zeros(21, 3), (0.0, 2.0 * number, 0.0)) for number in range(9)]
    faces[0] = faces[3] = faces[4] = faces[8] = None
    if missing == "fail":
        with pytest.raises(PlaymateError, match="Frame 0 of the clip, at 0.00 s"):
            read(bridge, faces, missing=missing)
        return
    motion = read(bridge, faces, missing=missing)
    assert len(motion) == 9
    wanted = [2, 2, 4, 4, 4, 10, 12, 14, 14] if missing == "hold" else [2, 2, 4, 6, 8, 10, 12, 14, 14]
    assert torch.allclose(motion.rotation[:, 1] - motion.rotation[1, 1] + 2, torch.tensor(wanted).float(), atol=0.2)


def test_a_varying_frame_rate_becomes_a_steady_one(bridge):
    stamps = torch.tensor([0.0, 0.02, 0.1, 0.11, 0.2, 0.32, 0.36, 0.4, 0.5, 0.56]) + 0.25
    faces = [actor(bridge, torch.zeros(21, 3), (0.0, 30 * float(t - 0.25), 0.0)) for t in stamps]
    motion = read(bridge, faces, fps=10 / 0.6, stamps=stamps.tolist(), output_fps=50.0)
    assert motion.fps == 50 and len(motion) == round((0.56 + 0.06) * 50)
    inside = torch.arange(len(motion)) / 50
    found = motion.rotation[:, 1] - motion.rotation[0, 1]
    assert torch.allclose(found[inside <= 0.56], 30 * inside[inside <= 0.56], atol=0.25)
    backwards = read(bridge, faces[:4], stamps=[0.0, 0.04, 0.04, 0.01])
    assert bool(torch.isfinite(backwards.rotation).all())


def test_what_is_used_and_smoothed(bridge):
    angles = [(0.0, 3.0 * (-1) ** number, 0.0) for number in range(20)]
    faces = [actor(bridge, e, a) for e, a in zip(speech(bridge, 20), angles, strict=True)]
    both, pose, face = (read(bridge, faces, use=use) for use in driving.USES)
    assert torch.equal(pose.rotation, both.rotation) and not pose.expression.any()
    assert torch.equal(face.expression, both.expression)
    assert torch.equal(face.rotation, face.neutral.rotation.expand(20, 3)) and not face.scale.diff(dim=0).any()
    calm = read(bridge, faces, smoothing=0.06)
    assert calm.rotation[:, 1].diff().abs().mean() < 0.2 * both.rotation[:, 1].diff().abs().mean()
    assert len(read(bridge, faces[:1])) == 1


def test_pictures_are_read_as_they_are_needed_and_progress_is_told(bridge):
    told, given = [], []

    def frames():
        for number in range(6):
            given.append(number)
            yield BLANK
    faces = [actor(bridge, torch.zeros(21, 3))] * 6
    driving.motion_from_frames(Actors(faces), bridge, frames(), 25.0, total=6,
                               progress=lambda done, total: told.append((done, total, len(given))))
    assert told == [(n, 6, n) for n in range(1, 7)]

    class Cancelled(Exception):
        pass

    def cancel(done, total):
        raise Cancelled
    with pytest.raises(Cancelled):
        read(bridge, faces, progress=cancel)


@pytest.mark.parametrize("options, message", [
    ({"neutral": "bored"}, "neutral is 'bored'"), ({"missing": "skip"}, "missing is"), ({"use": "hair"}, "use is"),
    ({"extractor": "magic"}, "extractor is"), ({"fps": 0.0}, "frame rate is 0"), ({"output_fps": -1.0}, "above 0"),
])
def test_what_cannot_be_done_is_said(bridge, options, message):
    with pytest.raises(PlaymateError, match=message):
        read(bridge, [actor(bridge, torch.zeros(21, 3))], **options)


def test_clips_without_anyone(bridge):
    with pytest.raises(PlaymateError, match="any of the clip's 3 frames"):
        read(bridge, [None] * 3)
    with pytest.raises(PlaymateError, match="no pictures"):
        read(bridge, [])


# ---- a drawn clip


FRAMES = 20


@pytest.fixture(scope="module")
def performance(bridge):
    """Every axis and the mouth move, each at its own pace."""
    t = torch.arange(FRAMES) / FRAMES * 2 * math.pi
    gap = 0.07 * (1 - torch.cos(2 * t))
    rotation = torch.stack([5 * torch.sin(t), 10 * torch.sin(t + 0.8), 6 * torch.sin(1.5 * t)], 1)
    shift = torch.stack([0.04 * torch.cos(t), 0.03 * torch.sin(2 * t), 0 * t], 1)
    return Motion(gap[:, None, None] / 0.1 * gap_latent(bridge, 0.1), rotation, shift,
                  1 + 0.05 * torch.cos(1.5 * t)[:, None], 20.0, Neutral.rest())


@pytest.fixture(scope="module")
def clip(models, appearance, performance, tmp_path_factory):
    from playmate_core.media.video_writer import write_video

    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return write_video(path, models.renderer.render(appearance, performance), 20.0, FRAMES, crf=8)


def test_a_drawn_clip_is_read_back_by_the_command(clip, performance, bridge, tmp_path, capsys):
    from playmate_core.motion.files import load_motion

    assert cli.main(["motion", str(clip), "-o", str(tmp_path / "a.safetensors"), "--device", "cpu",
                     "--smoothing", "0"]) == 0
    assert "motion: " in capsys.readouterr().out
    motion = load_motion(tmp_path / "a.safetensors")
    assert len(motion) == FRAMES and motion.fps == 20
    for axis in range(3):
        assert correlation(motion.rotation[:, axis], performance.rotation[:, axis]) > 0.96, axis
    assert float((centred(motion.rotation) - centred(performance.rotation)).abs().mean(0).max()) < 2.5
    found, truth = bridge.lip_gap(motion.expression), bridge.lip_gap(performance.expression)
    assert correlation(found, truth) > 0.85
    assert float(found[truth < 0.005].abs().max()) < 0.03
    assert 0.6 < float(found.std() / truth.std()) < 1.4
    shift = bridge.head_shift(motion.translation, motion.neutral.scale)
    assert correlation(shift[:, 0], performance.translation[:, 0]) > 0.9
    assert correlation(motion.scale[:, 0], performance.scale[:, 0]) > 0.9


def test_the_command_trims_and_writes_templates(clip, tmp_path):
    from playmate_core.motion.files import load_motion

    assert cli.main(["motion", str(clip), "-o", str(tmp_path / "a.pkl"), "--device", "cpu", "--start", "0.3",
                     "--seconds", "0.2", "--fps", "24.6", "--use", "pose"]) == 0
    motion = load_motion(tmp_path / "a.pkl")
    assert motion.fps == 25 and len(motion) == 1 + 5 and not motion.expression.any()


def test_the_command_writes_the_openings_of_eyes_and_lips(clip, models, tmp_path):
    """For LivePortrait's retargeting; in the frame that was put in front, the lips are as shut as they get."""
    from playmate_core.face.ratios import eye_ratio, lip_ratio
    from playmate_core.media.video_reader import open_video
    from playmate_core.weights.unpickle import read_arrays

    assert cli.main(["motion", str(clip), "-o", str(tmp_path / "a.pkl"), "--device", "cpu", "--seconds", "0.5",
                     "--smoothing", "0"]) == 0
    held = read_arrays((tmp_path / "a.pkl").read_bytes())
    eyes, lips = (torch.tensor([float(value) for one in held[name] for value in one.flatten()]).reshape(11, -1)
                  for name in ("c_eyes_lst", "c_lip_lst"))
    track = driving.track_face(models.face, open_video(clip, 0.0, 0.5), 20.0)
    assert torch.allclose(eyes[1:], eye_ratio(track.landmarks), atol=1e-3)
    assert torch.allclose(lips[1:], lip_ratio(track.landmarks), atol=1e-3)
    assert float(lips[0]) == pytest.approx(float(lips[1:].min())) and float(lips.max()) > float(lips[0]) + 0.1


def test_the_command_takes_the_packs_motion_extractor(clip, tmp_path, monkeypatch):
    """Small made-up weights in the real format; only M's file is opened."""
    from playmate_core.motion.files import load_motion
    from playmate_core.weights import catalogue

    from .liveportrait_helpers import small_weights, write_safetensors

    write_safetensors(tmp_path, {"motion": small_weights()["motion"]})
    monkeypatch.setattr(catalogue, "locate", lambda pack: {"motion": tmp_path / "motion_extractor.safetensors"})
    words = ["motion", str(clip), "--device", "cpu", "--seconds", "0.3"]
    for extractor in ("auto", "landmarks"):
        assert cli.main([*words, "-o", str(tmp_path / extractor) + ".safetensors", "--pack", "liveportrait",
                         "--extractor", extractor]) == 0
    by_network, by_landmarks = (load_motion(tmp_path / f"{name}.safetensors") for name in ("auto", "landmarks"))
    assert len(by_network) == len(by_landmarks) == 6
    # M's numbers hold the person's own looks, from which the neutral frame is told apart.
    assert by_network.neutral.expression.any() and not by_landmarks.neutral.expression.any()


@pytest.mark.parametrize("words, message", [
    (["CLIP", "-o", "a.pkl", "--extractor", "magic"], "extractor is 'magic'"),
    (["CLIP", "-o", "a.pkl", "--extractor", "motion extractor"], "no motion extractor"),
    (["CLIP", "-o", "a.pkl", "--pack", "dead-portrait"], "no pack of weights"),
    (["none.mp4", "-o", "a.pkl"], "does not exist"), (["CLIP", "-o", "a.gif"], "end the name in"),
    (["CLIP", "-o", "a.pkl", "--use", "hair"], "use is 'hair'"), (["CLIP", "-o", "a.pkl", "--start", "9"], "lasts"),
    (["CLIP", "-o", "a.pkl", "--face", "3", "--seconds", "0.1"], "Face 3 does not exist"),
])
def test_the_command_says_what_is_wrong(clip, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["motion", *(str(clip) if word == "CLIP" else word for word in words), "--device", "cpu"]) == 1
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


# ---- real clips whose latents are known


class Recorder:
    """FaceAnalyzer that keeps what it tracked."""

    def __init__(self, analyzer):
        self.analyzer, self.faces = analyzer, []

    def track(self, frames, **options):
        for face in self.analyzer.track(frames, **options):
            self.faces.append(face)
            yield face


def test_template_clips_left_out_of_the_fit(models, shared):
    """Every second frame of LivePortrait's clips; the bridge is fitted anew without the clip and its template."""
    from safetensors.torch import load_file

    from playmate_core.media.video_reader import open_video

    fit_bridge = pytest.importorskip("laboratory.fits.bridge", reason="the laboratory is not part of this installation")
    folder = shared / "data" / "liveportrait_templates"
    faces, clips = {}, {}
    for name in ("d1", "d2", "d5", "d7", "d8"):
        reader = open_video(folder / f"{name}.mp4")
        recorder = Recorder(models.face)
        every_second = (frame for number, frame in enumerate(reader) if number % 2 == 0)
        driving.track_face(recorder, every_second, reader.fps / 2, strict=True)
        faces[name] = recorder.faces
        stored = load_file(str(folder / f"{name}.safetensors"))
        clips[name] = {key: value[::2].double() for key, value in stored.items()}
        clips[name]["landmarks"] = torch.stack([face.landmarks for face in recorder.faces]).double()
        clips[name]["blendshapes"] = torch.stack([face.blendshapes for face in recorder.faces]).double()
    pairs = fit_bridge.Pairs(clips, geometry.mean_face().double(), geometry.mirror_index())
    templates = fit_bridge.read_templates(folder)
    scores = []
    for name in ("d5", "d7", "d8"):
        fitted = fit_bridge.fit_bridge(pairs, [other for other in clips if other != name],
                                       {key: value for key, value in templates.items() if key != name})
        fitted.blendshapes, fitted.blendshapes_rest = models.bridge.blendshapes, models.bridge.blendshapes_rest
        motion = read(fitted, faces[name], fps=15.0)
        truth = clips[name]["exp"].flatten(1)
        scores.append(fit_bridge.r2(centred(motion.expression.flatten(1).double()), centred(truth)))
        turned = centred(motion.rotation) - centred(euler_degrees(clips[name]["R"]).float())
        assert float(turned.abs().mean(0).max()) <= 2.0, name
    assert sum(scores) / len(scores) >= 0.6, scores
