"""``animate --part``: a film that was stopped goes on, if it is the same film. Progress tells the time left."""

from __future__ import annotations

import argparse
import wave
from dataclasses import replace

import numpy as np
import pytest
import torch

from playmate_core.cli import main as cli
from playmate_core.cli import parts_option, progress_bar
from playmate_core.cli.animate_options import add_knobs
from playmate_core.cli.parts_option import LongFilm, clock, what_it_is_made_of
from playmate_core.cli.progress_bar import ProgressBar, length_of
from playmate_core.motion.types import Motion
from playmate_core.runtime.errors import PlaymateError

from .motion_helpers import random_motion
from .render_helpers import drawn_face
from .test_parts import Stopped, decoded, pictures


def options(folder, *more):
    parser = argparse.ArgumentParser()
    parser.add_argument("portrait")
    parser.add_argument("audio")
    parser.add_argument("-o", "--output")
    add_knobs(parser)
    (folder / "face.png").write_bytes(b"a face")
    (folder / "voice.wav").write_bytes(b"a voice")
    return parser.parse_args([str(folder / "face.png"), str(folder / "voice.wav"), "-o", str(folder / "a.mp4"), *more])


@pytest.fixture(autouse=True)
def quick_digest_of_the_package(monkeypatch):
    """The package's own files are read once a test at most."""
    known: dict = {}
    digest = parts_option._digest
    monkeypatch.setattr(parts_option, "_digest", lambda paths: digest(paths) if len(paths) < 20 else
                        known.setdefault(tuple(paths), digest(paths)))


def stopping(frame):
    def frames(start, stop):
        for batch in pictures(start, stop):
            if start >= frame:
                raise Stopped
            yield batch

    return frames


def test_a_film_that_was_stopped_goes_on_with_the_motion_it_had(tmp_path, caplog):
    args, first = options(tmp_path, "--part", "0.4"), random_motion(45)
    film = LongFilm(args)
    with pytest.raises(Stopped):
        film.write(stopping(20), film.motion(lambda: first), None)

    def never():
        raise AssertionError("the motion was kept")

    film = LongFilm(args)
    kept = film.motion(never)
    assert all(torch.equal(getattr(kept, name), getattr(first, name)) for name in ("expression", "rotation", "scale"))
    with caplog.at_level("WARNING"):
        path = film.write(pictures, kept, None)
    assert "Going on from 0:00 of 0:01." in caplog.text
    assert len(decoded(path)[0]) == 45 and not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("change, named", [
    (lambda args, folder: setattr(args, "seed", 5), "another seed"),
    (lambda args, folder: (folder / "voice.wav").write_bytes(b"other words"), "another audio"),
    (lambda args, folder: setattr(args, "part", 0.36), "another part"),
])
def test_another_film_never_takes_its_parts(tmp_path, caplog, change, named):
    args = options(tmp_path, "--part", "0.4")
    film = LongFilm(args)
    with pytest.raises(Stopped):
        film.write(stopping(20), film.motion(lambda: random_motion(45)), None)
    change(args, tmp_path)
    film, asked = LongFilm(args), []
    with caplog.at_level("WARNING"):
        motion = film.motion(lambda: random_motion(45, seed=1))
        film.write(lambda start, stop: asked.append(start) or pictures(start, stop), motion, None)
    assert f"begun with {named}, so it is drawn from its beginning" in caplog.text and asked[0] == 0
    assert torch.equal(motion.rotation, random_motion(45, seed=1).rotation)


def test_what_only_names_the_output_is_no_change(tmp_path):
    args = options(tmp_path)
    before = what_it_is_made_of(args)
    args.output, args.motion_out = "b.mp4", "c.safetensors"
    assert what_it_is_made_of(args) == before and before["seed"] == "0"


