"""Films that last longer or shorter than the speech, at any rate; forwards and backwards in bounded memory."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from playmate_core.motion.resampling import at_times, resample
from playmate_core.motion.types import Motion
from playmate_core.render import takes
from playmate_core.render.film import Film
from playmate_core.render.takes import average_rate, draw_take, film_size, is_steady, pictures_of, plan_take, spoken_at
from playmate_core.runtime.errors import PlaymateError


class Reel:
    """A film's pictures that say their number, and how many of them are alive and were read."""

    def __init__(self, count, size=(4, 6)):
        self.count, self.own_size, self.read = count, size, []

    def __iter__(self):
        for number, picture in enumerate(self.since(0)):
            yield number / 25, picture

    def since(self, number):
        for index in range(number, self.count):
            self.read.append(index)
            yield torch.full((*self.own_size, 3), index, dtype=torch.uint8)

    def at_size(self, longest):
        height, width = self.own_size
        return Reel(self.count, (round(height * longest / width), longest)) if longest else self


def film(count, fps=25.0, times=None, pictures=None):
    times = torch.arange(count, dtype=torch.float64) / fps if times is None else times
    pictures = Reel(count) if pictures is None else pictures
    return Film(pictures, times, fps, pictures.own_size, torch.zeros(count, 478, 3), torch.zeros(count, 52),
                torch.ones(count, dtype=torch.bool), torch.zeros(count, dtype=torch.int64), Motion.rest(count, fps))


def numbers(take):
    return take.numbers.tolist()


def test_a_shorter_film_goes_on():
    four = film(4, 10.0)
    assert numbers(plan_take(four, 1.0, "hold")) == [0, 1, 2, 3, 3, 3, 3, 3, 3, 3]
    assert numbers(plan_take(four, 1.0, "loop")) == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert numbers(plan_take(four, 1.0, "ping-pong")) == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3]
    assert numbers(plan_take(four, 1.0, "cut")) == [0, 1, 2, 3]
    for length in takes.FILM_LENGTHS:
        assert numbers(plan_take(film(1, 10.0), 0.3, length)) == ([0] if length == "cut" else [0, 0, 0])
        assert numbers(plan_take(film(2, 10.0), 0.3, length))[:2] == [0, 1]


def test_a_longer_film_plays_to_its_end_unless_it_is_cut():
    ten = film(10, 10.0)
    assert len(plan_take(ten, 0.42, "cut")) == 4
    for length in ("hold", "loop", "ping-pong"):
        assert numbers(plan_take(ten, 0.42, length)) == list(range(10))
    # Half a frame more or less is nobody's.
    for length in takes.FILM_LENGTHS:
        assert len(plan_take(ten, 1.04, length)) == len(plan_take(ten, 0.96, length)) == 10


@pytest.mark.parametrize("fps", [24000 / 1001, 30000 / 1001, 60.0, 12.5])
@pytest.mark.parametrize("length", takes.FILM_LENGTHS)
def test_every_rate_is_kept(fps, length):
    take = plan_take(film(50, fps), 3.7, length)
    assert take.steady and take.fps == fps
    assert torch.equal(take.times, torch.arange(len(take), dtype=torch.float64) / fps)
    longest = 50 / fps if length == "cut" else max(3.7, 50 / fps)
    assert abs(len(take) / fps - min(longest, 3.7) if length == "cut" else len(take) / fps - longest) <= 0.51 / fps


STAMPS = torch.tensor([0.0, 0.04, 0.08, 0.2, 0.24, 0.5, 0.54], dtype=torch.float64)


