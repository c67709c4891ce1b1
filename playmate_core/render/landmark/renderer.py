"""Draws motion on a portrait by moving its own pixels: no network, no weights beyond the bridge's matrix."""

from __future__ import annotations

import logging
import weakref
from dataclasses import dataclass, replace
from typing import Callable, Iterator

import torch
from torch import Tensor

from ...face.bridge import LatentBridge
from ...face.geometry import identity_feature
from ...face.types import Face
from ...motion.edits import slice_frames
from ...motion.types import Motion
from ...runtime.acceleration import is_out_of_memory
from ...runtime.devices import CPU, free_memory, told_to_leave
from ...runtime.errors import PlaymateError
from ...runtime.progress import Progress, report
from ..base import Appearance, check_request, part_of
from ..film import Film, check_scope
from . import eye, film_draw, lids, lips, mouth, obedience, opening, portrait, skin, topology
from .clip import FREE_VIEW, Clip, perform, plan, requested_turn
from .grid import smoothstep
from .head import ClipField, cut
from .warp import displacement, invert, with_slopes

log = logging.getLogger(__name__)

NAME = "the landmark renderer"

PIXELS_AT_ONCE = 1_000_000
"""Pixels of moving picture in a batch, when the caller leaves the batch size open."""

FRAMES_AHEAD = 96
"""Frames whose landmarks are worked out at once, at most."""


@dataclass(frozen=True)
class Stage:
    """One portrait and one clip, ready to be drawn in any batches.

    Attributes:
        image: [H, W, 3] the portrait; prepared: what only it decides.
        source: [1, 3, h, w] the part of the portrait that moves.
        x0, y0: its first pixel.
        size: its rows and columns.
        on_grid: [1, h, w, 2] its pixels in the coordinates of the nodes' grid, -1..1.
        on_texture: [1, h, w, 2] its pixels in the coordinates of the texture, -1..1; texture_scale: [2].
        field: the head's nodes; nodes: [N, 2].
        mouth_around, eye_around: what the openings' nodes take over.
    """

    image: Tensor
    prepared: portrait.Prepared
    source: Tensor
    x0: int
    y0: int
    size: tuple
    on_grid: Tensor
    on_texture: Tensor
    texture_scale: Tensor
    field: ClipField
    nodes: Tensor
    mouth_around: opening.Surround
    eye_around: tuple


