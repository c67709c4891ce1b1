"""Render Video: motion on a portrait or a film, straight into a video file."""

from __future__ import annotations

import os
import uuid

import folder_paths
from comfy_api.latest import InputImpl, io

from ..playmate_core import film_pipeline, pipeline
from ..playmate_core.cast import cast_with, fit_cast, render_frames
from ..playmate_core.media.film_sound import seconds_of
from ..playmate_core.media.sizes import SIZE
from ..playmate_core.media.video_writer import write_video
from ..playmate_core.motion.lengths import SOUND_LENGTHS
from ..playmate_core.render.film import SCOPES
from ..playmate_core.render.takes import FILM_LENGTHS
from . import sockets
from .host import check_cancelled, one_of, progress
from .node import Node, say, verdict
from .values import sound


class RenderVideo(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateRenderVideo",
            display_name="Render Video",
            category=sockets.CATEGORY,
            description="Draws the motion on the portrait and writes each frame to a video file at once, so that "
                        "memory does not grow with length. Connect Save Video to keep the result.",
            inputs=[
                sockets.Models.Input("models", tooltip="From Load Playmate Models."),
                sockets.Appearance.Input("appearance", tooltip="The portrait or film, from Extract Appearance or "
                                                               "Extract Film Appearance."),
                sockets.Motion.Input("motion", tooltip="What it does, from the sampler or any motion node."),
                io.Int.Input("crf", default=16, min=0, max=51,
                             tooltip="Quality of the H.264 picture: 16 is very good, lower is better and larger, 28 is "
                                     "small."),
                io.Int.Input("batch_size", default=0, min=0, max=256,
                             tooltip="Frames drawn at once. 0 lets the renderer choose; fewer need less memory."),
                io.Audio.Input("audio", optional=True,
                               tooltip="The sound of the video: connect the voice. Without it the video is silent."),
                sockets.size_input(),
                io.Combo.Input("length", options=list(SOUND_LENGTHS), default=SOUND_LENGTHS[0], optional=True,
                               tooltip="How long the video lasts when motion and sound differ: as the motion; cut ends "
                                       "with the shorter of the two; hold, loop and mirror continue a shorter motion "
                                       "until the sound ends."),
                *sockets.film_inputs(),
                sockets.cast_input(),
            ],
            outputs=[io.Video.Output("video", display_name="video",
                                     tooltip="The video with its sound, in ComfyUI's temp folder until it is saved.")],
        )

    @classmethod
    def validate_inputs(cls, size=None, length=None, scope=None, film_length=None) -> bool | str:
        return verdict(sockets.size_error(size), one_of(length, SOUND_LENGTHS, "length"),
                       one_of(scope, SCOPES, "scope"), one_of(film_length, FILM_LENGTHS, "film_length"))

    @classmethod
    def execute(cls, models, appearance, motion, crf, batch_size, audio=None, size=SIZE,
                length=SOUND_LENGTHS[0], scope=SCOPES[0], film_length=FILM_LENGTHS[0], cast=None) -> io.NodeOutput:
        heard = None if audio is None else sound(audio)
        everybody, note = fit_cast(cast_with(appearance, motion, cast), seconds_of(heard), length)
        appearance, motion = everybody.members[0]
        take = None if appearance.film is None else film_pipeline.film_take(appearance, motion, film_length)
        notes = cls.idle({"scope": scope, "film_length": film_length}, sockets.idle_on_pictures(appearance))
        fps = motion.fps if take is None else take.fps
        say([told for told in (*notes, note, pipeline.size_note(appearance, size, fps)) if told])
        path = os.path.join(folder_paths.get_temp_directory(), f"playmate_{uuid.uuid4().hex}.mp4")
        frames = render_frames(models, everybody, batch_size or None, _cancel, size=size, take=take, scope=scope)
        if take is None:
            write_video(path, frames, motion.fps, len(motion), audio=heard, crf=crf, progress=progress())
        else:
            film_pipeline.write_take(path, frames, take, heard, crf=crf, progress=progress())
        return io.NodeOutput(InputImpl.VideoFromFile(path))


def _cancel(done: int, total: int) -> None:
    """Lets the renderer stop between frames; the bar is filled by the writer."""
    check_cancelled()
