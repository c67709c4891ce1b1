"""LivePortrait's networks, small and made up, on films."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from playmate_core import pipeline
from playmate_core.face.geometry import BROWS, EYES
from playmate_core.motion.geometry import rotation_matrix
from playmate_core.motion.types import Motion
from playmate_core.render.film import SCOPES, Film
from playmate_core.render.liveportrait.animate import LIP, LIP_MASK, SELECT, Latents, Options
from playmate_core.render.liveportrait.film import film_keypoints, squares_through
from playmate_core.render.liveportrait.film_drawing import _placement
from playmate_core.render.liveportrait.lower_face import depth
from playmate_core.render.liveportrait.renderer import LivePortraitRenderer
from playmate_core.runtime.errors import PlaymateError
from tests.liveportrait_helpers import stitching_by_recipe

FPS = 25.0


@pytest.fixture(scope="module")
def models(small_liveportrait, models):  # noqa: F811
    renderer = pipeline._liveportrait("liveportrait", models.bridge, torch.device("cpu"), small_liveportrait)
    return replace(models, renderer=renderer.with_options(Options()))


@pytest.fixture(scope="module")
def appearance(models, portrait):
    return pipeline.extract_appearance(models, portrait)


@pytest.fixture(scope="module")
def walking(models, appearance, portrait):
    """Four frames in uint8 whose face moves to the right; the third shows none. A cut lies before the last."""
    pictures = torch.stack([(portrait.roll(step, 1) * 255).round().byte() for step in (0, 6, 12, 18)])
    landmarks = torch.stack([appearance.face.landmarks + torch.tensor([step, 0.0, 0.0]) for step in (0, 6, 12, 18)])
    film = film_of(appearance, pictures, landmarks)
    film = replace(film, seen=torch.tensor([True, True, False, True]), shot=torch.tensor([0, 0, 0, 1]))
    return models.renderer.prepare_film(film)


def film_of(appearance, pictures, landmarks=None) -> Film:
    count = len(pictures)
    landmarks = appearance.face.landmarks.expand(count, -1, -1) if landmarks is None else landmarks
    times = torch.arange(count, dtype=torch.float64) / FPS
    return Film([(float(time), picture) for time, picture in zip(times, pictures, strict=True)], times, FPS,
                tuple(pictures.shape[1:3]), landmarks, appearance.face.blendshapes.expand(count, -1),
                torch.ones(count, dtype=torch.bool), torch.zeros(count, dtype=torch.int64), Motion.rest(count, FPS))


def speaking(frames: int, turn: float = 15.0) -> Motion:
    motion = Motion.rest(frames)
    expression = motion.expression.clone()
    expression[:, 19, 1] = torch.linspace(0.02, 0.05, frames)
    expression[:, 11, 1] = torch.linspace(0.01, 0.02, frames)
    expression[:, 3, 1] = 0.01
    rotation = motion.rotation.clone()
    rotation[:, 1] = torch.linspace(0, turn, frames)
    return replace(motion, expression=expression, rotation=rotation, translation=motion.translation + 0.03,
                   scale=motion.scale * 1.05)


def numbers(film, order=None):
    pictures = [picture for _, picture in film.pictures]
    return ((number, pictures[number]) for number in (range(len(film)) if order is None else order))


def draw(renderer, film, motion, scope, order=None, **more):
    return torch.cat(list(renderer.render_film(film, numbers(film, order), motion, scope, **more)))


def test_a_film_that_stands_still_is_a_picture(models, appearance, portrait):
    """Where nothing of the film's own has to be taken out, film and picture give the same frames."""
    film = models.renderer.prepare_film(film_of(appearance, portrait.expand(3, -1, -1, -1)))
    motion = speaking(3)
    wanted = torch.cat(list(models.renderer.render(appearance, motion)))
    assert float((wanted[2] - portrait).abs().max()) > 0.05
    assert float((draw(models.renderer, film, motion, "all", batch_size=2) - wanted).abs().max()) < 1e-4
    exp = models.renderer.with_options(replace(models.renderer.options, region="exp"))
    wanted = torch.cat(list(exp.render(appearance, motion)))
    assert float((draw(models.renderer, film, motion, "face") - wanted).abs().max()) < 1e-4


