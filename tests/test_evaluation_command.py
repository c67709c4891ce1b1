"""``python -m playmate_core evaluate``, end to end on one small rendered clip and on motions."""

import json
import math

import cv2
import pytest
import torch

from playmate_core.cli import main as cli
from playmate_core.evaluation.charts import chart
from playmate_core.evaluation.clips import motion_track, open_clip
from playmate_core.evaluation.emotion import FEATURES, mean_blendshapes
from playmate_core.evaluation.report import Request, emotions, measure, plain, table
from playmate_core.face.blendshapes import NAMES
from playmate_core.face.geometry import lip_gap
from playmate_core.motion.files import save_motion
from tests.render_helpers import gap_latent, motion_of

FPS, FRAMES = 25.0, 36
POSE = "0 yaw=-10; 0.7 yaw=10; 1.4 yaw=-8"


@pytest.fixture(scope="module")
def driven(models):
    """A motion that says three syllables while it turns the head."""
    from playmate_core.motion.pose import PoseKeyframes, override_pose

    gaps = 0.12 * torch.sin(torch.arange(FRAMES) * math.pi / 12).abs()
    unit = gap_latent(models.bridge, 1.0)
    return override_pose(motion_of([unit * g for g in gaps]), PoseKeyframes.parse(POSE))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, models, portrait, appearance, driven):
    """clip.mp4 with a sound, what it was made from, and phones that fit."""
    from playmate_core.media.video_writer import write_video
    from playmate_core.pipeline import render_frames

    folder = tmp_path_factory.mktemp("evaluate")
    time = torch.arange(int(FRAMES / FPS * 16000)) / 16000
    sound = 0.4 * torch.sin(time * 25 * math.pi / 12).abs() * torch.sin(2 * math.pi * 2000 * time)
    write_video(folder / "clip.mp4", render_frames(models, appearance, driven), FPS, FRAMES, audio=(sound[None], 16000))
    save_motion(driven, folder / "motion.safetensors")
    cv2.imwrite(str(folder / "portrait.png"), (portrait * 255).round().to(torch.uint8).numpy()[..., ::-1])
    (folder / "phones.txt").write_text("\n".join(
        f"{v} {a:.2f} {b:.2f}" for v, a, b in [("b", 0, 0.08), ("aa", 0.08, 0.40), ("m", 0.42, 0.54),
                                               ("aa", 0.56, 0.88), ("p", 0.9, 1.02), ("aa", 1.04, 1.36)]))
    return folder


def evaluate(folder, *words):
    status = cli.main(["evaluate", *words, "--device", "cpu", "--json", str(folder / "out.json")])
    assert status == 0
    return json.loads((folder / "out.json").read_text())


def test_a_rendered_clip_against_everything_it_was_made_from(folder, capsys):
    report = evaluate(folder, str(folder / "clip.mp4"), str(folder / "motion.safetensors"), "--pose", POSE,
                      "--portrait", str(folder / "portrait.png"), "--phones", str(folder / "phones.txt"),
                      "--reference", str(folder / "motion.safetensors"), "--window", "12", "--changes", "0.5 1.0",
                      "--plot", str(folder / "out.png"), "--cache", str(folder / "cache"))
    drawn, latent = report["clips"]
    assert drawn["kind"] == "video" and latent["kind"] == "motion" and drawn["frames"] == FRAMES
    assert drawn["frames_without_face"] == 0
    assert set(drawn["pose"]) == set(drawn["pose_by_facial_matrix"]) == {"yaw"} and "pose_by_head_pose" not in latent
    assert drawn["pose_by_facial_matrix"]["yaw"]["correlation"] > 0.98
    assert drawn["pose"]["yaw"]["correlation"] > 0.98 and drawn["pose"]["yaw"]["error"] < 2
    assert latent["pose"]["yaw"]["raw_error"] < 0.1
    lips = drawn["lips"]
    assert lips["gap_against_reference"]["correlation"] > 0.9 and lips["gap_against_sound"]["correlation"] > 0.6
    assert lips["gap_against_phones"]["correlation"] > 0.6 and lips["closures"]["count"] == 3
    assert lips["closures"]["gap_on_open_vowels"] > lips["closures"]["gap_on_closures"]
    assert drawn["smoothness"]["seams"]["borders"] == 2 and drawn["smoothness"]["seams"]["changes"] == 10
    assert latent["smoothness"]["seams"]["measured_on"] == "latents" and latent["smoothness"]["jitter_picture"] is None
    assert drawn["identity"]["median"] < 0.06 and drawn["background"]["frames"] in (0, FRAMES)
    said = capsys.readouterr().out
    assert "pose.yaw.correlation" in said and "clip 2" in said and "out.json" in said
    picture = cv2.imread(str(folder / "out.png"))
    assert picture.shape[1] == 1024 and picture.shape[0] > 500
    assert list((folder / "cache").glob("*.track"))


