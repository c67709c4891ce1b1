"""Emotion Control: what the head feels, how strongly and when."""

from __future__ import annotations

from comfy_api.latest import io

from ..playmate_core.diffusion.emotion import LABELS, MAX_STRENGTH, parse_schedule
from ..playmate_core.errors import PlaymateError
from . import sockets
from .host import one_of

NEUTRAL = "neutral"
CHOICES = [NEUTRAL, *(label for label in LABELS if label != NEUTRAL)]


class EmotionControl(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateEmotionControl",
            display_name="Emotion Control",
            category=sockets.CATEGORY,
            description="Plans the head's emotions over time. This version draws neutral only and says so if "
                        "anything else is asked for.",
            inputs=[
                io.Combo.Input("emotion", options=CHOICES, default=NEUTRAL,
                               tooltip="What the head feels between start and end. Not used when a schedule is "
                                       "written below."),
                io.Float.Input("strength", default=1.0, min=0.0, max=MAX_STRENGTH, step=0.05,
                               tooltip="How strongly: 0 is neutral, 1 natural, 2 twice as strong."),
                io.Float.Input("start", default=0.0, min=0.0, max=86400.0, step=0.1,
                               tooltip="When the emotion begins, in seconds."),
                io.Float.Input("end", default=0.0, min=0.0, max=86400.0, step=0.1,
                               tooltip="When it is over, in seconds. 0 holds it to the end of the voice."),
                io.Float.Input("fade_in", default=0.5, min=0.0, max=60.0, step=0.05,
                               tooltip="How long it takes to rise to full strength, in seconds."),
                io.Float.Input("fade_out", default=0.5, min=0.0, max=60.0, step=0.05,
                               tooltip="How long it takes to fall back to neutral before the end, in seconds."),
                io.String.Input("schedule", multiline=True, default="",
                                tooltip="Emotions over time as text, in place of the settings above: "
                                        "'0.0 neutral; 1.5 happy 0.8; 3.0 sad 0.5 + fear 0.5'. Seconds, label, "
                                        "strength. Leave it empty to use the settings above."),
            ],
            outputs=[sockets.Emotion.Output("emotion_curve", display_name="emotion",
                                            tooltip="The plan, for the sampler's emotion input.")],
        )

    @classmethod
    def validate_inputs(cls, emotion=None, schedule=None) -> bool | str:
        wrong = one_of(emotion, CHOICES, "emotion")
        if wrong is None and schedule and schedule.strip():
            try:
                _checked(_one_line(schedule))
            except PlaymateError as error:
                wrong = str(error)
        elif wrong is None and emotion not in (None, NEUTRAL):
            wrong = _NOT_YET
        return wrong or True

    @classmethod
    def execute(cls, emotion, strength, start, end, fade_in, fade_out, schedule) -> io.NodeOutput:
        text = _one_line(schedule) or _schedule(emotion, strength, start, end, fade_in, fade_out)
        return io.NodeOutput(_checked(text))


_NOT_YET = ("Emotions other than neutral take effect in the next version; set emotion to neutral or disconnect "
            "Emotion Control.")


def _one_line(schedule: str) -> str:
    return "; ".join(entry.strip() for entry in schedule.replace("\n", ";").split(";") if entry.strip())


def _schedule(emotion: str, strength: float, start: float, end: float, fade_in: float, fade_out: float) -> str:
    """The settings as schedule text: a trapezium of the emotion over time."""
    felt = f"{emotion} {strength:g}"
    if end and end <= start:
        raise PlaymateError(f"The emotion ends at {end:g} s, before it starts at {start:g} s; set end later, or to 0.")
    if not start and not end and not fade_in:
        return felt
    rise = start + max(fade_in, 0.001)
    if end:
        rise = min(rise, end - 0.002)
    keys = [(start, NEUTRAL), (rise, felt)]
    if end:
        keys += [(max(end - fade_out, rise + 0.001), felt), (end, NEUTRAL)]
    return "; ".join(f"{time:.3f} {what}" for time, what in keys)


def _checked(text: str) -> str:
    """``text`` itself if it can be read and asks for nothing but neutral.

    Raises:
        PlaymateError: anything else.
    """
    parse_schedule(text, 1)
    for entry in text.split(";"):
        first, _, rest = entry.strip().partition(" ")
        bare = rest if first.rstrip("s").replace(".", "", 1).lstrip("+-").isdigit() else entry
        if not parse_schedule(bare, 1).is_neutral:
            raise PlaymateError(_NOT_YET)
    return text
