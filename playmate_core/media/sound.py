"""Sound from files and from memory (ComfyUI's AUDIO) to 16 kHz mono, for speech encoders."""

from __future__ import annotations

import logging
import math
from typing import Any, Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from ..runtime.progress import Progress
from .audio import Audio
from .container import is_media_file
from .mixing import STANDARD
from .sound_file import BLOCK, SoundFile, open_sound, scaled
from .speech_mix import MixAgain, SpeechMix
from .stored_samples import LONG

log = logging.getLogger(__name__)

HIGHEST_RATE = 10_000_000
"""Samples a second; beyond it a rate is a mistake."""


def read_audio(source: Any, progress: Progress = None, stored: bool = False) -> Audio:
    """Speech from a file or from memory.

    Args:
        source: path of any file with a sound track that FFmpeg can read, a binary file object, or what ``open_sound``
            made of them; or (waveform, rate); or ComfyUI's AUDIO mapping. In-memory sound: see ``from_waveform``.
        progress: told the tenths of a second read and their number, where the file tells its length.
        stored: the samples of a long sound may lie in a file, see ``stored_samples``; of no effect on sound in memory.

    Returns:
        ``Audio`` that counts from ``Clock.zero`` of the file: sound that begins after the picture is preceded by
        silence. Memory beyond the result does not depend on the length. A damaged or cut file gives what can be
        decoded, with a warning in the log.

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
    if not isinstance(source, SoundFile):
        if not is_media_file(source):
            raise PlaymateError(f"Audio must be a file's path or (waveform, rate), not {type(source).__name__}.")
        source = open_sound(source)
    return _mix(source.name, source.layout, lambda: source.blocks(progress), stored)


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
    step = max(BLOCK // len(samples), 1)

    def blocks() -> Iterator[tuple[Tensor, int]]:
        for block in samples.split(step, 1):
            yield scaled(block, samples), rate

    return _mix("The audio", STANDARD.get(len(samples), ()), blocks)


def _mix(where: str, layout: Sequence[str], blocks: Callable[[], Iterator[tuple[Tensor, int]]],
         stored: bool = False) -> Audio:
    """Run ``blocks`` through a mix, a second time with other weights if the first lost something."""
    weights = None
    while True:
        mix = SpeechMix(where, layout, weights, LONG if stored else None)
        for block, rate in blocks():
            mix.add(block, rate)
        try:
            return mix.finish()
        except MixAgain as again:
            weights = again.weights
            log.warning("%s: %s.", where, again.why)


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
