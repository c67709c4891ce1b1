"""Render Video: motion on a portrait or a film, straight into a video file."""

from __future__ import annotations

import os
import uuid

import folder_paths
from comfy_api.latest import InputImpl, io

from ..playmate_core import film_pipeline, pipeline
from ..playmate_core.cast import cast_with, fit_cast, render_frames
from ..playmate_core.media.film_sound import seconds_of
from ..playmate_core.media.grounds import TRANSPARENT, Background, parse_colour
from ..playmate_core.media.pictures import check_image
from ..playmate_core.media.sizes import SIZE
from ..playmate_core.media.video_writer import write_video
from ..playmate_core.motion.lengths import SOUND_LENGTHS
from ..playmate_core.render.film import SCOPES
from ..playmate_core.render.takes import FILM_LENGTHS
from ..playmate_core.runtime.errors import PlaymateError
from . import sockets
from .host import check_cancelled, one_of, progress
from .node import Node, say, verdict
from .values import picture, sound


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
                io.String.Input("background", default="", optional=True,
                                tooltip="Behind a portrait with a transparent ground: a colour such as #00b140 or "
                                        "white; transparent keeps it in a WebM video (VP9). Empty is white. Does "
                                        "nothing on an opaque portrait."),
                io.Image.Input("background_image", optional=True,
                               tooltip="A picture behind a portrait with a transparent ground, made to cover; goes "
                                       "before background."),
            ],
            outputs=[io.Video.Output("video", display_name="video",
                                     tooltip="The video with its sound, in ComfyUI's temp folder until it is saved.")],
        )

    @classmethod
    def validate_inputs(cls, size=None, length=None, scope=None, film_length=None, background=None) -> bool | str:
        return verdict(sockets.size_error(size), one_of(length, SOUND_LENGTHS, "length"),
                       one_of(scope, SCOPES, "scope"), one_of(film_length, FILM_LENGTHS, "film_length"),
                       background_error(background))

    @classmethod
    def execute(cls, models, appearance, motion, crf, batch_size, audio=None, size=SIZE,
                length=SOUND_LENGTHS[0], scope=SCOPES[0], film_length=FILM_LENGTHS[0], cast=None,
                background="", background_image=None) -> io.NodeOutput:
        heard = None if audio is None else sound(audio)
        everybody, note = fit_cast(cast_with(appearance, motion, cast), seconds_of(heard), length)
        appearance, motion = everybody.members[0]
        take = None if appearance.film is None else film_pipeline.film_take(appearance, motion, film_length)
        notes = cls.idle({"scope": scope, "film_length": film_length, "background": background},
                         sockets.idle_on_pictures(appearance),
                         (appearance.alpha is None, "background", "behind an opaque portrait; give Extract Appearance "
                          "a picture with alpha, or a ground"))
        fps = motion.fps if take is None else take.fps
        behind = _behind(background, background_image) if appearance.alpha is not None else None
        alpha = behind is not None and behind.transparent
        path = _kept() if alpha else os.path.join(folder_paths.get_temp_directory(), f"playmate_{uuid.uuid4().hex}.mp4")
        notes += [f"The transparent film is kept as {os.path.basename(path)} in ComfyUI's output folder: Save Video "
                  "writes MP4, which has no transparency."] if alpha else []
        say([told for told in (*notes, note, pipeline.size_note(appearance, size, fps)) if told])
        frames = render_frames(models, everybody, batch_size or None, _cancel, size=size, take=take, scope=scope,
                               alpha=behind is not None)
        if behind is not None:
            frames = behind.behind(frames)
        if take is None:
            write_video(path, frames, motion.fps, len(motion), audio=heard, crf=crf, progress=progress(), alpha=alpha)
        else:
            film_pipeline.write_take(path, frames, take, heard, crf=crf, progress=progress())
        return io.NodeOutput(InputImpl.VideoFromFile(path))


def _kept() -> str:
    """A new name for a transparent film in ComfyUI's output folder."""
    folder, name, counter, _, _ = folder_paths.get_save_image_path("playmate", folder_paths.get_output_directory())
    path = os.path.join(folder, f"{name}_{counter:05}_.webm")
    while os.path.exists(path):
        counter += 1
        path = os.path.join(folder, f"{name}_{counter:05}_.webm")
    return path


def background_error(text: str | None) -> str | None:
    """What is wrong with a background's text."""
    text = (text or "").strip()
    if not text or text.lower() == TRANSPARENT or parse_colour(text) is not None:
        return None
    return (f"background is {text!r}; give '{TRANSPARENT}', a colour such as '#00b140' or 'white', or nothing. A "
            "picture goes into background_image.")


def _behind(background: str | None, image) -> Background | None:
    if image is not None:
        return Background(picture=check_image(picture(image, 0)))
    if (error := background_error(background)) is not None:
        raise PlaymateError(error)
    text = (background or "").strip()
    if not text:
        return None
    return Background(transparent=True) if text.lower() == TRANSPARENT else Background(picture=parse_colour(text))


def _cancel(done: int, total: int) -> None:
    """Lets the renderer stop between frames; the bar is filled by the writer."""
    check_cancelled()
