"""``--emotion`` and ``--emotion-layer``: one schedule, and layers with a time of their own over it."""

from __future__ import annotations

from typing import Sequence

from ..emotion.plan import EmotionLayer, EmotionPlan
from ..runtime.errors import PlaymateError

TIMES = ("start", "end", "fade-in", "fade-out")


def read_emotion(schedule: str | None, layers: Sequence[str] | None) -> EmotionPlan | None:
    """The plan of what the user typed; None where nothing was.

    Raises:
        PlaymateError: text that cannot be read.
    """
    if schedule is None and not layers:
        return None
    plan = EmotionPlan() if schedule is None else EmotionPlan.parse(schedule)
    for text in layers or ():
        plan = plan.then(*parse_layer(text))
    return plan


def parse_layer(text: str) -> tuple[EmotionLayer, str]:
    """``(layer, how it combines)`` of "happy 0.8 + fear 0.3, start=1, end=4, fade-in=0.5, combine=replace".

    In place of emotions a schedule may stand ("1 happy; 3 sad 0.5"): it brings its own start.

    Raises:
        PlaymateError: an unknown setting, no number, or emotions that cannot be read.
    """
    words, *settings = (part.strip() for part in text.split(","))
    times: dict[str, float | None] = {"start": 0.0, "end": None, "fade-in": 0.5, "fade-out": 0.5}
    combine, typed = "add", set()
    for setting in settings:
        name, equals, value = (part.strip().lower() for part in setting.partition("="))
        if not equals or name not in (*TIMES, "combine"):
            raise PlaymateError(f"--emotion-layer {text!r}: {setting!r} is none of {', '.join(TIMES)} and combine; "
                                "write for instance start=1.5.")
        typed.add(name)
        if name == "combine":
            combine = value
            continue
        try:
            times[name] = float(value.removesuffix("s"))
        except ValueError as error:
            raise PlaymateError(f"--emotion-layer {text!r}: {value!r} is no number of seconds.") from error
    end, fades = times["end"] or None, (times["fade-in"], times["fade-out"])
    layer = EmotionLayer.parse(words)
    if len(layer.keys) == 1 and not layer.keys[0].time:
        return EmotionLayer(layer.keys, times["start"], end, *fades), combine
    if "start" in typed:
        raise PlaymateError(f"--emotion-layer {text!r}: the schedule says itself when it starts; leave start out.")
    return EmotionLayer.inserted(words, end, *fades) if combine == "replace" else layer, combine
