"""Preview Motion: a motion as a chart."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..playmate_core.evaluation.plot import plot_motion
from . import sockets
from .host import progress
from .node import Node


class PreviewMotion(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymatePreviewMotion",
            display_name="Preview Motion",
            category=sockets.CATEGORY,
            description="Draws lip opening, eye opening and head angles over time, without rendering a frame.",
            inputs=[
                sockets.Models.Input("models", tooltip="From Load Playmate Models."),
                sockets.Motion.Input("motion", tooltip="The motion to look at."),
                io.Int.Input("width", default=1024, min=256, max=8192, step=8,
                             tooltip="Width of the chart in pixels."),
                io.Int.Input("height", default=640, min=256, max=4096, step=8,
                             tooltip="Height of the chart in pixels."),
            ],
            outputs=[io.Image.Output("image", display_name="image",
                                     tooltip="The chart. Lip and eye opening are in units of the distance between "
                                             "the outer eye corners, angles in degrees.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, models, motion, width, height) -> io.NodeOutput:
        chart = plot_motion(motion, models.bridge, width, height, progress=progress())[None]
        return io.NodeOutput(chart, ui=ui.PreviewImage(chart, cls=cls))
