"""The command line, end to end with the bundled weights on a small picture."""

import av
import pytest
import torch

from playmate_core.cli import main as cli


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, portrait, voice_path):
    import cv2

    folder = tmp_path_factory.mktemp("inputs")
    picture = (portrait * 255).to(torch.uint8).numpy()[..., ::-1]
    cv2.imwrite(str(folder / "face.png"), picture)
    cv2.imwrite(str(folder / "wall.png"), picture[:40, :40] * 0 + 90)
    return str(folder / "face.png"), str(voice_path), str(folder / "wall.png")


def facts(path):
    with av.open(str(path)) as container:
        frames = sum(1 for _ in container.decode(video=0))
        return frames, float(container.streams.video[0].average_rate), len(container.streams.audio)


def seconds_of(path):
    with av.open(str(path)) as container:
        return container.duration / av.time_base


@pytest.fixture(scope="module")
def spoken(inputs, tmp_path_factory):
    """One run with its motion kept: ``(video, motion file, exit status)``."""
    folder = tmp_path_factory.mktemp("spoken")
    status = cli.main(["animate", inputs[0], inputs[1], "-o", str(folder / "a.mp4"), "--device", "cpu",
                       "--seed", "3", "--motion-out", str(folder / "a.safetensors")])
    return folder / "a.mp4", folder / "a.safetensors", status


def test_portrait_and_voice_make_a_video_of_the_voice_s_length(spoken, inputs):
    video, _, status = spoken
    frames, fps, sounds = facts(video)
    assert status == 0 and fps == 25 and sounds == 1
    assert frames == round(seconds_of(inputs[1]) * 25)


def test_same_seed_same_motion_bit_for_bit(spoken, inputs, models):
    from playmate_core.media.pictures import read_image
    from playmate_core.motion.files import load_motion
    from playmate_core.pipeline import encode_audio, extract_appearance, generate_motion

    kept = load_motion(spoken[1])
    features = encode_audio(models, inputs[1])
    again, other = (generate_motion(models, features, extract_appearance(models, read_image(inputs[0])), seed=seed)
                    for seed in (3, 4))
    assert torch.equal(kept.expression, again.expression) and torch.equal(kept.rotation, again.rotation)
    assert not torch.equal(other.expression, again.expression)


def test_a_kept_motion_is_drawn_again_with_a_pose_and_another_rate(spoken, inputs, tmp_path):
    status = cli.main(["animate", inputs[0], inputs[1], "-o", str(tmp_path / "b.mp4"), "--device", "cpu",
                       "--from-motion", str(spoken[1]), "--fps", "12", "--pose", "0 yaw=0; 1 yaw=10",
                       "--motion-out", str(tmp_path / "b.pkl")])
    frames, fps, _ = facts(tmp_path / "b.mp4")
    assert status == 0 and fps == 12
    assert abs(frames - seconds_of(inputs[1]) * 12) <= 1
    from playmate_core.motion.files import load_motion

    # Templates hold rotation matrices, from which degrees come back.
    assert abs(float(load_motion(tmp_path / "b.pkl").rotation[-1, 1]) - 10) < 1e-2


def test_blinks_and_gaze_are_directed(spoken, inputs, tmp_path):
    from playmate_core.motion.blinks import find_blinks
    from playmate_core.motion.eyes import read_eyes
    from playmate_core.motion.files import load_motion

    status = cli.main(["animate", inputs[0], inputs[1], "-o", str(tmp_path / "e.mp4"), "--device", "cpu",
                       "--from-motion", str(spoken[1]), "--fps", "10", "--blink", "0", "--gaze", "0 x=0.4; 1 x=-0.4",
                       "--motion-out", str(tmp_path / "e.safetensors")])
    closure, gaze = read_eyes(load_motion(tmp_path / "e.safetensors").expression_offset)
    assert status == 0 and not find_blinks(closure, 10.0)
    assert float(gaze[5, 0]) == pytest.approx(10, abs=0.1) and float(gaze[20, 0]) == pytest.approx(-10, abs=0.1)


def test_emotion_and_its_guidance_reach_the_model(inputs, tmp_path, monkeypatch):
    from playmate_core.diffusion.model import PlaymateMotionModel
    from playmate_core.motion.types import Motion

    asked = {}

    def sample(self, features, identity, **knobs):
        asked.update(knobs, frames=len(features))
        return Motion.rest(2, knobs["fps"])

    monkeypatch.setattr(PlaymateMotionModel, "has_emotion_head", True)
    monkeypatch.setattr(PlaymateMotionModel, "sample", sample)
    status = cli.main(["animate", inputs[0], inputs[1], "-o", str(tmp_path / "c.mp4"), "--device", "cpu",
                       "--emotion", "0 neutral; 1 happy 0.8 + fear 0.5", "--emotion-guidance", "2.5"])
    curve = asked["emotion"]
    assert status == 0 and asked["emotion_guidance"] == 2.5
    assert len(curve) == asked["frames"] and float(curve.strength[-1]) == pytest.approx(1.3)


