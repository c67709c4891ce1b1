"""Small films with a flash and a click at known times, and where both are in a film as a player presents it."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

CODECS = {"mp4": ("libx264", "aac", 44100), "mov": ("mpeg4", "aac", 48000), "mkv": ("libx264", "aac", 48000),
          "webm": ("libvpx", "libopus", 48000), "avi": ("mpeg4", "mp3", 44100), "ts": ("libx264", "aac", 48000),
          "wmv": ("wmv2", "wmav2", 44100), "flv": ("flv", "mp3", 44100), "mpg": ("mpeg2video", "mp2", 48000)}
"""Picture, sound and sample rate of each container."""
SIDE, FPS = 64, 25
SMALL = SimpleNamespace(image=torch.zeros(32, 32, 3), film=None, alpha=None)
"""Stands in for an appearance where nothing is drawn: what is asked of it is its picture's size."""


def sound_frames(stream, samples: np.ndarray, rate: int, start: float = 0.0):
    """(seconds, frame) of [C, N] floats, in the form and size that an encoder takes."""
    channels = {1: "mono", 2: "stereo", 6: "5.1"}[len(samples)]
    form = stream.codec_context.codec.audio_formats[0].name
    size = stream.codec_context.frame_size or 1024
    resampler = av.AudioResampler(form, channels, rate)
    for first in range(0, samples.shape[1], size):
        part = np.ascontiguousarray(samples[:, first:first + size], np.float32)
        frame = av.AudioFrame.from_ndarray(part, "fltp", channels)
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), round(start * rate) + first
        for each in resampler.resample(frame):
            yield start + first / rate, each


def click(seconds: float, at: float, rate: int, channels: int = 1) -> np.ndarray:
    """[C, N] silence with 10 ms of a loud tone."""
    samples = np.zeros((channels, round(seconds * rate)), np.float32)
    first, length = round(at * rate), round(0.01 * rate)
    samples[:, first:first + length] = 0.9 * np.sin(np.arange(length) * 2 * np.pi * 3000 / rate)
    return samples


def make_film(path, later: float = 0.0, event: float = 1.2, seconds: float = 2.0, stamps=None, fps=FPS,
              codecs=None, pause=(0.0, 0.0), **options):
    """A film whose sound begins ``later`` than its picture (below 0: earlier), with flash and click at ``event``.

    Args:
        stamps: frame numbers at ``fps`` of the pictures, for a varying rate; all by default.
        codecs: as in ``CODECS``, in place of the suffix's.
        pause: from when to when nothing is recorded of the sound.
        options: of ``av.open``.
    """
    picture, sound, rate = codecs or CODECS[path.suffix[1:].lower()]
    begins, heard = max(0.0, -later), max(0.0, later)
    with contextlib.ExitStack() as stack:
        container = stack.enter_context(av.open(f"file:{path}", "w", **options))
        try:
            quick = {"deadline": "realtime", "cpu-used": "8"} if picture == "libvpx" else {}
            video = container.add_stream(picture, rate=fps, options=quick)
            audio = container.add_stream(sound, rate=rate)
        except (ValueError, av.error.FFmpegError):
            pytest.skip(f"this PyAV has no encoder for {picture} or {sound}")
        video.width = video.height = SIDE
        video.pix_fmt, audio.layout, audio.bit_rate = "yuv420p", "mono", 96_000
        numbers = range(round(begins * fps), round(seconds * fps)) if stamps is None else stamps
        frames = []
        for number in numbers:
            bright = 255 if number == round(event * fps) else 40
            frame = av.VideoFrame.from_ndarray(np.full((SIDE, SIDE, 3), bright, np.uint8), "rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            frames.append((number / fps, 0, video, frame))
        samples = click(seconds - heard, event - heard, rate)
        frames += [(time, 1, audio, frame) for time, frame in sound_frames(audio, samples, rate, heard)
                   if not pause[0] <= time < pause[1]]
        for _, _, stream, frame in sorted(frames, key=lambda each: each[:2]):
            container.mux(stream.encode(frame))
        for stream in (video, audio):
            container.mux(stream.encode(None))
    return path


def events(path) -> tuple[float, float]:
    """(flash, click) in seconds, by the stamps of what is decoded: that is when a player shows and plays them."""
    with av.open(f"file:{path}") as container:
        times, light = zip(*((frame.time, frame.to_ndarray(format="gray").mean())
                             for frame in container.decode(container.streams.best("video"))), strict=True)
    with av.open(f"file:{path}") as container:
        clock, found = 0.0, None
        for frame in container.decode(container.streams.best("audio")):
            samples = frame.to_ndarray()
            samples = samples if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels).T
            samples = samples[0] / (32768.0 if "s16" in frame.format.name else 1.0)
            clock = clock if frame.time is None else frame.time
            loud = np.flatnonzero(np.abs(samples) > 0.25)
            if found is None and len(loud):
                found = clock + loud[0] / frame.sample_rate
            clock += frame.samples / frame.sample_rate
    # A flash that falls between two frames is shared by both.
    above = np.clip(np.array(light) - np.median(light) - 0.1 * (max(light) - np.median(light)), 0, None)
    return float((above * times).sum() / above.sum()), float(found)