def test_a_cached_track_is_itself_a_clip(folder, models):
    evaluate(folder, str(folder / "clip.mp4"), "--cache", str(folder / "cache2"))
    track = next((folder / "cache2").glob("*.track"))
    found = evaluate(folder, str(track), "--audio", str(folder / "clip.mp4"))["clips"][0]
    assert found["kind"] == "track" and found["lips"]["gap_against_sound"]["correlation"] > 0.6


def test_a_motion_is_read_on_the_mean_face(models, driven, folder):
    track = motion_track(driven, models.face, models.bridge)
    assert torch.allclose(track.rotation, driven.rotation, atol=1e-3)
    clip = open_clip(folder / "motion.safetensors", models.face, models.bridge)
    assert torch.corrcoef(torch.stack([clip.gap, lip_gap(track.landmarks)]))[0, 1] > 0.98
    jaw = track.blendshapes[:, NAMES.index("jawOpen")]
    assert torch.corrcoef(torch.stack([clip.gap, jaw]))[0, 1] > 0.8


# ---- emotions


def feeling(models, **scores):
    """Ten frames of a face with some blendshapes raised over the mean face's, as a motion."""
    rest = torch.zeros(52)
    felt = rest.clone()
    for name, value in scores.items():
        felt[[i for i, full in enumerate(NAMES) if full.startswith(name)]] = value
    offset = models.bridge.from_blendshapes(felt) - models.bridge.from_blendshapes(rest)
    return motion_of([offset] * 10)


@pytest.fixture(scope="module")
def felt(folder, models):
    """Files of feeling motions."""
    made = {"neutral": {}, "happy": {"mouthSmile": 0.9}, "happy_0.5": {"mouthSmile": 0.1}, "angry": {"browDown": 0.9},
            "surprised": {"browInnerUp": 0.9, "browOuterUp": 0.9, "eyeWide": 0.5}}
    return [str(save_motion(feeling(models, **scores), folder / f"{name}.safetensors"))
            for name, scores in made.items()]


def test_labelled_clips_are_compared(folder, felt, models, capsys):
    centres = {}
    for path in felt:
        name = path.rsplit("/", 1)[-1].split(".")[0]
        if "_" not in name:
            centres[name] = mean_blendshapes(open_clip(path, models.face, models.bridge).track)
    (folder / "templates.json").write_text(json.dumps(
        {name: dict(zip(NAMES, row.tolist(), strict=True)) for name, row in centres.items()}))
    report = evaluate(folder, *felt, "--templates", str(folder / "templates.json"), "--plot", str(folder / "m.png"))
    found = report["emotions"]
    assert set(found["separation"]["labels"]) == {"happy", "angry", "surprised"}
    assert 0 < found["separation"]["smallest"] <= found["separation"]["mean"]
    assert found["directions"]["happy"][0]["name"] == "smile" and found["directions"]["happy"][0]["holds"]
    assert found["directions"]["surprised"][1]["holds"] and found["from_neutral"]["angry"] > 0
    grown = found["strengths"]["happy"]["smile"]
    assert grown["strengths"] == [0.5, 1.0] and grown["rises"]
    assert found["by_templates"]["accuracy"] == 1
    said = capsys.readouterr().out
    assert "emotions apart" in said and "by templates: accuracy 1.000" in said and "happy, smile by strength" in said


