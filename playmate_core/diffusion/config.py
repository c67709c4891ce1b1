"""What a motion model is made of: read from and written to the checkpoint, checked on construction."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

from ..runtime.errors import PlaymateError

EXPRESSION_DIM = 63
POSE_DIM = 6
"""Pitch, yaw, roll, x, y, scale. LivePortrait's z translation is never drawn, so it is not generated."""

PROSODY_DIM = 3
"""Loudness, pitch, voicing (``normalisation.prosody``)."""


@dataclass(frozen=True)
class DenoiserConfig:
    """Sizes of the stage-1 network and the diffusion process it was trained with.

    Attributes:
        encoder: name of the speech encoder whose features it takes.
        features_dim: width of those features.
        axes: expression axes (K of ``normalisation.MotionStatistics``), 1 to 63.
        identity_dim: numbers of the identity feature.
        width: channels of the Conformer, divisible by ``heads`` into an even number (rotary positions).
        blocks: Conformer blocks.
        heads: attention heads.
        feed_forward: hidden width of the feed-forward halves, as a multiple of ``width``.
        kernel: taps of the convolution module, odd.
        dropout: 0 to below 1, training only.
        window: frames made in one piece.
        previous: clean frames of the piece before, shown to the next one (PAPER.md 1.6).
        lookahead: frames of speech seen beyond the window's end.
        train_timesteps: steps of the forward process.
        beta_schedule: as diffusers' schedulers name it.

    Raises:
        PlaymateError: a size outside its range.
    """

    encoder: str = "whisper-tiny.en"
    features_dim: int = 384
    axes: int = 28
    identity_dim: int = 63
    width: int = 160
    blocks: int = 4
    heads: int = 4
    feed_forward: int = 2
    kernel: int = 9
    dropout: float = 0.1
    window: int = 50
    previous: int = 10
    lookahead: int = 5
    train_timesteps: int = 1000
    beta_schedule: str = "linear"

    def __post_init__(self) -> None:
        for name in ("features_dim", "identity_dim", "blocks", "heads", "feed_forward", "window", "previous"):
            if not _positive(getattr(self, name)):
                raise PlaymateError(f"Motion model config: {name} is {getattr(self, name)!r}; it must be 1 or more.")
        if not _positive(self.axes) or self.axes > EXPRESSION_DIM:
            raise PlaymateError(f"Motion model config: axes is {self.axes!r}; it must be 1 to {EXPRESSION_DIM}.")
        if not _positive(self.width) or self.width % (2 * self.heads):
            raise PlaymateError(f"Motion model config: width {self.width!r} must be a multiple of twice heads "
                                f"({2 * self.heads}).")
        if not _positive(self.kernel) or self.kernel % 2 == 0:
            raise PlaymateError(f"Motion model config: kernel is {self.kernel!r}; it must be odd.")
        if not 0 <= self.dropout < 1:
            raise PlaymateError(f"Motion model config: dropout is {self.dropout!r}; it must be 0 to below 1.")
        if not isinstance(self.lookahead, int) or self.lookahead < 0:
            raise PlaymateError(f"Motion model config: lookahead is {self.lookahead!r}; it must be 0 or more.")
        if not _positive(self.train_timesteps) or self.train_timesteps < 100:
            raise PlaymateError("Motion model config: train_timesteps must be 100 or more.")
        if self.beta_schedule not in ("linear", "scaled_linear", "squaredcos_cap_v2"):
            raise PlaymateError(f"Motion model config: beta_schedule {self.beta_schedule!r} is unknown; use linear, "
                                "scaled_linear or squaredcos_cap_v2.")

    @property
    def motion_dim(self) -> int:
        """Numbers of one motion token: expression axes, then pose (Fig. 2 draws a token in these two parts)."""
        return self.axes + POSE_DIM

    def to_json(self) -> str:
        """One line that ``from_json`` reads back."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> DenoiserConfig:
        """The config written by ``to_json``.

        Raises:
            PlaymateError: not such a text, or keys this version does not know.
        """
        try:
            values = json.loads(text)
        except (TypeError, ValueError):
            values = None
        if not isinstance(values, dict):
            raise PlaymateError("The motion model's config is not readable; download or train the model again.")
        return DenoiserConfig.from_dict(values)

    @staticmethod
    def from_dict(values: dict) -> DenoiserConfig:
        """Checked construction from plain values.

        Raises:
            PlaymateError: keys this version does not know, or a size outside its range.
        """
        unknown = sorted(set(values) - {f.name for f in fields(DenoiserConfig)})
        if unknown:
            raise PlaymateError(f"Motion model config: {', '.join(unknown)} is not known to this version; "
                                "update ComfyUI-Playmate.")
        return DenoiserConfig(**values)


def _positive(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
