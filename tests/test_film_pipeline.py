"""Films as portraits from the file to the film: reading, extracting, drawing and writing, and ``animate``."""

from __future__ import annotations

import shutil
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import av
import pytest
import torch

from playmate_core import film_pipeline, pipeline
from playmate_core.cli import film_option
from playmate_core.cli import main as cli
from playmate_core.media.film_pictures import batch_film, is_film, open_film
from playmate_core.motion.types import Motion
from playmate_core.render.takes import pictures_of
from playmate_core.runtime.errors import PlaymateError

from .conftest import SAMPLES
from .film_helpers import make_film
from .portrait_films import person, scene, write_film


class Stamp:
    """A renderer whose films come back as they are, but for one pixel that tells the frame's motion and scope."""

    name = "landmark"

    def __init__(self, renderer):
        self.renderer, self.scopes, self.prepared = renderer, [], 0

    def prepare(self, image, face):
        return self.renderer.prepare(image, face)

    def prepare_film(self, film, progress=None):
        self.prepared += 1
        for number, (time, picture) in enumerate(film.pictures):
            assert time == pytest.approx(float(film.times[number]), abs=1e-6)
            assert tuple(picture.shape) == (*film.size, 3)
            if progress is not None:
                progress(number + 1, len(film))
        return replace(film, payload="ready")

    def render_film(self, film, pictures, motion, scope, batch_size=None, progress=None):
        assert film.payload == "ready"
        self.scopes.append(scope)
        for index, (number, picture) in enumerate(pictures):
            frame = picture.float() / 255 if picture.dtype == torch.uint8 else picture.clone()
            frame[0, 0] = torch.tensor([float(number) / 255, float(motion.expression[index].abs().mean()), 0.5])
            yield frame[None]


@pytest.fixture
def stamping(models):
    return replace(models, renderer=Stamp(models.renderer))


@pytest.fixture(scope="module")
def walk(portrait):
    """Twelve pictures of somebody who walks to the right."""
    one = person(portrait)
    return [scene(160, 224, (one, 8 + 4 * step, 8)) for step in range(12)]


@pytest.fixture(scope="module")
def walk_film(walk, tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("films") / "walk.mp4", walk, sound=0.5)


def talking(frames, fps=25.0):
    motion = Motion.rest(frames, fps)
    motion.expression[:] = torch.linspace(0.1, 0.9, frames)[:, None, None]
    return motion


# ---- reading


@pytest.mark.parametrize("gop", [250, 5])
def test_reading_from_anywhere_equals_reading_through(gop, tmp_path):
    pictures = [torch.rand(1, 1, 3).expand(48, 64, 3) * 0.5 + 0.5 * torch.rand(48, 64, 3) for _ in range(23)]
    film = open_film(write_film(tmp_path / "a.mp4", pictures, gop=gop))
    assert film.own_size == (48, 64)
    through = [picture for _, picture in film]
    assert len(through) == 23 and through[0].dtype == torch.uint8
    with av.open(str(tmp_path / "a.mp4")) as container:
        decoded = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert all(torch.equal(a, b) for a, b in zip(through, decoded, strict=True))
    for number in (0, 1, 4, 5, 13, 22):
        assert all(torch.equal(a, b) for a, b in zip(film.since(number), through[number:], strict=True)), number
    back = list(range(22, -1, -1))
    for number, picture in pictures_of(film, torch.tensor(back)):
        assert torch.equal(picture, through[number])


def test_reading_back_seeks(tmp_path, monkeypatch):
    """What lies before the key frame is not decoded again."""
    pictures = [torch.full((48, 64, 3), number / 100) for number in range(60)]
    film = open_film(write_film(tmp_path / "a.mp4", pictures, gop=6))
    assert sum(1 for _ in film) == 60
    decoded = []
    decode = type(film)._decode
    monkeypatch.setattr(type(film), "_decode", lambda self: (decoded.append(1) or each for each in decode(self)))
    next(film.since(50))
    assert len(decoded) <= 8


