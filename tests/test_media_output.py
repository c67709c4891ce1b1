"""Outputs: what is noticed before the work, lengths that differ, and frame rates that are kept."""

import os
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import pytest
import torch

from playmate_core.cli import main as cli
from playmate_core.media.film_sound import seconds_of
from playmate_core.media.output import check_output, refuse_same
from playmate_core.media.rates import exact_rate
from playmate_core.media.video_reader import open_video
from playmate_core.media.video_writer import SUFFIXES, write_video
from playmate_core.motion.edits import slice_frames
from playmate_core.motion.files import load_motion, save_motion
from playmate_core.motion.lengths import fit_sound
from playmate_core.motion.types import Motion
from playmate_core.runtime.errors import PlaymateError

from .film_helpers import SMALL
from .node_helpers import InputImpl, node_modules
from .test_media_files import make_sound, voice


@pytest.fixture
def inputs(tmp_path, portrait_path):
    """A picture, a sound of two seconds, and a motion of one: ``animate``'s first words."""
    (tmp_path / "face.jpg").write_bytes(portrait_path.read_bytes())
    make_sound(tmp_path / "voice.wav", voice(2.0, 16000), 16000)
    motion = load_motion(portrait_path.with_name("look_around.safetensors"))
    save_motion(slice_frames(motion, 0, 25), tmp_path / "m.safetensors")
    return ["animate", str(tmp_path / "face.jpg"), str(tmp_path / "voice.wav")]


@pytest.fixture
def no_work(monkeypatch):
    """Fails if a model is loaded."""
    from playmate_core import pipeline
    from playmate_core.face.analyzer import FaceAnalyzer

    def work(*args, **more):
        raise AssertionError("the work has begun")

    monkeypatch.setattr(pipeline, "load_models", work)
    monkeypatch.setattr(FaceAnalyzer, "load", work)


@pytest.fixture
def drawn(monkeypatch):
    """The command line without networks; gives back what was drawn."""
    from playmate_core import pipeline

    seen = []

    def frames(models, appearance, motion, *rest, **more):
        seen.append(motion)
        return (torch.zeros(len(part), 16, 16, 3) for part in motion.rotation.split(10))

    monkeypatch.setattr(pipeline, "load_models", lambda *args, **more: SimpleNamespace(face=None, bridge=None))
    monkeypatch.setattr(pipeline, "extract_appearance", lambda *args, **more: SMALL)
    monkeypatch.setattr(pipeline, "render_frames", frames)
    return seen


# ---- before the work


@pytest.mark.parametrize("name", ["face.jpg", "voice.wav", "m.safetensors", "link.mp4", "hard.mp4", "sub/../clip.mp4"])
def test_an_input_is_not_overwritten(inputs, no_work, tmp_path, capsys, name):
    clip = write_video(tmp_path / "clip.mp4", [torch.zeros(5, 16, 16, 3)], 25, 5, audio=inputs[2])
    (tmp_path / "sub").mkdir()
    try:
        os.symlink(clip, tmp_path / "link.mp4")
        os.link(clip, tmp_path / "hard.mp4")
    except OSError:
        pytest.skip("this file system has no links")
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    target = str(tmp_path / name)
    if name.endswith(".mp4"):
        assert cli.main([inputs[0], inputs[1], str(clip), "-o", target]) == 1
    else:
        assert cli.main([*inputs, "-o", str(tmp_path / "o.mp4"), "--from-motion", str(tmp_path / "m.safetensors"),
                         "--motion-out", target]) == 1
    assert ("would overwrite" if name[-4:] in (".mp4", "sors") else "end the name") in capsys.readouterr().err
    if name == "clip.mp4":
        assert cli.main(["motion", str(clip), "-o", str(clip)]) == 1
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}


def test_case_does_not_matter_where_files_are_the_same(tmp_path):
    (tmp_path / "Clip.MP4").write_bytes(b"film")
    if not (tmp_path / "clip.mp4").exists():
        assert check_output(tmp_path / "clip.mp4", "video", SUFFIXES, inputs=[tmp_path / "Clip.MP4"])
    with pytest.raises(PlaymateError, match="would overwrite"):
        check_output(tmp_path / "Clip.MP4", "video", SUFFIXES, inputs=[None, "0 yaw=1", tmp_path / "." / "Clip.MP4"])
    with pytest.raises(PlaymateError, match="Two outputs"):
        refuse_same(tmp_path / "a.mp4", None, tmp_path / "x" / ".." / "a.mp4")


