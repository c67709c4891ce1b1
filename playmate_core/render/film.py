"""A film as the portrait: what its drawing needs to know of it, and what every renderer that draws on films offers.

A film is never held whole. Who draws gets its pictures one after another, each with the number under which everything
that was found in it beforehand is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Iterator, Protocol

from torch import Tensor

from ..motion.types import Motion
from ..runtime.errors import PlaymateError
from ..runtime.progress import Progress

SCOPES = ("mouth", "face", "all")
"""What of the film the motion replaces: lips, jaw and what they move; every expression, while the head stays the
film's; or all of it."""


def check_scope(scope: str) -> str:
    """``scope`` itself.

    Raises:
        PlaymateError: none of ``SCOPES``.
    """
    if scope not in SCOPES:
        raise PlaymateError(f"The scope is {scope!r}; choose one of: {', '.join(SCOPES)}.")
    return scope


class Pictures(Protocol):
    """A film's pictures, to be iterated over as often as wanted, each time from the first."""

    def __iter__(self) -> Iterator[tuple[float, Tensor]]:
        """``(seconds since the film's beginning, [H, W, 3] uint8 or float32 0..1)``"""
        ...


@dataclass(frozen=True, eq=False)
class Film:
    """A film in which one face was followed; N pictures.

    Attributes:
        pictures: the pictures themselves, read again when they are drawn.
        times: [N] seconds of each picture since the film's beginning, float64, rising.
        fps: frames a second, the average where they vary.
        size: (height, width) of the pictures, pixels.
        landmarks: [N, 478, 3] of the face, pixels, without the tracker's jitter; in pictures that do not show the
            face, bridged from those that do.
        blendshapes: [N, 52] likewise.
        seen: [N] bool, whether the picture shows the face. Others are left as they are.
        shot: [N] int64, rises by one at every cut.
        motion: N frames, what the face does in the film by itself.
        payload: whatever the renderer found in the film as a whole (the neutral mouth, the teeth).
    """

    pictures: Pictures = field(repr=False)
    times: Tensor
    fps: float
    size: tuple[int, int]
    landmarks: Tensor
    blendshapes: Tensor
    seen: Tensor
    shot: Tensor
    motion: Motion
    payload: Any = field(repr=False, default=None)

    def __len__(self) -> int:
        return len(self.times)


class FilmRenderer(Protocol):
    """A renderer that draws on films too."""

    name: str

    def prepare_film(self, film: Film, progress: Progress = None) -> Film:
        """The film with its payload; its pictures are read once more, one after another."""
        ...

    def render_film(self, film: Film, pictures: Iterator[tuple[int, Tensor]], motion: Motion, scope: str,
                    batch_size: int | None = None, progress: Progress = None) -> Iterator[Tensor]:
        """Draws ``motion`` on a film's pictures.

        Args:
            film: from :meth:`prepare_film`.
            pictures: len(motion) times ``(number in the film, [H, W, 3])``; the same number may come again, and
                numbers may run backwards.
            motion: what is to be seen, frame by frame: its expression counts from a neutral face.
            scope: one of ``SCOPES``.

        Yields:
            [B, H, W, 3] float32 0..1, len(motion) frames in order; a uint8 picture's untouched pixels are exactly
            its values / 255.
        """
        ...
