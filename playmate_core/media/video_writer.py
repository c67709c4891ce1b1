"""Frames and sound into a video file, while they are made. Nothing here holds more than one batch."""

from __future__ import annotations

import contextlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Iterable, Iterator, Tuple, Union

import numpy as np
import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from ..runtime.progress import Progress, report

logger = logging.getLogger(__name__)

SoundSource = Union[str, "os.PathLike[str]", Tuple[Tensor, int], None]

SUFFIXES = (".mp4", ".mov", ".mkv")
SOUND_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
"""Sample rates that AAC can carry up to 48 kHz."""

_SOUND_BLOCK = 1 << 16


def check_suffix(path: str | os.PathLike) -> Path:
    """``path``, if a video can be written under that name.

    Raises:
        PlaymateError: it does not end in one of ``SUFFIXES``.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise PlaymateError(f"The video cannot be written as {path.name!r}; end the name in {', '.join(SUFFIXES)}.")
    return path


def write_video(path: str | os.PathLike, frames: Iterable[Tensor], fps: float, total_frames: int,
                audio: SoundSource = None, *, crf: int = 16, progress: Progress = None) -> Path:
    """Encodes frames as they come, with the sound beside them.

    The file appears under its name only when it is whole; on any failure or cancel nothing is left.

    Args:
        path: ends in one of ``SUFFIXES``; its folder is made if need be.
        frames: batches [B, H, W, 3], float 0..1 sRGB (or uint8), all of one size.
        fps: frames a second, above 0.
        total_frames: how many frames will come, for progress and to cut the sound to the picture's length.
        audio: a sound or video file, ``(waveform [C, N] or [1, C, N] float, rate)``, or None for a silent video.
        crf: H.264 quality, 0 (lossless) to 51.
        progress: called with (frames written, total_frames).

    Returns:
        The path written.

    Raises:
        PlaymateError: an unknown suffix, no frames, a folder that cannot be written, or a full disk.
    """
    import av

    path = check_suffix(path)
    if total_frames < 1:
        raise PlaymateError("There are no frames to write; give a motion of at least one frame.")
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _encode(temporary, frames, Fraction(fps).limit_denominator(100_000), total_frames, audio, crf, progress)
        os.replace(temporary, path)
    except (OSError, av.error.FFmpegError) as error:
        reason = error.strerror or str(error)
        raise PlaymateError(f"The video {path} could not be written ({reason}); "
                            "check the folder and the free space.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return path


def _encode(path: Path, frames: Iterable[Tensor], rate: Fraction, total: int, audio: SoundSource, crf: int,
            progress: Progress) -> None:
    import av

    sound = None if audio is None else _sound_blocks(audio, float(total / rate))
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        # One batch is encoded while the next is drawn: the encoder does not hold Python's lock.
        with ThreadPoolExecutor(1) as pool:
            writer, pending = _Writer(container, rate, sound, crf), None
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
        logger.warning("The video %s holds %d frames where %d were announced.", path.name, writer.done, total)


class _Writer:
    """An open container with its picture and sound streams; the streams are made when the first frames are known."""

    def __init__(self, container, rate: Fraction, sound, crf: int) -> None:
        self.container, self.rate, self.crf = container, rate, crf
        self.sample_rate, self.channels, self.blocks = (0, 0, None) if sound is None else sound
        self.stream = self.sound_stream = None
        self.done, self.sound_time = 0, 0.0

    def write(self, pixels: np.ndarray) -> int:
        """Encodes [B, H, W, 3] uint8 and the sound up to there; returns how many frames are written in all."""
        import av

        if self.stream is None:
            self._open(pixels.shape[2], pixels.shape[1])
        for picture in pixels:
            frame = av.VideoFrame.from_ndarray(_even(picture), format="rgb24")
            frame.pts = self.done
            # The stream says BT.709, so the conversion must be that too, or players show other colours.
            self.container.mux(self.stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
            self.done += 1
        # Sound is fed no further than the picture so that the muxer never queues a whole film of it.
        while self.sound_stream is not None and self.sound_time <= float(self.done / self.rate):
            block = next(self.blocks, None)
            if block is None:
                break
            self._sound(block)
        return self.done

    def finish(self) -> None:
        """Writes what is left of the sound and what the encoders still hold."""
        if self.sound_stream is not None:
            for block in self.blocks:
                self._sound(block)
            self.container.mux(self.sound_stream.encode(None))
        self.container.mux(self.stream.encode(None))

    def _open(self, width: int, height: int) -> None:
        self.stream = _video_stream(self.container, self.rate, width, height, self.crf)
        if self.blocks is not None:
            self.sound_stream = self.container.add_stream("aac", rate=self.sample_rate)
            self.sound_stream.layout = "mono" if self.channels == 1 else "stereo"
            self.sound_stream.bit_rate = 96_000 * self.channels

    def _sound(self, block: np.ndarray) -> None:
        self.container.mux(self.sound_stream.encode(_sound_frame(block, self.sample_rate, self.sound_time)))
        self.sound_time += block.shape[1] / self.sample_rate


def _video_stream(container, rate: Fraction, width: int, height: int, crf: int):
    import av

    try:
        stream = container.add_stream("libx264", rate=rate, options={"crf": str(crf), "preset": "veryfast"})
    except (ValueError, av.error.FFmpegError):  # a PyAV built without x264
        logger.info("H.264 by x264 is not in this PyAV; writing MPEG-4 part 2.")
        stream = container.add_stream("mpeg4", rate=rate, options={"q:v": "3"})
    stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
    stream.codec_context.time_base = 1 / rate
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


def _sound_frame(block: np.ndarray, rate: int, seconds: float):
    import av

    frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono" if block.shape[0] == 1 else "stereo")
    frame.sample_rate = rate
    frame.pts = round(seconds * rate)
    frame.time_base = Fraction(1, rate)
    return frame


def _sound_blocks(audio: SoundSource, duration: float) -> Tuple[int, int, Iterator[np.ndarray]]:
    """Sample rate, channel count (1 or 2) and blocks [channels, n] float32 of just ``duration`` seconds."""
    if isinstance(audio, tuple):
        waveform, rate = audio
        waveform = waveform.reshape(-1, waveform.shape[-1]) if waveform.ndim < 3 else waveform[0]
        return _waveform_blocks(waveform, int(rate), duration)
    return _file_blocks(os.fspath(audio), duration)


def _waveform_blocks(waveform: Tensor, rate: int, duration: float):
    channels = 1 if waveform.shape[0] == 1 else 2
    wanted = round(duration * rate)

    def read(first: int, last: int) -> Tensor:
        block = waveform[:, first:last].detach().cpu()
        if not block.is_floating_point():
            block = block.float() / float(1 << (8 * block.element_size() - 1))
        block = torch.nan_to_num(block.float(), posinf=0.0, neginf=0.0).clamp(-1.0, 1.0)
        return block if waveform.shape[0] <= 2 else block.mean(0, keepdim=True).expand(2, -1)

    if rate not in SOUND_RATES:
        return _resampled_blocks(read, min(wanted, waveform.shape[-1]), rate, channels, duration)

    def blocks() -> Iterator[np.ndarray]:
        for first in range(0, min(wanted, waveform.shape[-1]), _SOUND_BLOCK):
            yield read(first, min(first + _SOUND_BLOCK, wanted)).contiguous().numpy()

    return rate, channels, blocks()


def _resampled_blocks(read, samples: int, rate: int, channels: int, duration: float):
    """Through PyAV's resampler to 48 kHz: AAC has no such rate."""
    import av

    def frames():
        for first in range(0, samples, _SOUND_BLOCK):
            block = read(first, min(first + _SOUND_BLOCK, samples)).contiguous().numpy()
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono" if channels == 1 else "stereo")
            frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
            yield frame

    return 48_000, channels, _through_resampler(frames(), 48_000, channels, duration)


