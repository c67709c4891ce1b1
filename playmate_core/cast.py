"""Several people of one picture through the pipeline: everybody's motion, and one film of all of them.

    left = pipeline.extract_appearance(models, picture, policy="left")
    right = pipeline.extract_appearance(models, picture, policy="right")
    motions = converse([left, right], [speech_of_left, speech_of_right], [motion_of_left, motion_of_right])
    cast = Cast.of(right, motions[1], Cast.of(left, motions[0]))
    for frames in render_frames(models, cast): ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterator, Sequence

import torch
from torch import Tensor

from . import pipeline
from .media.pictures import smaller
from .media.sizes import SIZE
from .motion.lengths import SOUND_LENGTHS, fit_sound
from .motion.listening import pauses, share_of_speech, speaking, take_turns, who_is_heard
from .motion.types import Motion
from .render.base import Appearance
from .render.cast import Cast, composed, looks_at, shares
from .runtime.progress import Progress, report

if TYPE_CHECKING:
    from .motion.features import SpeechFeatures
    from .pipeline import Models

__all__ = ["Cast", "converse", "fit_cast", "render_frames"]


def converse(appearances: Sequence[Appearance], speech: Sequence[SpeechFeatures], motions: Sequence[Motion],
             seed: int = 0, head: bool = True, eyes: bool = True) -> list[Motion]:
    """Everybody's motion as they speak and, while somebody else does, listen.

    Args:
        appearances: the people, faces of one picture.
        speech: features of each one's own voice, silent where somebody else speaks.
        motions: what the motion model made of each one's voice.
        seed: of the listeners' nods and glances.
        head, eyes: whether listeners' heads and eyes are directed.

    Returns:
        As many motions, each as long as it was.
    """
    fps = motions[0].fps
    frames = max(len(motion) for motion in motions)
    loudness = [on_frames(one.loudness, one.fps, frames, fps) for one in speech]
    active = [speaking(one, fps) for one in loudness]
    faces = [appearance.face for appearance in appearances]
    breaks = [pauses(one, fps) for one in loudness]
    done = []
    for number, motion in enumerate(motions):
        attended = who_is_heard(active, number)
        ends = [(*attended[1:], (frames, -1))[place][0] for place in range(len(attended))]
        nods = [at for (begin, speaker), end in zip(attended, ends, strict=True)
                for at in breaks[speaker] if begin <= at * fps < end]
        done.append(take_turns(motion, share_of_speech(active[number], fps)[:len(motion)],
                               looks_at(faces, number, attended, fps), nods, seed + 101 * number, head, eyes))
    return done


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
                  size: int = SIZE) -> Iterator[Tensor]:
    """Yields [B, H, W, 3] float32 sRGB 0..1 of everybody, ``cast.frames`` frames in order.

    Args:
        size: as for ``pipeline.render_frames``.

    Raises:
        PlaymateError: as ``pipeline.render_frames``.
    """
    cast = cast.in_step()
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
