"""What the network hears, made of speech features when a window asks for it: an hour is never held twice."""

from __future__ import annotations

import torch
from torch import Tensor

from ..motion.features import SpeechFeatures
from .normalisation import MotionStatistics


class SpeechRows:
    """[T, C + 3] normalised features and prosody of ``features``, as far as a tensor would be.

    Args:
        statistics: on ``device``.
    """

    def __init__(self, statistics: MotionStatistics, features: SpeechFeatures, device: torch.device) -> None:
        self.device = device
        self._statistics, self._features = statistics, features

    def __len__(self) -> int:
        return len(self._features)

    @property
    def shape(self) -> tuple[int, int]:
        """(T, C + 3)."""
        return len(self), self[torch.zeros(0, dtype=torch.long)].shape[1]

    def __getitem__(self, rows: Tensor) -> Tensor:
        features, rows = self._features, rows.to(self._features.features.device)
        return self._statistics.encode_audio(*(each[rows].to(self.device, torch.float32) for each in
                                               (features.features, features.loudness, features.pitch)))

    def new_zeros(self, *shape: int) -> Tensor:
        """As ``Tensor.new_zeros``."""
        return torch.zeros(*shape, device=self.device)
