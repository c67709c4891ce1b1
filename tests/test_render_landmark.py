"""The landmark renderer's promises: what stays still stays equal, what moves moves as asked, and nothing folds."""

from __future__ import annotations

import itertools
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from playmate_core.face import geometry
from playmate_core.face.bridge import LatentBridge
from playmate_core.motion.types import Motion
from playmate_core.render.landmark import LandmarkRenderer, opening, topology
from playmate_core.render.landmark import expression as expressions
from playmate_core.render.landmark.clip import perform, plan
from playmate_core.render.landmark.expression import GAP_GAIN
from playmate_core.render.landmark.warp import displacement, invert, with_slopes
from playmate_core.runtime.errors import PlaymateError

from .render_helpers import blink_latent, drawn_face, gap_latent, motion_of, psnr

LIMITS = list(itertools.product((-20, 0, 20), (-25, 0, 25), (-20, 0, 20)))


@pytest.fixture(scope="module")
def bridge():
    return LatentBridge.load()


@pytest.fixture(scope="module")
def renderer(bridge):
    return LandmarkRenderer(bridge)


@pytest.fixture(scope="module")
def portrait(renderer):
    image, face = drawn_face()
    return renderer.prepare(image, face)


def draw(renderer, appearance, motion, **options):
    return torch.cat(list(renderer.render(appearance, motion, **options)))


def test_rest_returns_the_portrait_bit_for_bit(renderer, portrait):
    frames = draw(renderer, portrait, Motion.rest(5))
    assert frames.shape == (5, 256, 256, 3)
    assert torch.equal(frames, portrait.image.expand_as(frames))


def test_rest_returns_an_open_mouth_as_it_is(renderer):
    image, face = drawn_face(open_mouth=0.15)
    frames = draw(renderer, renderer.prepare(image, face), Motion.rest(2))
    assert torch.equal(frames, image.expand_as(frames))


def test_almost_rest_is_almost_the_portrait(renderer, portrait, bridge):
    motion = motion_of([gap_latent(bridge, 0.0005)] * 2, [[0.02, -0.02, 0.01]] * 2)
    assert psnr(draw(renderer, portrait, motion), portrait.image.expand(2, -1, -1, -1)) > 45


def test_outside_the_moved_region_frames_equal_the_portrait(renderer, bridge):
    image, face = drawn_face(400, 420, size=40.0)
    appearance = renderer.prepare(image, face)
    motion = motion_of([gap_latent(bridge, 0.15)] * 2, [[3, -4, 2], [-4, 5, -3]])
    frames = draw(renderer, appearance, motion)
    field = renderer._stage(appearance, plan(motion, bridge, appearance.payload.frame).reach)
    outside = torch.ones(400, 420, dtype=torch.bool)
    outside[field.y0:field.y0 + field.size[0], field.x0:field.x0 + field.size[1]] = False
    assert outside.float().mean() > 0.5
    assert torch.equal(frames[:, outside], image[outside].expand(2, -1, -1))
    assert (frames != image).any(-1).float().mean() > 0.02
    # No seam: along the edge of the drawn region the picture hardly differs from the portrait.
    top = frames[:, field.y0, field.x0:field.x0 + field.size[1]]
    assert (top - image[field.y0, field.x0:field.x0 + field.size[1]]).abs().max() < 0.01


@pytest.mark.parametrize("turn", [(0, 0, 0), (0, 22, 0), (-10, -15, 8)])
def test_no_pose_within_the_limits_folds(renderer, bridge, turn):
    image, face = drawn_face(320, 300, size=62.0, turn=turn)
    appearance = renderer.prepare(image, face)
    payload, motion = appearance.payload, motion_of(rotation=LIMITS)
    clip = perform(motion, bridge, payload.frame, payload.shape, speaks=False)
    stage = renderer._stage(appearance, plan(motion, bridge, payload.frame).reach)
    field, grid = stage.field, stage.field.grid
    still = torch.zeros(len(LIMITS), len(stage.nodes), 3)
    moved = displacement(stage.nodes, field.depth, field.flat, field.weight, field.border, still, clip.pose)
    moved = moved.reshape(len(LIMITS), 2, grid.rows, grid.columns)
    dx = (moved[..., 1:] - moved[..., :-1])[:, :, :-1] / grid.step
    dy = (moved[:, :, 1:] - moved[:, :, :-1])[..., :-1] / grid.step
    area = (1 + dx[:, 0]) * (1 + dy[:, 1]) - dx[:, 1] * dy[:, 0]
    for pose, smallest in zip(LIMITS, area.flatten(1).amin(1).tolist(), strict=True):
        if pose[1] == 0 or pose[0] == pose[2] == 0:
            assert smallest > 0.05, pose
    # All three limits at once may crease a node or two, never a visible patch.
    assert (area < 0).float().mean() < 1e-4
    nodes = grid.nodes_tensor()
    found = invert(with_slopes(moved, grid.step), grid, nodes)
    error = (found + grid.sample(moved, found).permute(0, 2, 3, 1) - nodes).norm(dim=-1)
    assert (error > 0.25).float().mean() < 1e-3


