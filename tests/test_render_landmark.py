"""The landmark renderer's promises: what stays still stays equal, what moves moves as asked, and nothing folds."""

from __future__ import annotations

import itertools
import weakref
from dataclasses import replace

import pytest
import torch

from playmate_core.face.bridge import LatentBridge
from playmate_core.motion.types import Motion
from playmate_core.render.landmark import LandmarkRenderer
from playmate_core.render.landmark import expression as expressions
from playmate_core.render.landmark.clip import perform, plan
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
    moved = displacement(stage.nodes, field.depth, field.weight, field.border, still, clip.pose)
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


def test_lips_part_by_what_is_asked(renderer, portrait, bridge):
    asked = (0.0, 0.08, 0.16)
    frames = draw(renderer, portrait, motion_of([gap_latent(bridge, gap) for gap in asked]))
    x, y = portrait.face.landmarks[[13, 14], :2].mean(0).round().int().tolist()
    column = frames[:, y - 12:y + 30, x - 6:x + 7]
    red = column[..., 0] - column[..., 1]
    dark = ((column.mean(-1) < 0.30) | (red.abs() < 0.12) & (column.mean(-1) < 0.9)).float()
    inside = (dark * (red < 0.2)).sum((1, 2)) / 13
    assert inside[0] < 4
    assert inside[1] > inside[0] + 2 and inside[2] > inside[1] + 2
    assert inside[2] == pytest.approx(0.16 * 60 * 0.9, abs=4)


def test_a_speaking_clip_closes_an_open_mouth(renderer, bridge):
    image, face = drawn_face(open_mouth=0.12)
    appearance = renderer.prepare(image, face)
    assert appearance.payload.shape.mouth_open
    frames = draw(renderer, appearance, motion_of([gap_latent(bridge, gap) for gap in (0.0, 0.12)]))
    x, y = (int(v) for v in face.landmarks[[13, 14], :2].mean(0))
    dark = (frames[:, y - 10:y + 14, x - 4:x + 5].mean(-1) < 0.28).float().sum(1).mean(-1)
    assert dark[0] < 2.5, "the lips meet"
    assert dark[1] > dark[0] + 2, "and open again"


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
