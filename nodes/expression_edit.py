"""Expression Edit: the face by hand, with the sliders that LivePortrait's editors have, or in ARKit's terms."""

from __future__ import annotations

from comfy_api.latest import io

from ..playmate_core.face.arkit import ArkitShapes
from ..playmate_core.face.blendshape_motion import expression_of
from ..playmate_core.face.blendshape_names import parse_blendshapes
from ..playmate_core.motion.sliders import APPLIES, SLIDERS, edit_expression, envelope, frame_envelope
from ..playmate_core.motion.types import Motion
from . import sockets
from .host import check_cancelled, one_of
from .node import Node, say, verdict

WIDGETS = {  # slider: (step, what it does)
    "smile": (0.01, "Lifts the corners of the mouth; 1 is a full smile, below 0 they drop."),
    "eyebrow": (0.5, "Above 0 raises the brows, below 0 knits them."),
    "blink": (0.5, "Below 0 shuts both eyes (about -12 is shut), above 0 opens them wide."),
    "wink": (0.5, "Shuts the person's right eye, which is on the left of the picture."),
    "pupil_x": (0.5, "Turns the eyes: above 0 to the right of the picture, below 0 to the left."),
    "pupil_y": (0.5, "Turns the eyes: above 0 up, below 0 down; the lids go with them."),
    "aaa": (1.0, "Opens the jaw as for 'aah'; below 0 presses the lips together."),
    "eee": (0.2, "Widens the mouth as for 'eee'; below 0 narrows it."),
    "woo": (0.2, "Rounds the lips as for 'woo'; below 0 stretches them."),
}
FPS = 25.0
"""Of the single frame that is made when no motion is connected."""


class ExpressionEdit(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateExpressionEdit",
            display_name="Expression Edit",
            category=sockets.CATEGORY,
            description="Changes the face by hand: smile, brows, blink, wink, pupils and mouth, on a whole motion, a "
                        "stretch of it or one frame, by sliders or by ARKit's blendshapes. Without a motion it makes "
                        "a still expression.",
            inputs=[
                *(io.Float.Input(name, default=0.0, min=SLIDERS[name][0], max=SLIDERS[name][1], step=step,
                                 tooltip=f"{what} 0 changes nothing.") for name, (step, what) in WIDGETS.items()),
                io.Combo.Input("apply", options=list(APPLIES), default="whole",
                               tooltip="Where the edit counts: whole is every frame, range the seconds from start to "
                                       "end, frame the one frame chosen below."),
                io.Float.Input("start", default=0.0, min=0.0, max=86400.0, step=0.1,
                               tooltip="When the edit begins, in seconds; used when apply is range."),
                io.Float.Input("end", default=0.0, min=0.0, max=86400.0, step=0.1,
                               tooltip="When it is over, in seconds; 0 holds it to the motion's end. Used when apply "
                                       "is range."),
                io.Float.Input("fade", default=0.2, min=0.0, max=60.0, step=0.05,
                               tooltip="How long the edit takes to come and to go, in seconds: inside the range, or "
                                       "on both sides of the frame. 0 switches hard."),
                io.Int.Input("frame", default=0, min=-1000000, max=1000000,
                             tooltip="Which frame, counted from 0; -1 is the last one. Used when apply is frame."),
                sockets.Motion.Input("motion", optional=True,
                                     tooltip="The motion whose face is changed. Left open, the node makes a motion of "
                                             "one frame: the portrait with this expression."),
                io.String.Input("blendshapes", default="", optional=True,
                                tooltip="ARKit's blendshapes, added to the sliders: 'mouthSmileLeft 0.5, jawOpen 0.2'. "
                                        "Names in any spelling, one without Left or Right for both sides; weights 0 "
                                        "to 1, at most 1.5."),
            ],
            outputs=[sockets.Motion.Output("edited_motion", display_name="motion",
                                           tooltip="The motion with the edit added to its expression; edits of several "
                                                   "nodes in a row add up.")],
        )

    @classmethod
    def validate_inputs(cls, apply=None, start=None, end=None, blendshapes=None) -> bool | str:
        if blendshapes is not None:
            parse_blendshapes(blendshapes)
        wrong = one_of(apply, APPLIES, "apply")
        if apply == "range" and start is not None and start < 0:
            wrong = f"start is {start:g} s; a motion begins at 0."
        elif apply == "range" and start is not None and end and end <= start:
            wrong = f"end is {end:g} s, but start is {start:g} s; set end later, or to 0 for the motion's end."
        return verdict(wrong)

    @classmethod
    def execute(cls, apply, start, end, fade, frame, motion=None, blendshapes="", **sliders) -> io.NodeOutput:
        check_cancelled()
        given = {"apply": apply, "start": start, "end": end, "fade": fade, "frame": frame}
        say(cls.idle(given, (motion is None, tuple(given), "without a motion: the result is one still frame"),
                     (motion is not None and apply != "range", ("start", "end"), "unless apply is range"),
                     (motion is not None and apply != "frame", "frame", "unless apply is frame"),
                     (motion is not None and apply == "whole", "fade", "where the whole motion is edited")))
        if motion is None:
            motion, apply = Motion.rest(1, FPS), "whole"
        if apply == "range":
            amount = envelope(len(motion), motion.fps, start, end or None, fade)
        elif apply == "frame":
            amount = frame_envelope(len(motion), motion.fps, frame, fade)
        else:
            amount = 1.0
        shapes = parse_blendshapes(blendshapes or "")
        further = expression_of(ArkitShapes.load(), shapes) if shapes else None
        return io.NodeOutput(edit_expression(motion, {name: sliders[name] for name in SLIDERS}, amount, further))
