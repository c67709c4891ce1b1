"""Blend Motion: two motions in one face, region by region."""

from __future__ import annotations

from comfy_api.latest import io

from ..playmate_core.motion.edits import LENGTH_POLICIES, REGIONS, blend
from . import sockets
from .host import check_cancelled, one_of
from .node import Node

REGION_TOOLTIPS = {
    "mouth": "Share of motion_b in the mouth: 0 keeps motion_a, 1 takes motion_b.",
    "eyes": "Share of motion_b in the eyes: blinks, lids and gaze.",
    "brows": "Share of motion_b in the brows.",
    "rest": "Share of motion_b in the rest of the face: cheeks, jaw and outline. Give it the mouth's value when the "
            "mouth comes from speech.",
    "pose": "Share of motion_b in the head pose: turning, tilting, shift and size.",
}


class BlendMotion(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateBlendMotion",
            display_name="Blend Motion",
            category=sockets.CATEGORY,
            description="Splices two motions: mouth from one, eyes, brows or head pose from the other, or anything "
                        "between.",
            inputs=[
                sockets.Motion.Input("motion_a", tooltip="The motion that gives length, frame rate and everything "
                                                         "that is not taken from motion_b."),
                sockets.Motion.Input("motion_b", tooltip="The motion that is blended in; brought to motion_a's frame "
                                                         "rate and length."),
                *(io.Float.Input(region, default=1.0 if region == "pose" else 0.0, min=0.0, max=1.0, step=0.05,
                                 tooltip=REGION_TOOLTIPS[region]) for region in REGIONS),
                io.Combo.Input("length", options=list(LENGTH_POLICIES), default="mirror",
                               tooltip="If motion_b is shorter: constant holds its last frame, cycle starts it again, "
                                       "mirror runs it backwards and forwards, cut ends the result there."),
            ],
            outputs=[sockets.Motion.Output("blended_motion", display_name="motion",
                                           tooltip="One motion made of the two.")],
        )

    @classmethod
    def validate_inputs(cls, length=None) -> bool | str:
        return one_of(length, LENGTH_POLICIES, "length") or True

    @classmethod
    def execute(cls, motion_a, motion_b, length, **weights) -> io.NodeOutput:
        check_cancelled()
        return io.NodeOutput(blend(motion_a, motion_b, {region: weights[region] for region in REGIONS}, length))