class LandmarkRenderer:
    """The renderer of the bundled pack; see render/base.py for the protocol.

    Args:
        bridge: reads latents as landmark displacements.
        device: where frames are computed and returned. When it turns out to lack an operation, a warning says so and
            the rest is drawn on the CPU.
        tracker: finds a portrait's face in frames that were drawn of it. With it, heads are tested for how far they
            turn (see obedience.py); without, angles are taken at their word.
        wrinkles: how much skin creases where it is pushed together, 0 to 2; 1 is natural.
    """

    name = "landmark"

    def __init__(self, bridge: LatentBridge, device: str | torch.device = "cpu",
                 tracker: obedience.Tracker | None = None, wrinkles: float = 1.0) -> None:
        self.bridge = bridge
        self.tracker = tracker
        self.wrinkles = float(min(max(wrinkles, 0.0), skin.LARGEST))
        self.device = torch.device(device)
        # By portrait, for as long as somebody holds it.
        self._responses: weakref.WeakKeyDictionary[portrait.Prepared, obedience.Response] = weakref.WeakKeyDictionary()

    @torch.no_grad()
    def prepare(self, image: Tensor, face: Face) -> Appearance:
        """Everything that only the portrait decides.

        Args:
            image: [H, W, 3] float32 sRGB 0..1, at least 2 x 2 pixels.
            face: the face to animate.

        Raises:
            PlaymateError: no picture of that shape, or a face too small to animate.
        """
        if image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < 2:
            raise PlaymateError(f"The portrait has shape {tuple(image.shape)} where [height, width, 3] is needed.")
        image = image.detach().float().clamp(0, 1)
        payload = portrait.prepare(image, face, self.bridge).to(self.device)
        return Appearance(image.to(self.device), face, self.bridge.from_blendshapes(face.blendshapes),
                          identity_feature(face.landmarks), self.name, payload)

    @torch.no_grad()
    def render(self, appearance: Appearance, motion: Motion, batch_size: int | None = None,
               progress: Progress = None, part: range | None = None) -> Iterator[Tensor]:
        """Yields frame batches [B, H, W, 3] float32 0..1 on the renderer's device.

        Whether the clip speaks is decided for the clip as a whole: only then is the portrait's own mouth opening
        taken out, and a motion at rest throughout returns the portrait as it is.

        Args:
            batch_size: frames at once, at least 1; None chooses by size. Halved when memory runs out.
            part: the frames that are drawn, of ``render.base.part_of``; None draws all.

        Raises:
            PlaymateError: an appearance of another renderer, or a batch size below 1.
        """
        check_request(self.name, appearance, batch_size)
        return self._frames(appearance, motion, batch_size, progress, part_of(motion) if part is None else part)

    @torch.no_grad()
    def prepare_film(self, film: Film, progress: Progress = None) -> Film:
        """The film with what its pictures share; see render/film.py."""
        return film_draw.prepare(film, self.bridge, progress)

    @torch.no_grad()
    def render_film(self, film: Film, pictures: Iterator[tuple[int, Tensor]], motion: Motion, scope: str,
                    batch_size: int | None = None, progress: Progress = None) -> Iterator[Tensor]:
        """Yields a film's pictures with ``motion`` on them, as render/film.py has it."""
        yield from film_draw.draw(self, film, pictures, motion, check_scope(scope), batch_size, progress)

    @torch.no_grad()
    def _frames(self, appearance: Appearance, motion: Motion, batch_size: int | None,
                progress: Progress, part: range) -> Iterator[Tensor]:
        total = len(part)
        report(progress, 0, total)
        if not total:
            return
        prepared: portrait.Prepared = appearance.payload
        stage, count = None, 0
        done = start = stop = 0
        while done < total:
            smaller = False
            try:
                if stage is None:
                    response = self._response(appearance, motion)
                    whole = plan(motion, self.bridge, prepared.frame, response)
                    stage = self._stage(appearance, whole.reach)
                    if batch_size is None:
                        batch_size = max(1, min(16, PIXELS_AT_ONCE // max(1, stage.size[0] * stage.size[1])))
                if done >= stop:
                    start, stop = done, min(done + FRAMES_AHEAD, total)
                    clip = perform(slice_frames(motion, part.start + start, part.start + stop), self.bridge,
                                   prepared.frame, prepared.shape, whole.speaks, response, whole.closes)
                count = min(batch_size, stop - done)
                frames = self._draw(stage, clip[done - start:done - start + count].to(self.device))
            except (RuntimeError, TypeError, MemoryError) as error:
                smaller = is_out_of_memory(error) and count > 1
                if not smaller and not told_to_leave(error, self.device, NAME):
                    raise
                frames = None
            # Outside of the handler: until it ends, the error keeps the tensors that filled the memory.
            if smaller:
                batch_size = max(1, count // 2)
                log.warning("Out of memory; going on with %d frames at once.", batch_size)
                free_memory(self.device)
            elif frames is None:
                self.device, stage = CPU, None
            else:
                done += count
                yield frames
                frames = None  # or this batch would lie beside the next
                report(progress, done, total)

    def _response(self, appearance: Appearance, motion: Motion) -> obedience.Response | None:
        """What the portrait makes of turns; it is tested the first time that a motion turns it visibly."""
        prepared: portrait.Prepared = appearance.payload
        if self.tracker is None or not obedience.is_worth_it(requested_turn(motion)):
            return None
        if prepared not in self._responses:
            own, size = prepared.frame.angles().tolist(), tuple(appearance.image.shape[:2])
            limits = obedience.view_limits((own[0], own[1]), FREE_VIEW)
            poses = obedience.trial_poses(limits)
            seen = self._look(appearance, poses)
            response = obedience.read_response(poses, seen, size)
            poses = obedience.corner_poses(response, limits)
            if len(poses):
                response = obedience.read_corners(response, poses, self._look(appearance, poses), seen[0], size)
            self._responses[prepared] = response
        return self._responses[prepared]

    def _look(self, appearance: Appearance, poses: Tensor) -> Tensor:
        """[P, 478, 3] landmarks seen on the portrait drawn in ``poses`` [P, 3] degrees, taken at their word."""
        prepared: portrait.Prepared = appearance.payload
        turning = replace(Motion.rest(len(poses)), rotation=poses)
        clip = perform(turning, self.bridge, prepared.frame, prepared.shape, speaks=False)
        stage = self._stage(appearance, obedience.TEST_REACH)
        # One at a time: a batch's memory, which depends on the picture's size, is nobody's to halve here.
        return torch.cat([self.tracker(self._draw(stage, clip[number:number + 1].to(self.device)), appearance.face)
                          for number in range(len(poses))])

    def _stage(self, appearance: Appearance, reach: float) -> Stage:
        image, prepared = appearance.image.to(self.device), appearance.payload.to(self.device)
        return self.staged(image, prepared, cut(prepared.field, prepared.frame, reach, self.device))

    def staged(self, image: Tensor, prepared: portrait.Prepared, field: ClipField) -> Stage:
        """A stage that draws what ``field``'s nodes cover of ``image`` [H, W, 3]."""
        x0, y0, x1, y1 = field.grid.box
        height, width = image.shape[:2]
        c0, r0 = max(0, int(-(-(x0 - 0.5) // 1))), max(0, int(-(-(y0 - 0.5) // 1)))
        c1, r1 = min(width, int((x1 - 0.5) // 1) + 1), min(height, int((y1 - 0.5) // 1) + 1)
        row, column = torch.meshgrid(torch.arange(r0, r1), torch.arange(c0, c1), indexing="ij")
        pixels = torch.stack([column, row], -1).float().to(self.device) + 0.5
        source = image[r0:r1, c0:c1].permute(2, 0, 1)[None].contiguous()
        nodes = field.grid.nodes_tensor(self.device).reshape(-1, 2)
        scale, origin = prepared.texture.scale(pixels)
        return Stage(image, prepared, source, c0, r0, (r1 - r0, c1 - c0), field.grid.places(pixels)[None],
                     ((pixels - origin) * scale - 1)[None], scale, field, nodes,
                     opening.Surround.of(prepared.mouth_opening, field),
                     tuple(opening.Surround.of(s, field) for s in prepared.eye_openings))

    def _draw(self, stage: Stage, clip: Clip) -> Tensor:
        out = stage.image.expand(len(clip.moves), -1, -1, -1).clone()
        if bool(clip.moves.any()):
            rows, columns = stage.size
            picture = self.moving_part(stage, clip)
            out[:, stage.y0:stage.y0 + rows, stage.x0:stage.x0 + columns] = picture.permute(0, 2, 3, 1)
        return out

    def moving_part(self, stage: Stage, clip: Clip, mouth_only: bool = False) -> Tensor:
        """[B, 3, h, w] the stage's part of the portrait in the frames of ``clip``; with ``mouth_only`` its eyes are
        neither drawn nor its skin creased."""
        frames, prepared = len(clip.moves), stage.prepared
        field, grid = stage.field, stage.field.grid
        expression = clip.landmarks.new_zeros(frames, len(stage.nodes), 3)
        moved = torch.matmul(field.weights, clip.landmarks.permute(1, 0, 2).reshape(topology.LANDMARKS, -1))
        expression[:, field.rows] = moved.reshape(len(field.rows), frames, 3).transpose(0, 1)
        forward = displacement(stage.nodes, field.depth, field.flat, field.weight, field.border, expression,
                               clip.pose)
        forward = with_slopes(forward.reshape(frames, 2, grid.rows, grid.columns), grid.step)
        nodes = stage.nodes.reshape(grid.rows, grid.columns, 2)
        back = (invert(forward, grid, nodes) - nodes).permute(0, 3, 1, 2)

        offset = grid.sample_at(back, stage.on_grid.expand(frames, -1, -1, -1)).permute(0, 2, 3, 1)
        picture = prepared.texture.read_at(torch.addcmul(stage.on_texture, offset, stage.texture_scale))
        # What no frame of the batch moves stays bit for bit; looking a picture up would round it.
        moved = (back.abs().amax((0, 1), keepdim=True) > 2e-4).float()
        moved = (grid.sample_at(moved, stage.on_grid) > 0).float()
        picture.mul_(moved).add_(stage.source * (1 - moved))

        if clip.speaks:
            self._mouth(picture, stage, clip, back)
        for side in () if mouth_only else (0, 1):
            self._eye(picture, stage, clip, back, side)
        if not mouth_only:
            prepared.skin.shade(picture, clip.landmarks, offset, (stage.x0, stage.y0), float(back.abs().max()),
                                self.wrinkles)
        return picture

    def _mouth(self, picture: Tensor, stage: Stage, clip: Clip, back: Tensor) -> None:
        prepared, size = stage.prepared, stage.prepared.frame.size
        inner = list(topology.LIPS_INNER_UPPER + topology.LIPS_INNER_LOWER)
        share = smoothstep((clip.landmarks[:, inner, :2].norm(dim=-1).amax(1) - 0.1) / 0.6)
        if not bool((share > 0).any()):
            return
        opened = opening.open_up(prepared.mouth_opening, stage.mouth_around, clip.landmarks, clip.pose, back,
                              stage.field.grid, size, softness=max(1.0, 0.008 * size), deadzone=0.006 * size)
        _lay(picture, stage, opened, share,
             lambda part: mouth.paint(prepared.mouth, part, clip.pose, clip.jaw, prepared.texture),
             prepared.parted)

    def _eye(self, picture: Tensor, stage: Stage, clip: Clip, back: Tensor, side: int) -> None:
        prepared, size = stage.prepared, stage.prepared.frame.size
        widest = float(prepared.shape.openings[side].norm(dim=-1).max())
        activity = torch.maximum(clip.shut[:, side].abs() * widest, clip.gaze[:, side].norm(dim=-1)) * size
        share = smoothstep((activity - 0.1) / 0.6)
        if not bool((share > 0).any()):
            return
        opened = opening.open_up(prepared.eye_openings[side], stage.eye_around[side], clip.landmarks, clip.pose, back,
                              stage.field.grid, size, softness=max(1.0, 0.006 * size))
        _lay(picture, stage, opened, share,
             lambda part: eye.paint(prepared.eyes[side], part, clip.pose, clip.gaze[:, side], clip.shut[:, side]),
             folded=(prepared.lids[side], lids.comes_out(clip.shut[:, side])))


def _lay(picture: Tensor, stage: Stage, opened: opening.DrawnOpening, share: Tensor,
         paint: Callable[[opening.DrawnOpening], Tensor], parted: tuple = (), folded: tuple = ()) -> None:
    """Puts an opening, what ``paint`` draws in it and the skin round it into ``picture`` [B, 3, h, w], in place.

    ``parted`` holds textures of the skin above and below as it is where the edges have left each other, ``folded``
    the texture of skin above that comes out of a fold and how much of it does, [B].
    """
    texture = stage.prepared.texture
    upper, lower = texture.read(opened.upper), texture.read(opened.lower)
    if folded and bool((folded[1] > 0).any()):
        unfolded = folded[0].read(opened.upper)
        upper += folded[1][:, None, None, None] * unfolded[:, 3:] * (unfolded[:, :3] - upper)
    if parted:
        rows, columns = opened.hole(2.5 * lips.REACH * stage.prepared.frame.size)
        near = opened.window(rows, columns)
        open_share = mouth.openness(stage.prepared.mouth, near)
        for whole, alone, places in ((upper, parted[0], near.upper), (lower, parted[1], near.lower)):
            under = whole[:, :, rows, columns]
            alone = alone.read(places)
            under += open_share * alone[:, 3:] * (alone[:, :3] - under)
            under *= mouth.meeting(stage.prepared.mouth, near)
    patch = upper * opened.above + lower * opened.below
    rows, columns = opened.hole()
    if rows.stop > rows.start:
        part = opened.window(rows, columns)
        patch[:, :, rows, columns] += paint(part) * part.between
    alpha = opened.feather * share[:, None, None, None]
    rows, columns = picture.shape[2:]
    height, width = patch.shape[2:]
    for frame, (column, row) in enumerate(opened.corner.tolist()):
        top, left = row - stage.y0, column - stage.x0
        r0, r1, c0, c1 = max(0, top), min(rows, top + height), max(0, left), min(columns, left + width)
        if r0 >= r1 or c0 >= c1:
            continue
        part = (slice(r0 - top, r1 - top), slice(c0 - left, c1 - left))
        under = picture[frame, :, r0:r1, c0:c1]
        under += alpha[frame][:, part[0], part[1]] * (patch[frame][:, part[0], part[1]] - under)