def test_a_varying_rate_is_kept():
    rate = average_rate(STAMPS, 25.0)
    assert rate == pytest.approx(6 / 0.54) and not is_steady(STAMPS, 25.0)
    varying = film(7, rate, STAMPS)
    for length in ("hold", "loop", "ping-pong"):
        take = plan_take(varying, 2.0, length)
        assert not take.steady and torch.equal(take.times[:7], STAMPS) and numbers(take)[:7] == list(range(7))
        assert (take.times.diff() > 0).all() and float(take.times[-1]) < 2.0
        assert 2.0 - float(take.times[-1]) <= 0.3
    back = plan_take(varying, 2.0, "ping-pong")
    assert numbers(back)[7:12] == [5, 4, 3, 2, 1]
    assert torch.allclose(back.times[6:12].diff(), STAMPS.flip(0).diff().abs()[:5])
    assert numbers(plan_take(varying, 0.3, "cut")) == [0, 1, 2, 3, 4]


def test_another_rate_shows_the_latest_picture():
    take = plan_take(film(7, average_rate(STAMPS, 25.0), STAMPS), 0.55, "cut", 25.0)
    assert take.steady and take.fps == 25.0
    assert numbers(take)[:13] == [0, 1, 2, 2, 2, 3, 4, 4, 4, 4, 4, 4, 5]
    assert numbers(plan_take(film(6, 30.0), 0.2, "hold", 15.0)) == [0, 2, 4]
    assert numbers(plan_take(film(3, 15.0), 0.2, "hold", 30.0)) == [0, 0, 1, 1, 2, 2]
    assert numbers(plan_take(film(6, 30.0), 0.2, "hold", 30.0)) == list(range(6))
    offset = film(3, 25.0, torch.tensor([0.52, 0.56, 0.6], dtype=torch.float64))
    assert plan_take(offset, 0.12).times.tolist() == pytest.approx([0.0, 0.04, 0.08])


def test_rounded_stamps_are_steady():
    rounded = (torch.arange(300, dtype=torch.float64) / (30000 / 1001) * 1000).round() / 1000
    assert is_steady(rounded, 30000 / 1001) and average_rate(rounded, 30000 / 1001) == 30000 / 1001
    dropped = torch.cat([rounded[:100], rounded[101:]])
    assert not is_steady(dropped, 30000 / 1001)


@pytest.mark.parametrize("wrong, message", [({"length": "bounce"}, "bounce"), ({"seconds": 0.0}, "no frames"),
                                            ({"fps": -1.0}, "-1")])
def test_wrong_plans_are_sentences(wrong, message):
    with pytest.raises(PlaymateError, match=message):
        plan_take(film(4), **{"seconds": 1.0, **wrong})


# ---- the motion


def moving(count=20, fps=25.0):
    expression = torch.linspace(0, 0.1, count)[:, None, None].expand(count, 21, 3).clone()
    rotation = torch.zeros(count, 3)
    rotation[:, 1] = torch.linspace(0, 20, count)
    return replace(Motion.rest(count, fps), expression=expression, rotation=rotation)


def test_motion_is_sampled_at_the_films_times():
    motion = moving()
    same = spoken_at(motion, plan_take(film(20, 25.0), motion.duration))
    assert torch.equal(same.expression, motion.expression) and torch.equal(same.rotation, motion.rotation)
    varying = film(7, average_rate(STAMPS, 25.0), STAMPS)
    found = spoken_at(motion, plan_take(varying, motion.duration, "cut"))
    assert torch.allclose(found.rotation[:, 1], (STAMPS * 25 * 20 / 19).float(), atol=1e-4)
    finer = resample(motion, 60.0)
    at = at_times(motion, torch.arange(len(finer), dtype=torch.float64) / 60, 60.0)
    assert torch.allclose(at.expression, finer.expression, atol=1e-6) and at.fps == 60.0
    with pytest.raises(PlaymateError, match="no frames"):
        at_times(Motion.rest(0), torch.zeros(1), 25.0)


