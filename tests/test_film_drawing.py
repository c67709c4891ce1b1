"""Dubbing by the landmark renderer, on small films whose every landmark is known: a drawn face that the renderer for
stills has animated, in pictures that move from frame to frame."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import pytest
import torch

from playmate_core.face import geometry
from playmate_core.face.bridge import LatentBridge
from playmate_core.motion.types import Motion
from playmate_core.render.film import Film
from playmate_core.render.landmark import film_face, film_warp
from playmate_core.render.landmark.clip import perform
from playmate_core.render.landmark.film_reference import pictures_of
from playmate_core.render.landmark.renderer import LandmarkRenderer
from playmate_core.runtime.errors import PlaymateError

from .render_helpers import blink_latent, drawn_face, gap_latent, motion_of, psnr

GAPS = (0.0, 0.0, 0.0, 0.0, 0.12, 0.22, 0.12, 0.0)
STEP = 2
"""Pixels that everything moves to the right from one picture to the next."""


class Pictures:
    def __init__(self, pictures, fps):
        self.pictures, self.fps = pictures, fps

    def __iter__(self):
        return ((number / self.fps, picture) for number, picture in enumerate(self.pictures))


@pytest.fixture(scope="module")
def bridge():
    return LatentBridge.load()


@pytest.fixture(scope="module")
def renderer(bridge):
    return LandmarkRenderer(bridge)


@lru_cache(maxsize=4)
def acted(renderer, gaps):
    """(pictures [N, 192, 192, 3] uint8, landmarks [N, 478, 3])."""
    image, face = drawn_face(192, 192, 48.0)
    look = renderer.prepare(image, face)
    motion = motion_of([gap_latent(renderer.bridge, gap) for gap in gaps])
    clip = perform(motion, renderer.bridge, look.payload.frame, look.payload.shape, speaks=True)
    frames = torch.cat(list(renderer.render(look, motion)))
    frames = torch.stack([frame.roll(STEP * k, 1) for k, frame in enumerate(frames)])
    shifts = torch.tensor([[STEP * k, 0.0, 0.0] for k in range(len(gaps))])
    return (frames * 255).round().byte(), face.landmarks + clip.landmarks + shifts[:, None]


def film_of(renderer, gaps=GAPS, fps=25.0, seen=None, shot=None) -> Film:
    """A film of the drawn face whose lips part by ``gaps``."""
    pictures, landmarks = acted(renderer, gaps)
    count = len(gaps)
    return Film(Pictures(pictures, fps), torch.arange(count).double() / fps, fps, (192, 192), landmarks,
                torch.zeros(count, 52),
                torch.ones(count, dtype=torch.bool) if seen is None else torch.tensor(seen),
                torch.zeros(count, dtype=torch.int64) if shot is None else torch.tensor(shot),
                Motion.rest(count, fps))


@pytest.fixture(scope="module")
def film(renderer):
    return renderer.prepare_film(film_of(renderer))


def draw(renderer, film, motion, scope="mouth", numbers=None, batch_size=None):
    numbers = range(len(motion)) if numbers is None else numbers
    pictures = film.pictures.pictures
    return torch.cat(list(renderer.render_film(film, ((k, pictures[k]) for k in numbers), motion, scope, batch_size)))


def own(film):
    return film.pictures.pictures.float() / 255


def mouth_of(frames, film, number):
    """The mouth of picture ``number`` cut out, so that heads lie upon each other."""
    x, y = (int(v) for v in film.landmarks[0, [0, 17], :2].mean(0))
    x += STEP * number
    return frames[number, y - 16:y + 18, x - 18:x + 19]


@pytest.fixture(scope="module")
def shut(renderer, film):
    return draw(renderer, film, Motion.rest(len(film)))


def test_open_mouths_close_and_the_film_s_own_speech_is_gone(renderer, film, shut):
    closed = mouth_of(own(film), film, 0)
    for number in (4, 5, 6):
        assert psnr(mouth_of(own(film), film, number), closed) < 22
        assert psnr(mouth_of(shut, film, number), closed) > 29


def test_shut_mouths_open_as_the_speech_wants_whatever_the_film_does(renderer, film):
    opened = draw(renderer, film, motion_of([gap_latent(renderer.bridge, 0.2)] * len(film)))
    first = mouth_of(opened, film, 0)
    assert psnr(first, mouth_of(own(film), film, 0)) < 20
    for number in (4, 5):
        assert psnr(first, mouth_of(opened, film, number)) > 29


def test_whatever_lies_beyond_the_lower_face_stays_the_film_s_own(renderer, film):
    motion = motion_of([gap_latent(renderer.bridge, 0.15)] * len(film))
    motion = replace(motion, rotation=torch.full((len(film), 3), 10.0))
    dubbed = draw(renderer, film, motion)
    for number in range(len(film)):
        points = film.landmarks[number]
        nose = int(points[1, 1] - 0.12 * 48)
        assert torch.equal(dubbed[number, :nose], own(film)[number, :nose])
        left, right = (int(points[:, 0].min() - 0.35 * 48), int(points[:, 0].max() + 0.35 * 48))
        assert torch.equal(dubbed[number, :, :max(left, 0)], own(film)[number, :, :max(left, 0)])
        assert torch.equal(dubbed[number, :, right:], own(film)[number, :, right:])
        assert not torch.equal(dubbed[number], own(film)[number])


def test_pictures_without_the_face_pass_and_the_effect_fades_beside_them(renderer, film):
    whole_film = film
    seen = [True, True, True, True, True, True, True, False]
    film = renderer.prepare_film(film_of(renderer, seen=seen))
    motion = motion_of([gap_latent(renderer.bridge, 0.2)] * len(film))
    dubbed = draw(renderer, film, motion)
    assert torch.equal(dubbed[7], own(film)[7])
    whole = draw(renderer, whole_film, motion)
    change = [float((dubbed[k] - own(film)[k]).abs().sum() / (whole[k] - own(film)[k]).abs().sum()) for k in (4, 5, 6)]
    assert change[0] > change[1] > change[2] > 0
    nobody = renderer.prepare_film(film_of(renderer, seen=[False] * 8))
    assert torch.equal(draw(renderer, nobody, motion), own(nobody))


def test_nothing_fades_or_is_evened_out_across_a_cut(renderer):
    film = film_of(renderer, seen=[True] * 4 + [False] * 4, shot=[0] * 4 + [1] * 4)
    assert film_face.fades(film).tolist() == [1.0] * 4 + [0.0] * 4
    film = film_of(renderer, gaps=(0.0, 0.0, 0.0, 0.0, 0.2, 0.2, 0.2, 0.2), shot=[0] * 4 + [1] * 4)
    neutral = film_face.Placed.of(film.landmarks[:1], geometry.mean_face()).own[0]
    plain = film_face.movement(film, torch.arange(8), neutral, renderer.bridge)[0]
    gap = plain[:, 14, 1] - plain[:, 13, 1]
    assert gap[:4].abs().max() < 0.02 and gap[4:].min() > 0.12


def test_frames_do_not_depend_on_batches_order_or_rate(renderer, film, shut):
    motion = Motion.rest(len(film))
    assert (draw(renderer, film, motion, batch_size=3) - shut).abs().max() < 1e-4
    backwards = draw(renderer, film, Motion.rest(4), numbers=[5, 4, 4, 0])
    assert (backwards - shut[[5, 4, 4, 0]]).abs().max() < 1e-4
    slower = replace(film, fps=12.5, times=2 * film.times)
    assert (draw(renderer, slower, Motion.rest(len(film), 12.5)) - shut).abs().max() < 1e-4


def test_nothing_that_is_given_is_changed(renderer, film):
    motion = motion_of([gap_latent(renderer.bridge, 0.2)] * len(film))
    before = [t.clone() for t in (film.pictures.pictures, film.landmarks, film.seen, motion.expression)]
    floats = [picture.float() / 255 for picture in film.pictures.pictures]
    kept = [picture.clone() for picture in floats]
    list(renderer.render_film(film, enumerate(floats), motion, "mouth"))
    for now, then in zip((film.pictures.pictures, film.landmarks, film.seen, motion.expression), before, strict=True):
        assert torch.equal(now, then)
    assert all(torch.equal(now, then) for now, then in zip(floats, kept, strict=True))


def test_the_face_scope_blinks_and_the_head_s_turns_are_for_all(renderer, film):
    motion = motion_of([blink_latent(renderer.bridge, 0.08)] * 3, [[0.0, 12.0, 0.0]] * 3)
    frames = {scope: draw(renderer, film, motion, scope) for scope in ("mouth", "face", "all")}
    x, y = (int(v) for v in film.landmarks[0, [159, 145], :2].mean(0))
    eye = (0, slice(y - 3, y + 4), slice(x - 5, x + 6))
    assert torch.equal(frames["mouth"][eye], own(film)[eye])
    assert (frames["face"][eye] - own(film)[eye]).abs().mean() > 0.08
    top = int(film.landmarks[0, 10, 1]) - 2
    assert torch.equal(frames["face"][0, :top], own(film)[0, :top])
    assert not torch.equal(frames["all"][0, :top], own(film)[0, :top])
    with pytest.raises(PlaymateError, match="scope"):
        draw(renderer, film, motion, "lips")


def test_black_bars_are_no_part_of_the_picture(renderer, film):
    barred = film.pictures.pictures.clone()
    line = int(film.landmarks[:, 152, 1].max()) + 12
    barred[:, line:] = 0
    letterbox = replace(film, pictures=Pictures(barred, 25.0))
    bounds = pictures_of(letterbox, [0, 2])[1]
    assert bounds == (0, 0, 192, line)
    letterbox = replace(letterbox, payload=replace(film.payload, bounds=bounds))
    dubbed = draw(renderer, letterbox, motion_of([gap_latent(renderer.bridge, 0.2)] * 3))
    assert torch.equal(dubbed[:, line:], own(letterbox)[:3, line:])
    assert not torch.equal(dubbed[:, line - 6:line], own(letterbox)[:3, line - 6:line])


def test_a_film_of_one_picture_is_dubbed_too_and_one_that_was_not_prepared_is_refused(renderer, film):
    raw = film_of(renderer)
    with pytest.raises(PlaymateError, match="prepare"):
        draw(renderer, raw, Motion.rest(1))
    one = replace(raw, pictures=Pictures(raw.pictures.pictures[:1], 25.0), motion=Motion.rest(1),
                  **{name: getattr(raw, name)[:1] for name in ("times", "landmarks", "blendshapes", "seen", "shot")})
    motion = motion_of([gap_latent(renderer.bridge, 0.2)] * 2)
    dubbed = draw(renderer, renderer.prepare_film(one), motion, numbers=[0, 0])
    assert psnr(mouth_of(dubbed, film, 0), mouth_of(own(film), film, 0)) < 20
    assert torch.equal(dubbed[0], dubbed[1])


def test_the_calmest_shut_mouth_is_the_reference(film):
    assert film.payload.reference.number in (0, 1, 2, 3)


def test_a_kernel_keeps_what_is_known_and_a_ring_knows_its_inside():
    points = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    share = film_warp.kernel(points, points, 0.5)
    assert torch.allclose(share.sum(1), torch.ones(3)) and share.diagonal().min() > 0.99
    ring = torch.tensor([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]]).numpy()
    found = film_warp.signed_distance(torch.tensor([[2.0, 2.0], [1.0, 2.0], [6.0, 2.0]]), ring)
    assert torch.allclose(found, torch.tensor([-2.0, -1.0, 2.0]))
