"""Motion From Video: an actor's face drives the portrait."""

from __future__ import annotations

from comfy_api.latest import InputImpl, io

from ..playmate_core.driving.film import EXTRACTORS, MISSING, NEUTRALS, USES, motion_from_frames
from ..playmate_core.face.selection import POLICIES
from ..playmate_core.media.clip_sound import clip_sound
from ..playmate_core.media.video_reader import open_video
from ..playmate_core.runtime.errors import PlaymateError
from . import sockets
from .host import one_of, progress

CHOICES = {"use": USES, "face": POLICIES, "missing": MISSING, "neutral": NEUTRALS, "extractor": EXTRACTORS}
CLIP_TOOLTIP = "Connect either video or images."


class MotionFromVideo(io.ComfyNode):
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
        wrong = [one_of(value, CHOICES[name], name) for name, value in given.items()]
        return next((text for text in wrong if text), True)

    @classmethod
    def execute(cls, models, use, face, face_index, missing, neutral, smoothing, fps, start, seconds, extractor,
                image_fps, video=None, images=None) -> io.NodeOutput:
        from ..playmate_core.render.liveportrait.extraction import motion_extractor_of

        frames, rate, total = _clip(video, images, image_fps, start, seconds)
        motion = motion_from_frames(
            models.face, models.bridge, frames, rate, total=total, face=face, face_index=face_index, missing=missing,
            neutral=neutral, use=use, smoothing=smoothing, output_fps=fps or None, extractor=extractor,
            motion_extractor=motion_extractor_of(models.renderer), progress=progress())
        return io.NodeOutput(motion, _audio(video, start, seconds))


def _clip(video, images, image_fps: float, start: float, seconds: float):
    """(frames, frames a second, how many) of whichever clip is connected."""
    if (video is None) == (images is None):
        raise PlaymateError("Motion From Video needs one clip; connect either video or images, not both.")
    if isinstance(video, InputImpl.VideoFromComponents):
        parts = video.get_components()
        images, image_fps = parts.images, float(parts.frame_rate)
    elif video is not None:
        reader = open_video(video.get_stream_source(), start, seconds or None)
        return reader, reader.fps, reader.total
    first = round(start * image_fps)
    if first >= len(images):
        raise PlaymateError(f"The clip lasts {len(images) / image_fps:.2f} seconds; start before that.")
    images = images[first:first + max(round(seconds * image_fps), 1) if seconds else None]
    return [images], image_fps, len(images)


def _audio(video, start: float, seconds: float):
    """The AUDIO of the same part of a clip, or None."""
    if video is None:
        return None
    if not isinstance(video, InputImpl.VideoFromComponents):
        return clip_sound(video.get_stream_source(), start, seconds or None)
    audio = video.get_components().audio
    if audio is None:
        return None
    rate = audio["sample_rate"]
    first = round(start * rate)
    last = first + round(seconds * rate) if seconds else None
    return {"waveform": audio["waveform"][..., first:last], "sample_rate": rate}