def opened_by(renderer, appearance, motion) -> opening.DrawnOpening:
    """The mouth's opening in every frame, as the renderer draws it."""
    payload, whole = appearance.payload, plan(motion, renderer.bridge, appearance.payload.frame)
    clip = perform(motion, renderer.bridge, payload.frame, payload.shape, whole.speaks)
    stage = renderer._stage(appearance, whole.reach)
    field = stage.field
    nodes = field.grid.nodes_tensor()
    back = torch.zeros(len(motion), 2, *nodes.shape[:2])
    with torch.no_grad():
        return opening.open_up(payload.mouth_opening, stage.mouth_around, clip.landmarks, clip.pose, back, field.grid,
                               payload.frame.size, softness=1.0, deadzone=0.006 * payload.frame.size)


class Moved(LatentBridge):
    """A bridge whose every expression is one given displacement [478, 3], times its first number."""

    def __init__(self, bridge, displacement):
        super().__init__(bridge.forward, bridge.covariance, bridge.noise, bridge.blendshapes, bridge.blendshapes_rest)
        self.given = displacement

    def displacement(self, expression_offset):
        return expression_offset.flatten(-2)[..., :1, None] * self.given


def moving(bridge, displacement, amounts=(1.0,)):
    """(renderer, motion): ``displacement`` [478, 3] by ``amounts``."""
    latents = torch.zeros(len(amounts), 21, 3)
    latents[:, 0, 0] = torch.tensor(amounts)
    return LandmarkRenderer(Moved(bridge, displacement)), motion_of(list(latents))


def test_lips_part_by_what_is_asked(renderer, portrait, bridge):
    asked = (0.0, 0.08, 0.16)
    opened = opened_by(renderer, portrait, motion_of([gap_latent(bridge, gap) for gap in asked]))
    scale = 60.0 * portrait.payload.shape.mouth_scale * GAP_GAIN
    for frame, gap in enumerate(asked):
        assert float(opened.gap[frame].amax()) == pytest.approx(gap * scale, abs=1.2)


def test_pursed_lips_stay_shut_and_get_narrow(bridge):
    """The corners go furthest, what lies beside them much less; the fields must not even that out."""
    shape = geometry.mean_face().float()
    pursed = torch.zeros(478, 3)
    for corner, way in ((78, 1), (308, -1)):
        near = torch.exp(-((shape - shape[corner])[:, :2].norm(dim=-1) / 0.09) ** 2)
        pursed[:, 0] += 0.10 * way * near
        pursed[:, 1] += 0.06 * near
    renderer, motion = moving(bridge, pursed)
    appearance = renderer.prepare(*drawn_face(320, 320, size=90.0))
    opened = opened_by(renderer, appearance, motion)
    assert float(opened.gap.amax()) < 0.006 * 90
    asked = (shape[308] - shape[78])[0] - 0.2 * appearance.payload.shape.mouth_scale
    inside = (opened.along[0] > 0) & (opened.along[0] < 1)
    assert float(inside.any(0).sum()) == pytest.approx(float(asked) * 90, abs=2.0)


def test_lips_take_no_dark_line_with_them(renderer, bridge):
    """Round an open mouth nothing is darker than lip and skin are: the line between shut lips belongs to neither."""
    image, face = drawn_face(320, 320, size=90.0)
    import cv2

    pixels = np.ascontiguousarray(image.numpy())
    lips = face.landmarks[list(topology.LIPS_INNER_UPPER), :2].numpy()
    # A broad dark line with pools in the corners, as photographs have it.
    stroke = np.round(lips * 16 - 8).astype(np.int32)
    cv2.polylines(pixels, [stroke], False, (0.10, 0.04, 0.04), 4, cv2.LINE_AA, 4)
    appearance = renderer.prepare(torch.from_numpy(pixels), face)
    opened = opened_by(renderer, appearance, motion_of([gap_latent(bridge, 0.2)]))
    frame = draw(renderer, appearance, motion_of([gap_latent(bridge, 0.2)]))[0]
    light = frame.mean(-1)
    x, y = (opened.pixels[0] - 0.5).round().long().unbind(-1)
    patch = light[y, x]
    # The rows just above and just below the opening, its soft edge left out.
    above, below = opened.depth[0], opened.depth[0] - opened.gap[0]
    within = (opened.along[0] > 0.15) & (opened.along[0] < 0.85)
    for ring in (within & (above < -2) & (above > -5), within & (below > 2) & (below < 5)):
        assert ring.sum() > 50
        # The lips are painted (0.70, 0.35, 0.35), the skin is lighter.
        assert patch[ring].quantile(0.05) > 0.8 * 0.467
    assert patch[(opened.between[0, 0] > 0.9) & within].min() < 0.3, "the mouth is dark inside"


