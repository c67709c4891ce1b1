"""A long film drawn in parts, so that what was drawn is not lost when the work is stopped.

Each part is encoded by itself and lies whole in a hidden folder beside the film until all are there; then their
packets are joined without encoding anything again, and the sound is written beside them. As a part depends on nothing
but its own frames, a film that was stopped and taken up again has the very pictures of one that was not.

The folder knows what the film is made of. Where any of it has changed, the parts are of another film and go.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Callable, Iterable, Mapping

from torch import Tensor

from ..runtime.errors import PlaymateError
from ..runtime.progress import Progress, report
from .film_sound import FilmSound, SoundSource, film_sound
from .output import LEAST_SPACE, check_output
from .rates import exact_rate
from .sound_track import SoundTrack
from .video_writer import encode, new_container

FORMAT = "playmate-parts 1"
SUFFIXES = (".mp4", ".mov", ".mkv")
"""Kinds of films that are joined of parts; VP9 in WebM gives other pictures each time, so it is not."""

Frames = Callable[[int, int], Iterable[Tensor]]
"""From the first frame and the one after the last to batches [B, H, W, 3] of just those frames."""


@dataclass(frozen=True)
class PartsFolder:
    """Where the parts of one film lie until it is whole.

    Attributes:
        output: the film.
        folder: hidden, beside the film.
    """

    output: Path

    @property
    def folder(self) -> Path:
        return self.output.with_name(f".{self.output.name}.parts")

    @property
    def motion(self) -> Path:
        """Where the film's motion is kept; see ``motion.files``."""
        return self.folder / "motion.safetensors"

    @property
    def _about(self) -> Path:
        return self.folder / "about.json"

    def made_of(self) -> dict[str, str] | None:
        """What the parts that are there were made of, as given to :meth:`begin`; None where nothing can be used."""
        try:
            about = json.loads(self._about.read_text(encoding="utf-8"))
            return about["made of"] if about["format"] == FORMAT else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def begin(self, made_of: Mapping[str, str]) -> None:
        """An empty folder for a film that is made of these: names of inputs and options, and what they are.

        Raises:
            PlaymateError: it cannot be written.
        """
        self.remove()
        try:
            self.folder.mkdir(parents=True)
            with _whole_file(self._about) as temporary:
                temporary.write_text(json.dumps({"format": FORMAT, "made of": dict(made_of)}, indent=1),
                                     encoding="utf-8")
        except OSError as error:
            raise PlaymateError(f"The folder {self.folder} for the parts of a long film could not be written "
                                f"({error.strerror or error}); check the free space and the permissions.") from error

    def is_there(self) -> bool:
        """Whether anything is, of use or not."""
        return self.folder.is_dir()

    def remove(self) -> None:
        """Takes everything away, as far as it can be."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def part(self, start: int) -> Path:
        """The part that begins with frame ``start``."""
        return self.folder / f"{start:08d}{self.output.suffix.lower()}"

    def frames_done(self, total: int, each: int) -> int:
        """Frames in the whole parts from the film's beginning on."""
        done = 0
        while done < total and _frames_of(self.part(done)) == min(each, total - done):
            done += min(each, total - done)
        return done


def write_in_parts(parts: PartsFolder, frames: Frames, fps: float, total: int, audio: SoundSource = None, *,
                   each: int, crf: int = 16, progress: Progress = None) -> Path:
    """Draws what is missing of a film, part by part, and joins it; the parts are then gone.

    On any failure or cancel the whole parts stay, and the next call goes on behind them.

    Args:
        parts: begun.
        frames: draws a part; must give the same frames whenever it is asked.
        fps, audio, crf: as for ``video_writer.write_video``.
        total: frames of the film.
        each: frames of a part.
        progress: called with (frames that are drawn, total).

    Returns:
        The film's path.

    Raises:
        PlaymateError: as ``video_writer.write_video``.
    """
    import av

    path, rate = check_output(parts.output, "video", SUFFIXES), exact_rate(fps)
    if total < 1:
        raise PlaymateError("There are no frames to write; give a motion of at least one frame.")
    sound = film_sound(audio, float(total / rate))  # what is wrong with it is told of now
    done = parts.frames_done(total, each)
    try:
        with contextlib.suppress(OSError):
            for left in parts.folder.glob("*.tmp*"):
                left.unlink()
        report(progress, done, total)
        for start in range(done, total, each):
            stop = min(start + each, total)
            with _whole_file(parts.part(start)) as temporary:
                encode(temporary, frames(start, stop), rate, stop - start, None, crf,
                       _onward(progress, start, total), repeatable=True)
            if _frames_of(parts.part(start)) != stop - start:
                parts.part(start).unlink()
                raise PlaymateError(f"The part of {path.name} from frame {start} on came out incomplete; run it again.")
        with _whole_file(path, parts.folder) as temporary:
            _join(temporary, [(start, parts.part(start)) for start in range(0, total, each)], rate, total, sound)
    except (OSError, av.error.FFmpegError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PlaymateError(f"The video {path} could not be written ({reason}); check the folder and the free space."
                            ) from error
    parts.remove()
    return path


@contextlib.contextmanager
def _whole_file(path: Path, folder: Path | None = None):
    """A name to write under; the file takes its own when it is whole and on the disk, or vanishes."""
    temporary = (folder or path.parent) / f"{os.getpid()}-{os.urandom(4).hex()}.tmp{path.suffix}"
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _onward(progress: Progress, start: int, total: int) -> Progress:
    return None if progress is None else lambda done, _: progress(start + done, total)


def _frames_of(part: Path) -> int:
    """Frames of a part, 0 where it is missing or damaged."""
    import av

    if not part.is_file():
        return 0
    try:
        with av.open(f"file:{part}") as container:
            return sum(1 for _ in _packets(container))
    except (OSError, av.error.FFmpegError, IndexError):
        return 0


def _packets(container):
    """The pictures' packets, in the order of decoding."""
    return (packet for packet in container.demux(container.streams.video[0]) if packet.size)


def _join(path: Path, parts: list[tuple[int, Path]], rate: Fraction, total: int, sound: FilmSound | None) -> None:
    import av

    # The joined film and its parts lie beside each other for a moment.
    needed = sum(part.stat().st_size for _, part in parts)
    if sound is not None:
        needed += round(float(total / rate) * sound.bit_rate / 8)
    check_output(path, "video", needed=LEAST_SPACE + needed)
    delay = max(_delay(part, rate) for _, part in parts)
    with new_container(path) as film:
        stream = track = None
        for start, part in parts:
            with av.open(f"file:{part}") as container:
                source = container.streams.video[0]
                if stream is None:
                    stream = film.add_stream_from_template(source)
                    stream.time_base = 1 / rate
                    track = SoundTrack(film, sound)
                for number, packet in enumerate(_packets(container)):
                    # Frames are counted, so stamps are exact however the parts' own were rounded.
                    shown = start + _number(packet, rate)
                    packet.stream = stream
                    packet.time_base, packet.pts, packet.dts = 1 / rate, shown, start + number - delay
                    packet.duration = 1
                    film.mux(packet)
                    if number % 64 == 0:
                        track.feed((start + number) / rate)
        track.feed(total / rate)
        track.finish()


def _delay(part: Path, rate: Fraction) -> int:
    """By how many frames decoding must run ahead of showing."""
    import av

    with av.open(f"file:{part}") as container:
        return max(number - _number(packet, rate) for number, packet in enumerate(_packets(container)))


def _number(packet, rate: Fraction) -> int:
    """Which frame of its part a packet holds."""
    return round(packet.pts * packet.time_base * rate)
