"""What runs along the wires between the nodes."""

from __future__ import annotations

from comfy_api.latest import io

from ..playmate_core.media.sizes import SIZE, check_size
from ..playmate_core.render.film import SCOPES
from ..playmate_core.render.takes import FILM_LENGTHS
from ..playmate_core.runtime.errors import PlaymateError

CATEGORY = "Playmate"

Models = io.Custom("PLAYMATE_MODELS")
"""``pipeline.Models``"""
Appearance = io.Custom("PLAYMATE_APPEARANCE")
"""``render.base.Appearance``"""
Speech = io.Custom("PLAYMATE_SPEECH")
"""``motion.features.SpeechFeatures``"""
Motion = io.Custom("PLAYMATE_MOTION")
"""``motion.types.Motion``"""
Emotion = io.Custom("PLAYMATE_EMOTION")
"""``emotion.plan.EmotionPlan``, or a schedule's text: it has no length until it meets a voice."""

Cast = io.Custom("PLAYMATE_CAST")
"""``render.cast.Cast``"""


def cast_input():
    """What both nodes that draw take besides one person."""
    return Cast.Input("cast", optional=True,
                      tooltip="Other people of the same picture, from Add To Cast, drawn together with appearance and "
                              "motion. Who is in the cast already is not drawn twice.")


def size_input():
    """The knob of both nodes that draw."""
    return io.Int.Input("size", default=SIZE, min=0, max=16384, step=16, optional=True,
                        tooltip=f"Longest side of the frames in pixels. A smaller portrait keeps its own size, and so "
                                f"does any with 0. {SIZE} plays on phones and televisions.")


def film_inputs():
    """The knobs of both nodes that draw, for an appearance that is a film."""
    return [io.Combo.Input("scope", options=list(SCOPES), default=SCOPES[0], optional=True,
                           tooltip="Of a film, what the motion replaces. mouth, for dubbing: lips, jaw and what they "
                                   "move; face: every expression, while the head stays the film's; all: the head's "
                                   "pose too. Does nothing on a picture."),
            io.Combo.Input("film_length", options=list(FILM_LENGTHS), default=FILM_LENGTHS[0], optional=True,
                           tooltip="What a film does that is shorter than the motion: hold its last picture, loop, run "
                                   "backwards and forwards (ping-pong), or cut the motion. cut also ends a longer film "
                                   "with the motion; otherwise it plays to its end with the mouth shut. Does nothing "
                                   "on a picture.")]


def idle_on_pictures(appearance) -> tuple[bool, tuple[str, ...], str]:
    """For ``Node.idle``: the knobs of :func:`film_inputs` where the appearance is a picture."""
    return appearance.film is None, ("scope", "film_length"), "on a picture; they are for Extract Film Appearance"


def size_error(size: int | None) -> str | None:
    """A sentence for ``validate_inputs`` if the knob stands where nothing can be drawn; None may come by wire."""
    try:
        check_size(size or 0)
    except PlaymateError as error:
        return str(error)
    return None