def test_films_at_a_varying_rate_and_ones_whose_sound_begins_first(tmp_path):
    stamps = [0, 40, 80, 200, 240, 500, 540]
    pictures = [torch.full((48, 64, 3), number / 10) for number in range(7)]
    film = open_film(write_film(tmp_path / "a.mkv", pictures, stamps=stamps))
    assert [round(1000 * time) for time, _ in film] == stamps
    assert [int(picture[0, 0, 0] / 25.5 + 0.3) for picture in film.since(3)] == [3, 4, 5, 6]
    late = open_film(make_film(tmp_path / "late.mp4", later=-0.3))
    through = [picture for _, picture in late]
    for number in (1, 5, 20):
        assert all(torch.equal(a, b) for a, b in zip(late.since(number), through[number:], strict=True))


def test_large_films_are_read_smaller_when_it_is_asked(tmp_path):
    film = open_film(write_film(tmp_path / "a.mp4", [torch.rand(60, 100, 3)] * 2))
    assert next(film.since(0)).shape == (60, 100, 3)
    small = film.at_size(50)
    assert next(small.since(0)).shape == (30, 50, 3) and small.own_size == (60, 100)
    assert torch.equal(next(film.at_size(100).since(0)), next(film.since(0)))
    batch = batch_film(torch.rand(3, 60, 100, 3), 30.0)
    assert [time for time, _ in batch] == pytest.approx([0, 1 / 30, 2 / 30])
    assert torch.equal(next(batch.since(2)), batch.images[2])
    assert next(batch.at_size(50).since(1)).shape == (30, 50, 3)


@pytest.mark.parametrize("channels", [1, 4])
def test_pictures_in_memory_of_any_kind(channels):
    images = torch.rand(2, 8, 9, channels)
    assert [picture.shape for _, picture in batch_film(images, 25.0)] == [(8, 9, 3)] * 2
    with pytest.raises(PlaymateError, match="no pictures"):
        batch_film(images[:0], 25.0)
    with pytest.raises(PlaymateError, match="different sizes"):
        batch_film([torch.rand(4, 4, 3), torch.rand(5, 4, 3)], 25.0)
    with pytest.raises(PlaymateError, match="frame rate"):
        batch_film(images, 0.0)


def test_what_is_a_film_is_told_by_its_content(tmp_path, walk_film, voice_path, portrait_path):
    disguised = tmp_path / "portrait.jpg"
    shutil.copy(walk_film, disguised)
    transport = make_film(tmp_path / "a.ts")
    for path in (walk_film, disguised, transport, make_film(tmp_path / "a.avi")):
        assert is_film(path), path
    text = tmp_path / "a.mp4"
    text.write_text("no film at all")
    ppm = tmp_path / "a.ppm"
    ppm.write_bytes(b"P6 2 2 255\n" + bytes(12))
    for path in (portrait_path, voice_path, text, ppm, tmp_path, tmp_path / "none.mp4"):
        assert not is_film(path), path


# ---- extracting


def test_a_film_becomes_an_appearance(stamping, walk_film, walk):
    told, said = [], []
    appearance = film_pipeline.extract_film(stamping, open_film(walk_film), notify=said.append,
                                            progress=lambda done, total: told.append((done, total)))
    film = appearance.film
    assert len(film) == len(film.motion) == 12 and film.fps == 25.0 and film.size == (160, 224)
    assert film.seen.all() and not film.shot.any() and film.payload == "ready" and not said
    assert appearance.image.shape == (160, 224, 3) and appearance.image.dtype == torch.float32
    assert appearance.identity.shape == (63,) and appearance.payload is None and appearance.stage is None
    # Its face lies where it was followed to.
    number = next(number for number in range(12)
                  if torch.equal(film.landmarks[number], appearance.face.landmarks))
    assert float((appearance.image - walk[number]).abs().mean()) < 0.02
    assert told[-1] == (24, 24) and [done for done, _ in told] == sorted(done for done, _ in told)
    assert film_pipeline.film_motion(appearance) is film.motion
    features = pipeline.encode_audio(stamping, (torch.randn(1, 8000) * 0.1, 16000))
    assert len(pipeline.generate_motion(stamping, features, appearance, steps=1, emotion="happy")) > 0