def test_scope_mouth_leaves_everything_else(models, walking):
    """Bit by bit, and the eyes and brows lie outside of what it draws."""
    frames = draw(models.renderer, walking, speaking(4), "mouth")
    for number, (_, picture) in enumerate(walking.pictures):
        place = _placement(walking.payload.square(number), walking.landmarks[number], "mouth", models.renderer.side,
                           walking.size, "cpu")
        top, left, bottom, right = place.box
        outside = torch.ones(walking.size, dtype=torch.bool)
        outside[top:bottom, left:right] = place.mask[0, 0] == 0
        assert torch.equal(frames[number][outside], (picture.float() / 255)[outside])
        above = [index for ring in (*EYES, *BROWS) for index in ring]
        at = walking.landmarks[number, above, :2].long()
        assert bool(outside[at[:, 1], at[:, 0]].all())
        lips = walking.landmarks[number, [0, 13, 14, 17, 61, 291, 152], :2].long()
        assert bool((place.mask[0, 0, lips[:, 1] - top, lips[:, 0] - left] > 0.9).all())
        if bool(walking.seen[number]):
            assert float((frames[number] - picture.float() / 255).abs().max()) > 0.05


def test_pictures_without_the_face_pass_through(models, walking):
    for scope in SCOPES:
        frames = draw(models.renderer, walking, speaking(2), scope, order=[1, 2])
        assert torch.equal(frames[1], list(walking.pictures)[2][1].float() / 255)


@pytest.mark.parametrize("scope", SCOPES)
def test_batches_and_order_do_not_change_frames(models, walking, scope):
    order = [3, 1, 1, 2, 0]
    one = draw(models.renderer, walking, speaking(5), scope, order, batch_size=1)
    assert torch.allclose(one, draw(models.renderer, walking, speaking(5), scope, order, batch_size=4), atol=2e-4)


def test_one_pass_of_the_networks_a_picture(models, walking):
    """M looks once, while the film is prepared; F at every picture that is drawn, at one that is held once a batch."""
    networks, seen = models.renderer.networks, {"F": 0, "M": 0}

    def count(name):
        def hook(_, inputs):
            seen[name] += len(inputs[0])
        return hook

    hooks = [networks.appearance.register_forward_pre_hook(count("F")),
             networks.motion.register_forward_pre_hook(count("M"))]
    try:
        film = models.renderer.prepare_film(walking)
        assert seen == {"F": 0, "M": 3}
        draw(models.renderer, film, speaking(6), "face", order=[0, 0, 0, 1, 2, 3], batch_size=3)
        assert seen == {"F": 3, "M": 3}
    finally:
        for hook in hooks:
            hook.remove()


def test_out_of_memory_halves_the_batch(models, walking, monkeypatch):
    sizes, draw_crops = [], LivePortraitRenderer._crops

    def short_of_memory(self, source, keypoints, batch_size):
        sizes.append(len(keypoints))
        if len(keypoints) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return draw_crops(self, source, keypoints, batch_size)

    order = [0, 1, 3]
    wanted = draw(models.renderer, walking, speaking(3), "face", order, batch_size=1)
    monkeypatch.setattr(LivePortraitRenderer, "_crops", short_of_memory)
    assert torch.equal(draw(models.renderer, walking, speaking(3), "face", order, batch_size=4), wanted)
    assert sizes == [3, 1, 1, 1]


def test_what_the_device_lacks_is_done_on_the_cpu(small_liveportrait, models, walking, monkeypatch):
    """From the first frame on that could not be drawn; nothing is drawn twice or left out."""
    from playmate_core.render.liveportrait import attempts

    renderer = pipeline._liveportrait("liveportrait", models.bridge, torch.device("cpu"), small_liveportrait)
    renderer = renderer.with_options(Options())
    draw_crops, calls = LivePortraitRenderer._crops, []

    def lacking(self, source, keypoints, batch_size):
        calls.append(len(keypoints))
        if len(calls) == 2:
            raise RuntimeError("operator is not implemented")
        return draw_crops(self, source, keypoints, batch_size)

    left = []
    monkeypatch.setattr(attempts, "told_to_leave", lambda error, device, name: "implemented" in str(error))
    monkeypatch.setattr(LivePortraitRenderer, "_leave_device", lambda self: left.append(self))
    wanted = draw(renderer, walking, speaking(3), "mouth", [0, 1, 3], batch_size=1)
    monkeypatch.setattr(LivePortraitRenderer, "_crops", lacking)
    assert torch.equal(draw(renderer, walking, speaking(3), "mouth", [0, 1, 3], batch_size=1), wanted)
    assert calls == [1, 1, 1, 1] and left == [renderer]


