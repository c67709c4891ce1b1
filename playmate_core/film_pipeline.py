"""The high-level API for films as portraits, beside ``pipeline`` for pictures; in the order of calls:

    models = load_models()
    appearance = extract_film(models, open_film("film.mp4"))
    motion = generate_motion(models, encode_audio(models, "voice.wav"), appearance, fps=appearance.film.fps)
    take = film_take(appearance, motion)
    write_take("dubbed.mp4", film_frames(models, appearance, motion, take), take, audio="voice.wav")
"""

from __future__ import annotations

import logging
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterator

import torch
from torch import Tensor

from .media.film_pictures import FilmBatch, FilmFile, FilmPictures, batch_film, open_film
from .media.pictures import check_image
from .media.sizes import SIZE, check_size
from .motion.resampling import at_times
from .motion.types import Motion
from .render.base import Appearance
from .render.film import Film, check_scope
from .render.staging import prepare
from .render.takes import Take, average_rate, check_renderer, draw_take, is_steady, plan_take
from .runtime.devices import each_with_a_core_left_free
from .runtime.errors import PlaymateError
from .runtime.progress import Progress, report

if TYPE_CHECKING:
    from .media.film_sound import SoundSource
    from .pipeline import Models

log = logging.getLogger(__name__)

__all__ = ["batch_film", "extract_film", "film_frames", "film_motion", "film_take", "open_film", "write_take"]


def extract_film(models: Models, pictures: FilmPictures, policy: str = "largest", index: int = 0, *,
                 size: int = SIZE, notify: Callable[[str], None] = log.warning,
                 progress: Progress = None) -> Appearance:
    """Follows one face through a film and prepares the film for the renderer. The film is read twice; only landmarks
    are kept.

    Args:
        pictures: of ``open_film`` or ``batch_film``.
        policy, index: which face, as in ``pipeline.extract_appearance``, in the first picture that shows any.
        size: longest side of the frames that will most likely be asked for; a larger film is read smaller.
        notify: given in one go, in sentences, what will not look right.
        progress: called with (pictures done, all), twice as many as there are.

    Returns:
        An Appearance with ``film``; its picture and face are of one clear picture of the film.

    Raises:
        PlaymateError: no pictures, no face in them, a renderer that does not draw on films, or a size that cannot be
            drawn.
    """
    from .driving.followed import clear_picture, follow_film, motion_of
    from .face.cover import notes
    from .face.types import Face
    from .face.views import bounds
    from .render.takes import pictures_of

    renderer = check_renderer(models.renderer)
    pictures = _at_most(pictures, check_size(size))
    expected = pictures.total
    followed = follow_film(models.face, pictures, pictures.fps, total=expected, policy=policy, index=index,
                           progress=lambda done, total: report(progress, done, 2 * max(total, expected)))
    count, fps = len(followed.times), average_rate(followed.times, pictures.fps)
    film = Film(pictures, followed.times, fps, followed.size, followed.landmarks, followed.blendshapes, followed.seen,
                followed.shot, motion_of(followed, models.bridge, fps))
    film = renderer.prepare_film(film, lambda done, total: report(progress, count + done * count // max(
        total, 1), 2 * count))
    number = clear_picture(followed, models.bridge)
    _, picture = next(pictures_of(pictures, torch.tensor([number])))
    image = check_image(picture)
    points = film.landmarks[number].clone()
    face = Face(points, film.blendshapes[number].clone(), bounds(points), 1.0, 1.0)
    said = notes(models.face, image, face)
    hidden = count - int(film.seen.sum())
    if hidden:
        said.append(f"{hidden} of the film's {count} pictures do not show the face that is followed; they are left as "
                    "they are.")
    if said:
        notify(" ".join(said))
    return replace(prepare(models.renderer, image, face, size), image=image, face=face, payload=None, stage=None,
                   film=film)


def film_motion(appearance: Appearance) -> Motion:
    """What the face does in the film by itself, at a steady rate.

    Raises:
        PlaymateError: an appearance of a picture.
    """
    film = _film_of(appearance)
    if is_steady(film.times, film.fps):
        return film.motion
    frames = max(round((float(film.times[-1] - film.times[0]) + 1 / film.fps) * film.fps), 1)
    # Between pictures at varying times the numbers of the pictures run unevenly.
    clock = torch.arange(frames, dtype=torch.float64) / film.fps + float(film.times[0])
    after = torch.searchsorted(film.times, clock).clamp(1, max(len(film) - 1, 1))
    before = film.times[after - 1]
    share = (clock - before) / (film.times[after.clamp_max(len(film) - 1)] - before).clamp_min(1e-9)
    return at_times(film.motion, (after - 1 + share.clamp(0, 1)) / film.fps, film.fps)


def film_take(appearance: Appearance, motion: Motion, length: str = "hold", *, fps: float | None = None) -> Take:
    """Which of the film's pictures are drawn, and when: as long as the motion, by one of ``render.takes.FILM_LENGTHS``.

    Args:
        fps: frames a second of the result; None keeps the film's own times, 0 its average rate.

    Raises:
        PlaymateError: an appearance of a picture, an unknown length, or no motion.
    """
    film = _film_of(appearance)
    if fps == 0:
        fps = film.fps
    return plan_take(film, motion.duration, length, fps)


def film_frames(models: Models, appearance: Appearance, motion: Motion, take: Take | None = None,
                scope: str = "mouth", batch_size: int | None = None, progress: Progress = None, *,
                size: int = SIZE) -> Iterator[Tensor]:
    """Yields [B, H, W, 3] float32 sRGB 0..1, len(take) frames in order.

    Args:
        take: from :func:`film_take`; by default the motion's length, with the film's last picture held.
        scope: what of the film the motion replaces, one of ``render.film.SCOPES``.
        size: longest side of the frames, pixels; a smaller film keeps its own, and so does any with 0.

    Raises:
        PlaymateError: an appearance of a picture or of another renderer, or an unknown scope or size.
    """
    film = _film_of(appearance)
    check_scope(scope)
    if appearance.renderer != models.renderer.name:
        raise PlaymateError(f"The appearance was prepared for the {appearance.renderer} renderer, but "
                            f"{models.renderer.name} is loaded; extract it again with these models.")
    take = film_take(appearance, motion) if take is None else take
    return each_with_a_core_left_free(draw_take(models.renderer, film, motion, take, scope, size=check_size(size),
                                                batch_size=batch_size, progress=progress))


def write_take(path: str | PathLike, frames: Iterator[Tensor], take: Take, audio: SoundSource = None,
               **options) -> Path:
    """Writes a take's frames at their own times; ``options`` and errors as of ``media.video_writer.write_video``."""
    from .media.video_writer import write_video

    if not take.steady:
        options["times"] = take.times.tolist()
    return write_video(path, frames, take.fps, len(take), audio=audio, **options)


def _film_of(appearance: Appearance) -> Film:
    if appearance.film is None:
        raise PlaymateError("This appearance is a picture's; extract a film, or draw it with pipeline.render_frames.")
    return appearance.film


def _at_most(pictures: FilmPictures, size: int) -> FilmPictures:
    if not isinstance(pictures, (FilmFile, FilmBatch)):
        raise PlaymateError("A film is given as open_film or batch_film makes it.")
    return pictures.at_size(size) if size and max(pictures.own_size) > size else pictures
