"""Frames and sound into a video file, while they are made. Nothing here holds more than one batch."""

from __future__ import annotations

import bisect
import contextlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from ..runtime.progress import Progress, report
from .alpha_video import ALPHA_SUFFIXES, add_alpha_stream, alpha_frame, check_alpha_name
from .film_sound import FilmSound, SoundSource, film_sound
from .output import LEAST_SPACE, check_output
from .rates import Stamps, exact_rate, stamps
from .sound_track import SoundTrack

logger = logging.getLogger(__name__)

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm")
"""Kinds of films that are written."""

THREADS = 4
"""Of an encoder whose pictures must be repeatable: x264 gives others on another number, so cores must not choose it."""


def write_video(path: str | os.PathLike, frames: Iterable[Tensor], fps: float, total_frames: int,
                audio: SoundSource = None, *, crf: int = 16, progress: Progress = None,
                times: Sequence[Fraction | float] | None = None, alpha: bool = False) -> Path:
    """Encodes frames as they come, with the sound beside them.

    The file appears under its name only when it is whole; on any failure or cancel nothing is left.

    Args:
        path: ends in one of ``SUFFIXES``; its folder is made if need be.
        frames: batches [B, H, W, 3], float 0..1 sRGB (or uint8), all of one size.
        fps: frames a second, above 0, see ``rates.exact_rate``.
        total_frames: how many frames will come, for progress and to cut the sound to the picture's length.
        audio: a ``SoundSource``: a sound or video file, ``(waveform, rate)``, or None for a silent video. Of a file it
            counts from ``Clock.zero``, as speech features and motion that were read from it do.
        crf: H.264 quality, 0 (lossless) to 51.
        progress: called with (frames written, total_frames).
        times: ``total_frames`` seconds since the film's beginning, rising, for a varying rate; by default the frames
            follow each other at ``fps``. The last lasts ``1 / fps``. MKV and WebM count in milliseconds.
        alpha: frames are [B, H, W, 4], straight alpha, and stay so; ``path`` ends in one of
            ``alpha_video.ALPHA_SUFFIXES``.

    Returns:
        The path written.

    Raises:
        PlaymateError: an unknown suffix, no frames, times that do not rise or are not one a frame, a sound that cannot
            be read, a folder that cannot be written, or a full disk.
    """
    import av

    if alpha:
        check_alpha_name(Path(path))
    path, rate = check_output(path, "video", ALPHA_SUFFIXES if alpha else SUFFIXES), exact_rate(fps)
    if total_frames < 1:
        raise PlaymateError("There are no frames to write; give a motion of at least one frame.")
    clock = None if times is None else stamps(times, total_frames)
    seconds = float(total_frames / rate if clock is None else clock[0][-1] * clock[1] + 1 / rate)
    sound = film_sound(audio, seconds)
    # The sound's size is known beforehand, the picture's is not: a still one takes next to nothing.
    check_output(path, "video", needed=LEAST_SPACE + (0 if sound is None else round(seconds * sound.bit_rate / 8)))
    temporary = path.with_name(f".{os.getpid()}-{os.urandom(4).hex()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        encode(temporary, frames, rate, total_frames, sound, crf, progress, clock=clock)
        os.replace(temporary, path)
    except (OSError, av.error.FFmpegError, UnicodeEncodeError) as error:  # the last: a folder's name in bytes
        reason = getattr(error, "strerror", None) or str(error)
        raise PlaymateError(f"The video {path} could not be written ({reason}); "
                            "check the folder and the free space.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return path


def encode(path: Path, frames: Iterable[Tensor], rate: Fraction, total: int, sound: FilmSound | None, crf: int,
           progress: Progress = None, repeatable: bool = False, clock: Stamps | None = None) -> None:
    """Writes a film under the very name it is given; arguments as of :func:`write_video`.

    Args:
        repeatable: the same frames give the same packets, whenever they are encoded.
        clock: of ``rates.stamps``; by default the frames follow each other at ``rate``.

    Raises:
        OSError, av.error.FFmpegError: a full disk and the like.
        PlaymateError: no frames.
    """
    with new_container(path) as container:
        # One batch is encoded while the next is drawn: the encoder does not hold Python's lock.
        with ThreadPoolExecutor(1) as pool:
            writer, pending = _Writer(container, rate, sound, crf, repeatable, path, clock), None
            for batch in frames:
                pixels = _to_uint8(batch)
                if pending is not None:
                    report(progress, pending.result(), total)
                pending = pool.submit(writer.write, pixels)
            if pending is None:
                raise PlaymateError("There are no frames to write; the renderer gave none.")
            report(progress, pending.result(), total)
        writer.finish()
    if writer.done != total:
        logger.warning("The video holds %d frames where %d were announced.", writer.done, total)


def new_container(path: Path):
    """An ``av.container.OutputContainer`` to be filled and closed; films for the web begin with their index."""
    import av

    options = {} if path.suffix.lower() in (".mkv", ".webm") else {"movflags": "+faststart"}
    return av.open(f"file:{path}", "w", options=options)


class _Writer:
    """An open container with its picture and sound streams; the streams are made when the first frames are known."""

    def __init__(self, container, rate: Fraction, sound: FilmSound | None, crf: int, repeatable: bool,
                 path: Path, clock: Stamps | None = None) -> None:
        self.path = path
        self.container, self.rate, self.crf, self.repeatable, self.sound = container, rate, crf, repeatable, sound
        self.stream = self.track = None
        self.clock = (None, 1 / rate) if clock is None else clock
        self.step = max(1, round(1 / rate / self.clock[1]))
        self.done = 0

    def write(self, pixels: np.ndarray) -> int:
        """Encodes [B, H, W, 3] uint8, or 4 channels with alpha, and the sound up to there; returns how many
        frames are written in all."""
        import av

        if self.stream is None:
            self._open(pixels.shape[2], pixels.shape[1], pixels.shape[3] == 4)
        for picture in pixels:
            # The stream says BT.709, so the conversion must be that too, or players show other colours.
            if picture.shape[-1] == 4:
                frame = alpha_frame(_even(picture), self.stream.pix_fmt)
            else:
                frame = av.VideoFrame.from_ndarray(_even(picture), format="rgb24").reformat(
                    format="yuv420p", dst_colorspace="ITU709")
            frame.pts, frame.time_base = self._stamp(self.done), self.clock[1]
            frame.duration = self._stamp(self.done + 1) - frame.pts
            self._mux(self.stream.encode(frame))
            self.done += 1
        self.track.feed(self._stamp(self.done) * self.clock[1])
        return self.done

    def _mux(self, packets) -> None:
        if self.clock[0] is not None:
            for packet in packets:  # not every encoder hands on how long a frame lasts
                number = bisect.bisect_left(self.clock[0], packet.pts)
                packet.duration = self._stamp(number + 1) - self._stamp(number)
        self.container.mux(packets)

    def _stamp(self, number: int) -> int:
        """When a frame begins, in ticks; frames that were not announced go on at the rate."""
        known, _ = self.clock
        if known is None:
            return number
        return known[number] if number < len(known) else known[-1] + self.step * (number - len(known) + 1)

    def finish(self) -> None:
        """Writes what is left of the sound and what the encoders still hold."""
        self.track.finish()
        self._mux(self.stream.encode(None))

    def _open(self, width: int, height: int, alpha: bool) -> None:
        tick = self.clock[1]
        if alpha:
            self.stream = add_alpha_stream(self.container, self.path, self.rate, tick, width, height, self.crf)
        else:
            self.stream = _video_stream(self.container, self.rate, tick, width, height, self.crf, self.repeatable)
        if self.clock[0] is not None:
            # Frames that wait for later ones make the length of the last one unclear where the rate varies.
            self.stream.codec_context.max_b_frames = 0
        self.track = SoundTrack(self.container, self.sound)


def _video_stream(container, rate: Fraction, tick: Fraction, width: int, height: int, crf: int, repeatable: bool):
    import av

    if container.format.name == "webm":
        options = {"crf": str(min(2 * crf, 63)), "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}
        stream = container.add_stream("libvpx-vp9", rate=rate, options=options)
        stream.bit_rate = 0
        return _describe(stream, tick, width, height, repeatable)
    options = {"crf": str(crf), "preset": "veryfast"}
    if repeatable:
        # x264's macroblock tree reads memory that it has not written: small, smooth pictures come out otherwise when
        # that memory held something else (seen with glibc's MALLOC_PERTURB_, with one thread too).
        options["x264-params"] = "mbtree=0"
    try:
        stream = container.add_stream("libx264", rate=rate, options=options)
    except (ValueError, av.error.FFmpegError):  # a PyAV built without x264
        logger.info("H.264 by x264 is not in this PyAV; writing MPEG-4 part 2.")
        stream = container.add_stream("mpeg4", rate=rate, options={"q:v": "3"})
    return _describe(stream, tick, width, height, repeatable)


def _describe(stream, tick: Fraction, width: int, height: int, repeatable: bool):
    stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
    stream.codec_context.time_base = stream.time_base = tick
    if repeatable:
        stream.codec_context.thread_count = THREADS
    stream.codec_context.color_primaries = stream.codec_context.color_trc = stream.codec_context.colorspace = 1
    stream.codec_context.color_range = 1
    return stream


def _to_uint8(batch: Tensor) -> np.ndarray:
    if batch.dtype != torch.uint8:
        batch = (batch.clamp(0.0, 1.0) * 255.0).round_().to(torch.uint8)
    return batch.cpu().numpy()


def _even(picture: np.ndarray) -> np.ndarray:
    """yuv420p needs even sides: the last row or column is doubled, never cut."""
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(picture)