@pytest.mark.parametrize("part, frames", [("0", 45), ("1", 45), ("30", 45)])
def test_short_films_and_films_in_one_go_have_no_folder(tmp_path, part, frames):
    film = LongFilm(options(tmp_path, "--part", part))
    motion = Motion.rest(frames)
    assert film.motion(lambda: motion) is motion
    with pytest.raises(Stopped):
        film.write(stopping(0), motion, None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["face.png", "voice.wav"]


def test_errors_and_interrupts_say_what_is_kept(tmp_path):
    def failing(error):
        def frames(start, stop):
            if start >= 250:
                raise error
            return pictures(start, stop)
        return frames

    film = LongFilm(options(tmp_path, "--part", "10"))
    motion = film.motion(lambda: Motion.rest(600))
    with pytest.raises(PlaymateError, match="The disk is gone. What is drawn up to 0:10 is kept; the same command"):
        film.write(failing(PlaymateError("The disk is gone.")), motion, None)
    with pytest.raises(KeyboardInterrupt, match="What is drawn up to 0:10 is kept"):
        film.write(failing(KeyboardInterrupt()), motion, None)


def test_a_part_that_is_no_length_is_said(tmp_path):
    for wrong in ("-1", "nan"):
        with pytest.raises(PlaymateError, match="--part is"):
            LongFilm(options(tmp_path, "--part", wrong))


def test_the_command_interrupted_and_given_again_equals_one_that_was_not(tmp_path, portrait, voice_path, monkeypatch,
                                                                          caplog, capsys):
    from PIL import Image

    from playmate_core import pipeline

    Image.fromarray((portrait * 255).to(torch.uint8).numpy()).save(tmp_path / "face.png")
    with wave.open(str(voice_path)) as whole, wave.open(str(tmp_path / "voice.wav"), "wb") as short:
        short.setparams(whole.getparams())
        short.writeframes(whole.readframes(round(1.2 * whole.getframerate())))

    def animate(output):
        return cli.main(["animate", str(tmp_path / "face.png"), str(tmp_path / "voice.wav"), "-o", str(output),
                         "--device", "cpu", "--size", "96", "--steps", "2", "--part", "0.4"])

    assert animate(tmp_path / "whole.mp4") == 0
    drawn = pipeline.render_frames

    def interrupted(*given, start, **more):
        if start >= 20:
            raise KeyboardInterrupt
        return drawn(*given, start=start, **more)

    monkeypatch.setattr(pipeline, "render_frames", interrupted)
    assert animate(tmp_path / "a.mp4") == 130
    assert "the same command goes on from there" in capsys.readouterr().err
    monkeypatch.setattr(pipeline, "render_frames", drawn)
    monkeypatch.setattr(pipeline, "generate_motion", None)  # must not be asked again
    with caplog.at_level("WARNING"):
        assert animate(tmp_path / "a.mp4") == 0
    assert "Going on from" in caplog.text
    one, other = decoded(tmp_path / "a.mp4"), decoded(tmp_path / "whole.mp4")
    assert len(one[0]) == 30 and one[0] == other[0] and np.array_equal(one[1], other[1])


def test_progress_tells_the_time_left_by_the_pace_of_this_run(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(progress_bar.time, "monotonic", lambda: now[0])
    bar = ProgressBar("drawing")
    bar.live = True
    bar(600, 1000)  # a film that goes on: these were drawn before
    now[0] += 1
    bar(610, 1000)
    assert "left" not in capsys.readouterr().err  # too early to say
    now[0] += 9
    bar(700, 1000)
    assert "70 %  30 s left" in capsys.readouterr().err
    now[0] += 1000
    bar(800, 1000)
    assert "80 %  17 min left" in capsys.readouterr().err
    bar(1000, 1000)
    last = capsys.readouterr().err
    assert "left" not in last and last.endswith("\n")
    assert length_of(0.2) == "1 s" and length_of(2 * 3600 + 125) == "2 h 2 min"
    assert clock(750) == "12:30" and clock(3723) == "1:02:03"


def test_progress_is_silent_where_no_terminal_is(capsys):
    bar = ProgressBar("drawing")
    bar.live = False
    for done in (0, 5, 10):
        bar(done, 10)
    assert capsys.readouterr().err == f"drawing    [{'#' * 30}] 100 %\n"


def test_frames_drawn_apart_are_those_of_the_whole(models):
    """The whole motion decides whether it speaks and how far it reaches, also for a part in which nothing moves."""
    from playmate_core.render.landmark import LandmarkRenderer

    image, face = drawn_face(open_mouth=0.15)
    renderer = LandmarkRenderer(models.bridge)
    portrait = renderer.prepare(image, face)
    motion = Motion.rest(5)
    expression, rotation = motion.expression.clone(), motion.rotation.clone()
    expression[3:, 19, 1], rotation[3:, 1] = 0.05, 12.0
    motion = replace(motion, expression=expression, rotation=rotation)
    # One at a time: what is rounded in a batch depends on its other frames.
    whole, told = torch.cat(list(renderer.render(portrait, motion, batch_size=1))), []
    for part in (range(0, 2), range(2, 4), range(4, 5)):
        frames = torch.cat(list(renderer.render(portrait, motion, batch_size=1, part=part,
                                                progress=lambda *at: told.append(at))))
        assert frames.shape == (len(part), *image.shape)
        assert torch.allclose(frames, whole[part.start:part.stop], atol=1e-4)
    assert float((whole[0] - image).abs().max()) > 0.1  # its mouth is shut before the first word
    assert told[:3] == [(0, 2), (1, 2), (2, 2)] and told[-1] == (1, 1)


def test_frames_that_a_motion_lacks_are_said(models, appearance):
    from playmate_core import pipeline

    with pytest.raises(PlaymateError, match="Frames 7 to 12 cannot be drawn of a motion of 9"):
        pipeline.render_frames(models, appearance, Motion.rest(9), start=7, stop=12)
