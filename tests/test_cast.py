"""Several people of one picture: who owns which pixel, who listens when, and what is drawn of all of them."""

from dataclasses import replace

import pytest
import torch

from playmate_core import pipeline
from playmate_core.cast import cast_with, converse, fit_cast, listening, on_frames, render_frames
from playmate_core.face.geometry import lip_gap, mean_face
from playmate_core.motion.types import Motion
from playmate_core.render.cast import Cast, check_together, drawn_on_film, look_at, shares
from playmate_core.render.film import Film
from playmate_core.runtime.errors import PlaymateError
from tests.render_helpers import drawn_face

SIZE = 36.0


def side_by_side(centres=((70, 80), (190, 80)), sizes=(SIZE, SIZE), height=180, width=260):
    """One picture with two drawn faces: (image, face, face)."""
    first, left = drawn_face(height, width, sizes[0], centres[0])
    second, right = drawn_face(height, width, sizes[1], centres[1])
    image = first.clone()
    middle = (centres[0][0] + centres[1][0]) // 2
    image[:, middle:] = second[:, middle:]
    return image, left, right


@pytest.fixture(scope="module")
def pair(models):
    """Two appearances of one picture."""
    image, left, right = side_by_side()
    return models.renderer.prepare(image, left), models.renderer.prepare(image, right)


def talking(models, frames=6, fps=25.0, amount=1.0):
    """Jaw open in every second frame, the head turned a little."""
    wide = models.bridge.from_blendshapes(torch.nn.functional.one_hot(torch.tensor(25), 52).float())
    motion = Motion.rest(frames, fps)
    expression = motion.expression.clone()
    expression[1::2] += amount * wide
    rotation = motion.rotation.clone()
    rotation[1::2, 1] = 5.0
    return replace(motion, expression=expression, rotation=rotation)


def drawn(models, cast, **options):
    return torch.cat(list(render_frames(models, cast, **options)))


def test_each_face_is_drawn_as_by_itself_and_the_rest_is_left(models, pair):
    left, right = pair
    motions = talking(models), talking(models, amount=0.6)
    both = drawn(models, Cast.of(right, motions[1], Cast.of(left, motions[0])))
    alone = [torch.cat(list(pipeline.render_frames(models, one, motion)))
             for one, motion in zip(pair, motions, strict=True)]
    owned = shares([one.face.landmarks for one in pair], 180, 260)
    for number in (0, 1):
        mine = owned[number] == 1
        assert torch.equal(both[:, mine], alone[number][:, mine])
        moved = (alone[number][1] - left.image).abs().amax(-1) > 0.05
        assert int((moved & mine).sum()) > 200
    untouched = (alone[0] == left.image).all(-1) & (alone[1] == left.image).all(-1)
    assert torch.equal(both[untouched], left.image.expand_as(both)[untouched]) and bool(untouched.any())


def test_the_order_of_the_cast_changes_nothing(models, pair):
    left, right = pair
    a, b = talking(models), talking(models, amount=0.5)
    one = drawn(models, Cast.of(right, b, Cast.of(left, a)))
    other = drawn(models, Cast.of(left, a, Cast.of(right, b)))
    assert torch.allclose(one, other, atol=1e-5)


def test_batches_do_not_change_the_frames(models, pair):
    cast = Cast.of(pair[1], talking(models, 5), Cast.of(pair[0], talking(models, 5)))
    whole = drawn(models, cast)
    assert len(whole) == 5
    assert torch.allclose(drawn(models, cast, batch_size=2), whole, atol=1e-4)


def test_shares_add_up_and_pass_softly():
    _, left, right = side_by_side()
    owned = shares([left.landmarks, right.landmarks], 180, 260)
    assert torch.allclose(owned.sum(0), torch.ones(180, 260), atol=1e-3)
    assert float(owned[0, 80, 70]) == 1 and float(owned[1, 80, 190]) == 1
    assert 0.4 < float(owned[0, 80, 130]) < 0.6
    assert float(owned.diff(dim=2).abs().max()) < 0.2


def test_who_is_in_front_keeps_their_face():
    """A large face before a small one that it half hides."""
    _, near, far = side_by_side(((110, 80), (150, 70)), (60.0, 28.0))
    owned = shares([near.landmarks, far.landmarks], 180, 260)
    x, y = near.landmarks[454, :2].tolist()  # the near face's cheek, which lies within the far one's outline
    assert float(owned[0, round(y), round(x) - 4]) > 0.95
    three = shares([near.landmarks, far.landmarks, far.landmarks + torch.tensor([70.0, 0, 0])], 180, 260)
    assert torch.allclose(three.sum(0), torch.ones(180, 260), atol=1e-3)


def test_a_cast_is_of_one_picture_and_different_faces(models, pair):
    left, right = pair
    motion = Motion.rest(2)
    cast = Cast.of(left, motion)
    with pytest.raises(PlaymateError, match="same face is in the cast twice"):
        Cast.of(left, motion, cast)
    other = models.renderer.prepare(0.9 * left.image, right.face)
    with pytest.raises(PlaymateError, match="same picture"):
        Cast.of(other, motion, cast)
    with pytest.raises(PlaymateError, match="260 x 180 and 250 x 180"):
        check_together(left, replace(right, image=right.image[:, :250]))
    with pytest.raises(PlaymateError, match="same models"):
        check_together(left, replace(right, renderer="liveportrait"))
    assert cast_with(left, motion, cast) is cast and len(cast_with(right, motion, cast)) == 2


