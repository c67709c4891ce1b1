"""Eyes: natural blinks, where the head looks, and how its eyes behave while it turns."""

from __future__ import annotations

from comfy_api.latest import io

from ..playmate_core.motion.blinks import MAX_RATE
from ..playmate_core.motion.eyes import BLINK_MODES, GAZE_MODES, direct_eyes
from ..playmate_core.motion.gaze import STYLES, GazeKeyframes
from . import sockets
from .host import check_cancelled, one_of
from .node import Node, say, verdict


class Eyes(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateEyes",
            display_name="Eyes",
            category=sockets.CATEGORY,
            description="Gives the eyes life: natural blinks, a gaze that is directed by numbers or keyframes, small "
                        "restless movements, and eye contact while the head turns.",
            inputs=[
                sockets.Motion.Input("motion", tooltip="The motion whose eyes are directed; mouth, brows and head stay "
                                                       "as they are."),
                io.Combo.Input("blink_mode", options=list(BLINK_MODES), default="add",
                               tooltip="add: blinks where the motion has none, up to the rate. replace: takes the "
                                       "motion's own blinks out first. keep: leaves blinking alone."),
                io.Float.Input("blink_rate", default=15.0, min=0.0, max=MAX_RATE, step=0.5,
                               tooltip="Blinks a minute: 4 to 20 is usual, 30 is nervous. 0 with replace stops "
                                       "blinking."),
                io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                             tooltip="Same seed, same blinks and restless movements."),
                io.Combo.Input("gaze_mode", options=list(GAZE_MODES), default="add",
                               tooltip="add: the gaze below is counted from wherever the motion looks. replace: the "
                                       "motion's own gaze is taken out first."),
                io.Float.Input("gaze_x", default=0.0, min=-1.0, max=1.0, step=0.05,
                               tooltip="Where to look: above 0 to the right of the picture, below 0 to the left; 1 is "
                                       "25 degrees. Not used when keyframes are written."),
                io.Float.Input("gaze_y", default=0.0, min=-1.0, max=1.0, step=0.05,
                               tooltip="Where to look: above 0 up, below 0 down; 1 is 20 degrees. Not used when "
                                       "keyframes are written."),
                io.String.Input("gaze_keyframes", multiline=True, default="",
                                tooltip="Where to look over time, in place of the two numbers: '0 x=0 y=0; 1.5 x=0.5; "
                                        "3 x=-0.3 y=0.2'. Time (1.5, 2s, 0:02), then x and "
                                        "y as above, also as 50% or 10°."),
                io.Combo.Input("gaze_style", options=list(STYLES), default="jump",
                               tooltip="How the eyes get to the next keyframe: jump when its time comes, as eyes do, "
                                       "or glide towards it, as if they followed something."),
                io.Float.Input("saccades", default=0.0, min=0.0, max=3.0, step=0.1,
                               tooltip="Small restless jumps around where the eyes look: 0 none, 1 natural."),
                io.Float.Input("keep_gaze", default=0.0, min=0.0, max=1.0, step=0.05,
                               tooltip="How much of the head's turning the eyes make up for: 0 they turn with it, 0.5 "
                                       "as speakers do, 1 they stay on the viewer. Put this node after Pose Override."),
                io.Float.Input("openness", default=1.0, min=0.0, max=1.3, step=0.05,
                               tooltip="How open the lids are between blinks: 1 as in the motion, 0.7 tired, 1.3 wide, "
                                       "0 shut."),
            ],
            outputs=[sockets.Motion.Output("directed_motion", display_name="motion",
                                           tooltip="The motion with its new blinks, lids and gaze.")],
        )

    @classmethod
    def validate_inputs(cls, blink_mode=None, gaze_mode=None, gaze_style=None, gaze_keyframes=None) -> bool | str:
        wrong = one_of(blink_mode, BLINK_MODES, "blink_mode") or one_of(gaze_mode, GAZE_MODES, "gaze_mode") \
            or one_of(gaze_style, STYLES, "gaze_style")
        if wrong is None and gaze_keyframes and gaze_keyframes.strip():
            GazeKeyframes.parse(gaze_keyframes)
        return verdict(wrong)

    @classmethod
    def execute(cls, motion, blink_mode, blink_rate, seed, gaze_mode, gaze_x, gaze_y, gaze_keyframes, gaze_style,
                saccades, keep_gaze, openness) -> io.NodeOutput:
        check_cancelled()
        written = bool(gaze_keyframes.strip())
        given = {"blink_rate": blink_rate, "gaze_x": gaze_x, "gaze_y": gaze_y, "gaze_style": gaze_style}
        say(cls.idle(given, (written, ("gaze_x", "gaze_y"), "while gaze_keyframes say where to look"),
                     (not written, "gaze_style", "without gaze_keyframes"),
                     (blink_mode == "keep", "blink_rate", "while blink_mode is keep")))
        gaze = GazeKeyframes.parse(gaze_keyframes) if gaze_keyframes.strip() else GazeKeyframes.constant(gaze_x, gaze_y)
        return io.NodeOutput(direct_eyes(
            motion, blink_mode=blink_mode, blink_rate=blink_rate, seed=seed, gaze_mode=gaze_mode, gaze=gaze,
            gaze_style=gaze_style, saccades=saccades, keep_gaze=keep_gaze, openness=openness))