@pytest.mark.parametrize("target, words", [
    ("out.gif", "end the name in .mp4, .mov, .mkv or .webm"), ("folder.mp4", "is a folder"),
    ("voice.wav/a.mp4", "is a file"),
    ("/proc/nowhere/a.mp4", "could not be written"), ("x" * 300 + ".mp4", "could not be written"),
])
def test_what_cannot_be_written_is_noticed_before_the_work(inputs, no_work, tmp_path, capsys, target, words):
    if target.startswith("/proc") and not Path("/proc").is_dir():
        pytest.skip("no /proc here")
    (tmp_path / "folder.mp4").mkdir()
    before = sorted(tmp_path.iterdir())
    assert cli.main([*inputs, "-o", str(tmp_path / target)]) == 1
    assert words in capsys.readouterr().err and sorted(tmp_path.iterdir()) == before


def test_a_folder_without_permission_and_a_full_disk(tmp_path, monkeypatch):
    import shutil
    import tempfile

    def refuse(*args, **more):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(PlaymateError, match="0.0 MB left"):
        check_output(tmp_path / "a.mp4", "video", SUFFIXES)
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(PlaymateError, match="Permission denied"):
        check_output(tmp_path / "new" / "folder" / "a.mp4", "video", SUFFIXES)
    assert not list(tmp_path.iterdir())


def test_templates_need_a_whole_rate_before_the_work(inputs, no_work, tmp_path, capsys):
    assert cli.main([*inputs, "-o", str(tmp_path / "a.mp4"), "--motion-out", str(tmp_path / "a.PKL"), "--fps",
                     "29.97"]) == 1
    assert "whole frame rates" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["M.SAFETENSORS", "M.Pkl"])
def test_endings_in_capitals(inputs, drawn, tmp_path, name):
    assert cli.main([*inputs, "-o", str(tmp_path / "A.MP4"), "--motion-out", str(tmp_path / name), "--from-motion",
                     str(tmp_path / "m.safetensors")]) == 0
    assert (tmp_path / "A.MP4").is_file() and len(load_motion(tmp_path / name)) == 25 + name.endswith("Pkl")


# ---- lengths


@pytest.mark.parametrize("length, frames, words", [
    ("motion", 25, "the sound is cut"), ("cut", 25, "the sound is cut"), ("hold", 50, "last frame is held"),
    ("loop", 50, "starts again"), ("mirror", 50, "backwards"),
])
def test_a_motion_shorter_than_the_sound(inputs, drawn, tmp_path, caplog, length, frames, words):
    made = tmp_path / "a.mp4"
    assert cli.main([*inputs, "-o", str(made), "--from-motion", str(tmp_path / "m.safetensors"), "--length",
                     length]) == 0
    kept, rotation = load_motion(tmp_path / "m.safetensors").rotation, drawn[0].rotation
    assert len(drawn[0]) == frames == len(list(open_video(made))) and words in caplog.text
    assert "lasts 1.00 s and the sound 2.00 s" in caplog.text
    wanted = {"hold": kept[-1:].expand(25, 3), "loop": kept, "mirror": kept[:-1].flip(0)}.get(length)
    if wanted is not None:
        assert torch.equal(rotation[25:25 + len(wanted)], wanted)
    assert seconds_of(made) == pytest.approx(frames / 25, abs=0.05)


def test_a_motion_longer_than_the_sound():
    motion = Motion.rest(50, 25.0)
    for length, frames, words in (("motion", 50, "in silence"), ("hold", 50, "in silence"), ("cut", 25, "is cut")):
        fitted, note = fit_sound(motion, 1.0, length)
        assert len(fitted) == frames and words in note
    assert fit_sound(motion, 2.05)[1] is None and fit_sound(motion, None)[1] is None
    with pytest.raises(PlaymateError, match="choose one of: motion, cut, hold"):
        fit_sound(motion, 1.0, "stretch")


