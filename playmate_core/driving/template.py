"""Any motion as a template for LivePortrait: what its own files hold besides latents, filled in."""

from __future__ import annotations

import os
from pathlib import Path

from torch import Tensor

from ..motion.edits import with_neutral_lead
from ..motion.files import save_template
from ..motion.types import Motion


def write_template(motion: Motion, path: str | os.PathLike, openings: tuple[Tensor, Tensor] | None = None) -> Path:
    """Writes a template whose first frame is the motion's neutral one, since LivePortrait counts from the first.

    Templates also hold how far the driver's eyes and lips are open, which LivePortrait's eye and lip retargeting
    follows. Where nobody measured that, it is read off the latents, on a mean face.

    Args:
        motion: at least one frame, at a whole frame rate.
        path: the suffix .pkl is added where it is missing.
        openings: eye ratios [T + 1, 2] and lip ratios [T + 1, 1] (SPEC.md section 9), the neutral frame's first.

    Returns:
        The path written.

    Raises:
        PlaymateError: no frames, a broken frame rate, or the file cannot be written.
    """
    from ..face.bridge import LatentBridge
    from ..face.geometry import mean_face
    from ..face.ratios import eye_ratio
    from ..face.ratios import openings as read_openings

    led = with_neutral_lead(motion)
    if openings is None:
        eyes, lips = read_openings(LatentBridge.load().displacement(led.expression_offset.cpu()))
        openings = eyes * eye_ratio(mean_face()).to(eyes), lips
    return save_template(led, path, *openings)
