"""Add To Cast: one more person of a picture, with a motion of their own."""

from __future__ import annotations

from comfy_api.latest import io

from ..playmate_core.render.cast import Cast
from . import sockets
from .host import check_cancelled
from .node import Node


class AddToCast(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateAddToCast",
            display_name="Add To Cast",
            category=sockets.CATEGORY,
            description="Several people in one picture: each face with its motion goes into a cast, which Render Video "
                        "and Render Frames draw in one pass.",
            inputs=[
                sockets.Appearance.Input("appearance", tooltip="A face of the picture, from Extract Appearance with "
                                                               "face = left, right or index."),
                sockets.Motion.Input("motion", tooltip="What this person does. Where it ends before the others', they "
                                                       "go on listening."),
                sockets.Cast.Input("cast", optional=True, tooltip="The others, from another Add To Cast. Without it a "
                                                                  "new cast begins."),
            ],
            outputs=[sockets.Cast.Output("cast_with_them", display_name="cast",
                                         tooltip="Everybody so far, for another Add To Cast or for cast of Render "
                                                 "Video and Render Frames.")],
        )

    @classmethod
    def execute(cls, appearance, motion, cast=None) -> io.NodeOutput:
        check_cancelled()
        return io.NodeOutput(Cast.of(appearance, motion, cast))
