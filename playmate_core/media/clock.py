"""When a file's picture and sound begin, on the file's own clock, as a player shows them.

Streams of one file hardly ever begin together: encoders run up, recorders start the microphone later than the camera,
and edit lists move either. Whoever reads pictures and whoever reads sound counts from the same ``Clock.zero``, so that
both stay together however they are read.
"""

from __future__ import annotations

from dataclasses import dataclass

from .container import MediaFile, best_stream, open_media

RUN_UP = 0.05
"""Seconds of sound before the first picture that are taken for an encoder's run-up."""
_FAILURES = 1000  # damaged packets before a stream is given up
_COUNTED = 3000  # packets from which a frame rate is measured


@dataclass(frozen=True)
class Clock:
    """Seconds on the file's own clock.

    Attributes:
        picture: when the first picture that can be decoded is shown; None without one.
        sound: when the first sample that can be decoded is heard; None without one.
    """

    picture: float | None
    sound: float | None

    @property
    def zero(self) -> float:
        """The moment from which the library counts.

        That is the first picture. Sound that begins more than ``RUN_UP`` before it counts from its own beginning, and
        the first picture is shown until its successor is due, as a player does, so that no word is lost.
        """
        if self.picture is None or self.sound is None:
            return next((start for start in (self.picture, self.sound) if start is not None), 0.0)
        return self.picture if self.picture - self.sound <= RUN_UP else self.sound

    @property
    def picture_lead(self) -> float:
        """Seconds for which the first picture is shown before its own time, 0 or more."""
        return 0.0 if self.picture is None else self.picture - self.zero

    @property
    def sound_lead(self) -> float:
        """Seconds of silence before the sound; below 0, how much of its beginning is left out."""
        return 0.0 if self.sound is None else self.sound - self.zero


def clock_of(source: MediaFile, kind: str = "video") -> Clock:
    """Decodes the first frame of either stream, because what a header says of them is an estimate.

    Raises:
        PlaymateError: see ``container.open_media``.
    """
    import av

    with open_media(source, kind) as container:
        streams = {name: best_stream(container, name) for name in ("video", "audio")}
        wanted = [stream for stream in streams.values() if stream is not None]
        starts: dict[int, float] = {}
        packets = container.demux(wanted) if wanted else iter(())
        failures = 0
        while len(starts) < len(wanted) and failures < _FAILURES:
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                if packet.stream.index in starts:
                    continue
                frames = packet.decode()
            except av.error.EOFError:
                break
            except av.error.FFmpegError:  # damage is told of by whoever reads on
                failures += 1
                continue
            if frames:
                starts[packet.stream.index] = _start(packet.stream) if frames[0].time is None else frames[0].time
        found = {name: starts.get(stream.index, _start(stream)) for name, stream in streams.items()
                 if stream is not None}
    return Clock(found.get("video"), found.get("audio"))


def frame_rate(container, stream) -> float:
    """Frames a second of a video stream, the usual rate where it varies; 25 where the file says nothing.

    Headers of files with a varying rate (screen recorders, browsers) name the clock's ticks, the average over long
    still parts, or what the first second happened to have, so these are judged by their stamps. May read ``container``
    onwards.
    """
    import av

    told = float(stream.average_rate or stream.guessed_rate or stream.base_rate or 25)
    steady = stream.average_rate and stream.guessed_rate and abs(stream.average_rate / stream.guessed_rate - 1) < 0.02
    if stream.frames and steady:
        return told
    stamps: list[float] = []
    try:
        for packet in container.demux(stream):
            if packet.pts is not None:
                stamps.append(float(packet.pts * packet.time_base))
            if len(stamps) == _COUNTED:
                break
    except av.error.FFmpegError:
        pass
    stamps.sort()
    steps = sorted(after - before for before, after in zip(stamps[:-1], stamps[1:], strict=True) if after > before)
    if len(steps) < 3:
        return told
    usual = steps[len(steps) // 2]
    # Containers round to milliseconds, so the mean of the usual steps is nearer than their median.
    near = [step for step in steps if 0.75 * usual < step < 1.25 * usual]
    measured = len(near) / sum(near)
    return told if abs(measured / told - 1) < 0.02 else measured


def _start(stream) -> float:
    """What the container says."""
    return float((stream.start_time or 0) * stream.time_base) if stream.time_base else 0.0
