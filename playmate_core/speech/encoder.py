"""Speech to features at the motion's frame rate.

What the encoder does, in order, and why (the motion model is trained on exactly these numbers):

1. **Level.** The recording is brought to ``LEVEL`` (speech only, pauses gated out), so a quiet microphone gives the
   same features as a loud one, and the log-mel floor can be a constant where Whisper takes it from the loudest bin
   of a window: nothing then depends on where a window begins.
2. **Position.** Every window begins at Whisper's position 0. A third of the last layer's variance is an imprint of
   the position within the window; its mean over real speech, a table in the weights file (``position_response``), is
   subtracted. What is left differs from sound to sound, so no table can hold it: the same moment read at two places
   in the window differs by 7 % of the features' variance in one set of voices and by 20 % and more in others, most of
   all in pauses. (Neither the floor of the spectra, which is constant, nor the context, of which more than 3 s hardly
   count, has a part in that.)
3. **Windows** of 12 s therefore overlap: every moment is read at about four places, ``STRIDE`` apart, and averaged,
   the outer second of a window, which lacks context, left out and the next second faded. Windows reach beyond both
   ends of the recording, into silence, so that its first second is read no differently. What is left repeats itself
   about every 2 s of position; the stride is chosen so that the mean cancels that (strides of 2 or 3 s would not).
   Where a recording is cut then changes its features by 1 to 2 % of their variance.
4. **Frames.** The rows, 50 a second, are averaged over each motion frame's time.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..media.audio import Audio
from ..motion.features import SpeechFeatures
from ..runtime.errors import PlaymateError
from ..runtime.progress import Progress
from ..weights import bundled
from ..weights.tensors import load_safetensors
from ..weights.unreadable import Unreadable
from .base import encode_in_windows, rows_needed
from .mel import DYNAMIC_RANGE, HOP, log_mel, mel_power, speech_level
from .whisper import WhisperEncoder

RATE = 50
"""Encoder rows a second."""
SAMPLES = 2 * HOP
"""Samples a row."""
WINDOW = 12 * RATE
DROPPED = RATE
FADE = RATE
STRIDE = 130
"""Rows from one window to the next: see point 3 above."""
LEVEL = -23.0
"""Decibels relative to full scale that speech is brought to."""
MOST_GAIN = 30.0
"""Decibels; a recording that would need more is mostly noise, which should stay quiet."""
FLOOR = 1.4 - DYNAMIC_RANGE
"""Decades: speech at ``LEVEL`` has its loudest mel bin at about 1.4."""
MARGIN = 3
"""Spectra cut off either side of a window so that its first and last see the sound beyond."""


class WhisperSpeechEncoder:
    """Whisper's encoder over recordings of any length.

    Attributes:
        name: what the features are called; a motion model accepts only the name it was trained on.
        features_dim: C, numbers a frame.
        device: where the network runs; results come back on the CPU.
    """

    def __init__(self, network: WhisperEncoder, position_response: Tensor, name: str, device="cpu") -> None:
        self.name = name
        self.device = torch.device(device)
        self.network = network.to(self.device)
        self.position_response = position_response.to(self.device, torch.float32)
        self.features_dim = network.layer_norm.weight.shape[0]
        self._bands = network.conv1.weight.shape[1]

    @classmethod
    def load(cls, name: str = "bundled", path: str | Path | None = None, device="cpu") -> WhisperSpeechEncoder:
        """The bundled Whisper tiny.en, or a file that ``laboratory/conversions/speech_encoder.py`` wrote.

        Raises:
            PlaymateError: unknown name, no such file, or a file that is no speech encoder.
        """
        if path is None and name not in ("bundled", "whisper-tiny.en"):
            raise PlaymateError(f"There is no speech encoder called {name!r}; the one that is bundled is 'bundled'.")
        path = bundled("speech_encoder.safetensors") if path is None else Path(path)
        if not path.is_file():
            raise PlaymateError(f"There is no speech encoder at {path}; check the path.")
        try:
            tensors, metadata = load_safetensors(path)
            name = metadata.get("name", path.stem)
            response = tensors.pop("position_response").float()
            network = WhisperEncoder.from_tensors(tensors)
        except (Unreadable, KeyError, RuntimeError, ValueError, IndexError) as error:
            raise PlaymateError(f"{path} is not a speech encoder of Playmate's; choose another "
                                "file, or leave the choice at 'bundled'.") from error
        return cls(network, response, name, device)

    @torch.no_grad()
    def encode(self, audio: Audio, progress: Progress = None) -> SpeechFeatures:
        """See ``base.SpeechEncoder.encode``."""
        starts, weights, gain = window_starts(rows_needed(audio, RATE)), window_weights(), level_gain(audio.samples)
        return encode_in_windows(self, audio, RATE, starts,
                                 lambda start: self.encode_window(audio.samples, start, gain), lambda _: weights,
                                 progress)

    def encode_window(self, samples: Tensor, start: int, gain: float) -> Tensor:
        """[WINDOW, C] rows from row ``start`` on of ``samples`` times ``gain``, the position's imprint removed."""
        begin, end = start * SAMPLES - MARGIN * HOP, (start + WINDOW) * SAMPLES + MARGIN * HOP
        part = samples[max(begin, 0):max(end, 0)].to(self.device) * gain
        part = F.pad(part, (max(-begin, 0), end - max(begin, 0) - len(part)))
        mel = log_mel(mel_power(part, self._bands)[:, MARGIN:-MARGIN], FLOOR)
        return self.network(mel[None])[0] - self.position_response[:WINDOW]


def level_gain(samples: Tensor) -> float:
    """Factor that brings the speech in ``samples`` [N] to ``LEVEL``, at most ``MOST_GAIN``; 1 for silence."""
    level = speech_level(samples)
    return 10.0 ** (min(LEVEL - level, MOST_GAIN) / 20.0) if math.isfinite(level) else 1.0


def window_starts(rows: int) -> list[int]:
    """First rows of all windows that have a say in rows 0 to ``rows`` - 1, the first of them before the recording."""
    return list(range(DROPPED - WINDOW + STRIDE, rows - DROPPED, STRIDE))


def window_weights() -> Tensor:
    """[WINDOW] how much each row of a window counts; those of all windows that hold a moment add up to one."""
    place = torch.arange(WINDOW)
    edge = torch.minimum(place, WINDOW - 1 - place) - DROPPED + 0.5
    weight = (edge / FADE).clamp(0, 1)
    total = torch.zeros(STRIDE).index_add_(0, place % STRIDE, weight)
    return weight / total[place % STRIDE]