def test_drawing_a_film(stamping, walk_film):
    appearance = film_pipeline.extract_film(stamping, open_film(walk_film))
    decoded = torch.stack([picture for _, picture in open_film(walk_film)]).float() / 255
    motion = talking(20)
    frames = torch.cat(list(pipeline.render_frames(stamping, appearance, motion, scope="face",
                                                   film_length="ping-pong")))
    order = [*range(12), *range(10, 2, -1)]
    assert len(frames) == 20 and stamping.renderer.scopes == ["face"]
    assert (frames[:, 0, 0, 0] * 255).round().tolist() == order
    assert torch.allclose(frames[:, 0, 0, 1], torch.linspace(0.1, 0.9, 20), atol=1e-5)
    assert torch.equal(frames[:, 1:], decoded[order][:, 1:])
    assert pipeline.frame_size(appearance) == (160, 224) and pipeline.size_note(appearance, 0, 25.0) is None
    # Smaller than it was extracted: prepared and read anew.
    small = torch.cat(list(pipeline.render_frames(stamping, appearance, motion, size=112, film_length="cut")))
    assert small.shape == (12, 80, 112, 3) and stamping.renderer.prepared == 2
    assert "The film of 224 x 160 pixels is drawn at 112 x 80" in pipeline.size_note(appearance, 112)
    other = replace(appearance, renderer="liveportrait")
    with pytest.raises(PlaymateError, match="extract it again"):
        pipeline.render_frames(stamping, other, motion)
    with pytest.raises(PlaymateError, match="picture's"):
        film_pipeline.film_take(replace(appearance, film=None), motion)


def test_a_film_larger_than_asked_is_read_smaller(stamping, walk_film):
    appearance = film_pipeline.extract_film(stamping, open_film(walk_film), size=112)
    assert appearance.film.size == (80, 112) and appearance.image.shape == (80, 112, 3)
    assert pipeline.frame_size(appearance, 112) == (80, 112) and pipeline.frame_size(appearance, 0) == (160, 224)
    frames = torch.cat(list(pipeline.render_frames(stamping, appearance, talking(3), size=0, film_length="cut")))
    assert frames.shape == (3, 160, 224, 3)


def test_a_varying_rate_from_end_to_end(stamping, walk, tmp_path):
    stamps = [0, 40, 80, 120, 240, 280, 320, 500, 520, 560, 600, 640]
    appearance = film_pipeline.extract_film(stamping, open_film(write_film(tmp_path / "a.mkv", walk, stamps=stamps)))
    assert (appearance.film.times * 1000).round().tolist() == stamps
    assert appearance.film.fps == pytest.approx(11 / 0.64, rel=1e-3)
    motion = film_pipeline.film_motion(appearance)
    assert len(motion) == round((0.64 + 0.64 / 11) * 11 / 0.64) and motion.fps == appearance.film.fps
    take = film_pipeline.film_take(appearance, talking(18), fps=0)
    assert take.steady and take.fps == appearance.film.fps
    take = film_pipeline.film_take(appearance, talking(18))
    written = film_pipeline.write_take(tmp_path / "b.mp4", film_pipeline.film_frames(stamping, appearance, talking(18),
                                                                                   take), take)
    with av.open(str(written)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert [round(1000 * time) for time in times] == pytest.approx(
        [*stamps, *(round(1000 * float(time)) for time in take.times[12:])], abs=1)


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60)])
def test_the_films_own_rate_is_written(stamping, walk, tmp_path, rate):
    source = write_film(tmp_path / "a.mp4", walk, rate)
    appearance = film_pipeline.extract_film(stamping, open_film(source))
    motion = talking(12, float(rate))
    take = film_pipeline.film_take(appearance, motion)
    written = film_pipeline.write_take(tmp_path / "b.mp4", film_pipeline.film_frames(stamping, appearance, motion,
                                                                                   take), take)
    times = []
    for path in (source, written):
        with av.open(str(path)) as container:
            times.append([frame.time for frame in container.decode(video=0)])
    assert times[0] == pytest.approx(times[1], abs=1e-4) and len(times[1]) == 12


