"""Extract Film Appearance: a film made ready to be dubbed or animated."""

from __future__ import annotations

from comfy_api.latest import io

from ..playmate_core import film_pipeline
from ..playmate_core.media.sizes import SIZE
from ..playmate_core.runtime.errors import PlaymateError
from . import sockets
from .extract_appearance import POLICIES
from .films import film_pictures
from .host import one_of, progress
from .node import Node, say, verdict
from .values import pictures

FILM_TOOLTIP = "Connect either video or frames."


class ExtractFilm(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateExtractFilm",
            display_name="Extract Film Appearance",
            category=sockets.CATEGORY,
            description="Follows a face through a film and prepares the film for the renderer, so that existing "
                        "footage speaks with another voice. Also gives the film's own motion.",
            inputs=[
                sockets.Models.Input("models", tooltip="From Load Playmate Models."),
                io.Combo.Input("face", options=POLICIES, default="largest",
                               tooltip="Which face is followed, if the first picture that shows any shows several: the "
                                       "largest, the leftmost or rightmost, or by number with 'index'."),
                io.Int.Input("face_index", default=0, min=0, max=99,
                             tooltip="With face = index: which face, counted from the left, 0 is the first."),
                io.Float.Input("fps", default=25.0, min=1.0, max=240.0, step=0.001,
                               tooltip="With frames: the frames a second at which they were filmed. A video has its "
                                       "own."),
                io.Video.Input("video", optional=True,
                               tooltip=f"The film, from Load Video. {FILM_TOOLTIP} It is read picture by picture, so "
                                       "memory does not grow with its length."),
                io.Image.Input("frames", optional=True,
                               tooltip=f"The film as a batch of pictures. {FILM_TOOLTIP}"),
                sockets.size_input(),
            ],
            outputs=[
                sockets.Appearance.Output("appearance", display_name="appearance",
                                          tooltip="The film and what the renderer needs of it, for every node that "
                                                  "takes an appearance."),
                sockets.Motion.Output("film_motion", display_name="motion",
                                      tooltip="What the face does in the film by itself, for any motion node."),
                io.Float.Output("film_fps", display_name="fps",
                                tooltip="Frames a second of the film, the average where they vary: for the sampler's "
                                        "fps."),
                io.Audio.Output("film_audio", display_name="audio",
                                tooltip="The film's own sound, in step with its pictures. Nothing for frames or a "
                                        "silent film."),
            ],
        )

    @classmethod
    def validate_inputs(cls, face=None, size=None) -> bool | str:
        return verdict(one_of(face, POLICIES, "face"), sockets.size_error(size))

    @classmethod
    def execute(cls, models, face, face_index, fps, video=None, frames=None, size=SIZE) -> io.NodeOutput:
        if (video is None) == (frames is None):
            raise PlaymateError("Extract Film Appearance needs one film; connect either video or frames, not both.")
        notes = cls.idle({"face_index": face_index, "fps": fps},
                         (face != "index", "face_index", "unless face is index"),
                         (frames is None, "fps", "with a video, which has a frame rate of its own"))
        say(notes)
        film, sound = film_pictures(video) if frames is None else \
            (film_pipeline.batch_film(pictures(frames, "frames"), fps), None)
        appearance = film_pipeline.extract_film(models, film, face, face_index, size=size, progress=progress(),
                                                notify=lambda note: say([*notes, note]))
        return io.NodeOutput(appearance, film_pipeline.film_motion(appearance), float(appearance.film.fps), sound)
