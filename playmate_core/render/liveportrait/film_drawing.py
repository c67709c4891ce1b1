"""Draws motion on a film's pictures with LivePortrait's networks: each picture read, drawn and pasted back."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Iterator

import torch
from torch import Tensor

from ...motion.edits import slice_frames
from ...motion.geometry import rotation_matrix
from ...motion.types import FIELDS, Motion
from ...runtime.acceleration import exact_float32
from ...runtime.errors import PlaymateError
from ...runtime.progress import Progress, report
from ..film import Film, check_scope
from .animate import Latents
from .attempts import Retry, attempt
from .crop import Square
from .film import Reading, film_keypoints, numbered, reading_of, squares_through
from .lower_face import lower_face
from .memory import batch_that_fits, most_frames
from .paste import Placement, paste_mask
from .source import WarpSource

if TYPE_CHECKING:
    from .renderer import LivePortraitRenderer

BATCH = 8
"""Crops that M sees at once; they take little."""



@torch.no_grad()
def prepare_film(renderer: LivePortraitRenderer, film: Film, progress: Progress = None) -> Film:
    """The film with what M says of its pictures; see ``render.film.FilmRenderer``.

    Raises:
        PlaymateError: networks for animals, or a film that ends sooner than before.
    """
    if renderer.animal:
        raise PlaymateError("LivePortrait's networks for animals draw on pictures only; load the pack liveportrait.")
    squares = squares_through(film)
    found: dict[str, list[Tensor]] = {}
    waiting: list[tuple[int, Tensor]] = []

    def flush() -> None:
        motion = renderer.on_a_device(lambda: _read(renderer, squares, waiting))
        for name, values in motion.items():
            found.setdefault(name, []).append(values.float().cpu())
        waiting.clear()

    count = 0
    for number, (_, picture) in enumerate(islice(film.pictures, len(film))):
        count = number + 1
        if film.seen[number]:
            waiting.append((number, picture))
        if len(waiting) == BATCH:
            flush()
        report(progress, count, len(film))
    if waiting:
        flush()
    if count < len(film):
        raise PlaymateError(f"The film gave {count} of {len(film)} pictures when it was looked at again; convert it to "
                            "MP4 with H.264 and try again.")
    motion = {name: torch.cat(values) for name, values in found.items()}
    return replace(film, payload=reading_of(film, squares, motion, renderer.bridge))


def _read(renderer: LivePortraitRenderer, squares: Tensor, pictures: list[tuple[int, Tensor]]) -> dict[str, Tensor]:
    renderer._make_ready(1)
    crops = torch.cat([renderer.crop(as_planes(picture).to(renderer.device), Square(*squares[number].tolist()))
                       for number, picture in pictures])
    with exact_float32():
        return renderer.networks.motion.motion(crops)


def as_planes(picture: Tensor) -> Tensor:
    """[H, W, 3] uint8 or float32 0..1 -> [3, H, W] float32 0..1; on the CPU, where dividing is exact."""
    picture = picture.detach().permute(2, 0, 1)
    if picture.dtype == torch.uint8:
        return picture.cpu().contiguous().float() / 255
    return picture.float().clamp(0, 1).contiguous()


def render_film(renderer: LivePortraitRenderer, film: Film, pictures: Iterator[tuple[int, Tensor]], motion: Motion,
                scope: str, batch_size: int | None = None, progress: Progress = None) -> Iterator[Tensor]:
    """See ``render.film.FilmRenderer``; frames are on the renderer's device. Memory does not grow with their number.

    Raises:
        PlaymateError: an unknown scope, a film that another renderer prepared, a batch size below 1, or pictures that
            the film does not have or that end before the motion.
    """
    check_scope(scope)
    if not isinstance(film.payload, Reading):
        raise PlaymateError("This film was prepared for another renderer; extract it again with the liveportrait "
                            "renderer.")
    if batch_size is not None and batch_size < 1:
        raise PlaymateError(f"The batch size is {batch_size}; it must be at least 1.")
    return _frames(renderer, film, numbered(pictures, film), motion, scope, batch_size, progress)


@torch.no_grad()
def _frames(renderer: LivePortraitRenderer, film: Film, pictures: Iterator[tuple[int, Tensor]], motion: Motion,
            scope: str, batch_size: int | None, progress: Progress) -> Iterator[Tensor]:
    total, done = len(motion), 0
    report(progress, 0, total)
    if not total:
        return
    if batch_size is None:
        # Asked for first: what is free is known once others have made room.
        renderer._make_ready(min(most_frames(renderer.device), total))
        batch_size = batch_that_fits(renderer.device, renderer.dtype, film.size)
    batch_size = min(batch_size, total)
    renderer._make_ready(batch_size)
    waiting: list[tuple[int, Tensor]] = []
    try:
        while done < total:
            waiting += islice(pictures, max(0, min(batch_size, total - done) - len(waiting)))
            count = min(batch_size, len(waiting))
            if not count:
                raise PlaymateError(f"The film gave {done} of {total} pictures that the motion needs; convert it to "
                                    "MP4 with H.264 and try again.")
            now = slice_frames(motion, done, done + count)
            draw = partial(_draw, renderer, film, waiting[:count], now, scope, batch_size)
            frames, retry = attempt(draw, renderer.device, count)
            if retry is Retry.SMALLER:
                batch_size = renderer.smaller(count)
            elif retry is Retry.ON_THE_CPU:
                renderer._leave_device()
            else:
                if not done:
                    renderer._check(frames)
                del waiting[:count]
                done += count
                yield frames
                report(progress, done, total)
    finally:
        if renderer.place.resident is not None:
            renderer._let_go()


def _draw(renderer: LivePortraitRenderer, film: Film, batch: list[tuple[int, Tensor]], motion: Motion, scope: str,
          batch_size: int) -> Tensor:
    """[B, H, W, 3] frames of one batch."""
    device, reading = renderer.device, film.payload
    planes = [as_planes(picture).to(device) for _, picture in batch]
    out = torch.stack(planes).permute(0, 2, 3, 1)
    shown = [row for row, (number, _) in enumerate(batch) if bool(film.seen[number])]
    if not shown:
        return out.contiguous()
    numbers = torch.tensor([batch[row][0] for row in shown])
    # A picture that is held, or comes again, is looked at once.
    distinct, rows = numbers.unique(return_inverse=True)
    first = [shown[(rows == which).nonzero()[0, 0]] for which in range(len(distinct))]
    renderer._make_ready(batch_size)
    crops = torch.cat([renderer.crop(planes[row], reading.square(batch[row][0])) for row in first])
    with exact_float32():
        volume = renderer.networks.appearance(crops)
    own = reading.source_of(distinct).to(device)
    kept = renderer.networks.warping.source(volume.to(renderer.dtype), own.keypoints())
    if len(distinct) > 1:
        kept = WarpSource(*(tensor[rows.to(device)] for tensor in kept.tensors))
    keypoints = _keypoints(renderer, reading, numbers, _rows(motion, shown), scope)
    drawn = renderer._crops(kept, keypoints, batch_size)
    out = list(out)
    for crop, row in zip(drawn, shown, strict=True):
        number = batch[row][0]
        placement = _placement(reading.square(number), film.landmarks[number], scope, renderer.side, film.size, device)
        out[row] = placement.paste(crop[None], planes[row])[0]
    return torch.stack(out)


def _rows(motion: Motion, rows: list[int]) -> Motion:
    return replace(motion, **{name: getattr(motion, name)[rows] for name in FIELDS})


def _placement(square: Square, landmarks: Tensor, scope: str, side: int, size: tuple[int, int], device) -> Placement:
    if scope != "mouth":
        return Placement.of(square.matrix(side), side, size, device)
    part = lower_face(landmarks, square, side, device)
    return Placement.of(square.matrix(side), side, size, device, paste_mask(side, device) * part.mask, part.box)


def _keypoints(renderer: LivePortraitRenderer, reading: Reading, numbers: Tensor, motion: Motion,
               scope: str) -> Tensor:
    """[B, K, 3] driving keypoints of the pictures ``numbers`` [B]."""
    device = renderer.device
    source, rest = reading.source_of(numbers).to(device), reading.rest_of(numbers).to(device)
    motion = motion.to(device)
    neutral = motion.neutral
    driving = Latents(motion.expression, rotation_matrix(motion.rotation), motion.scale, motion.translation)
    reference = Latents(neutral.expression[None], rotation_matrix(neutral.rotation)[None], neutral.scale[None],
                        neutral.translation[None])
    if renderer.options.retarget_eyes or renderer.options.retarget_lips:
        driving = renderer._with_openings(driving, rest, motion)
    return film_keypoints(source, rest, driving, reference, scope, renderer.options, renderer.networks.stitching)
