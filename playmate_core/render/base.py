"""What every renderer offers, so that nothing above needs to know which one draws."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Iterator, Protocol

from torch import Tensor

from ..face.types import Face
from ..motion.types import Motion
from ..runtime.errors import PlaymateError
from ..runtime.progress import Progress


@dataclass(frozen=True)
class Appearance:
    """A portrait made ready to be drawn.

    Attributes:
        image: [H, W, 3] float32 sRGB, 0 to 1: what a rest motion returns.
        face: the chosen face in ``image``.
        source_expression: [21, 3] the portrait's own expression as latent offsets from a neutral face.
        identity: [63] shape of the face, see ``face.geometry.identity_feature``.
        renderer: name of the renderer that prepared it.
        payload: whatever that renderer keeps (mesh, textures, feature volume).
    """

    image: Tensor
    face: Face
    source_expression: Tensor
    identity: Tensor
    renderer: str
    payload: Any = field(repr=False, default=None)


def check_request(renderer: str, appearance: Appearance, batch_size: int | None) -> None:
    """That an appearance was made by the renderer called ``renderer``, and that ``batch_size`` is None or at least 1.

    Raises:
        PlaymateError: an appearance of another renderer, or a batch size below 1.
    """
    if appearance.renderer != renderer:
        raise PlaymateError(f"This appearance was prepared for the {appearance.renderer} renderer; "
                            f"run Extract Appearance with the {renderer} renderer.")
    if batch_size is not None and batch_size < 1:
        raise PlaymateError(f"The batch size is {batch_size}; it must be at least 1.")


class Renderer(Protocol):
    """Draws motion on a portrait. Frames stream: memory does not grow with their number."""

    name: str

    def prepare(self, image: Tensor, face: Face) -> Appearance:
        """``image`` [H, W, 3] float32 sRGB 0..1 and the face in it, to an Appearance."""
        ...

    def render(self, appearance: Appearance, motion: Motion, batch_size: int | None = None,
               progress: Progress = None) -> Iterator[Tensor]:
        """Yields frame batches [B, H, W, 3] float32 sRGB 0..1, len(motion) frames in all, in order."""
        ...
