"""Sound as the rest of the library sees it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .stored_samples import StoredSamples

SAMPLE_RATE = 16_000
"""Samples a second that every speech encoder here takes."""


@dataclass(frozen=True)
class Audio:
    """Mono speech.

    Attributes:
        samples: [N] float32 in -1..1 at ``SAMPLE_RATE``, finite. Of a long sound, where whoever read it agreed, they
            lie in a file and are to be read by slices.
        duration: seconds of the original sound (before resampling).
    """

    samples: Tensor | StoredSamples
    duration: float
