"""Pose Override: where the head looks, directed by hand or taken from another motion."""

from __future__ import annotations

from typing import Any

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
    PoseSource,
    override_pose,
    parse_axes,
)
from ..playmate_core.runtime.errors import PlaymateError
from . import sockets
from .host import check_cancelled, one_of
from .node import Node, say

AXES = "pitch, yaw, roll"
STILL = "still"
FILLED_IN = "0 yaw=0; 1 yaw=15; 2.5 yaw=-10 roll=5"
"""What the keyframes widget held at first in earlier versions, so that workflows hold it that nobody wrote it in."""
EXAMPLE = "0 yaw=0; 1.5 yaw=15; 3 yaw=-10 roll=5"
FOLLOWED = {"constant": "the numbers", "keyframes": "the keyframes", "preset": "the preset",
            "motion": "pose_motion"}
PRESENT = {"keyframes": "keyframes are written", "preset": "a preset is chosen", "motion": "pose_motion is connected"}
SOURCES = ["constant", "keyframes", "motion", "preset"]
WIDGETS = {  # axis: (default, step, what it does)
    "pitch": (0.0, 0.5, "Nodding, in degrees: above 0 looks down, below 0 up"),
    "yaw": (0.0, 0.5, "Turning, in degrees: above 0 to the left side of the picture, below 0 to the right"),
    "roll": (0.0, 0.5, "Tilting, in degrees: above 0 clockwise as you see it"),
    "x": (0.0, 0.01, "Shift to the right, in latent units (0.1 is a quarter of the eyes' distance)"),
    "y": (0.0, 0.01, "Shift downwards, in latent units"),
    "scale": (1.0, 0.01, "Size of the head, as a factor"),
}

DEFAULTS = {axis: default for axis, (default, _, _) in WIDGETS.items()}


class PoseOverride(Node):
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
                                       "pose_motion input, or a preset. With constant whatever is there counts: "
                                       "numbers that are set, then keyframes that are written, a preset that is "
                                       "chosen, a pose_motion that is connected."),
                io.String.Input("axes", default=AXES,
                                tooltip="Which axes are directed, out of pitch, yaw, roll, x, y, scale; all others "
                                        "keep the motion's own. Empty: all that the source has. An axis may have a "
                                        "mode of its own: 'yaw, pitch=add, roll=mix'."),
                *(io.Float.Input(axis, default=default, min=POSE_LIMITS[axis][0], max=POSE_LIMITS[axis][1], step=step,
                                 tooltip=f"{what}. Counted from how the portrait looks; used when source is constant "
                                         f"and axes names {axis}.")
                  for axis, (default, step, what) in WIDGETS.items()),
                io.String.Input("keyframes", multiline=True, default="", placeholder=EXAMPLE,
                                tooltip=f"Poses at times: '{EXAMPLE}'. Time (1.5, 2s, 0:02.5), then axis=value (15, "
                                        "15°, scale=110%). In between the head eases from one to the next."),
                io.Float.Input("amount", default=1.0, min=0.0, max=1.0, step=0.05,
                               tooltip="How much of the pose: 1 is all of it. With mix, 0.5 is half way."),
                io.Combo.Input("length", options=list(LENGTH_POLICIES), default="mirror",
                               tooltip="If pose_motion or a list of values is shorter: constant holds its last frame, "
                                       "cycle starts it again, mirror runs it backwards and forwards, cut ends the "
                                       "result there."),
                sockets.Motion.Input("pose_motion", optional=True,
                                     tooltip="The motion whose head pose is taken, for instance from Load Motion or "
                                             "Motion From Video."),
                io.Combo.Input("easing", options=list(EASINGS), default="ease", optional=True,
                               tooltip="How keyframes are joined. ease: smoothly, at rest in the first and the last. "
                                       "linear: at even speed. step: each is held until the next."),
                io.Combo.Input("preset", options=list(PRESETS), default=STILL, optional=True,
                               tooltip="A ready-made movement that repeats; amount makes it smaller."),
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
                                                   "are held at the limit, which the node then says.")],
        )

    @classmethod
    def validate_inputs(cls, mode=None, source=None, axes=None, keyframes=None, length=None, easing=None, preset=None,
                        period=None) -> bool | str:
        wrong = one_of(mode, MODES, "mode") or one_of(source, SOURCES, "source") \
            or one_of(length, LENGTH_POLICIES, "length") or one_of(easing, EASINGS, "easing") \
            or one_of(preset, PRESETS, "preset")
        if wrong:
            return wrong
        if axes is not None:
            parse_axes(axes)
        if source in ("preset", "constant") and preset in PRESETS and period:
            PosePreset(preset, period)
        if keyframes is not None and (source == "keyframes" or source == "constant" and _typed(keyframes)):
            PoseKeyframes.parse(keyframes)
        return True

    @classmethod
    def execute(cls, motion, mode, source, axes, keyframes, amount, length, pose_motion=None, easing="ease",
                preset=STILL, period=0.0, **numbers) -> io.NodeOutput:
        check_cancelled()
        named, modes = parse_axes(axes, mode)
        lists = {axis: numbers[f"{axis}_values"] for axis in POSE_AXES if numbers.get(f"{axis}_values") is not None}
        given = {axis: numbers[axis] for axis in POSE_AXES if axis in numbers}
        if source == "motion" and pose_motion is None:
            raise PlaymateError("Pose Override takes its pose from a motion, but pose_motion is not connected; "
                                "connect one or choose another source.")
        there = {"constant": True, "keyframes": _typed(keyframes), "preset": (preset or STILL) != STILL,
                 "motion": pose_motion is not None}
        found: dict[str, PoseSource] = {"constant": given}
        if source == "keyframes" or source == "constant" and there["keyframes"]:
            found["keyframes"] = PoseKeyframes.parse(keyframes, easing or "ease")
        if source == "preset" or source == "constant" and there["preset"]:
            found["preset"] = PosePreset(preset or STILL, period or None)
        if there["motion"]:
            found["motion"] = pose_motion
        shares, notes = _shares(source, found, named, axes.split() != AXES.split(), set(lists))

        use = [name for name, directed in shares.items() if directed]
        if not use and not lists:
            raise PlaymateError(" ".join(notes) or f"Nothing directs the head: the {source} has none of the axes that "
                                f"axes names ({', '.join(named or ())}).")
        if source != "constant":
            notes += [f"{PRESENT[name].capitalize()}, but source is {source}, so it does nothing."
                      for name in ("keyframes", "motion") if there[name] and name != source]
        notes += cls.idle(
            {**given, "easing": easing, "preset": preset, "period": period, "length": length},
            ("constant" not in use, tuple(axis for axis in given if axis not in lists), f"while source is {source}"),
            (named is not None, tuple(axis for axis in given if axis not in (named or ()) and axis not in lists
                                      and "constant" in use), "without being named in axes"),
            (True, tuple(axis for axis in lists if axis in given), "beside a list of values for the same axis"),
            ("keyframes" not in use, "easing", "without keyframes"),
            ("preset" not in use, ("preset", "period"),
             f"while the head follows {' and '.join(FOLLOWED[name] for name in use) or 'a list of values'}"),
            ("motion" not in use and not lists, "length", "without a pose_motion or list of values that is used"))
        if lists:
            motion = override_pose(motion, lists, modes, None, amount, length=length, notify=notes.append)
        for name in use:
            motion = override_pose(motion, found[name], modes, shares[name], amount, length=length, notify=notes.append)
        say(notes)
        return io.NodeOutput(motion)


