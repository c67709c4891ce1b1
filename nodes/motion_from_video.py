"""Motion From Video: an actor's face drives the portrait."""

from __future__ import annotations

from comfy_api.latest import io

from ..playmate_core import pipeline
from ..playmate_core.driving.film import EXTRACTORS, MISSING, NEUTRALS, USES, motion_from_frames
from ..playmate_core.face.selection import POLICIES
from ..playmate_core.runtime.errors import PlaymateError
from . import sockets
from .films import film, part_of
from .host import one_of, progress
from .node import Node, say, verdict
from .values import pictures

CHOICES = {"use": USES, "face": POLICIES, "missing": MISSING, "neutral": NEUTRALS, "extractor": EXTRACTORS}
CLIP_TOOLTIP = "Connect either video or images."


class MotionFromVideo(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateMotionFromVideo",
            display_name="Motion From Video",
            category=sockets.CATEGORY,
            description="Reads head pose and facial expression off a driving clip: an actor's performance for the "
                        "portrait, or a head movement to put speech on.",
            inputs=[
                sockets.Models.Input("models", tooltip="From Load Playmate Models."),
                io.Combo.Input("use", options=list(USES), default=USES[0],
                               tooltip="What is taken from the clip. What is not taken stays at rest."),
                io.Combo.Input("face", options=list(POLICIES), default="largest",
                               tooltip="Which face is followed, if the first frame shows several: the largest, the "
                                       "leftmost or rightmost, or by number with 'index'."),
                io.Int.Input("face_index", default=0, min=0, max=99,
                             tooltip="With face = index: which face, counted from the left, 0 is the first."),
                io.Combo.Input("missing", options=list(MISSING), default=MISSING[0],
                               tooltip="What frames without a face become: interpolate moves from the last seen to "
                                       "the next, hold keeps the last seen, fail stops with an error."),
                io.Combo.Input("neutral", options=list(NEUTRALS), default=NEUTRALS[0],
                               tooltip="The face from which expressions count. auto estimates the actor's neutral "
                                       "face, so that a smile that never ends still smiles; first frame, as in "
                                       "LivePortrait; median: the most usual face of the clip."),
                io.Float.Input("smoothing", default=0.03, min=0.0, max=0.5, step=0.01,
                               tooltip="Seconds over which tremor is averaged. 0 keeps every tremor; from 0.1 on lips "
                                       "and blinks lose their edge."),
                io.Float.Input("fps", default=0.0, min=0.0, max=120.0, step=0.001,
                               tooltip="Frames a second of the motion. 0 keeps the clip's own rate."),
                io.Float.Input("start", default=0.0, min=0.0, max=36000.0, step=0.1,
                               tooltip="Seconds of the clip to leave out at its beginning."),
                io.Float.Input("seconds", default=0.0, min=0.0, max=36000.0, step=0.1,
                               tooltip="Seconds of the clip to read. 0 reads to its end."),
                io.Combo.Input("extractor", options=list(EXTRACTORS), default=EXTRACTORS[0],
                               tooltip="How motion is read off the pictures. 'motion extractor' is LivePortrait's own "
                                       "network, which comes with the liveportrait packs; 'landmarks' needs none; "
                                       "auto takes the motion extractor where the loaded pack has it."),
                io.Float.Input("image_fps", default=25.0, min=1.0, max=240.0, step=0.001,
                               tooltip="With images: the frames a second at which they were filmed."),
                io.Video.Input("video", optional=True,
                               tooltip=f"The driving clip, from Load Video. {CLIP_TOOLTIP} It is read frame by frame."),
                io.Image.Input("images", optional=True,
                               tooltip=f"The driving clip as a batch of pictures. {CLIP_TOOLTIP}"),
            ],
            outputs=[sockets.Motion.Output("clip_motion", display_name="motion",
                                           tooltip="What the face in the clip does, for any motion node or renderer."),
                     io.Audio.Output("clip_audio", display_name="audio",
                                     tooltip="The clip's own sound, in step with the motion also where the file starts "
                                             "it later or earlier than the picture. Nothing for images or a silent "
                                             "clip.")],
        )

    @classmethod
    def validate_inputs(cls, use=None, face=None, missing=None, neutral=None, extractor=None) -> bool | str:
        given = {"use": use, "face": face, "missing": missing, "neutral": neutral, "extractor": extractor}
        return verdict(*(one_of(value, CHOICES[name], name) for name, value in given.items()))

    @classmethod
    def execute(cls, models, use, face, face_index, missing, neutral, smoothing, fps, start, seconds, extractor,
                image_fps, video=None, images=None) -> io.NodeOutput:
        say(cls.idle({"face_index": face_index, "image_fps": image_fps},
                     (face != "index", "face_index", "unless face is index"),
                     (images is None, "image_fps", "with a video, which has a frame rate of its own")))
        frames, rate, total, sound = _clip(video, images, image_fps, start, seconds)
        motion = motion_from_frames(
            models.face, models.bridge, frames, rate, total=total, face=face, face_index=face_index, missing=missing,
            neutral=neutral, use=use, smoothing=smoothing, output_fps=fps or None, extractor=extractor,
            motion_extractor=pipeline.motion_extractor(models), progress=progress())
        return io.NodeOutput(motion, sound)


def _clip(video, images, image_fps: float, start: float, seconds: float):
    """(frames, frames a second, how many, the AUDIO or None) of whichever clip is connected."""
    if (video is None) == (images is None):
        raise PlaymateError("Motion From Video needs one clip; connect either video or images, not both.")
    if video is not None:
        return film(video, start, seconds)
    return *part_of(pictures(images, "images"), image_fps, start, seconds), None