def test_labels_may_be_given_and_must_fit(folder, felt, capsys):
    report = evaluate(folder, felt[0], felt[1], "--label", "neutral", "--label", "happy 0.5")
    assert report["clips"][1]["label"] == "happy" and report["clips"][1]["strength"] == 0.5
    assert "separation" not in report["emotions"] and "happy" in report["emotions"]["directions"]


@pytest.mark.parametrize("words, message", [
    (["CLIP", "--label", "happy", "--label", "sad"], "2 labels for 1 clips"),
    (["CLIP", "--label", "hungry"], "names no emotion"),
    (["CLIP", "--json", "a.txt"], "end the name in .json"),
    (["CLIP", "--plot", "a.jpg"], "end the name in .png"),
    (["CLIP", "--changes", "later"], "are no seconds"),
    (["CLIP", "--window", "1"], "2 or more"),
    (["CLIP", "--pose", "0 x=0.1"], "names no angle"),
    (["CLIP", "--fid", "net.pt"], "give a video as --reference"),
    (["CLIP", "--reference", "CLIP", "--fid", "net.pt"], "needed for FID"),
    (["CLIP", "--reference", "CLIP", "--fvd", "net.pt"], "needed for FVD"),
    (["CLIP", "--syncnet", "net.pt"], "needed for Sync-C"),
    (["CLIP", "--identity-model", "net.onnx"], "--portrait"),
    (["CLIP", "--identity-model", "net.onnx", "--portrait", "CLIP"], "needed for CSIM"),
    (["CLIP", "--emotion-model", "net"], "no emotion classifier"),
    (["CLIP", "--templates", "none.json"], "cannot be read"),
    (["missing.mp4"], "missing.mp4"),
    (["WALL"], "shows a face"),
    (["HAPPY", "HAPPY"], "Two clips are labelled happy"),
])
def test_what_cannot_be_measured_ends_in_one_sentence(folder, felt, tmp_path, capsys, words, message):
    from playmate_core.media.video_writer import write_video

    places = {"CLIP": str(folder / "clip.mp4"), "HAPPY": felt[1]}
    if "WALL" in words:
        places["WALL"] = str(write_video(tmp_path / "wall.mp4", [torch.full((3, 64, 64, 3), 0.5)], 25, 3))
    words = [places.get(word, word) for word in words]
    assert cli.main(["evaluate", *words, "--device", "cpu"]) == 1
    said = capsys.readouterr().err
    sentence = said[said.index("error: "):].strip()
    assert message in sentence and "\n" not in sentence


# ---- the report


def test_numbers_that_are_not_finite_become_null():
    assert plain({"a": [float("nan"), 1.5], "b": {"c": float("inf"), "d": "x"}}) == {"a": [None, 1.5],
                                                                                    "b": {"c": None, "d": "x"}}


def test_neutral_alone_says_nothing_of_emotions(models, felt):
    clip = open_clip(felt[0], models.face, models.bridge)
    assert emotions([("neutral", 1.0, clip)]) == {}
    report = measure(clip, Request(changes=(0.2,)))
    assert "pose" not in report and "identity" not in report and set(report["blendshapes"]) == set(NAMES)
    assert "clip 1" in table({"clips": [report]})
    assert chart([("a", clip, Request())]).shape[2] == 3


def test_every_feature_names_real_blendshapes():
    assert all(shape in NAMES for shapes in FEATURES.values() for shape in shapes)
