"""A motion and a sound that last differently: what the film does then, and the sentence that says so."""

from __future__ import annotations

from ..runtime.errors import PlaymateError
from .edits import fit_length
from .types import Motion

SOUND_LENGTHS = ("motion", "cut", "hold", "loop", "mirror")
"""Until when a film lasts: as long as the motion; as long as the shorter of both; or at least as long as the sound,
where a shorter motion holds its last frame, starts again, or runs backwards and forwards."""

_POLICIES = {"hold": "constant", "loop": "cycle", "mirror": "mirror"}
_DOES = {"hold": "its last frame is held", "loop": "it starts again", "mirror": "it runs backwards and forwards"}
_LEAST = 0.1
"""Seconds that lossy coders add at an end, and that nobody notices."""


def fit_sound(motion: Motion, seconds: float | None, length: str = "motion") -> tuple[Motion, str | None]:
    """The motion of a film whose sound lasts ``seconds``, and a note if that is noticeably longer or shorter.

    Args:
        motion: at least one frame.
        seconds: of the sound; None for a silent film.
        length: one of ``SOUND_LENGTHS``.

    Raises:
        PlaymateError: another ``length``, or an empty motion.
    """
    if length not in SOUND_LENGTHS:
        raise PlaymateError(f"length is {length!r}; choose one of: {', '.join(SOUND_LENGTHS)}.")
    if not len(motion):
        raise PlaymateError("The motion has no frames; give one that lasts at least one frame.")
    own = len(motion) / motion.fps
    if seconds is None or abs(own - seconds) <= max(_LEAST, 1.0 / motion.fps):
        return motion, None
    lasts = f"The motion lasts {own:.2f} s and the sound {seconds:.2f} s"
    frames = max(round(seconds * motion.fps), 1)
    if length == "cut" and frames < len(motion):
        return fit_length(motion, frames, "cut"), f"{lasts}: the motion is cut where the sound ends."
    if length in _POLICIES and frames > len(motion):
        return fit_length(motion, frames, _POLICIES[length]), f"{lasts}: {_DOES[length]} until the sound ends."
    if frames < len(motion):
        return motion, f"{lasts}: the film goes on in silence."
    return motion, f"{lasts}: the sound is cut where the motion ends."
