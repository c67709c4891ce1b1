"""Sound from files (PyAV) and from memory (ComfyUI's AUDIO) to 16 kHz mono."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from ..runtime.progress import Progress, report
from .audio import Audio
from .mixing import Cancelled, Mixer

log = logging.getLogger(__name__)

HIGHEST_RATE = 10_000_000
"""Samples a second; beyond it a rate is a mistake."""
_BLOCK = 1 << 19  # samples over all channels that are mixed at once


def read_audio(source: Any, progress: Progress = None) -> Audio:
    """Speech from a file or from memory.

    Args:
        source: path of any file with a sound track that FFmpeg can read (the best audio track is taken); or
            (waveform, rate); or ComfyUI's AUDIO dictionary. In-memory sound: see ``from_waveform``.
        progress: told the tenths of a second read and their number, where the file tells its length.

    Returns:
        ``Audio`` whose duration is that of the decoded samples at their own rate. Memory beyond the result does
        not depend on the length. A damaged or cut file gives what can be decoded, with a warning in the log.

    Raises:
        PlaymateError: no such file, a directory, an empty file, no sound track, or nothing that can be decoded.
    """
    if isinstance(source, Mapping):
        if "waveform" not in source or "sample_rate" not in source:
            raise PlaymateError("The audio has no 'waveform' and 'sample_rate'; connect an AUDIO output.")
        return from_waveform(source["waveform"], source["sample_rate"])
    if isinstance(source, (tuple, list)):
        if len(source) != 2:
            raise PlaymateError(f"Audio in memory must be (waveform, rate), not {len(source)} things.")
        return from_waveform(*source)
    try:
        path = Path(source)
    except TypeError as error:
        raise PlaymateError(f"Audio must be a file's path or (waveform, rate), not {type(source).__name__}.") from error
    if path.is_dir():
        raise PlaymateError(f"{path} is a folder; give an audio or video file.")
    if not path.is_file():
        raise PlaymateError(f"There is no audio file at {path}; check the path.")
    if path.stat().st_size == 0:
        raise PlaymateError(f"The audio file {path} is empty (0 bytes); export or download it again.")
    return _mix(f"The audio file {path}", lambda: _decode(path, progress))


def from_waveform(waveform: Any, rate: float) -> Audio:
    """Speech from an array.

    Args:
        waveform: [N], [C, N] or [B, C, N] tensor or array of any integer or float type. Integers are scaled by
            their type's range (64-bit ones by the smallest of 16, 32 and 64 bit that fits), unsigned ones centred.
            Of a batch the first entry with sound is taken. NaN and infinity become silence; floats that are plainly
            not meant as -1..1 are scaled down; both with a warning. [N, C] is recognised where [C, N] would mean
            more than 32 channels.
        rate: samples a second.

    Raises:
        PlaymateError: a rate that is not positive, no samples, a shape or type that is no sound, only NaN.
    """
    rate = _checked_rate(rate)
    samples = _channels(_tensor(waveform))
    step = max(_BLOCK // len(samples), 1)

    def blocks() -> Iterator[tuple[Tensor, int]]:
        for block in samples.split(step, 1):
            yield _scaled(block, samples), rate

    return _mix("The audio", blocks)


def _mix(where: str, blocks: Callable[[], Iterator[tuple[Tensor, int]]]) -> Audio:
    """Run ``blocks`` through a mixer, a second time with one channel if the channels cancel out."""
    channel = None
    while True:
        mixer = Mixer(where, channel)
        for block, rate in blocks():
            mixer.add(block, rate)
        try:
            return mixer.finish()
        except Cancelled as cancelled:
            channel = cancelled.channel
            log.warning("%s: its channels cancel each other out; channel %d is used alone.", where, channel + 1)


def _checked_rate(rate: float) -> int:
    try:
        value = float(rate)
    except (TypeError, ValueError) as error:
        raise PlaymateError(f"The audio's sample rate is {rate!r}; it must be a number of samples a second.") from error
    if not (math.isfinite(value) and 1 <= round(value) <= HIGHEST_RATE):
        raise PlaymateError(f"The audio's sample rate is {rate}; it must be between 1 and {HIGHEST_RATE} Hz.")
    return round(value)


def _tensor(waveform: Any) -> Tensor:
    """A CPU tensor of a type that torch can calculate with."""
    if isinstance(waveform, Tensor):
        tensor = waveform.detach().cpu()
    else:
        try:
            array = np.asarray(waveform)
            # torch wants its own byte order and positive strides, and calculates with no other unsigned type.
            array = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
            if array.dtype.kind == "u" and array.dtype.itemsize > 1:
                half = 2 ** (8 * array.dtype.itemsize - 1)
                array = (array.astype(np.float64) / half - 1.0).astype(np.float32)
            elif array.dtype.kind == "f" and array.dtype.itemsize > 8:
                array = array.astype(np.float64)
            tensor = torch.from_numpy(array)
        except (TypeError, ValueError) as error:
            raise PlaymateError("The audio's waveform is no array of numbers; connect an AUDIO output.") from error
    if tensor.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return _tensor(tensor.numpy())
    if tensor.dtype.is_complex or tensor.dtype == torch.bool:
        raise PlaymateError(f"The audio's samples are of type {tensor.dtype}; they must be integers or floats.")
    return tensor


def _channels(waveform: Tensor) -> Tensor:
    """[C, N] of the entry to use."""
    shape = tuple(waveform.shape)
    if waveform.ndim not in (1, 2, 3):
        raise PlaymateError(f"The audio's waveform has shape {shape}; it must be [samples], [channels, samples] or "
                            "[batch, channels, samples].")
    if not waveform.numel():
        raise PlaymateError(f"The audio is empty (its shape is {shape}); give a recording that holds sound.")
    if waveform.ndim == 3:
        entry = next((i for i, each in enumerate(waveform) if _has_sound(each)), 0)
        if len(waveform) > 1:
            log.warning("The audio is a batch of %d; entry %d is used.", len(waveform), entry + 1)
        waveform = waveform[entry]
    waveform = waveform.reshape(1, -1) if waveform.ndim == 1 else waveform
    return waveform.T if waveform.shape[0] > 32 >= waveform.shape[1] else waveform


def _has_sound(entry: Tensor) -> bool:
    """Whether a number other than zero (for unsigned bytes: than the middle) and NaN is in it."""
    if entry.dtype == torch.uint8:
        return bool((entry != 128).any())
    return bool((torch.isfinite(entry) & (entry != 0)).any())


def _scaled(block: Tensor, whole: Tensor | None = None) -> Tensor:
    """``block`` as float32 with full scale at 1; ``whole`` tells how many bits 64-bit integers really use."""
    if block.dtype.is_floating_point:
        return block.float()
    if block.dtype == torch.uint8:
        return (block.float() - 128.0) / 128.0
    bits = torch.iinfo(block.dtype).bits
    if bits == 64 and whole is not None:
        peak = max(abs(int(whole.min())), abs(int(whole.max())))
        bits = next(b for b in (16, 32, 64) if peak <= 2 ** (b - 1))
    return (block.double() / 2.0 ** (bits - 1)).float()


def _open(name: str):
    """A container; titles in another alphabet than they say do not matter to sound."""
    import av

    try:
        return av.open(name, metadata_errors="replace")
    except TypeError:  # newer PyAV has no such argument
        return av.open(name)


def _decode(path: Path, progress: Progress) -> Iterator[tuple[Tensor, int]]:
    """Blocks [C, N] and their rates. What cannot be decoded is skipped, with one warning at the end."""
    import av

    bad = 0
    try:
        # The prefix keeps FFmpeg from taking a name like "take:2.wav" for a protocol.
        container = _open(f"file:{path}")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise PlaymateError(f"{path} is no audio or video file that can be read, or it is damaged; convert it to wav "
                            "or mp3.") from error
    with container:
        stream = container.streams.best("audio")
        if stream is None:
            raise PlaymateError(f"{path} has no sound track; choose a file that holds speech.")
        if stream.codec_context is None:
            raise PlaymateError(f"{path} holds sound that cannot be decoded here; convert it to wav or mp3.")
        expected = _expected_seconds(container, stream)
        waiting, held, rate, seconds = [], 0, 0, 0.0
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                frames = packet.decode()
            except av.error.EOFError:
                break
            except av.error.FFmpegError:
                bad += 1
                # A demuxer that fails again and again without a packet in between has nothing left to give.
                if bad > 10_000:
                    break
                continue
            for frame in frames:
                block = _frame_samples(frame)
                if waiting and (frame.sample_rate != rate or len(block) != len(waiting[0])):
                    yield torch.cat(waiting, 1), rate
                    waiting, held = [], 0
                rate = frame.sample_rate
                waiting.append(block)
                held += block.numel()
                seconds += block.shape[1] / rate
                if held >= _BLOCK:
                    yield torch.cat(waiting, 1), rate
                    waiting, held = [], 0
                    if expected:
                        report(progress, min(int(10 * seconds), int(10 * expected)), int(10 * expected))
        if waiting:
            yield torch.cat(waiting, 1), rate
    if not seconds:
        raise PlaymateError(f"No sound could be decoded from {path}; it is empty or damaged, so export it again.")
    if bad or expected and seconds < 0.95 * expected - 0.2:
        told = f" of the {expected:.2f} s that it announces" if expected else ""
        log.warning("The audio file %s is damaged or cut off; %.2f s%s are used.", path, seconds, told)


def _expected_seconds(container, stream) -> float:
    """What the file says of its own length, 0 where it says nothing."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else 0.0


def _frame_samples(frame) -> Tensor:
    """[C, N] float32 of a decoded frame, planar or packed, full scale at 1."""
    array = frame.to_ndarray()
    if not frame.format.is_planar:
        array = array.reshape(-1, frame.layout.nb_channels).T
    return _scaled(torch.from_numpy(np.ascontiguousarray(array)))
