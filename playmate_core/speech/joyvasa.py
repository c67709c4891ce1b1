"""JoyVASA's speech features: its own HuBERT, window by window (reference/joyvasa SPEC.md sections 6 and 7).

The encoder was trained further together with the motion generator and lies in the generator's checkpoint, so no other
HuBERT stands in for it. Two frames of silence are put in front and windows never overlap: that is how the generator
was trained. Row k of the features is frame k of the sound (the published program instead lets the face trail by those
two frames); the windows as a whole, lead and tail included, go along for the generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor
from torch.nn import functional as F

from ..media.audio import SAMPLE_RATE, Audio
from ..motion.features import FPS, LEAD, JoyVasaFeatures
from ..runtime.host import Host, place_on_device
from ..runtime.progress import Progress, report
from .base import frames_of, with_prosody
from .transformer_encoders import working_bytes

FRAME = 640
"""Samples a frame."""
TAIL = 1
"""Frames of silence behind the sound; ``LEAD`` are in front of it."""
NAME = "joyvasa"
ON_GPU = 8
"""Windows encoded at once on an accelerator."""


@dataclass(frozen=True)
class WindowPlan:
    """How a recording is cut (SPEC.md section 7, points 1 to 3).

    Attributes:
        windows: W.
        samples: of all windows together.
        padding: frames at the end of the last window that hold no sound.
    """

    windows: int
    samples: int
    padding: int


def plan_windows(samples: int, frames: int) -> WindowPlan:
    """The cut of a recording of ``samples`` samples into windows of ``frames`` frames."""
    padded = samples + (LEAD + TAIL) * FRAME
    clip = int(padded / SAMPLE_RATE * FPS)  # in this order, as published: some lengths come out one frame short
    windows = 1 if clip <= frames else math.ceil(clip / frames)
    missing = windows * frames * FRAME - padded
    return WindowPlan(windows, windows * frames * FRAME, max(math.ceil(missing / FRAME), 0))


def cut_windows(samples: Tensor, plan: WindowPlan) -> Tensor:
    """[W, L * 640] of a recording [N]: silence in front and behind, what is beyond the last window cut off."""
    sound = samples[:plan.samples - LEAD * FRAME]
    return F.pad(sound, (LEAD * FRAME, plan.samples - LEAD * FRAME - len(sound))).reshape(plan.windows, -1)


def pad_sides(sound: Tensor) -> Tensor:
    """[N, samples] longer by what gives whole rows: reflected twice, an odd sample repeated (SPEC.md 6.1)."""
    side = math.ceil((80 - sound.shape[-1] % 320) / 2)
    if side < 0:
        return sound
    for _ in range(2):
        if side // 2:
            sound = F.pad(sound[:, None], (side // 2, side // 2), mode="reflect")[:, 0]
    return F.pad(sound[:, None], (1, 1), mode="replicate")[:, 0] if side % 2 else sound


def window_features(network: torch.nn.Module, sound: Tensor, frames: int) -> Tensor:
    """[N, frames, C] of windows [N, frames * 640]: hidden rows at 50 a second, the mean of each two."""
    rows = network(pad_sides(sound)).last_hidden_state.float()
    return rows[:, :2 * frames].unflatten(1, (frames, 2)).mean(2)


class JoyVasaSpeechEncoder:
    """A checkpoint's own HuBERT.

    Attributes:
        name, features_dim, device: as of every speech encoder.
        frames: L, frames of a window.
    """

    def __init__(self, network: torch.nn.Module, frames: int, device="cpu", host: Host | None = None) -> None:
        self.name, self.frames, self.device = NAME, frames, torch.device(device)
        self.network = network
        self._make_ready = place_on_device(network, self.device, host)
        self.features_dim = int(network.config.hidden_size)
        self._silence: Optional[Tensor] = None

    @torch.no_grad()
    def encode(self, audio: Audio, progress: Progress = None) -> JoyVasaFeatures:
        """See ``base.SpeechEncoder.encode``.

        The waveform is taken as it is: the weights published since January 2025 want no normalisation.
        """
        frames = frames_of(audio)
        plan = plan_windows(len(audio.samples), self.frames)
        if plan.windows * self.frames < frames + LEAD:  # a duration that the samples do not quite fill
            windows = -(-(frames + LEAD) // self.frames)
            plan = WindowPlan(windows, windows * self.frames * FRAME, 0)
        batch = 1 if self.device.type == "cpu" else ON_GPU
        parts = cut_windows(audio.samples, plan).split(batch)
        self._make_ready(working_bytes(self.network, parts[0].numel()))
        encoded: list[Tensor] = []

        def features(told: Progress) -> Tensor:
            for index, part in enumerate(parts):
                report(told, index * batch, plan.windows)
                encoded.append(window_features(self.network, part.to(self.device), self.frames).cpu())
            return torch.cat(encoded).flatten(0, 1)[LEAD:LEAD + frames].clone()

        plain = with_prosody(audio, features, plan.windows, self.name, progress)
        return JoyVasaFeatures(**vars(plain), windows=torch.cat(encoded), silence=self.silence())

    @torch.no_grad()
    def silence(self) -> Tensor:
        """[L, C] of a window without sound."""
        if self._silence is None:
            sound = torch.zeros(1, self.frames * FRAME, device=self.device)
            self._make_ready(working_bytes(self.network, sound.numel()))
            self._silence = window_features(self.network, sound, self.frames)[0].cpu()
        return self._silence
