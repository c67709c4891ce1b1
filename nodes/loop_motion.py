"""Loop Motion: a short motion as a long one."""

from __future__ import annotations

from comfy_api.latest import io

from ..playmate_core.motion.loop import SEAMS, loop
from ..playmate_core.runtime.errors import PlaymateError
from . import sockets
from .host import check_cancelled, one_of
from .node import Node, say
from .values import sound


class LoopMotion(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateLoopMotion",
            display_name="Loop Motion",
            category=sockets.CATEGORY,
            description="Repeats a motion up to a length, without a jump where it starts again.",
            inputs=[
                sockets.Motion.Input("motion", tooltip="The motion to repeat; one that is longer is cut."),
                io.Float.Input("seconds", default=10.0, min=0.0, max=36000.0, step=0.1,
                               tooltip="Wanted length. A connected audio counts instead."),
                io.Combo.Input("seam", options=list(SEAMS), default="crossfade",
                               tooltip="How the end meets the beginning: crossfade fades into it, ping-pong runs "
                                       "backwards from there, hard jumps."),
                io.Float.Input("crossfade", default=0.5, min=0.0, max=10.0, step=0.05,
                               tooltip="With seam = crossfade: seconds of the fade, at most half of the motion."),
                io.Audio.Input("audio", optional=True, tooltip="Repeats up to the length of this sound."),
            ],
            outputs=[sockets.Motion.Output("looped_motion", display_name="motion",
                                           tooltip="The motion, as often as it takes.")],
        )

    @classmethod
    def validate_inputs(cls, seam=None) -> bool | str:
        return one_of(seam, SEAMS, "seam") or True

    @classmethod
    def execute(cls, motion, seconds, seam, crossfade, audio=None) -> io.NodeOutput:
        check_cancelled()
        say(cls.idle({"seconds": seconds, "crossfade": crossfade},
                     (audio is not None, "seconds", "while audio is connected, whose length counts"),
                     (seam != "crossfade", "crossfade", "unless seam is crossfade")))
        if audio is not None:
            waveform, rate = sound(audio)
            seconds = waveform.shape[-1] / rate
        frames = round(seconds * motion.fps)
        if not frames:
            raise PlaymateError("Loop Motion has no length to reach; set seconds above 0 or connect audio.")
        return io.NodeOutput(loop(motion, frames, seam, round(crossfade * motion.fps)))
