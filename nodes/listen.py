"""Listen: somebody who listens to somebody else in the picture."""

from __future__ import annotations

from comfy_api.latest import io

from ..playmate_core.cast import listening
from ..playmate_core.render.cast import check_together
from ..playmate_core.runtime.errors import PlaymateError
from . import sockets
from .host import check_cancelled
from .node import Node, say


class Listen(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateListen",
            display_name="Listen",
            category=sockets.CATEGORY,
            description="Makes a person listen to another one in the same picture: eyes on the speaker, the head a "
                        "little towards them, small nods where they pause, blinks, lips still. With a motion of their "
                        "own they speak in their turn and listen otherwise.",
            inputs=[
                sockets.Appearance.Input("appearance", tooltip="Who listens, from Extract Appearance."),
                sockets.Appearance.Input("speaker", tooltip="Who is listened to: another face of the same picture."),
                io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                             tooltip="Same seed, same nods, glances and blinks."),
                sockets.Speech.Input("speech", optional=True,
                                     tooltip="The speaker's voice, from Audio Encoder: nods come at its pauses, and "
                                             "the motion lasts as long. Without it, set seconds."),
                sockets.Motion.Input("motion", optional=True,
                                     tooltip="The listener's own speech, from the sampler: it is kept where they "
                                             "speak. Without it they listen throughout."),
                sockets.Speech.Input("own_speech", optional=True,
                                     tooltip="The listener's own voice, from Audio Encoder: tells when they speak. "
                                             "Without it that is read off the lips of motion."),
                io.Float.Input("seconds", default=0.0, min=0.0, max=36000.0, step=0.1, optional=True,
                               tooltip="How long the motion is to last; 0 is as long as speech and motion."),
                io.Float.Input("fps", default=25.0, min=1.0, max=120.0, step=0.001, optional=True,
                               tooltip="Frames a second where there is no motion, whose own rate counts otherwise."),
            ],
            outputs=[sockets.Motion.Output("listening", display_name="motion",
                                           tooltip="The motion of the one who listens, for Add To Cast.")],
        )

    @classmethod
    def execute(cls, appearance, speaker, seed, speech=None, motion=None, own_speech=None, seconds=0.0,
                fps=25.0) -> io.NodeOutput:
        check_cancelled()
        check_together(speaker, appearance)
        if speech is None and motion is None and not seconds:
            raise PlaymateError("Listen does not know how long it lasts; connect speech or motion, or set seconds.")
        say(cls.idle({"fps": fps}, (motion is not None, "fps", "beside a motion, whose own rate counts")))
        return io.NodeOutput(listening(appearance, speaker, None if speech is None else speech.loudness, motion,
                                       None if own_speech is None else own_speech.loudness, seconds or None, fps,
                                       seed))