def _file_blocks(path: str, duration: float):
    import av

    with av.open(path) as probe:
        if not probe.streams.audio:
            raise PlaymateError(f"{path} holds no sound; give a file with an audio stream.")
        stream = probe.streams.audio[0]
        rate = stream.rate if stream.rate in SOUND_RATES else 48_000
        channels = 1 if stream.layout.nb_channels == 1 else 2

    def frames():
        with av.open(path) as container:
            try:
                yield from container.decode(audio=0)
            except av.error.FFmpegError as error:
                # What decoded is kept, as the speech reader does with the same file.
                logger.warning("The sound of %s ends early (%s).", path, error.strerror or error)

    return rate, channels, _through_resampler(frames(), rate, channels, duration)


def _through_resampler(frames, rate: int, channels: int, duration: float) -> Iterator[np.ndarray]:
    import av

    resampler = av.AudioResampler(format="fltp", layout="mono" if channels == 1 else "stereo", rate=rate)
    left = round(duration * rate)

    def resampled():
        for frame in frames:
            frame.pts = None  # gaps in the stamps of damaged files must not become silence or drop sound
            yield from resampler.resample(frame)
        yield from resampler.resample(None)

    for frame in resampled():
        block = frame.to_ndarray()[:, :left]
        left -= block.shape[1]
        if block.shape[1]:
            yield np.ascontiguousarray(block)
        if left <= 0:
            return
