"""``edit convert``: a motion in the other kind of file (the nodes Load Motion and Save Motion)."""

from __future__ import annotations

from .step import add_step


def add(steps) -> None:
    """Adds the step."""
    add_step(steps, "convert", "a motion file becomes LivePortrait's template, or the other way round",
             lambda args, motion: motion)
