"""Retime Motion: cut, slower, faster, to a length, at another frame rate."""

from __future__ import annotations

from comfy_api.latest import io

from ..playmate_core.motion.edits import LENGTH_POLICIES, fit_length, resample, retime, slice_seconds
from . import sockets
from .host import check_cancelled, one_of
from .node import Node, say
from .values import sound

FITS = ["stretch", *LENGTH_POLICIES]


class RetimeMotion(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateRetimeMotion",
            display_name="Retime Motion",
            category=sockets.CATEGORY,
            description="Changes when things happen: cuts a part out, plays it slower or faster, brings it to the "
                        "length of a sound, or to another frame rate, in this order.",
            inputs=[
                sockets.Motion.Input("motion", tooltip="The motion to retime."),
                io.Float.Input("start", default=0.0, min=0.0, max=36000.0, step=0.1,
                               tooltip="Seconds at which the part that is kept begins."),
                io.Float.Input("end", default=0.0, min=0.0, max=36000.0, step=0.1,
                               tooltip="Seconds at which the part that is kept ends. 0 keeps all to the end."),
                io.Float.Input("speed", default=1.0, min=0.05, max=20.0, step=0.05,
                               tooltip="2 plays twice as fast, 0.5 half as fast."),
                io.Float.Input("seconds", default=0.0, min=0.0, max=36000.0, step=0.1,
                               tooltip="Wanted length. 0 leaves it as it comes. A connected audio counts instead."),
                io.Combo.Input("fit", options=FITS, default="stretch",
                               tooltip="How a wanted length is reached: stretch changes the speed; the others keep it "
                                       "and cut what is too long. What is too short: constant holds the last frame, "
                                       "cycle starts again, mirror runs backwards and forwards, cut leaves it short."),
                io.Float.Input("fps", default=0.0, min=0.0, max=120.0, step=0.001,
                               tooltip="Frames a second of the result. 0 keeps the motion's own rate."),
                io.Audio.Input("audio", optional=True,
                               tooltip="Brings the motion to the length of this sound, in place of seconds."),
            ],
            outputs=[sockets.Motion.Output("retimed_motion", display_name="motion",
                                           tooltip="The motion in its new time.")],
        )

    @classmethod
    def validate_inputs(cls, fit=None) -> bool | str:
        return one_of(fit, FITS, "fit") or True

    @classmethod
    def execute(cls, motion, start, end, speed, seconds, fit, fps, audio=None) -> io.NodeOutput:
        check_cancelled()
        say(cls.idle({"seconds": seconds, "fit": fit},
                     (audio is not None, "seconds", "while audio is connected, whose length counts"),
                     (audio is None and not seconds, "fit", "without seconds or audio to reach"),
                     ))
        if audio is not None:
            waveform, rate = sound(audio)
            seconds = waveform.shape[-1] / rate
        motion = slice_seconds(motion, start, end or None)
        motion = retime(motion, speed, seconds if seconds and fit == "stretch" else None)
        motion = resample(motion, fps or motion.fps)
        return io.NodeOutput(fit_length(motion, round(seconds * motion.fps), "constant" if fit == "stretch" else fit)
                             if seconds else motion)
