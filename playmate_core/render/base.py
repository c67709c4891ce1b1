"""What every renderer offers, so that nothing above needs to know which one draws."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Iterator, Protocol

from torch import Tensor

from ..face.types import Face
from ..motion.types import Motion
from ..runtime.errors import PlaymateError
from ..runtime.progress import Progress
from .film import Film


@dataclass(frozen=True)
class Appearance:
    """A portrait made ready to be drawn.

    Attributes:
        image: [H, W, 3] float32 sRGB, 0 to 1: what a rest motion returns.
        face: the chosen face in ``image``.
        source_expression: [21, 3] the portrait's own expression as latent offsets from a neutral face.
        identity: [63] shape of the face, see ``face.geometry.identity_feature``.
        renderer: name of the renderer that prepared it.
        payload: whatever that renderer keeps (mesh, textures, feature volume); None where a ``stage`` is drawn.
        stage: what is drawn instead, where the face lies or ``image`` is larger than a film should be.
        alpha: [H, W] float32 how opaque ``image`` is, 0 to 1, where it has a transparent ground; ``image`` is then the
            portrait on white, and a ``stage`` is drawn that has the colours without it. None is opaque.
        film: what is drawn on, where the portrait is a film; ``image`` and ``face`` are then one clear picture of it.
    """

    image: Tensor
    face: Face
    source_expression: Tensor
    identity: Tensor
    renderer: str
    payload: Any = field(repr=False, default=None)
    stage: Stage | None = field(repr=False, default=None)
    film: Film | None = field(repr=False, default=None)
    alpha: Tensor | None = field(repr=False, default=None)


@dataclass(frozen=True)
class Stage:
    """A portrait turned upright and made smaller, see ``render.staging``.

    Attributes:
        appearance: what the renderer draws.
        turns: by how many quarters, against the clock, the portrait was turned for it.
        colours: [H, W, 3] the portrait in its own size and position without white behind it, where it has alpha:
            what lies under transparent pixels goes on from those beside them (``media.grounds.filled``).
    """

    appearance: Appearance
    turns: int
    colours: Tensor | None = field(repr=False, default=None)


def check_request(renderer: str, appearance: Appearance, batch_size: int | None) -> None:
    """That an appearance was made by the renderer called ``renderer``, and that ``batch_size`` is None or at least 1.

    Raises:
        PlaymateError: an appearance of another renderer, one that is drawn by its stage, or a batch size below 1.
    """
    if appearance.renderer != renderer:
        raise PlaymateError(f"This appearance was prepared for the {appearance.renderer} renderer; "
                            f"run Extract Appearance with the {renderer} renderer.")
    if appearance.stage is not None:
        raise PlaymateError("This portrait is drawn turned or smaller; draw it with pipeline.render_frames.")
    if batch_size is not None and batch_size < 1:
        raise PlaymateError(f"The batch size is {batch_size}; it must be at least 1.")


def part_of(motion: Motion, start: int = 0, stop: int | None = None) -> range:
    """Frames ``start`` to ``stop`` (not included; None: to the end) of a motion.

    Raises:
        PlaymateError: frames that the motion does not have.
    """
    stop = len(motion) if stop is None else stop
    if not 0 <= start <= stop <= len(motion):
        raise PlaymateError(f"Frames {start} to {stop} cannot be drawn of a motion of {len(motion)} frames.")
    return range(start, stop)


class Renderer(Protocol):
    """Draws motion on a portrait. Frames stream: memory does not grow with their number."""

    name: str

    def prepare(self, image: Tensor, face: Face) -> Appearance:
        """``image`` [H, W, 3] float32 sRGB 0..1 and the face in it, to an Appearance."""
        ...

    def render(self, appearance: Appearance, motion: Motion, batch_size: int | None = None,
               progress: Progress = None, part: range | None = None) -> Iterator[Tensor]:
        """Yields frame batches [B, H, W, 3] float32 sRGB 0..1, len(motion) frames in all, in order.

        Of an appearance with alpha they are [B, H, W, 4]: its alpha, straight, moved as the picture is.
        With ``part``, of :func:`part_of`, only those frames, drawn as they are when all are.
        """
        ...