def test_whoever_ends_first_listens_on(models, pair):
    left, right = pair
    cast = Cast.of(right, talking(models, 60), Cast.of(left, talking(models, 20))).in_step()
    first, second = (motion for _, motion in cast.members)
    assert len(first) == len(second) == 60
    assert torch.equal(first.expression[:5], talking(models, 20).expression[:5])
    gap = lip_gap(mean_face() + models.bridge.displacement(first.expression_offset))
    assert float(gap[21:].std()) < 0.006 < float(gap[:10].std())
    assert float(first.rotation[40:, 1].mean()) < -1  # to the picture's right, where the other one is
    mixed = Cast.of(right, talking(models, 40, 50.0), Cast.of(left, talking(models, 20))).in_step()
    assert [len(motion) for _, motion in mixed.members] == [20, 20]


def test_the_cast_is_as_long_as_its_sound(models, pair):
    cast = Cast.of(pair[1], Motion.rest(10), Cast.of(pair[0], Motion.rest(25)))
    fitted, note = fit_cast(cast, 2.0, "hold")
    assert [len(motion) for _, motion in fitted.members] == [50, 50] and "held" in note
    fitted, note = fit_cast(cast, 1.0)
    assert [len(motion) for _, motion in fitted.members] == [25, 25] and note is None


def test_people_look_at_each_other(pair):
    left, right = pair
    there, back = look_at(left.face, right.face), look_at(right.face, left.face)
    assert there.right > 5 and there.yaw < -1 and back.right < -5 and back.yaw > 1


def test_a_conversation(pair):
    """Two speak in turn; each one's lips are still in the other's turn."""
    torch.manual_seed(0)
    frames, left_speaks = 100, torch.arange(100) < 50
    loud = [torch.where(one, torch.tensor(-20.0), torch.tensor(-80.0)) for one in (left_speaks, ~left_speaks)]
    noisy = [replace(Motion.rest(frames), expression=0.02 * torch.randn(frames, 21, 3)) for _ in pair]
    done = converse(pair, loud, noisy, seed=2)
    assert torch.equal(done[0].expression[:50], noisy[0].expression[:50])
    lips = done[0].expression[65:, [6, 12, 14, 17, 19, 20]]
    assert float(lips.std(0).max()) < 0.006
    assert torch.equal(done[1].expression[50:], noisy[1].expression[50:])
    again = converse(pair, loud, noisy, seed=2)
    other = converse(pair, loud, noisy, seed=3)
    assert torch.equal(done[1].rotation, again[1].rotation) and not torch.equal(done[1].rotation, other[1].rotation)


def test_listening_to_a_voice(pair):
    loud = torch.full((80,), -80.0)
    loud[:40] = -20.0
    motion = listening(*pair, loud, seed=1)
    assert len(motion) == 80 and motion.fps == 25.0
    assert len(listening(*pair, loud, Motion.rest(100), seconds=2.0)) == 50
    own = listening(*pair, loud, Motion.rest(30, 50.0))
    assert len(own) == 160 and own.fps == 50.0


def test_loudness_is_read_at_any_rate():
    loud = torch.arange(-30.0, -20.0)
    assert on_frames(loud, 25.0, 20, 50.0).tolist() == loud.repeat_interleave(2).tolist()
    assert on_frames(loud, 25.0, 12, 25.0)[10:].tolist() == [-80.0, -80.0]


def test_liveportrait_pastes_each_back_beside_the_other(models, small_liveportrait):
    """Its square reaches over the neighbour's face, which keeps its own drawing all the same."""
    renderer = pipeline._liveportrait("liveportrait", models.bridge, torch.device("cpu"), small_liveportrait)
    models = replace(models, renderer=renderer)
    image, *faces = side_by_side(((95, 80), (165, 80)))
    left, right = (renderer.prepare(image, face) for face in faces)
    motions = talking(models, 2), talking(models, 2, amount=0.5)
    both = drawn(models, Cast.of(right, motions[1], Cast.of(left, motions[0])))
    alone = [torch.cat(list(renderer.render(one, motion)))
             for one, motion in zip((left, right), motions, strict=True)]
    owned = shares([face.landmarks for face in faces], 180, 260)
    assert bool((alone[0][:, owned[1] == 1] != left.image[owned[1] == 1]).any())
    for number in (0, 1):
        assert torch.equal(both[:, owned[number] == 1], alone[number][:, owned[number] == 1])


class Painter:
    """Stands for a renderer of films: paints the whole picture one value, whoever's pixels they are."""

    name = "painter"

    def __init__(self):
        self.seen = []

    def render_film(self, film, pictures, motion, scope, batch_size=None, progress=None):
        for number, picture in pictures:
            self.seen.append((film.payload, number, picture.dtype))
            yield torch.full((1, *film.size, 3), film.payload)


def test_on_a_film_each_is_drawn_on_the_frames_of_the_one_before():
    image, left, right = side_by_side()
    there = [left.landmarks.float(), right.landmarks.float()]
    films = [Film([], torch.arange(3) / 25.0, 25.0, (180, 260), points.expand(3, -1, -1), torch.zeros(3, 52),
                  torch.ones(3, dtype=torch.bool), torch.zeros(3, dtype=torch.long), Motion.rest(3), payload)
             for points, payload in zip(there, (0.25, 0.75), strict=True)]
    picture = (image.clamp(0, 1) * 255).to(torch.uint8)
    painter = Painter()
    frames = torch.cat(list(drawn_on_film(painter, films, [Motion.rest(3)] * 2, iter([(0, picture), (2, picture),
                                                                                     (1, picture)]), "mouth")))
    assert frames.shape == (3, 180, 260, 3)
    assert (frames[:, 80, 70] == 0.25).all() and (frames[:, 80, 190] == 0.75).all()
    assert [number for payload, number, _ in painter.seen if payload == 0.75] == [0, 2, 1]
    assert {kind for payload, _, kind in painter.seen if payload == 0.75} == {torch.float32}