def test_cancelling_while_a_film_is_followed(stamping, walk):
    def stop(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        film_pipeline.extract_film(stamping, batch_film(walk, 25.0), progress=stop)


# ---- what a user may give by mistake


def test_a_film_that_is_broken_in_the_middle(stamping, portrait, tmp_path):
    one = person(portrait)
    noise = torch.rand(160, 80, 3)
    pictures = [scene(160, 224, (one, 8 + step, 8), (noise, 150, step)) for step in range(40)]
    whole = write_film(tmp_path / "a.mp4", pictures, gop=10)
    data = bytearray(whole.read_bytes())
    middle = len(data) // 2
    data[middle:middle + 600] = bytes(600)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(bytes(data))
    appearance = film_pipeline.extract_film(stamping, open_film(broken))
    count = len(appearance.film)
    assert 10 <= count <= 40
    frames = list(pipeline.render_frames(stamping, appearance, talking(2 * count), film_length="ping-pong"))
    # Pictures keep their own times, so what is missing leaves gaps, and there are no more than at a steady rate.
    take = film_pipeline.film_take(appearance, talking(2 * count), "ping-pong")
    assert len(frames) == len(take) and count < len(take) <= 2 * count
    assert float(take.times[-1]) == pytest.approx(2 * count / 25, abs=0.2)
    cut_off = tmp_path / "short.mkv"
    full = write_film(tmp_path / "full.mkv", pictures, gop=10).read_bytes()
    cut_off.write_bytes(full[:2 * len(full) // 3])
    assert 10 <= len(film_pipeline.extract_film(stamping, open_film(cut_off)).film) < 40


def test_films_that_show_no_face_and_films_of_one_picture(stamping, walk, tmp_path):
    with pytest.raises(PlaymateError, match="No face was found"):
        film_pipeline.extract_film(stamping, open_film(write_film(tmp_path / "a.mp4", [torch.full((64, 64, 3), 0.5)])))
    appearance = film_pipeline.extract_film(stamping, open_film(write_film(tmp_path / "b.mp4", walk[:1])))
    for length in ("hold", "loop", "ping-pong"):
        assert len(list(pipeline.render_frames(stamping, appearance, talking(5), film_length=length))) == 5
    assert len(list(pipeline.render_frames(stamping, appearance, talking(5), film_length="cut"))) == 1


def test_renderers_that_do_not_draw_on_films_say_so_before_the_film_is_read(models):
    still = replace(models, renderer=SimpleNamespace(name="still", prepare=None))
    with pytest.raises(PlaymateError, match="pictures only"):
        film_pipeline.extract_film(still, open_film(SAMPLES / "drive_head.mp4"))
    with pytest.raises(PlaymateError, match="open_film"):
        film_pipeline.extract_film(replace(models, renderer=Stamp(None)), [torch.zeros(2, 2, 3)])


# ---- the command line


@pytest.fixture
def animate(stamping, monkeypatch, tmp_path, voice_path):
    monkeypatch.setattr(pipeline, "load_models", lambda *given, **more: stamping)

    def run(film, *more):
        out = tmp_path / "out.mp4"
        status = cli.main(["animate", str(film), str(voice_path), "-o", str(out), "--device", "cpu", "--steps", "2",
                           *more])
        if status:
            return status
        with av.open(str(out)) as container:
            video = container.streams.video[0]
            return [frame.time for frame in container.decode(video=0)], float(video.average_rate), \
                len(container.streams.audio)
    return run


def test_animate_takes_films(animate, stamping, walk, tmp_path, caplog):
    disguised = write_film(tmp_path / "film.mp4", walk, Fraction(30000, 1001))
    disguised = disguised.rename(tmp_path / "film.png")
    times, rate, sounds = animate(disguised, "--film-length", "cut", "--scope", "all")
    assert len(times) == 12 and rate == pytest.approx(30000 / 1001) and sounds == 1
    assert stamping.renderer.scopes == ["all"]
    times, rate, _ = animate(disguised, "--fps", "15", "--film-length", "cut")
    assert rate == 15 and len(times) == 6 and stamping.renderer.scopes == ["all", "mouth"]


@pytest.mark.parametrize("options, message", [(("--scope", "nose"), "scope"), (("--film-length", "bounce"), "bounce"),
                                              (("--face-box", "1 2 3 4"), "face-box")])
def test_animates_wrong_options_are_sentences(animate, walk_film, options, message, capsys, caplog):
    assert animate(walk_film, *options) != 0
    assert message in capsys.readouterr().err + caplog.text


def test_options_for_films_do_nothing_on_pictures(caplog):
    args = SimpleNamespace(scope="all", film_length="hold", face_box=None, face_points=None)
    film_option.check_film_options(args, filmed=False)
    assert "--scope does nothing where the portrait is a picture" in caplog.text
