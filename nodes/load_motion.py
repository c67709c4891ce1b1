"""Load Motion."""

from __future__ import annotations

import hashlib

from comfy_api.latest import io

from ..playmate_core.motion.files import load_motion
from ..playmate_core.runtime.errors import PlaymateError
from . import sockets
from .folders import motion_files, motion_path
from .host import check_cancelled
from .node import Node


class LoadMotion(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateLoadMotion",
            display_name="Load Motion",
            category=sockets.CATEGORY,
            description="Reads a motion that Save Motion wrote, or a LivePortrait template (.pkl). Pickles are read "
                        "without running anything in them.",
            inputs=[
                io.Combo.Input("file", options=motion_files(),
                               tooltip="Files of ComfyUI's input folder; [output] are those that Save Motion wrote, "
                                       "[models] those in models/playmate/motions, [example] came with the nodes."),
            ],
            outputs=[sockets.Motion.Output("motion", display_name="motion",
                                           tooltip="The motion in the file, at its own frame rate.")],
        )

    @classmethod
    def validate_inputs(cls, file=None) -> bool | str:
        try:
            if file is not None:
                motion_path(file)
        except PlaymateError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, file) -> str:
        return hashlib.sha256(motion_path(file).read_bytes()).hexdigest()

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        check_cancelled()
        return io.NodeOutput(load_motion(motion_path(file)))