def test_the_upper_lip_stops_below_the_nose_as_a_whole(portrait):
    shape = portrait.payload.shape
    up = torch.zeros(1, 478, 3)
    up[:, sorted({*geometry.LIPS, *itertools.chain(*topology.LIPS_UPPER_ROWS)}), 1] = -0.4
    out = shape.unfolded(up)
    columns = torch.stack([out[0, list(row), 1] for row in topology.LIPS_UPPER_ROWS])
    assert columns[:, 5] == pytest.approx(torch.full((4,), -shape.rise), abs=1e-5)
    assert (columns - columns[:1]).abs().max() < 1e-5, "all its rows alike: it gets no thinner"
    assert columns[:, 0] == pytest.approx(torch.full((4,), -0.4)), "the corners are beside the nose"


def test_the_upper_lip_keeps_its_arch_below_the_nose(portrait):
    shape, up = portrait.payload.shape, torch.zeros(1, 478, 3)
    arch = -0.4 * torch.linspace(0, torch.pi, 11).sin()
    for row in topology.LIPS_UPPER_ROWS:
        up[0, list(row), 1] = arch
    for row in topology.LIPS_UPPER_ROWS:
        found = shape.unfolded(up)[0, list(row), 1]
        assert found[5] == pytest.approx(-shape.rise, abs=1e-3) and found[0] == 0
        assert (found / found[5]).numpy() == pytest.approx((arch / arch[5]).numpy(), abs=1e-3), "an arch, not a box"


def test_a_speaking_clip_closes_an_open_mouth(renderer, bridge):
    image, face = drawn_face(open_mouth=0.12)
    appearance = renderer.prepare(image, face)
    assert appearance.payload.shape.mouth_open
    frames = draw(renderer, appearance, motion_of([gap_latent(bridge, gap) for gap in (0.0, 0.12)]))
    x, y = (int(v) for v in face.landmarks[[13, 14], :2].mean(0))
    dark = (frames[:, y - 10:y + 14, x - 4:x + 5].mean(-1) < 0.28).float().sum(1).mean(-1)
    assert dark[0] < 2.5, "the lips meet"
    assert dark[1] > dark[0] + 2, "and open again"


def test_what_is_held_counts_from_the_portraits_own_mouth(renderer, bridge):
    image, face = drawn_face(open_mouth=0.12)
    appearance = renderer.prepare(image, face)
    frame, shape = appearance.payload.frame, appearance.payload.shape
    wide = gap_latent(bridge, 0.1)
    held, spoken = motion_of([wide, wide]), motion_of([gap_latent(bridge, 0.0), wide])
    wholes = [plan(motion, bridge, frame) for motion in (held, spoken)]
    assert [whole.closes for whole in wholes] == [False, True] and all(whole.speaks for whole in wholes)
    moved = [perform(motion, bridge, frame, shape, whole.speaks, None, whole.closes).landmarks[-1]
             for motion, whole in zip((held, spoken), wholes, strict=True)]
    more = [float(part[14, 1] - part[13, 1]) / frame.size for part in moved]
    assert more[0] - more[1] == pytest.approx(0.12, abs=0.02), "speech takes the own gap out, an edit adds to it"
    drawn = [next(iter(renderer.render(appearance, motion)))[-1] for motion in (held, spoken)]
    x, y = (int(v) for v in face.landmarks[[13, 14], :2].mean(0))
    dark = [(picture[y - 14:y + 22, x - 4:x + 5].mean(-1) < 0.4).float().sum(0).mean() for picture in drawn]
    assert dark[0] > dark[1] + 2


