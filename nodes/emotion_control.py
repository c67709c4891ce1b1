"""Emotion Control: what the head feels, how strongly and when."""

from __future__ import annotations

from comfy_api.latest import io

from ..playmate_core.emotion.curve import LABELS, MAX_STRENGTH
from ..playmate_core.emotion.plan import COMBINE, EmotionLayer, EmotionPlan
from . import sockets
from .host import one_of
from .node import Node, say, verdict

NEUTRAL, NONE = "neutral", "none"
CHOICES = [NEUTRAL, *(label for label in LABELS if label != NEUTRAL)]
NOT_IN_A_SCHEDULE = ("emotion", "strength", "start", "second_emotion", "second_strength")
TIMES = ("end", "fade_in", "fade_out")
SECOND = [NONE, *(label for label in LABELS if label != NEUTRAL)]


class EmotionControl(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateEmotionControl",
            display_name="Emotion Control",
            category=sockets.CATEGORY,
            description="Plans the head's emotions over time: one or a mixture of two with start, end and fades, or a "
                        "schedule written as text. Several of these nodes chain into one plan.",
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
                               tooltip="How long it takes to rise to full strength after start, in seconds. Fades "
                                       "ease; those that do not fit between start and end are shortened."),
                io.Float.Input("fade_out", default=0.5, min=0.0, max=60.0, step=0.05,
                               tooltip="How long it takes to fall back before the end, in seconds."),
                io.String.Input("schedule", multiline=True, default="",
                                tooltip="Emotions over time as text, in place of the settings above: "
                                        "'0.0 neutral; 1.5 happy 0.8; 3.0 sad 0.5 + fear 0.5'. Time (1.5, 2s, "
                                        "0:02.5), label, strength (0.8, 80%). A label without a time holds for the "
                                        "whole clip. Leave it empty to use the settings above."),
                io.Combo.Input("second_emotion", options=SECOND, default=NONE, optional=True,
                               tooltip="Another emotion felt at the same time, for mixtures such as sad with a little "
                                       "fear. Not used when a schedule is written."),
                io.Float.Input("second_strength", default=0.5, min=0.0, max=MAX_STRENGTH, step=0.05, optional=True,
                               tooltip="How strongly the second emotion is felt. Both together may come to 2."),
                io.Combo.Input("combine", options=list(COMBINE), default="add", optional=True,
                               tooltip="With a previous plan connected. add: this on top of it. replace: this instead "
                                       "of it from start (a schedule's first time) to end, cross-faded, and the "
                                       "previous plan before and after."),
                sockets.Emotion.Input("previous", optional=True,
                                      tooltip="The plan of another Emotion Control, which this one builds on."),
            ],
            outputs=[sockets.Emotion.Output("emotion_curve", display_name="emotion",
                                            tooltip="The plan, for the sampler's emotion input or another Emotion "
                                                    "Control.")],
        )

    @classmethod
    def validate_inputs(cls, emotion=None, strength=None, start=None, end=None, schedule=None, second_emotion=NONE,
                        second_strength=0.5, combine=None) -> bool | str:
        wrong = one_of(emotion, CHOICES, "emotion") or one_of(second_emotion, SECOND, "second_emotion") \
            or one_of(combine, COMBINE, "combine")
        # What arrives over a wire is None here and is checked when the node runs.
        known = schedule if schedule and schedule.strip() else \
            schedule is not None and None not in (emotion, strength, start, end, second_emotion, second_strength)
        if wrong is None and known:
            _layer(emotion, strength, start, end, 0.0, 0.0, schedule, second_emotion, second_strength)
        return verdict(wrong)

    @classmethod
    def execute(cls, emotion, strength, start, end, fade_in, fade_out, schedule, second_emotion=NONE,
                second_strength=0.5, combine="add", previous=None) -> io.NodeOutput:
        inserted = previous is not None and combine == "replace"
        given = {"emotion": emotion, "strength": strength, "start": start, "end": end, "fade_in": fade_in,
                 "fade_out": fade_out, "second_emotion": second_emotion, "second_strength": second_strength,
                 "combine": combine}
        written = bool(schedule.strip())
        say(cls.idle(
            given,
            (written, NOT_IN_A_SCHEDULE if inserted else (*NOT_IN_A_SCHEDULE, *TIMES),
             "while a schedule is written, which says all that; empty the schedule to use them"),
            (not written and emotion == NEUTRAL and second_emotion == NONE, "strength", "with the emotion neutral"),
            (not written and second_emotion == NONE, "second_strength", "without a second_emotion"),
            (not end and (inserted or not written), "fade_out", "without an end"),
            (previous is None, "combine", "without a previous plan")))
        layer = _layer(emotion, strength, start, end, fade_in, fade_out, schedule, second_emotion, second_strength,
                       inserted)
        return io.NodeOutput(EmotionPlan.of(previous).then(layer, combine))


def _layer(emotion, strength, start, end, fade_in, fade_out, schedule, second_emotion, second_strength,
           inserted=False) -> EmotionLayer:
    if schedule.strip():
        return EmotionLayer.inserted(schedule, end or None, fade_in, fade_out) if inserted \
            else EmotionLayer.parse(schedule)
    second = [] if second_emotion == NONE else [(second_emotion, second_strength)]
    return EmotionLayer.held([(emotion, strength), *second], start, end or None, fade_in, fade_out)
