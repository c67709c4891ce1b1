"""Several people of one picture through the pipeline: everybody's motion, and one film of all of them.

    left = pipeline.extract_appearance(models, picture, policy="left")
    right = pipeline.extract_appearance(models, picture, policy="right")
    motions = converse([left, right], [loudness_of("left.wav"), loudness_of("right.wav")],
                       [motion_of_left, motion_of_right])
    cast = Cast.of(right, motions[1], Cast.of(left, motions[0]))
    for frames in render_frames(models, cast): ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterator, Sequence

import torch
from torch import Tensor

from . import film_pipeline, pipeline
from .media.pictures import smaller
from .media.sizes import SIZE, check_size
from .media.sound import read_audio
from .motion.edits import slice_frames
from .motion.features import FPS
from .motion.lengths import SOUND_LENGTHS, fit_sound
from .motion.listening import (
    listen,
    listens_on,
    pauses,
    seen_speaking,
    share_of_speech,
    speaking,
    take_turns,
    who_is_heard,
)
from .motion.types import Motion
from .render.base import Appearance
from .render.cast import Cast, composed, drawn_on_film, look_at, looks_at, shares
from .render.film import check_scope
from .render.takes import Take, film_at, pictures_of, spoken_at
from .runtime.devices import each_with_a_core_left_free
from .runtime.progress import Progress, report
from .speech.prosody import loudness as levels

if TYPE_CHECKING:
    from .pipeline import AudioSource, Models

__all__ = ["Cast", "cast_with", "converse", "fit_cast", "listening", "loudness_of", "render_frames"]


def converse(appearances: Sequence[Appearance], loudness: Sequence[Tensor], motions: Sequence[Motion], seed: int = 0,
             head: bool = True, eyes: bool = True, blinks: Sequence[int] = ()) -> list[Motion]:
    """Everybody's motion as they speak and, while somebody else does, listen.

    Args:
        appearances: the people, faces of one picture.
        loudness: [T] decibels of each one's own voice at 25 a second, silent where somebody else speaks: from their
            speech features, or from :func:`loudness_of`.
        motions: what the motion model made of each one's voice.
        seed: of the listeners' nods and glances.
        head, eyes: whether listeners' heads and eyes are directed.
        blinks: numbers of those who never speak and whose motion has no blinks.

    Returns:
        As many motions, each as long as it was.
    """
    fps = motions[0].fps
    frames = max(len(motion) for motion in motions)
    loudness = [on_frames(one, FPS, frames, fps) for one in loudness]
    active = [speaking(one, fps) for one in loudness]
    faces = [appearance.face for appearance in appearances]
    breaks = [pauses(one, fps) for one in loudness]
    done = []
    for number, motion in enumerate(motions):
        attended = who_is_heard(active, number)
        looks, own = looks_at(faces, number, attended, fps), seed + 101 * number
        ends = [*(frame for frame, _ in attended[1:]), frames]
        nods = [at for (begin, speaker), end in zip(attended, ends, strict=False)
                for at in breaks[speaker] if begin <= at * fps < end]
        if number in blinks:
            done.append(listen(len(motion), fps, looks, nods, own))
        else:
            share = share_of_speech(active[number], fps)[:len(motion)]
            done.append(take_turns(motion, share, looks, nods, own, head, eyes))
    return done


def listening(appearance: Appearance, speaker: Appearance, speech: Tensor | None = None, motion: Motion | None = None,
              own_speech: Tensor | None = None, seconds: float | None = None, fps: float = FPS,
              seed: int = 0) -> Motion:
    """One person who listens to another one, and speaks in their own turn.

    Args:
        appearance: who listens.
        speaker: who is listened to.
        speech: [T] decibels of the speaker's voice at 25 a second; None where nothing is known of it.
        motion: the listener's own speech; None for somebody who says nothing.
        own_speech: [T] decibels of the listener's voice likewise; None reads it off the lips of ``motion``.
        seconds: how long; None is as long as ``speech`` and ``motion``.
        fps: frames a second where there is no motion.
    """
    fps = fps if motion is None else motion.fps
    frames = max(0 if motion is None else len(motion), 0 if speech is None else round(len(speech) / FPS * fps))
    frames = frames if seconds is None else max(1, round(seconds * fps))
    nods = [] if speech is None else pauses(speech.float().cpu(), FPS)
    looks = [(0.0, look_at(appearance.face, speaker.face))]
    if motion is None:
        return listen(frames, fps, looks, nods, seed)
    heard = seen_speaking(motion) if own_speech is None else on_frames(own_speech, FPS, len(motion), fps)
    motion = take_turns(motion, share_of_speech(speaking(heard, fps), fps), looks, nods, seed)
    return slice_frames(listens_on(motion, frames, looks, nods, seed), 0, frames)


def cast_with(appearance: Appearance, motion: Motion, cast: Cast | None = None) -> Cast:
    """A cast with one person more, unless they are in it.

    Raises:
        PlaymateError: as :meth:`Cast.of`.
    """
    if cast is not None and cast.holds(appearance):
        return cast
    return Cast.of(appearance, motion, cast)


def loudness_of(audio: AudioSource) -> Tensor:
    """[T] decibels of a voice at 25 a second, as speech features have them, without an encoder.

    Raises:
        PlaymateError: sound that cannot be read or holds nothing.
    """
    heard = read_audio(audio)
    return levels(heard.samples, max(1, round(heard.duration * FPS)), FPS)


def on_frames(loudness: Tensor, fps: float, frames: int, wanted: float) -> Tensor:
    """[frames] decibels at ``wanted`` frames a second of [T] at ``fps``; silence after their end."""
    place = ((torch.arange(frames, dtype=torch.float64) + 0.5) / wanted * fps).long()
    loudness = loudness.detach().float().cpu()
    read = loudness[place.clamp(max=max(len(loudness) - 1, 0))] if len(loudness) else torch.full((frames,), -80.0)
    return torch.where(place < len(loudness), read, torch.full_like(read, -80.0))


def fit_cast(cast: Cast, seconds: float | None, length: str = SOUND_LENGTHS[0]) -> tuple[Cast, str | None]:
    """The cast of a film whose sound lasts ``seconds``, everybody as long as each other; see ``lengths.fit_sound``."""
    cast = cast.in_step()
    first, note = fit_sound(cast.members[0][1], seconds, length)
    if len(first) == len(cast.members[0][1]):
        return cast, note
    return Cast(tuple((appearance, first if number == 0 else fit_sound(motion, seconds, length)[0])
                      for number, (appearance, motion) in enumerate(cast.members))), note


def render_frames(models: Models, cast: Cast, batch_size: int | None = None, progress: Progress = None, *,
                  size: int = SIZE, take: Take | None = None, scope: str = "mouth") -> Iterator[Tensor]:
    """Yields [B, H, W, 3] float32 sRGB 0..1 of everybody, ``cast.frames`` frames in order; on a film, the take's.

    Args:
        size: as for ``pipeline.render_frames``.
        take, scope: on a film, as for ``film_pipeline.film_frames``.

    Raises:
        PlaymateError: as ``pipeline.render_frames``.
    """
    cast = cast.in_step()
    if cast.appearance.film is not None:
        return _on_film(models, cast, batch_size, progress, size, take, scope)
    if len(cast) == 1:
        return pipeline.render_frames(models, *cast.members[0], batch_size, progress, size=size)
    done = [0] * len(cast)

    def counted(number: int):
        def count(frames: int, total: int) -> None:
            done[number] = frames
            report(progress, min(done), total)
        return count

    layers = [pipeline.render_frames(models, appearance, motion, batch_size, counted(number), size=size)
              for number, (appearance, motion) in enumerate(cast.members)]
    picture = cast.appearance.image
    own, (height, width) = tuple(picture.shape[:2]), pipeline.frame_size(cast.appearance, size)
    if own != (height, width):
        picture = smaller(picture, height, width)
    scale = torch.tensor([width / own[1], height / own[0], 1.0])
    places = [appearance.face.landmarks.float().cpu() * scale for appearance in cast.appearances]
    return composed(picture, layers, shares(places, height, width))


def _on_film(models: Models, cast: Cast, batch_size: int | None, progress: Progress, size: int, take: Take | None,
             scope: str) -> Iterator[Tensor]:
    first, spoken = cast.members[0]
    take = film_pipeline.film_take(first, spoken) if take is None else take
    if len(cast) == 1:
        return film_pipeline.film_frames(models, first, spoken, take, scope, batch_size, progress, size=size)
    check_scope(scope)
    films = [film_at(models.renderer, appearance.film, check_size(size)) for appearance in cast.appearances]
    motions = [spoken_at(motion, take) for _, motion in cast.members]
    drawn = drawn_on_film(models.renderer, films, motions, pictures_of(films[0].pictures, take.numbers), scope,
                          batch_size)
    return each_with_a_core_left_free(_counted(drawn, len(take), progress))


def _counted(frames: Iterator[Tensor], total: int, progress: Progress) -> Iterator[Tensor]:
    done = 0
    report(progress, done, total)
    for batch in frames:
        done += len(batch)
        yield batch
        report(progress, done, total)
