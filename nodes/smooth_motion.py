"""Smooth Motion: takes tremor out, part by part."""

from __future__ import annotations

from comfy_api.latest import io

from ..playmate_core.motion.edits import REGIONS, blend, smooth
from ..playmate_core.motion.smoothing import METHODS
from . import sockets
from .host import check_cancelled, one_of
from .node import Node, say

PARTS = {
    "mouth": "How much the mouth is smoothed: 0 not at all, which keeps lips crisp, 1 fully.",
    "eyes": "How much the eyes are smoothed: lids and gaze. Blinks last only a few frames.",
    "brows": "How much the brows are smoothed.",
    "rest": "How much the rest of the face is smoothed: cheeks, jaw and outline.",
    "pose": "How much the head's turning, shift and size are smoothed.",
}


class SmoothMotion(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateSmoothMotion",
            display_name="Smooth Motion",
            category=sockets.CATEGORY,
            description="Takes tremor out of a motion without delaying it, as much as wanted in each part of the face.",
            inputs=[
                sockets.Motion.Input("motion", tooltip="The motion to smooth, for instance from a shaky video."),
                io.Combo.Input("method", options=list(METHODS), default="gaussian",
                               tooltip="gaussian averages over time; kalman is LivePortrait's smoother."),
                io.Float.Input("seconds", default=0.06, min=0.0, max=2.0, step=0.01,
                               tooltip="For gaussian: over how long is averaged. 0.06 calms tracking noise, 0.1 "
                                       "already softens lips, 0.5 leaves slow movements only."),
                io.Float.Input("strength", default=1.0, min=0.01, max=100.0, step=0.1,
                               tooltip="For kalman: 1 is LivePortrait's own setting, larger is smoother."),
                *(io.Float.Input(part, default=1.0, min=0.0, max=1.0, step=0.05, tooltip=PARTS[part])
                  for part in REGIONS),
            ],
            outputs=[sockets.Motion.Output("smooth_motion", display_name="motion", tooltip="The calmer motion.")],
        )

    @classmethod
    def validate_inputs(cls, method=None) -> bool | str:
        return one_of(method, METHODS, "method") or True

    @classmethod
    def execute(cls, motion, method, seconds, strength, **parts) -> io.NodeOutput:
        check_cancelled()
        say(cls.idle({"seconds": seconds, "strength": strength}, (method != "gaussian", "seconds", "with kalman"),
                     (method != "kalman", "strength", "unless method is kalman")))
        calm = smooth(motion, seconds, method, observation_variance=3e-7 * strength)
        return io.NodeOutput(blend(motion, calm, {part: parts[part] for part in REGIONS}))