def test_a_closed_mouth_stays_closed_when_only_the_head_moves(renderer, bridge):
    image, face = drawn_face(open_mouth=0.12)
    payload = renderer.prepare(image, face).payload
    assert not plan(motion_of(rotation=[[5, 5, 0]]), bridge, payload.frame).speaks
    late = motion_of([gap_latent(bridge, 0.0)] * 300 + [gap_latent(bridge, 0.1)])
    assert plan(late, bridge, payload.frame).speaks, "one frame decides for the clip"


def test_eyes_shut_with_skin(renderer, portrait, bridge):
    frames = draw(renderer, portrait, motion_of([blink_latent(bridge, 0.0), blink_latent(bridge, 0.12)]))
    for upper, lower in ((159, 145), (386, 374)):
        x, y = portrait.face.landmarks[[upper, lower], :2].mean(0).round().int().tolist()
        open_eye, shut_eye = frames[:, y - 1:y + 2, x - 2:x + 3]
        skin = torch.tensor([0.80, 0.62, 0.52])
        assert (open_eye - skin).abs().mean() > 0.25
        assert (shut_eye - skin).abs().mean() < 0.15


def test_wide_lids_and_gaze_leave_no_holes(renderer, portrait, bridge):
    latent = blink_latent(bridge, -0.05)
    latent[11] += torch.tensor([0.02, 0.01, 0.0])
    frames = draw(renderer, portrait, motion_of([latent]))
    assert torch.isfinite(frames).all()
    eyes = portrait.face.landmarks[[33, 263], :2]
    low, high = eyes.amin(0).int() - 6, eyes.amax(0).int() + 6
    assert frames[0, low[1]:high[1], low[0]:high[0]].min() > 0.02


def test_batches_do_not_change_frames(renderer, portrait, bridge):
    motion = motion_of([gap_latent(bridge, 0.02 * i) for i in range(7)], [[i, -2.0 * i, i] for i in range(7)])
    one, many = draw(renderer, portrait, motion, batch_size=1), draw(renderer, portrait, motion, batch_size=4)
    assert (one - many).abs().max() < 2e-3
    assert torch.equal(draw(renderer, portrait, motion, batch_size=4), many)


@pytest.mark.parametrize("height,width,size,centre", [
    (256, 256, 60.0, (40.0, 100.0)),      # the face leaves the picture on the left
    (200, 120, 70.0, (60.0, 90.0)),       # it fills it
    (97, 301, 30.0, None),                # wide and odd
    (310, 64, 26.0, None),                # tall
    (40, 36, 12.0, (18.0, 18.0)),         # tiny
    (16, 16, 9.0, (8.0, 8.0)),
])
def test_any_size_and_place(renderer, bridge, height, width, size, centre):
    image, face = drawn_face(height, width, size, centre)
    appearance = renderer.prepare(image, face)
    motion = motion_of([gap_latent(bridge, 0.12), blink_latent(bridge, 0.1)], [[10, 20, -10], [-10, -20, 10]])
    frames = draw(renderer, appearance, motion)
    assert frames.shape == (2, height, width, 3)
    assert torch.isfinite(frames).all() and frames.min() >= 0 and frames.max() <= 1
    assert not torch.equal(frames[0], image)


def test_larger_pictures_look_the_same(renderer, bridge):
    motion = motion_of([gap_latent(bridge, 0.1)], [[4, 8, 3]])
    image, face = drawn_face(200, 200, 48.0)
    large = torch.nn.functional.interpolate(image.permute(2, 0, 1)[None], scale_factor=2, mode="bilinear")
    large = large[0].permute(1, 2, 0)
    small_frame = draw(renderer, renderer.prepare(image, face), motion)[0]
    face = replace(face, landmarks=face.landmarks * 2, box=face.box * 2)
    large_frame = draw(renderer, renderer.prepare(large, face), motion)[0]
    shrunk = torch.nn.functional.avg_pool2d(large_frame.permute(2, 0, 1)[None], 2)[0].permute(1, 2, 0)
    assert (shrunk - small_frame).abs().mean() < 0.35 * (small_frame - image).abs().mean()


def test_progress_counts_and_cancels(renderer, portrait):
    seen = []
    draw(renderer, portrait, Motion.rest(10), batch_size=4, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 10), (4, 10), (8, 10), (10, 10)]

    class Cancelled(Exception):
        pass

    def cancel(done, total):
        if done >= 4:
            raise Cancelled

    frames = renderer.render(portrait, Motion.rest(1000), batch_size=4, progress=cancel)
    next(frames)
    with pytest.raises(Cancelled):
        next(frames)


