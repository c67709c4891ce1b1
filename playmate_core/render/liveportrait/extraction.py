"""The loaded networks' motion extractor M for driving clips (``driving.extraction``)."""

from __future__ import annotations

from torch import Tensor

from ...runtime.acceleration import exact_float32
from ...runtime.devices import told_to_leave
from ..base import Renderer
from .attempts import NAME
from .renderer import LivePortraitRenderer


class HostedExtractor:
    """M of a renderer, which its host puts on the device before every batch: between two, others may need the room."""

    def __init__(self, renderer: LivePortraitRenderer) -> None:
        self.renderer = renderer

    def motion(self, image: Tensor) -> dict[str, Tensor]:
        """[B, 3, 256, 256] on any device, as ``MotionExtractor.motion``."""
        # A batch takes far less than a drawn frame, for which room is asked.
        renderer = self.renderer
        renderer._make_ready(1)
        try:
            with exact_float32():
                return renderer.networks.motion.motion(image.to(renderer.device))
        except (RuntimeError, TypeError) as error:
            if not told_to_leave(error, renderer.device, NAME):
                raise
        renderer._leave_device()
        return renderer.networks.motion.motion(image.to(renderer.device))


def motion_extractor_of(renderer: Renderer) -> HostedExtractor | None:
    """The motion extractor that came with a renderer's weights; None where there is none."""
    return HostedExtractor(renderer) if isinstance(renderer, LivePortraitRenderer) else None
