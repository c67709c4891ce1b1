"""``speak``, ``edit`` and ``render``: what the motion nodes do, on files."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from playmate_core.cli import main as cli
from playmate_core.motion import edits
from playmate_core.motion.files import load_motion, save_motion
from playmate_core.motion.types import Motion


def some_motion(seed: int, frames: int = 30, fps: float = 25.0) -> Motion:
    random = torch.Generator().manual_seed(seed)
    motion = Motion.rest(frames, fps)
    return replace(motion, expression=torch.randn(frames, 21, 3, generator=random) * 0.01,
                   rotation=torch.randn(frames, 3, generator=random) * 3)


@pytest.fixture
def files(tmp_path):
    """Two motions on disk, and where a result goes."""
    one, two, out = (tmp_path / f"{name}.safetensors" for name in ("one", "two", "out"))
    save_motion(some_motion(1), one)
    save_motion(some_motion(2, 20), two)
    return str(one), str(two), str(out)


def run(*words) -> int:
    return cli.main([str(word) for word in words])


def same(found: Motion, wanted: Motion) -> bool:
    return found.fps == wanted.fps and all(
        torch.equal(getattr(found, name), getattr(wanted, name)) for name in ("expression", "rotation", "scale"))


def test_blend_takes_the_parts_that_are_named(files):
    one, two, out = files
    assert run("edit", "blend", one, two, "-o", out, "--mouth", 0.5, "--pose", 0, "--length", "cycle") == 0
    weights = {"mouth": 0.5, "eyes": 0.0, "brows": 0.0, "rest": 0.0, "pose": 0.0}
    assert same(load_motion(out), edits.blend(some_motion(1), some_motion(2, 20), weights, "cycle"))
    assert run("edit", "blend", one, two, "-o", out) == 0
    found = load_motion(out)
    assert torch.equal(found.expression, some_motion(1).expression)
    assert torch.allclose(found.rotation[:20], some_motion(2, 20).rotation, atol=1e-4)


def test_mask_keeps_parts_over_a_background(files):
    one, two, out = files
    assert run("edit", "mask", one, "-o", out, "--keep", "eyes, brows", "--amount", 0.5, "--background", two) == 0
    wanted = edits.keep_regions(some_motion(1), {"eyes": 0.5, "brows": 0.5}, some_motion(2, 20), "mirror")
    assert same(load_motion(out), wanted)


def test_join_takes_as_many_as_there_are(files):
    one, two, out = files
    assert run("edit", "join", one, two, two, "-o", out, "--crossfade", 0.2) == 0
    assert len(load_motion(out)) == 30 + 20 + 20 - 2 * 5


def test_retime_cuts_and_changes_the_rate_and_the_length(files):
    one, _, out = files
    assert run("edit", "retime", one, "-o", out, "--start", 0.2, "--end", 1, "--speed", 2, "--fps", 50) == 0
    assert (len(load_motion(out)), load_motion(out).fps) == (20, 50.0)
    assert run("edit", "retime", one, "-o", out, "--seconds", 2, "--fit", "constant") == 0
    found = load_motion(out)
    assert len(found) == 50 and torch.equal(found.expression[-1], some_motion(1).expression[-1])


def test_loop_reaches_a_sound_s_length(files, voice_path):
    from playmate_core.cli.edits.step import seconds_of_sound

    one, _, out = files
    assert run("edit", "loop", one, "-o", out, "--audio", voice_path, "--seam", "ping-pong") == 0
    assert len(load_motion(out)) == round(seconds_of_sound(str(voice_path)) * 25)


def test_smooth_leaves_parts_as_crisp_as_wanted(files):
    one, _, out = files
    assert run("edit", "smooth", one, "-o", out, "--seconds", 0.1, "--mouth", 0) == 0
    found, own = load_motion(out), some_motion(1)
    assert torch.equal(found.expression[:, 19], own.expression[:, 19])
    assert float(torch.diff(found.expression[:, 11], dim=0).abs().mean()) < \
        0.5 * float(torch.diff(own.expression[:, 11], dim=0).abs().mean())


def test_pose_takes_numbers_lists_and_keyframes_for_their_axes(files, tmp_path):
    one, _, out = files
    (tmp_path / "yaw.txt").write_text("1, 2, 3\n" + " ".join(["4"] * 27))
    assert run("edit", "pose", one, "-o", out, "--pitch", -5, "--values", f"yaw={tmp_path / 'yaw.txt'}",
               "--pose", "0 roll=7; 1 roll=7", "--pose-easing", "linear") == 0
    found = load_motion(out)
    assert torch.allclose(found.rotation[:, 0], torch.full((30,), -5.0), atol=1e-3)
    assert torch.allclose(found.rotation[:4, 1], torch.tensor([1.0, 2.0, 3.0, 4.0]), atol=1e-3)
    assert torch.allclose(found.rotation[:, 2], torch.full((30,), 7.0), atol=1e-3)
    assert torch.equal(found.expression, some_motion(1).expression)


def test_expression_edits_frames_and_makes_a_still(files):
    from playmate_core.motion.sliders import slider_offset

    one, _, out = files
    assert run("edit", "expression", one, "-o", out, "--smile", 1, "--apply", "frame", "--frame", -1, "--fade", 0) == 0
    moved = load_motion(out).expression - some_motion(1).expression
    assert not bool(moved[:-1].any()) and torch.allclose(moved[-1], slider_offset({"smile": 1.0}), atol=1e-6)
    assert run("edit", "expression", "rest", "-o", out, "--blendshapes", "jawOpen 0.5") == 0
    assert len(load_motion(out)) == 1 and bool(load_motion(out).expression.any())


def test_eyes_are_directed(files):
    from playmate_core.motion.eyes import direct_eyes
    from playmate_core.motion.gaze import GazeKeyframes

    one, _, out = files
    assert run("edit", "eyes", one, "-o", out, "--blink-mode", "keep", "--gaze-x", 0.4, "--keep-gaze", 0.5,
               "--openness", 0.8, "--seed", 3) == 0
    wanted = direct_eyes(some_motion(1), blink_mode="keep", gaze=GazeKeyframes.constant(0.4, 0.0), keep_gaze=0.5,
                         openness=0.8, seed=3)
    assert same(load_motion(out), wanted)


def test_convert_and_plot(files, tmp_path):
    from playmate_core.media.pictures import read_image

    one, _, out = files
    assert run("edit", "convert", one, "-o", tmp_path / "t.pkl") == 0
    assert run("edit", "convert", tmp_path / "t.pkl", "-o", out) == 0
    assert torch.allclose(load_motion(out).expression[-30:], some_motion(1).expression, atol=1e-6)
    assert run("edit", "plot", one, "-o", tmp_path / "new" / "chart.png", "--width", 400, "--height", 300) == 0
    assert read_image(tmp_path / "new" / "chart.png").shape == (300, 400, 3)


@pytest.mark.parametrize("words, message", [
    (["smooth", "ONE", "-o", "ONE"], "overwrite"),
    (["smooth", "ONE", "-o", "x.mp4"], "safetensors"),
    (["smooth", "none.pkl", "-o", "OUT"], "none.pkl"),
    (["smooth", "ONE", "-o", "OUT", "--method", "sand"], "sand"),
    (["retime", "ONE", "-o", "OUT", "--fit", "tight"], "tight"),
    (["loop", "ONE", "-o", "OUT", "--seconds", "0"], "--seconds"),
    (["mask", "ONE", "-o", "OUT", "--keep", "nose"], "nose"),
    (["blend", "ONE", "TWO", "-o", "OUT", "--mouth", "2"], "0"),
    (["join", "ONE", "TWO", "-o", "OUT", "--crossfade", "-1"], "--crossfade"),
    (["pose", "ONE", "-o", "OUT"], "Nothing directs"),
    (["pose", "ONE", "-o", "OUT", "--values", "neck=a.txt"], "neck=a.txt"),
    (["pose", "ONE", "-o", "OUT", "--values", "yaw=a.txt"], "a.txt"),
    (["expression", "ONE", "-o", "OUT", "--apply", "now and then"], "now and then"),
    (["eyes", "ONE", "-o", "OUT", "--gaze", "0 x=left"], "x=left"),
    (["plot", "ONE", "-o", "chart.gif"], "png"),
])
def test_bad_input_ends_in_one_sentence(files, capsys, words, message):
    place = dict(zip(("ONE", "TWO", "OUT"), files, strict=True))
    assert run("edit", *(place.get(word, word) for word in words)) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: ") and message in said and "\n" not in said


# ---- speak and render


def test_speak_says_what_animate_would(models, voice_path, tmp_path, monkeypatch):
    from playmate_core.diffusion.model import PlaymateMotionModel

    asked = {}

    def sample(self, features, identity, **knobs):
        asked.update(knobs, identity=identity)
        return Motion.rest(5, knobs["fps"])

    monkeypatch.setattr(PlaymateMotionModel, "sample", sample)
    monkeypatch.setattr(PlaymateMotionModel, "has_emotion_head", True)
    out = tmp_path / "said.pkl"
    assert run("speak", voice_path, "-o", out, "--device", "cpu", "--seed", 7, "--steps", 4, "--pose", "0 yaw=9",
               "--emotion", "sad 0.5", "--emotion-layer", "happy 0.8, start=1, fade-in=0") == 0
    assert asked["seed"] == 7 and asked["steps"] == 4 and asked["identity"] is None
    assert asked["emotion"].strength[-1] == pytest.approx(1.3) and asked["emotion"].strength[0] == pytest.approx(0.5)
    assert torch.allclose(load_motion(out).rotation[-5:, 1], torch.full((5,), 9.0), atol=1e-3)


def test_render_draws_a_motion_file_as_film_or_pictures(portrait, tmp_path, voice_path):
    import av
    from PIL import Image

    from playmate_core.media.pictures import read_image

    Image.fromarray((portrait * 255).byte().numpy()).save(tmp_path / "face.png")
    save_motion(some_motion(1, 4), tmp_path / "m.safetensors")
    words = ("render", tmp_path / "face.png", tmp_path / "m.safetensors", "--device", "cpu", "--batch-size", 3)
    assert run(*words, "-o", tmp_path / "film.mp4", "--audio", voice_path, "--crf", 30) == 0
    with av.open(str(tmp_path / "film.mp4")) as container:
        assert len(container.streams.audio) == 1 and sum(1 for _ in container.decode(video=0)) == 4
    assert run(*words, "-o", tmp_path / "frames") == 0
    assert [file.name for file in sorted((tmp_path / "frames").iterdir())] == [f"{k:05}.png" for k in range(4)]
    assert read_image(tmp_path / "frames" / "00000.png").shape == portrait.shape
    assert run(*words, "-o", tmp_path / "frames") == 1


def test_render_applies_liveportrait_s_options(small_liveportrait, models, monkeypatch):
    from argparse import ArgumentParser

    from playmate_core import pipeline
    from playmate_core.cli.liveportrait_option import add_liveportrait_options, parse_options, with_options
    from playmate_core.render.liveportrait.animate import Options
    from playmate_core.runtime.errors import PlaymateError

    parser = ArgumentParser()
    add_liveportrait_options(parser)
    usual = parse_options(parser.parse_args([]))
    assert usual == Options(normalise_lip=True) and with_options(models, usual) is models
    args = parser.parse_args(["--motion-mode", "absolute", "--animation-region", "lip", "--no-stitching",
                              "--driving-multiplier", "1.5", "--no-normalize-lips", "--eye-retargeting"])
    renderer = pipeline._liveportrait("liveportrait", models.bridge, torch.device("cpu"), small_liveportrait)
    changed = with_options(replace(models, renderer=renderer), parse_options(args)).renderer.options
    assert changed == Options(relative=False, region="lip", stitching=False, multiplier=1.5, retarget_eyes=True)
    assert with_options(models, changed).renderer is models.renderer
    for words in (["--motion-mode", "sideways"], ["--animation-region", "nose"], ["--driving-multiplier", "9"]):
        with pytest.raises(PlaymateError):
            parse_options(parser.parse_args(words))


@pytest.mark.parametrize("text, message", [
    ("happy, start", "start"), ("happy, volume=3", "volume"), ("happy, end=soon", "soon"), ("hungry", "hungry"),
    ("1 happy; 2 sad, start=1", "start"), ("happy, combine=multiply", "multiply"), ("happy, start=3, end=2", "ends"),
])
def test_emotion_layers_that_cannot_be_read(text, message):
    from playmate_core.cli.emotion_option import read_emotion
    from playmate_core.runtime.errors import PlaymateError

    with pytest.raises(PlaymateError, match=message):
        read_emotion(None, [text])


def test_emotion_layers_are_the_node_s():
    from playmate_core.cli.emotion_option import read_emotion
    from playmate_core.emotion.plan import EmotionLayer, EmotionPlan

    assert read_emotion(None, None) is None
    found = read_emotion("0 sad", ["happy 0.8 + fear 0.3, start=1, end=4, fade-in=0.2, fade-out=1",
                                   "2 angry; 3 neutral, combine=replace"])
    wanted = EmotionPlan.parse("0 sad").then(
        EmotionLayer.held([("happy", 0.8), ("fear", 0.3)], 1.0, 4.0, 0.2, 1.0)).then(
        EmotionLayer.inserted("2 angry; 3 neutral", None, 0.5, 0.5), "replace")
    assert torch.equal(found.curve(150).weights, wanted.curve(150).weights)
    assert torch.equal(found.curve(150).strength, wanted.curve(150).strength)


# ---- which picture, which face


def test_masks_and_pictures_of_several_are_chosen(portrait, tmp_path):
    from types import SimpleNamespace

    from PIL import Image

    from playmate_core.cli.portrait_option import PortraitRequest
    from playmate_core.media.pictures import read_image
    from playmate_core.runtime.errors import PlaymateError

    pages = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    pages[0].save(tmp_path / "two.tif", save_all=True, append_images=pages[1:])
    mask = Image.new("L", (80, 60))
    mask.paste(255, (20, 10, 60, 50))
    mask.save(tmp_path / "mask.png")
    assert torch.equal(read_image(tmp_path / "two.tif", 1)[0, 0], torch.tensor([0.0, 0.0, 1.0]))
    with pytest.raises(PlaymateError, match="2 pictures"):
        read_image(tmp_path / "two.tif", 2)
    args = SimpleNamespace(portrait=tmp_path / "two.tif", image_index=1, mask=tmp_path / "mask.png", face="1",
                           face_box="mask", face_points=None, size=0)
    found = PortraitRequest.parse(args)
    assert (found.policy, found.index) == ("index", 1) and found.image[0, 0, 2] == 1
    assert found.box.tolist() == [10, 5, 20, 20] and float(found.mask.sum()) == 400
    args.mask = None
    with pytest.raises(PlaymateError, match="--mask"):
        PortraitRequest.parse(args)


def test_a_folder_of_pictures_is_a_film(tmp_path):
    from PIL import Image

    from playmate_core.media.picture_files import PictureFolder
    from playmate_core.runtime.errors import PlaymateError

    for number in (1, 2, 10):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"frame{number}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    folder = PictureFolder(tmp_path, 10.0)
    for _ in range(2):
        assert [round(float(picture[0, 0, 0] * 255)) for picture in folder] == [1, 2, 10]
    part = PictureFolder(tmp_path, 10.0, 0.1, 0.1)
    assert part.total == 1 and part.files[0].name == "frame2.png"
    for numbers, message in (((0.0,), "rate"), ((10.0, 5.0), "last"), ((1.0, -1.0), "start at 0")):
        with pytest.raises(PlaymateError, match=message):
            PictureFolder(tmp_path, *numbers)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PlaymateError, match="no pictures"):
        PictureFolder(tmp_path / "empty", 25.0)
