"""The sound stream of a film that is being written, fed beside its pictures."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from .film_sound import FilmSound


class SoundTrack:
    """Encodes a film's sound into an open container, no further than its pictures are: else the muxer would queue a
    whole film of either.

    Args:
        container: an ``av.container.OutputContainer`` in which nothing is written yet.
        sound: None for a silent film; all calls then do nothing.
    """

    def __init__(self, container, sound: FilmSound | None) -> None:
        self._container, self._sound, self._stream, self._samples = container, sound, None, 0
        if sound is not None:
            opus = container.format.name == "webm"  # which takes no AAC; Opus knows few rates
            self._stream = container.add_stream("libopus", rate=48000) if opus else container.add_stream(
                "aac", rate=sound.rate)
            self._stream.layout = "mono" if sound.channels == 1 else "stereo"
            self._stream.bit_rate = sound.bit_rate

    def feed(self, seconds: Fraction) -> None:
        """Sound up to ``seconds`` since the film's beginning."""
        while self._stream is not None and self._samples <= seconds * self._sound.rate:
            block = next(self._sound.blocks, None)
            if block is None:
                break
            self._encode(block)

    def finish(self) -> None:
        """What is left of it."""
        if self._stream is not None:
            for block in self._sound.blocks:
                self._encode(block)
            self._container.mux(self._stream.encode(None))

    def _encode(self, block: np.ndarray) -> None:
        import av

        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono" if len(block) == 1 else "stereo")
        frame.sample_rate, frame.pts, frame.time_base = self._sound.rate, self._samples, Fraction(1, self._sound.rate)
        self._container.mux(self._stream.encode(frame))
        self._samples += block.shape[1]
