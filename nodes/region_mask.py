"""Region Mask: some parts of a motion, without the others."""

from __future__ import annotations

from comfy_api.latest import io

from ..playmate_core.motion.edits import LENGTH_POLICIES, REGIONS, keep_regions
from . import sockets
from .host import check_cancelled, one_of
from .node import Node, say

PARTS = {
    "mouth": "Keep the mouth's movement.",
    "eyes": "Keep the movement of the eyes: blinks, lids and gaze.",
    "brows": "Keep the movement of the brows.",
    "rest": "Keep the movement of cheeks, jaw and outline; it belongs to the mouth when that speaks.",
    "pose": "Keep the head's turning, shift and size.",
}


class RegionMask(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateRegionMask",
            display_name="Region Mask",
            category=sockets.CATEGORY,
            description="Keeps only chosen parts of a motion. The others rest, or come from another motion.",
            inputs=[
                sockets.Motion.Input("motion", tooltip="The motion of which parts are kept; gives length and rate."),
                *(io.Boolean.Input(part, default=part == "pose", tooltip=PARTS[part]) for part in REGIONS),
                io.Float.Input("amount", default=1.0, min=0.0, max=1.0, step=0.05,
                               tooltip="How much of the kept parts: 1 keeps their full movement, 0.5 half of it."),
                io.Combo.Input("length", options=list(LENGTH_POLICIES), default="mirror",
                               tooltip="If background is shorter: constant holds its last frame, cycle starts it "
                                       "again, mirror runs it backwards and forwards, cut ends the result there."),
                sockets.Motion.Input("background", optional=True,
                                     tooltip="What moves where motion is not kept. Not connected: those parts rest."),
            ],
            outputs=[sockets.Motion.Output("masked_motion", display_name="motion",
                                           tooltip="The kept parts, over the background or a face at rest.")],
        )

    @classmethod
    def validate_inputs(cls, length=None) -> bool | str:
        return one_of(length, LENGTH_POLICIES, "length") or True

    @classmethod
    def execute(cls, motion, amount, length, background=None, **kept) -> io.NodeOutput:
        check_cancelled()
        say(cls.idle({"length": length}, (background is None, "length", "without a background")))
        amounts = {part: amount for part in REGIONS if kept[part]}
        return io.NodeOutput(keep_regions(motion, amounts, background, length))
