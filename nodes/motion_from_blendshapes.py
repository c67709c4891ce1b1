"""Motion From Blendshapes: a performance recorded with ARKit's numbers drives the portrait."""

from __future__ import annotations

import hashlib

from comfy_api.latest import io

from ..playmate_core.face.arkit import ArkitShapes
from ..playmate_core.face.blendshape_files import read_blendshapes
from ..playmate_core.face.blendshape_motion import HEADS, STRONGEST, motion_from_blendshapes
from . import sockets
from .folders import blendshape_files, blendshape_path
from .host import check_cancelled, one_of
from .node import Node, say, verdict


class MotionFromBlendshapes(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateMotionFromBlendshapes",
            display_name="Motion From Blendshapes",
            category=sockets.CATEGORY,
            description="Reads ARKit's 52 blendshapes from a file and makes motion of them: a take of Live Link Face "
                        "(iPhone), a plain CSV, or JSON, Audio2Face's included.",
            inputs=[
                io.Combo.Input("file", options=blendshape_files(),
                               tooltip="CSV and JSON files of ComfyUI's input folder; [output] are those that Motion "
                                       "To Blendshapes wrote."),
                io.Float.Input("fps", default=0.0, min=0.0, max=120.0, step=0.001,
                               tooltip="Frames a second of the motion. 0 keeps the file's own rate."),
                io.Combo.Input("head", options=list(HEADS), default=HEADS[0],
                               tooltip="The recorded head: centred counts it from where it mostly was, as recorded "
                                       "from the camera's axis, ignore leaves the head at rest."),
                io.Float.Input("strength", default=1.0, min=0.0, max=STRONGEST, step=0.05,
                               tooltip="Factor on all weights: 0 leaves the face at rest, 1 as recorded. Weights are "
                                       "held at 1.5."),
                io.Float.Input("file_fps", default=0.0, min=0.0, max=240.0, step=0.001,
                               tooltip="Frames a second at which the file was recorded, where it does not say or says "
                                       "wrong. 0 believes the file, and takes 30 where that says nothing."),
            ],
            outputs=[sockets.Motion.Output("motion", display_name="motion",
                                           tooltip="The performance, for any motion node or renderer.")],
        )

    @classmethod
    def validate_inputs(cls, file=None, head=None) -> bool | str:
        if file is not None:
            blendshape_path(file)
        return verdict(one_of(head, HEADS, "head"))

    @classmethod
    def fingerprint_inputs(cls, file, **_) -> str:
        return hashlib.sha256(blendshape_path(file).read_bytes()).hexdigest()

    @classmethod
    def execute(cls, file, fps, head, strength, file_fps) -> io.NodeOutput:
        check_cancelled()
        track = read_blendshapes(blendshape_path(file), file_fps or None)
        say([*track.notes, *cls.idle({"head": head}, (track.head is None and head != "ignore", "head",
                                                      "since the file holds no head angles"))])
        return io.NodeOutput(motion_from_blendshapes(track, ArkitShapes.load(), fps or None, head, strength))