def test_no_frames(renderer, portrait):
    assert list(renderer.render(portrait, Motion.rest(0))) == []


@pytest.mark.parametrize("said", [torch.cuda.OutOfMemoryError("pretend"), MemoryError("pretend"),
                                  RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)")])
def test_out_of_memory_halves_the_batch(renderer, portrait, monkeypatch, said):
    sizes = []
    draw_frames = LandmarkRenderer._draw

    def short_of_memory(self, stage, clip):
        sizes.append(len(clip.moves))
        if sizes[-1] > 2:
            raise said
        return draw_frames(self, stage, clip)

    monkeypatch.setattr(LandmarkRenderer, "_draw", short_of_memory)
    assert len(draw(renderer, portrait, Motion.rest(6), batch_size=6)) == 6
    assert sizes == [6, 3, 1, 1, 1, 1, 1, 1]


def test_what_filled_the_memory_is_let_go_before_the_next_try(renderer, portrait, monkeypatch):
    claimed, alive = [], []
    draw_frames = LandmarkRenderer._draw

    def short_of_memory(self, stage, clip):
        alive.append(sum(tensor() is not None for tensor in claimed))
        if len(clip.moves) > 1:
            working = torch.zeros(3)
            claimed.append(weakref.ref(working))
            raise torch.cuda.OutOfMemoryError("pretend")
        return draw_frames(self, stage, clip)

    monkeypatch.setattr(LandmarkRenderer, "_draw", short_of_memory)
    assert len(draw(renderer, portrait, Motion.rest(4), batch_size=4)) == 4
    assert len(claimed) == 2 and not any(alive)


def test_bad_calls_are_refused_with_a_sentence(renderer, portrait):
    image, face = drawn_face()
    with pytest.raises(PlaymateError, match="renderer"):
        renderer.render(replace(portrait, renderer="other"), Motion.rest(1))
    with pytest.raises(PlaymateError, match="batch size"):
        renderer.render(portrait, Motion.rest(1), batch_size=0)
    with pytest.raises(PlaymateError, match="shape"):
        renderer.prepare(image[..., :1], face)
    with pytest.raises(PlaymateError, match="pixels"):
        renderer.prepare(*drawn_face(64, 64, size=5.0))
    with pytest.raises(PlaymateError, match="not finite"):
        renderer.prepare(image, replace(face, landmarks=face.landmarks * float("nan")))


def test_appearance_carries_identity_and_own_expression(portrait):
    assert portrait.renderer == "landmark"
    assert portrait.source_expression.shape == (21, 3) and portrait.identity.shape == (63,)


def test_a_portrait_that_is_turned_already_turns_less(renderer, bridge):
    image, face = drawn_face(turn=(0.0, 26.0, 0.0))
    frame = renderer.prepare(image, face).payload
    away = perform(motion_of(rotation=[[0, 25, 0]]), bridge, frame.frame, frame.shape, False).pose.turn.norm()
    back = perform(motion_of(rotation=[[0, -25, 0]]), bridge, frame.frame, frame.shape, False).pose.turn.norm()
    assert torch.rad2deg(back) == pytest.approx(25, abs=0.5)
    assert 8 < torch.rad2deg(away) < 20


def test_translation_and_scale_move_the_head(renderer, portrait, bridge):
    base = Motion.rest(2)
    shift = bridge.head_translation(torch.tensor([[0.2, -0.1], [0.0, 0.0]]))
    motion = replace(base, translation=shift, scale=torch.tensor([[1.0], [1.1]]))
    payload = portrait.payload
    pose = perform(motion, bridge, payload.frame, payload.shape, False).pose
    assert pose.shift[0].tolist() == pytest.approx([0.2 * payload.frame.size, -0.1 * payload.frame.size], rel=1e-3)
    assert pose.scale.tolist() == pytest.approx([1.0, 1.1])
    frames = draw(renderer, portrait, motion)
    eye = portrait.face.landmarks[468, :2]
    x, y = (eye + pose.shift[0]).round().int().tolist()
    assert frames[0, y, x].mean() < 0.45, "the iris has moved along"


def test_blinks_are_read_in_the_portraits_own_measure(renderer, portrait, bridge):
    moved = bridge.displacement(torch.stack([blink_latent(bridge, a) for a in (0.0, 0.03, 0.2, -0.3)]))
    shut = expressions.closure(moved, portrait.payload.shape)
    assert shut[0].tolist() == [0, 0] and (shut[2] == 1).all() and (shut[3] == -0.55).all()
    assert ((shut[1] > 0.2) & (shut[1] < 0.7)).all()