def latents(count: int, seed: int) -> Latents:
    random = torch.Generator().manual_seed(seed)

    def noise(*shape):
        return torch.randn(count, *shape, generator=random) * 0.05

    return Latents(noise(21, 3), rotation_matrix(noise(3) * 200), 1.3 + noise(1), noise(3), noise(21, 3) * 4,
                   0.3 + noise(2), 0.1 + noise(1).abs())


def keypoints_of(scope, options=Options(), **changed):  # noqa: B008
    """(keypoints, source, rest, driving, reference) of three frames."""
    source, other, driving = latents(3, 1), latents(3, 2), latents(3, 3)
    rest = replace(source, exp=other.exp[:1].expand(3, -1, -1), rotation=other.rotation[:1].expand(3, -1, -1))
    source, driving = replace(source, **changed), replace(driving, kp=None)
    reference = Latents(*(value[:1] for value in (driving.exp, driving.rotation, driving.scale, driving.t)))
    found = film_keypoints(source, rest, driving, reference, scope, options, stitching_by_recipe())
    return found, source, rest, driving, reference


def test_the_films_own_lips_are_taken_out():
    """Whatever they say, the drawn lips are the same; with the published sum they would not be."""
    found, source, rest, driving, reference = keypoints_of("mouth")
    words = source.exp + LIP_MASK * torch.randn(3, 21, 3, generator=torch.Generator().manual_seed(5)) * 0.05
    other = keypoints_of("mouth", exp=words)[0]
    assert torch.allclose(found, other, atol=1e-6)
    own = source.keypoints()
    rest_of = [k for k in range(21) if k not in LIP]
    assert torch.allclose(found[:, rest_of], own[:, rest_of], atol=1e-6)
    set_to = source.scale[:, :, None] * (source.kp @ source.rotation + rest.exp + driving.exp - reference.exp)
    set_to[..., :2] += source.t[:, None, :2]
    assert torch.allclose(found[:, list(LIP)], set_to[:, list(LIP)], atol=1e-6)
    # Nothing of the motion makes lips at rest, not the film's.
    still = keypoints_of("mouth", Options(multiplier=0.0))[0]
    assert float((still[:, list(LIP)] - own[:, list(LIP)]).abs().max()) > 0.01


def test_scopes_take_what_they_say():
    plain = Options(stitching=False)
    for scope in ("face", "all"):
        found, source, rest, driving, reference = keypoints_of(scope, plain)
        exp = torch.where(SELECT, rest.exp, source.exp) + driving.exp - reference.exp
        rotation, scale, t = source.rotation, source.scale, source.t
        if scope == "all":
            rotation = driving.rotation @ reference.rotation.transpose(1, 2) @ rest.rotation
            scale, t = scale * driving.scale / reference.scale, t + driving.t - reference.t
        assert torch.allclose(found, Latents(exp, rotation, scale, t, source.kp).keypoints(), atol=1e-5)
    absolute, source, _, driving, _ = keypoints_of("all", replace(plain, relative=False))
    taken = Latents(torch.where(SELECT, driving.exp, source.exp), driving.rotation, source.scale, driving.t, source.kp)
    assert torch.allclose(absolute, taken.keypoints(), atol=1e-5)
    posed, source, rest, *_ = keypoints_of("face", replace(plain, region="pose"))
    assert torch.allclose(posed, source.keypoints(), atol=1e-6)
    stitched = keypoints_of("face")[0]
    assert float((stitched - keypoints_of("face", plain)[0]).abs().max()) > 1e-3
    assert torch.equal(keypoints_of("mouth")[0], keypoints_of("mouth", plain)[0])


def test_retargeted_lips_open_from_the_films_own():
    """The network is told how far each picture's lips are open, and to where."""
    chosen = Options(stitching=False, retarget_lips=True, retarget_eyes=True)
    found, source, _, driving, _ = keypoints_of("mouth", chosen)
    net = stitching_by_recipe()
    wanted = source.keypoints() + net.lip_delta(source.keypoints(), torch.cat([source.lip, driving.lip], 1))
    assert torch.allclose(found, wanted, atol=1e-6)


