"""Pose Override: where the head looks, directed by hand or taken from another motion."""

from __future__ import annotations

from comfy_api.latest import io

from ..playmate_core.motion.edits import LENGTH_POLICIES
from ..playmate_core.motion.pose import (
    EASINGS,
    MODES,
    POSE_AXES,
    POSE_LIMITS,
    PRESETS,
    PoseKeyframes,
    PosePreset,
    override_pose,
    parse_axes,
)
from ..playmate_core.runtime.errors import PlaymateError
from . import sockets
from .host import check_cancelled, one_of

SOURCES = ["constant", "keyframes", "motion", "preset"]
WIDGETS = {  # axis: (default, step, what it does)
    "pitch": (0.0, 0.5, "Nodding, in degrees: above 0 looks down, below 0 up"),
    "yaw": (0.0, 0.5, "Turning, in degrees: above 0 to the left side of the picture, below 0 to the right"),
    "roll": (0.0, 0.5, "Tilting, in degrees: above 0 clockwise as you see it"),
    "x": (0.0, 0.01, "Shift to the right, in latent units (0.1 is a quarter of the eyes' distance)"),
    "y": (0.0, 0.01, "Shift downwards, in latent units"),
    "scale": (1.0, 0.01, "Size of the head, as a factor"),
}


class PoseOverride(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymatePoseOverride",
            display_name="Pose Override",
            category=sockets.CATEGORY,
            description="Directs the head: sets, adds or mixes a pose, axis by axis, from fixed numbers, lists of "
                        "numbers, keyframes, a ready-made movement or another motion. The face goes on speaking.",
            inputs=[
                sockets.Motion.Input("motion", tooltip="The motion whose head is directed."),
                io.Combo.Input("mode", options=list(MODES), default="replace",
                               tooltip="replace: this pose instead of the motion's own. add: on top of it. mix: part "
                                       "of the way from one to the other, see amount."),
                io.Combo.Input("source", options=SOURCES, default="constant",
                               tooltip="Where the pose comes from: the fixed numbers below, the keyframes text, the "
                                       "pose_motion input, or a preset."),
                io.String.Input("axes", default="pitch, yaw, roll",
                                tooltip="Which axes are directed, out of pitch, yaw, roll, x, y, scale; all others "
                                        "keep the motion's own. Empty: all that the source has. An axis may have a "
                                        "mode of its own: 'yaw, pitch=add, roll=mix'."),
                *(io.Float.Input(axis, default=default, min=POSE_LIMITS[axis][0], max=POSE_LIMITS[axis][1], step=step,
                                 tooltip=f"{what}. Counted from how the portrait looks; used when source is constant "
                                         f"and axes names {axis}.")
                  for axis, (default, step, what) in WIDGETS.items()),
                io.String.Input("keyframes", multiline=True, default="0 yaw=0; 1 yaw=15; 2.5 yaw=-10 roll=5",
                                tooltip="Poses at times, used when source is keyframes: seconds, then axis=value. "
                                        "In between the head eases from one to the next."),
                io.Float.Input("amount", default=1.0, min=0.0, max=1.0, step=0.05,
                               tooltip="How much of the pose: 1 is all of it. With mix, 0.5 is half way."),
                io.Combo.Input("length", options=list(LENGTH_POLICIES), default="mirror",
                               tooltip="If pose_motion or a list of values is shorter: constant holds its last frame, "
                                       "cycle starts it again, mirror runs it backwards and forwards, cut ends the "
                                       "result there."),
                sockets.Motion.Input("pose_motion", optional=True,
                                     tooltip="The motion whose head pose is taken when source is motion, for instance "
                                             "from Load Motion or Motion From Video."),
                io.Combo.Input("easing", options=list(EASINGS), default="ease", optional=True,
                               tooltip="How keyframes are joined. ease: smoothly, at rest in the first and the last. "
                                       "linear: at even speed. step: each is held until the next."),
                io.Combo.Input("preset", options=list(PRESETS), default="still", optional=True,
                               tooltip="A ready-made movement that repeats, used when source is preset; amount makes "
                                       "it smaller."),
                io.Float.Input("period", default=0.0, min=0.0, max=60.0, step=0.1, optional=True,
                               tooltip="Seconds of one repetition of the preset; 0 is the movement's own (nod 1.1, "
                                       "shake 0.9, slow turn 8, look around 9)."),
                *(io.Float.Input(f"{axis}_values", optional=True, force_input=True,
                                 tooltip=f"A list of numbers, one for each frame, that directs {axis} whatever the "
                                         f"source is, for instance from a spline editor. A single number counts for "
                                         f"all frames.")
                  for axis in WIDGETS),
            ],
            outputs=[sockets.Motion.Output("directed_motion", display_name="motion",
                                           tooltip="The motion with its new head pose. Poses beyond what can be drawn "
                                                   "are held at the limit.")],
        )

    @classmethod
    def validate_inputs(cls, mode=None, source=None, axes=None, keyframes=None, length=None, easing=None, preset=None,
                        period=None) -> bool | str:
        wrong = one_of(mode, MODES, "mode") or one_of(source, SOURCES, "source") \
            or one_of(length, LENGTH_POLICIES, "length") or one_of(easing, EASINGS, "easing") \
            or one_of(preset, PRESETS, "preset")
        try:
            if axes is not None:
                parse_axes(axes)
            if source == "preset" and preset in PRESETS and period:
                PosePreset(preset, period)
            if source == "keyframes" and keyframes is not None:
                PoseKeyframes.parse(keyframes)
        except PlaymateError as error:
            wrong = wrong or str(error)
        return wrong or True

    @classmethod
    def execute(cls, motion, mode, source, axes, keyframes, amount, length, pose_motion=None, easing="ease",
                preset="still", period=0.0, **numbers) -> io.NodeOutput:
        check_cancelled()
        named, modes = parse_axes(axes, mode)
        lists = {axis: numbers[f"{axis}_values"] for axis in POSE_AXES if numbers.get(f"{axis}_values") is not None}
        chosen = named or POSE_AXES
        if source == "motion":
            if pose_motion is None:
                raise PlaymateError("Pose Override takes its pose from a motion, but pose_motion is not connected; "
                                    "connect one or choose another source.")
            pose = pose_motion
        elif source == "keyframes":
            pose = PoseKeyframes.parse(keyframes, easing or "ease")
            chosen = named or tuple(pose.axes)
        elif source == "preset":
            pose = PosePreset(preset or "still", period or None)
            chosen = named or pose.axes
        else:
            pose = {axis: numbers[axis] for axis in chosen}
        chosen = tuple(axis for axis in chosen if axis not in lists)
        if lists:
            motion = override_pose(motion, lists, modes, None, amount, length=length)
        if chosen:
            motion = override_pose(motion, pose, modes, chosen, amount, length=length)
        return io.NodeOutput(motion)
