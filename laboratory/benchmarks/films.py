"""Peak memory of dubbing a short and a long film, each in a process of its own.

Both films are one clip over and over, 1280 x 720. All of their pictures are read, followed, prepared, drawn and
written by the library's own way. Two parts of the work are cut short, because they take hours and hold nothing from one
picture to the next: the networks look for the face in the first round of the clip only, and later rounds get what they
found there; and after ``--drawn`` frames the film's own pictures are written as they are.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np

from . import inputs

FPS, ROUND = 25, 50
"""Frames a second of the films, and frames of the clip that they repeat."""
SIZE = (720, 1280)


def run(minutes: float = 10.0, drawn: int = 24, size: tuple[int, int] = SIZE) -> None:
    """Prints both peaks and their difference."""
    short, long = (peak_megabytes(seconds, drawn, size) for seconds in (10.0, 60.0 * minutes))
    sys.stdout.write(f"films of {size[1]} x {size[0]}: peak {short:.0f} MB for 10 s, {long:.0f} MB for {minutes:g} "
                     f"min: {long - short:+.0f} MB\n")


def peak_megabytes(seconds: float, drawn: int, size: tuple[int, int] = SIZE) -> float:
    """Peak resident memory in MB of dubbing a film of ``seconds``."""
    with tempfile.TemporaryDirectory() as folder:
        make_film(Path(folder, "film.mp4"), seconds, size)
        subprocess.run([sys.executable, "-c", f"import pathlib, sys; from {__name__} import dub; "
                        "dub(pathlib.Path(sys.argv[1]), int(sys.argv[2]))", folder, str(drawn)], check=True)
        return float(Path(folder, "peak").read_text())


def make_film(path: Path, seconds: float, size: tuple[int, int]) -> None:
    """The sample portrait, which sways from side to side, over and over."""
    height, width = size
    portrait = (inputs.portrait(height * 3 // 4) * 255).round().byte().numpy()
    side, clip = len(portrait), path.with_name("clip.mp4")
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "20", "preset": "veryfast", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(ROUND):
            x = round((width - side) / 2 + side / 8 * np.sin(2 * np.pi * number / ROUND))
            picture = np.full((height, width, 3), 140, np.uint8)
            picture[height // 8:height // 8 + side, x:x + side] = portrait
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(clip)) as source, av.open(str(path), "w") as film:
        packets = [bytes(packet) for packet in source.demux(video=0) if packet.size]
        stream = film.add_stream_from_template(source.streams.video[0])
        for number in range(round(seconds * FPS)):
            packet = av.Packet(packets[number % ROUND])
            packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, FPS), number, number
            packet.duration, packet.is_keyframe = 1, number % ROUND == 0
            film.mux(packet)


class FirstRound:
    """A face analyzer that looks at the first round of the clip and remembers."""

    def __init__(self, analyzer) -> None:
        self._analyzer = analyzer

    def __getattr__(self, name: str):
        return getattr(self._analyzer, name)

    def track(self, pictures, *, person, **options):
        """As ``FaceAnalyzer.track``."""
        pictures, found = iter(pictures), []
        for face in self._analyzer.track(islice(pictures, ROUND), person=person, **options):
            found.append(face)
            yield face
        for number, _ in enumerate(pictures):
            face = found[number % ROUND]
            if face is not None:
                person.sharpness.append(person.sharpness[0])
                person.light.append(person.light[0])
                face = replace(face, landmarks=face.landmarks.clone(), blendshapes=face.blendshapes.clone())
            yield face


class FirstFrames:
    """A renderer that draws the first frames of a film and gives the others back as they are."""

    def __init__(self, renderer, drawn: int) -> None:
        self._renderer, self._drawn = renderer, drawn

    def __getattr__(self, name: str):
        return getattr(self._renderer, name)

    def render_film(self, film, pictures, motion, scope, batch_size=None, progress=None):
        """As ``FilmRenderer.render_film``."""
        pictures, done = iter(pictures), 0
        for batch in self._renderer.render_film(film, pictures, motion, scope, batch_size):
            done += len(batch)
            yield batch
            if done >= self._drawn:
                break
        for _, picture in pictures:
            yield picture[None].float() / 255


def dub(folder: Path, drawn: int) -> None:
    """Dubs ``film.mp4`` of a folder and leaves its own peak there."""
    import resource

    from playmate_core import film_pipeline, pipeline

    models = pipeline.load_models(device="cpu")
    models = replace(models, face=FirstRound(models.face), renderer=FirstFrames(models.renderer, drawn))
    appearance = film_pipeline.extract_film(models, film_pipeline.open_film(folder / "film.mp4"))
    motion = film_pipeline.film_motion(appearance)
    take = film_pipeline.film_take(appearance, motion)
    film_pipeline.write_take(folder / "out.mp4", film_pipeline.film_frames(models, appearance, motion, take), take)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (folder / "peak").write_text(str(peak / (1024 if sys.platform != "darwin" else 1024 * 1024)))