def test_the_node_says_and_does_what_was_chosen(tmp_path, monkeypatch):
    motion, sound = Motion.rest(10, 25.0), {"waveform": torch.zeros(1, 1, 16000), "sample_rate": 16000}
    sound["waveform"][..., 100] = 0.5
    with node_modules("render_video") as nodes:
        monkeypatch.setattr(nodes.pipeline, "render_frames",
                            lambda models, appearance, motion, *rest, **more: iter(
                                [torch.zeros(len(motion), 16, 16, 3)]))
        node = nodes.render_video.RenderVideo
        assert node.validate_inputs(length="hold") is True and "choose one of" in node.validate_inputs(length="long")
        films = {}
        for length in ("motion", "hold"):
            films[length] = node.execute(None, SMALL, motion, 30, 0, sound, length=length).args[0].get_stream_source()
        assert [text for text, _ in nodes.server.said if text] == [
            "The motion lasts 0.40 s and the sound 1.00 s: the sound is cut where the motion ends.",
            "The motion lasts 0.40 s and the sound 1.00 s: its last frame is held until the sound ends."]
        said = len(nodes.server.said)
        films["silent"] = node.execute(None, SMALL, motion, 30, 0).args[0].get_stream_source()
        assert nodes.server.said[said:] == [("", "7")]  # the note of an earlier run is taken away
    lengths = {name: len(list(open_video(film))) for name, film in films.items()}
    for film in films.values():
        os.unlink(film)
    assert lengths == {"motion": 10, "hold": 25, "silent": 10}


def test_sound_that_comes_with_frames_is_cut_as_they_are():
    sound = {"waveform": torch.arange(50.0)[None, None], "sample_rate": 10}

    def held(audio):
        return InputImpl.VideoFromComponents(
            SimpleNamespace(images=torch.zeros(50, 8, 8, 3), frame_rate=Fraction(10), audio=audio))

    with node_modules("films") as nodes:
        given = nodes.films.film
        assert torch.equal(given(held(sound), 1.0, 2.0)[3]["waveform"], torch.arange(10.0, 30.0)[None, None])
        assert torch.equal(given(held(sound), 4.0, 0.0)[3]["waveform"], torch.arange(40.0, 50.0)[None, None])
        assert given(held(None), 0.0, 0.0)[3] is None


def test_a_pose_shorter_than_the_speech_is_told(inputs, drawn, tmp_path, caplog):
    save_motion(load_motion(tmp_path / "m.safetensors"), tmp_path / "long.safetensors")
    save_motion(slice_frames(load_motion(tmp_path / "m.safetensors"), 0, 10), tmp_path / "short.safetensors")
    command = [*inputs, "-o", str(tmp_path / "a.mp4"), "--from-motion", str(tmp_path / "m.safetensors"), "--pose",
               str(tmp_path / "short.safetensors")]
    for length, frames, words in (("mirror", 25, "backwards"), ("hold", 25, "is held"), ("loop", 25, "starts again"),
                                  ("cut", 10, "ends with it")):
        caplog.clear()
        assert cli.main([*command, "--pose-length", length]) == 0
        assert "The pose lasts 0.40 s and the speech 1.00 s" in caplog.text and words in caplog.text
        assert len(drawn[-1]) == frames
    assert cli.main([*command, "--pose-length", "stretch"]) == 1


# ---- rates


@pytest.mark.parametrize("typed, exact", [
    (29.97, Fraction(30000, 1001)), (23.976, Fraction(24000, 1001)), (59.94, Fraction(60000, 1001)),
    (30000 / 1001, Fraction(30000, 1001)), (25.0, Fraction(25)), (30.0, Fraction(30)), (12.5, Fraction(25, 2)),
    (29.5, Fraction(59, 2)),
])
def test_television_s_rates_are_kept(tmp_path, typed, exact):
    assert exact_rate(typed) == exact
    path = write_video(tmp_path / "a.mp4", [torch.zeros(30, 16, 16, 3)], typed, 30)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == exact
        stamps = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    assert all(abs(stamp - number / exact) < Fraction(1, 10_000) for number, stamp in enumerate(stamps))


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), 1e6])
def test_rates_that_are_none(fps):
    with pytest.raises(PlaymateError, match="frame rate"):
        exact_rate(fps)


def test_widgets_have_the_decimals_that_rates_need():
    names = ("motion_from_video", "motion_sampler", "retime_motion")
    with node_modules(*names) as nodes:
        for name in names:
            classes = [value for value in vars(getattr(nodes, name)).values() if hasattr(value, "define_schema")]
            inputs = classes[-1].define_schema().inputs
            rates = [each for each in inputs if each.id in ("fps", "image_fps")]
            assert rates and all(each.step <= 0.001 for each in rates), name
