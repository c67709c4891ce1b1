"""Render Frames: motion on a portrait or a film, as pictures."""

from __future__ import annotations

import comfy.model_management
import torch
from comfy_api.latest import io

from ..playmate_core import film_pipeline, pipeline
from ..playmate_core.cast import cast_with, render_frames
from ..playmate_core.media.sizes import SIZE
from ..playmate_core.render.film import SCOPES
from ..playmate_core.render.takes import FILM_LENGTHS
from ..playmate_core.runtime.errors import PlaymateError
from . import sockets
from .host import one_of, progress
from .node import Node, say, verdict


class RenderFrames(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateRenderFrames",
            display_name="Render Frames",
            category=sockets.CATEGORY,
            description="Draws the motion on the portrait and returns every frame as an IMAGE batch, for more work on "
                        "the pictures. For long videos use Render Video, which needs no memory for them.",
            inputs=[
                sockets.Models.Input("models", tooltip="From Load Playmate Models."),
                sockets.Appearance.Input("appearance", tooltip="The portrait or film, from Extract Appearance or "
                                                               "Extract Film Appearance."),
                sockets.Motion.Input("motion", tooltip="What it does, from the sampler or any motion node."),
                io.Int.Input("batch_size", default=0, min=0, max=256,
                             tooltip="Frames drawn at once. 0 lets the renderer choose; fewer need less memory."),
                sockets.size_input(),
                *sockets.film_inputs(),
                sockets.cast_input(),
            ],
            outputs=[
                io.Image.Output("images", display_name="images", tooltip="All frames, in order."),
                io.Float.Output("fps", display_name="fps", tooltip="Frames a second, for Create Video."),
            ],
        )

    @classmethod
    def validate_inputs(cls, size=None, scope=None, film_length=None) -> bool | str:
        return verdict(sockets.size_error(size), one_of(scope, SCOPES, "scope"),
                       one_of(film_length, FILM_LENGTHS, "film_length"))

    @classmethod
    def execute(cls, models, appearance, motion, batch_size, size=SIZE, scope=SCOPES[0],
                film_length=FILM_LENGTHS[0], cast=None) -> io.NodeOutput:
        everybody = cast_with(appearance, motion, cast).in_step()
        appearance, motion = everybody.members[0]
        if not len(motion):
            raise PlaymateError("The motion has no frames; give one that lasts at least one frame.")
        frames, fps, (height, width) = len(motion), motion.fps, pipeline.frame_size(appearance, size)
        take = None
        if appearance.film is not None:
            # An IMAGE batch knows no times: a film of a varying rate becomes a steady one.
            take = film_pipeline.film_take(appearance, motion, film_length, fps=0)
            frames, fps = len(take), take.fps
        _check_memory(frames, height, width)
        notes = cls.idle({"scope": scope, "film_length": film_length}, sockets.idle_on_pictures(appearance))
        say([note for note in (*notes, pipeline.size_note(appearance, size)) if note])
        images = torch.empty(frames, height, width, 3)
        done = 0
        for batch in render_frames(models, everybody, batch_size or None, progress(), size=size, take=take,
                                   scope=scope):
            images[done:done + len(batch)] = batch.cpu()
            done += len(batch)
        return io.NodeOutput(images, float(fps))


def _check_memory(frames: int, height: int, width: int) -> None:
    """An IMAGE holds every frame as float32: better a sentence than a system out of memory."""
    needed = frames * height * width * 3 * 4
    free = comfy.model_management.get_free_memory(torch.device("cpu"))
    if needed > 0.9 * free:
        raise PlaymateError(f"{frames} frames of {width}x{height} need {needed / 1e9:.1f} GB as IMAGE and "
                            f"{free / 1e9:.1f} GB are free; use Render Video, a smaller size or a shorter "
                            "motion.")