def test_the_mouth_shuts_when_the_speech_is_over():
    motion = moving()
    longer = spoken_at(motion, plan_take(film(60, 25.0), motion.duration))
    assert len(longer) == 60 and torch.equal(longer.expression[:20], motion.expression)
    assert not longer.expression[20 + 8:].any() and bool((longer.expression[19:28].diff(dim=0) <= 0).all())
    assert torch.allclose(longer.rotation[20 + 25:], torch.zeros(1), atol=1e-5)
    assert float(longer.rotation[30, 1]) > 1  # slower than the face
    held = spoken_at(motion, plan_take(film(10, 25.0), motion.duration))
    assert torch.equal(held.expression, motion.expression)


# ---- the pictures


@pytest.mark.parametrize("length", takes.FILM_LENGTHS)
def test_pictures_come_in_any_order_and_few_are_held(length, monkeypatch):
    monkeypatch.setattr(takes, "BYTES_AT_ONCE", 10 * 4 * 6 * 3)  # ten pictures
    reel = Reel(64)
    take = plan_take(film(64, 25.0, pictures=reel), 9.0, length)
    shown = []
    for number, picture in pictures_of(reel, take.numbers):
        assert int(picture[0, 0, 0]) == number
        shown.append(number)
    assert shown == numbers(take)
    if length == "ping-pong":
        back = [b for a, b in pairwise(reel.read) if b != a + 1]
        # Read in tens: every piece begins ten before the last one's beginning.
        assert back[:3] == [53, 43, 33] and len(reel.read) <= len(shown) + 8
    elif length == "loop":
        assert len(reel.read) <= len(shown) + 1
    else:
        assert reel.read == list(range(64))


def test_pictures_by_themselves_suffice():
    shown = [(number, int(picture[0, 0, 0])) for number, picture in pictures_of(
        [(k / 25, torch.full((2, 2, 3), k)) for k in range(9)], torch.tensor([0, 3, 3, 8, 7, 6, 5, 2, 4]))]
    assert shown == [(k, k) for k in (0, 3, 3, 8, 7, 6, 5, 2, 4)]


def test_a_film_that_lost_pictures_is_a_sentence():
    for order in ([0, 1, 2, 3], [2, 1, 3, 2, 1, 0]):
        with pytest.raises(PlaymateError, match="fewer than before"):
            list(pictures_of(Reel(3), torch.tensor(order)))


# ---- drawing


class Brush:
    """A renderer that gives every picture back as it is."""

    name = "brush"

    def __init__(self):
        self.prepared = []

    def prepare_film(self, film, progress=None):
        self.prepared.append(film.size)
        return replace(film, payload=film.size)

    def render_film(self, film, pictures, motion, scope, batch_size=None, progress=None):
        assert film.payload == film.size
        for _, picture in pictures:
            assert tuple(picture.shape[:2]) == film.size
            yield picture[None] / 255


def test_films_are_drawn_at_their_own_size_or_smaller():
    brush, reel = Brush(), Reel(3, (300, 400))
    ready = brush.prepare_film(film(3, 25.0, pictures=reel))
    assert film_size(ready, 0) == film_size(ready, 2048) == (300, 400) and film_size(ready, 100) == (75, 100)
    take = plan_take(ready, 0.12)
    assert torch.cat(list(draw_take(brush, ready, moving(3), take))).shape == (3, 300, 400, 3)
    assert len(brush.prepared) == 1
    ready.landmarks[:] = 100.0
    small = takes.film_at(brush, ready, 100)
    assert small.size == (75, 100) and torch.allclose(small.landmarks, torch.tensor(25.0))
    assert torch.cat(list(draw_take(brush, ready, moving(3), take, size=100))).shape == (3, 75, 100, 3)


def test_renderers_and_scopes_that_do_not_fit_are_sentences():
    with pytest.raises(PlaymateError, match="pictures only"):
        takes.check_renderer(type("Pen", (), {"name": "pen"})())
    ready = film(3)
    with pytest.raises(PlaymateError, match="scope"):
        draw_take(Brush(), ready, moving(3), plan_take(ready, 0.12), "nose")
    with pytest.raises(PlaymateError, match="only"):
        takes.film_at(Brush(), replace(ready, pictures=[], size=(400, 600)), 100)