def test_the_crop_follows_smoothly_and_stops_at_cuts(walking):
    random = torch.Generator().manual_seed(0)
    steps = torch.linspace(0, 20, 40) + 0.5 * torch.randn(40, generator=random)
    landmarks = walking.landmarks[:1].repeat(80, 1, 1)
    landmarks[:40, :, 0] += steps[:, None]
    landmarks[40:, :, 0] += 100
    film = replace(walking, landmarks=landmarks, shot=(torch.arange(80) >= 40).long(), times=torch.arange(80) / FPS)
    squares = squares_through(film)
    own = squares[0, 0] - steps[0] + steps
    tremor = torch.diff(squares[:40, 0], n=2).abs().mean()
    assert tremor < 0.1 * torch.diff(steps, n=2).abs().mean()
    assert float((squares[:40, 0] - own).abs().max()) < 2.0
    assert torch.allclose(squares[40:, 0], squares[40:41, 0].expand(40), atol=1e-6)
    # Roll from one side of the half turn to the other is no way back through the whole circle.
    spun = landmarks[:40].clone()
    for k, angle in enumerate(torch.linspace(170, 190, 40)):
        turn = rotation_matrix(torch.tensor([0.0, 0.0, float(angle)]))
        spun[k] = (spun[k] - spun[k].mean(0)) @ turn + spun[k].mean(0)
    turned = squares_through(replace(film, landmarks=spun, shot=torch.zeros(40, dtype=torch.int64)))
    assert float(torch.diff(turned[:, 3]).abs().max()) < 0.02


def test_the_heads_rest_is_told_in_every_pictures_own_crop(models, appearance, portrait):
    """A crop that is turned shows the same head turned: upright in the picture, all rests of a shot are one."""
    film = models.renderer.prepare_film(film_of(appearance, portrait.expand(2, -1, -1, -1)))
    from playmate_core.render.liveportrait.film import _rest_rotation, _turns

    angles = torch.tensor([0.0, 0.4, -0.2], dtype=torch.float64)
    head = rotation_matrix(torch.tensor([[5.0, 20.0, 3.0]]))
    seen = head @ _turns(angles).float().transpose(1, 2)
    rest = _rest_rotation(seen, angles, torch.zeros(3, dtype=torch.int64), torch.ones(3, dtype=torch.bool))
    assert torch.allclose(rest, seen, atol=1e-5)
    assert torch.allclose(film.payload.rest_rotation, film.payload.source.rotation, atol=1e-5)
    # Keypoints in a crop and in the picture: turning both alike is what the crop's matrix does to places.
    square = replace(film.payload.square(0), angle=0.4)
    point = torch.tensor([30.0, -10.0, 0.0], dtype=torch.float64)
    in_crop = (square.matrix(512)[:2, :2] @ point[:2]) * square.size / 512
    assert torch.allclose((torch.cat([in_crop, point[2:]]) @ _turns(angles)[1])[:2], point[:2], atol=1e-9)


def test_depth_in_a_ring():
    ring = torch.tensor([[1.0, 1.0], [9.0, 1.0], [9.0, 7.0], [1.0, 7.0]])
    inside = depth(ring, torch.arange(11.0), torch.arange(9.0))
    assert inside[4, 5] == 3 and inside[2, 2] == 1 and inside[4, 2] == 1
    assert not bool(inside[0].any() or inside[:, 0].any() or inside[:, 10].any() or inside[8].any())
    assert torch.equal(depth(ring.flip(0), torch.arange(11.0), torch.arange(9.0)), inside)


def test_bad_input_ends_in_one_sentence(models, appearance, walking, small_liveportrait):
    renderer = models.renderer
    with pytest.raises(PlaymateError, match="scope"):
        renderer.render_film(walking, numbers(walking), speaking(1), "nose")
    with pytest.raises(PlaymateError, match="another renderer"):
        renderer.render_film(replace(walking, payload=None), numbers(walking), speaking(1), "all")
    with pytest.raises(PlaymateError, match="batch size"):
        renderer.render_film(walking, numbers(walking), speaking(1), "all", batch_size=0)
    with pytest.raises(PlaymateError, match="4 of 5 pictures"):
        draw(renderer, walking, speaking(5), "mouth", order=[0, 1, 2, 3])
    with pytest.raises(PlaymateError, match="Picture 7"):
        list(renderer.render_film(walking, iter([(7, torch.zeros(1))]), speaking(1), "all"))
    with pytest.raises(PlaymateError, match="shape"):
        list(renderer.render_film(walking, iter([(0, torch.zeros(8, 8, 3))]), speaking(1), "all"))
    with pytest.raises(PlaymateError, match="2 of 4 pictures"):
        renderer.prepare_film(replace(walking, pictures=list(walking.pictures)[:2]))
    animals = pipeline._liveportrait("liveportrait-animal", models.bridge, torch.device("cpu"), small_liveportrait)
    with pytest.raises(PlaymateError, match="animals"):
        animals.prepare_film(walking)
    assert not list(renderer.render_film(walking, iter([]), Motion.rest(0), "all"))