def _typed(keyframes: str) -> bool:
    """Whether somebody wrote these keyframes."""
    return bool(keyframes.strip()) and keyframes.split() != FILLED_IN.split()


def _shares(source: str, found: dict[str, Any], named: tuple[str, ...] | None, chosen: bool,
            taken: set[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Which axes each source directs, and what must be said about it.

    Args:
        source: the widget; "constant", where it stands at first, leaves it to what is there.
        found: the sources that are there.
        named: the axes that the axes widget names.
        chosen: whether it was changed; at first it does not hold keyframes back that name other axes.
        taken: axes that are directed already.
    """
    order = [name for name in ("constant", "keyframes", "preset", "motion") if name in found]
    others = [name for name in order if name != "constant"]
    allowed = named or POSE_AXES
    shares: dict[str, list[str]] = {name: [] for name in order}
    notes: list[str] = []
    for name in order if source == "constant" else [source]:
        if name == "constant":
            wanted = [axis for axis in allowed if found[name].get(axis) != DEFAULTS[axis]]
            wanted = list(allowed) if not others else wanted
        elif name == "keyframes":
            own = found[name].axes
            wanted = [axis for axis in own if axis in allowed or not chosen]
            _add(notes, [axis for axis in own if axis not in wanted], "the keyframes name {}, which axes leaves out")
        else:
            own = found[name].axes if name == "preset" else POSE_AXES
            wanted = [axis for axis in own if axis in allowed]
        shares[name] = [axis for axis in wanted if axis not in taken]
        partly = name == "keyframes" or name == "preset" and shares[name]
        _add(notes, [axis for axis in wanted if axis in taken] if partly else [],
             f"the {name} for {{}} {'do' if name == 'keyframes' else 'does'} nothing, since something else directs it")
        taken = taken | set(shares[name])
        if name != source and shares[name]:
            _add(notes, shares[name], f"source is {source}, but {PRESENT[name]}, so {{}} follows that")
    if source == "constant" and shares["constant"]:
        # Where a number is set, the others hold as well, but for what something else directs.
        shares["constant"] += [axis for axis in allowed if axis not in taken]
    return shares, [f"{note[0].upper()}{note[1:]}." for note in notes]


def _add(notes: list[str], axes: list[str], sentence: str) -> None:
    if axes:
        notes.append(sentence.format(", ".join(axes)))