def test_emotion_without_an_emotion_head_is_drawn_and_said(inputs, tmp_path, monkeypatch, caplog):
    from playmate_core import pipeline
    from playmate_core.diffusion.model import PlaymateMotionModel

    monkeypatch.setattr(PlaymateMotionModel, "has_emotion_head", False)
    laid = []
    monkeypatch.setattr(pipeline, "lay_emotion_over", lambda bridge, motion, curve: laid.append(curve) or motion)
    status = cli.main(["animate", inputs[0], inputs[1], "-o", str(tmp_path / "d.mp4"), "--device", "cpu", "--fps", "5",
                       "--steps", "1", "--emotion", "sad 0.5"])
    assert status == 0 and [float(curve.strength[0]) for curve in laid] == [0.5]
    assert pipeline.LAID_OVER in caplog.text


def test_demo_runs_from_the_samples(tmp_path, capsys):
    assert cli.main(["demo", "-o", str(tmp_path / "demo.mp4"), "--device", "cpu", "--steps", "2", "--fps", "5"]) == 0
    assert "demo.mp4" in capsys.readouterr().out
    assert facts(tmp_path / "demo.mp4")[0] > 5


@pytest.mark.parametrize("change, message", [
    ({0: "missing.png"}, "does not exist"),
    ({0: "WALL"}, "face"),
    ({1: "missing.wav"}, "missing.wav"),
    ({3: "out.gif"}, "end the name in"),
    ({4: ["--pose", "yaw twenty"]}, "yaw"),
    ({4: ["--gaze", "0 x=left"]}, "x=left"),
    ({4: ["--blink", "-3"]}, "blink rate"),
    ({4: ["--device", "abacus"]}, "abacus"),
    ({4: ["--scheduler", "dice"]}, "dice"),
    ({4: ["--steps", "0"]}, "Steps is 0"),
    ({4: ["--emotion", "hungry"]}, "hungry"),
    ({4: ["--emotion", "1 happy; sad"]}, "no time"),
    ({4: ["--face", "7"]}, "face"),
    ({4: ["--from-motion", "nothing.pkl"]}, "nothing.pkl"),
    ({4: ["--motion-out", "a.txt"]}, "safetensors or .pkl"),
])
def test_bad_input_ends_in_one_sentence_and_no_file(inputs, tmp_path, capsys, change, message):
    words = [inputs[0], inputs[1], "-o", "out.mp4", []]
    for place, value in change.items():
        words[place] = inputs[2] if value == "WALL" else value
    output = tmp_path / words[3]
    status = cli.main(["animate", words[0], words[1], "-o", str(output), "--device", "cpu", *words[4]])
    said = capsys.readouterr().err
    assert status == 1 and message in said
    sentence = said[said.index("error: "):].strip()
    assert "\n" not in sentence and "Traceback" not in said
    assert not output.exists() and list(tmp_path.iterdir()) == []


def test_a_face_that_nobody_finds_is_marked(portrait_path, voice_path, tmp_path, monkeypatch, capsys):
    """The text reaches the library as numbers; a text that is none ends before any model is loaded."""
    from playmate_core import pipeline
    from playmate_core.runtime.errors import PlaymateError

    seen = []

    def stop(models, image, **more):
        seen.append(more)
        raise PlaymateError("far enough")

    monkeypatch.setattr(pipeline, "extract_appearance", stop)
    monkeypatch.setattr(pipeline, "load_models", lambda *args, **more: seen.append((args, more)))
    command = ["animate", str(portrait_path), str(voice_path), "-o", str(tmp_path / "a.mp4"), "--pack", "liveportrait"]
    assert cli.main([*command, "--face-box", "1 2 30 40", "--face-points", "1 2; 3 4; 5 6; 7 8; 9 10"]) == 1
    assert seen[0][0] == ("liveportrait",)
    assert seen[1]["box"].tolist() == [1, 2, 30, 40] and seen[1]["points"].shape == (5, 2)
    assert cli.main([*command, "--face-box", "somewhere"]) == 1
    assert "left top width height" in capsys.readouterr().err and len(seen) == 2


def test_missing_weights_are_told_with_folder_and_command(portrait_path, voice_path, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PLAYMATE_MODELS", str(tmp_path / "models"))
    assert cli.main(["animate", str(portrait_path), str(voice_path), "-o", str(tmp_path / "a.mp4"),
                 "--pack", "liveportrait"]) == 1
    said = capsys.readouterr().err
    assert str(tmp_path / "models" / "liveportrait") in said and "weights download liveportrait" in said
