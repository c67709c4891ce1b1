"""Concatenate Motion: one after another, without a jump in between."""

from __future__ import annotations

from comfy_api.latest import io

from ..playmate_core.motion.edits import concatenate
from . import sockets
from .host import check_cancelled
from .node import Node

FOLLOWING = "Comes after the one before, brought to motion_a's frame rate and neutral frame."


class ConcatenateMotion(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateConcatenateMotion",
            display_name="Concatenate Motion",
            category=sockets.CATEGORY,
            description="Joins motions one after another, fading from each into the next.",
            inputs=[
                sockets.Motion.Input("motion_a", tooltip="The motion that comes first and gives the frame rate."),
                sockets.Motion.Input("motion_b", tooltip=FOLLOWING),
                io.Float.Input("crossfade", default=0.3, min=0.0, max=10.0, step=0.05,
                               tooltip="Seconds by which neighbours overlap while one fades into the next. 0 joins "
                                       "hard. Each fade shortens the whole by its length."),
                sockets.Motion.Input("motion_c", optional=True, tooltip=FOLLOWING),
                sockets.Motion.Input("motion_d", optional=True, tooltip=FOLLOWING),
            ],
            outputs=[sockets.Motion.Output("joined_motion", display_name="motion",
                                           tooltip="All of them, one after another.")],
        )

    @classmethod
    def execute(cls, motion_a, motion_b, crossfade, motion_c=None, motion_d=None) -> io.NodeOutput:
        check_cancelled()
        motions = [motion for motion in (motion_a, motion_b, motion_c, motion_d) if motion is not None]
        return io.NodeOutput(concatenate(motions, round(crossfade * motion_a.fps)))
