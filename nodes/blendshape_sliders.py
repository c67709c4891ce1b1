"""Blendshape Sliders: a slider for each of ARKit's 52 numbers."""

from __future__ import annotations

from comfy_api.latest import io

from ..playmate_core.face.arkit import ArkitShapes
from ..playmate_core.face.blendshape_motion import expression_of
from ..playmate_core.face.blendshape_names import GROUPS, write_weights
from ..playmate_core.motion.sliders import edit_expression
from ..playmate_core.motion.types import Motion
from . import sockets
from .host import check_cancelled
from .node import Node

WORDS = {  # what a slider does; a pair of sides is told once
    "browInnerUp": "Raises the inner ends of both brows, as in worry.",
    "browDown": "Lowers the brow and draws it inward, as in anger.",
    "browOuterUp": "Raises the outer half of the brow.",
    "eyeBlink": "Shuts the eye.",
    "eyeWide": "Opens the eye wide.",
    "eyeSquint": "Raises the lower lid.",
    "eyeLookUp": "Turns the eye up.",
    "eyeLookDown": "Turns the eye down.",
    "eyeLookIn": "Turns the eye towards the nose.",
    "eyeLookOut": "Turns the eye away from the nose.",
    "jawOpen": "Opens the jaw.",
    "jawForward": "Pushes the jaw forward.",
    "jawLeft": "Moves the jaw to the person's left.",
    "jawRight": "Moves the jaw to the person's right.",
    "mouthSmile": "Lifts the corner of the mouth.",
    "mouthFrown": "Lowers the corner of the mouth.",
    "mouthClose": "Shuts the lips over an open jaw.",
    "mouthFunnel": "Opens the lips to a funnel, as for 'sh'.",
    "mouthPucker": "Gathers the lips, as for a kiss.",
    "mouthLeft": "Moves the mouth to the person's left.",
    "mouthRight": "Moves the mouth to the person's right.",
    "mouthUpperUp": "Raises the upper lip on this side.",
    "mouthLowerDown": "Lowers the lower lip on this side.",
    "mouthPress": "Presses the lips together on this side.",
    "mouthStretch": "Draws the corner of the mouth outward.",
    "mouthDimple": "Draws the corner of the mouth back.",
    "mouthRollUpper": "Rolls the upper lip inward.",
    "mouthRollLower": "Rolls the lower lip inward.",
    "mouthShrugUpper": "Pushes the upper lip up.",
    "mouthShrugLower": "Pushes the chin and the lower lip up.",
    "cheekPuff": "Blows the cheeks out.",
    "cheekSquint": "Raises the cheek towards the eye.",
    "noseSneer": "Wrinkles this side of the nose.",
    "tongueOut": "Puts the tongue out; no landmark shows it, so nothing is drawn.",
}
FPS = 25.0
"""Of the single frame that is made when no motion is connected."""


def explained(name: str) -> str:
    """The tooltip of one shape; left and right are the person's own."""
    if name in WORDS:
        return WORDS[name]
    side = "Left" if name.endswith("Left") else "Right"
    return f"{WORDS[name.removesuffix(side)]} The person's {side.lower()}."


def slider(name: str, group: str) -> io.Float.Input:
    return io.Float.Input(name, default=0.0, min=0.0, max=1.0, step=0.01, display_mode=io.NumberDisplay.slider,
                          tooltip=f"{group.capitalize()}: {explained(name)}")


class BlendshapeSliders(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateBlendshapeSliders",
            display_name="Blendshape Sliders",
            category=sockets.CATEGORY,
            description="The face by ARKit's 52 blendshapes, a slider each: brows, eyes, jaw, mouth, cheeks and nose, "
                        "tongue. Added to a whole motion, or a still expression without one, or as words for "
                        "Expression Edit, which says when they count.",
            inputs=[
                *(slider(name, group) for group, names in GROUPS.items() for name in names),
                io.Float.Input("amount", default=1.0, min=0.0, max=1.5, step=0.05,
                               tooltip="Factor on all sliders: 0 changes nothing, 1 as they stand, 1.5 half more."),
                sockets.Motion.Input("motion", optional=True,
                                     tooltip="The motion whose face is changed from beginning to end. Left open, the "
                                             "node makes a motion of one frame: the portrait with this expression."),
            ],
            outputs=[sockets.Motion.Output("edited_motion", display_name="motion",
                                           tooltip="The motion with the expression added; edits of several nodes in a "
                                                   "row add up."),
                     io.String.Output("blendshapes", display_name="blendshapes",
                                      tooltip="The same in words, as Expression Edit's blendshapes takes it.")],
        )

    @classmethod
    def execute(cls, amount, motion=None, **sliders) -> io.NodeOutput:
        check_cancelled()
        weights = {name: sliders[name] * amount for names in GROUPS.values() for name in names}
        if motion is None:
            motion = Motion.rest(1, FPS)
        if any(weights.values()):
            motion = edit_expression(motion, {}, further=expression_of(ArkitShapes.load(), weights))
        return io.NodeOutput(motion, write_weights(weights))
