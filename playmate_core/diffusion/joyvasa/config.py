"""Sizes of a JoyVASA motion generator, as its checkpoint tells them."""

from __future__ import annotations

from dataclasses import dataclass

from ...runtime.errors import PlaymateError

POSITIONS = ("legacy_constant", "per_frame")
"""How frames learn where they stand (SPEC.md 4.3). ``legacy_constant`` adds one vector to all of them, which is what
the published weights were trained with; ``per_frame`` is the repository since 9 December 2025."""

USED = 70
"""Numbers of a frame that are motion; more are carried along and not drawn (SPEC.md section 3)."""


@dataclass(frozen=True)
class JoyVasaConfig:
    """What the networks are built from.

    ``args`` of the published checkpoint tells the first five. It also tells a number of layers and an indicator
    channel, which its own code never hands to the network (SPEC.md section 0), so those are not read.

    Attributes:
        motion_feat_dim: numbers of a frame's motion, at least 70.
        n_motions: frames of a window.
        n_prev_motions: frames carried over from the window before.
        feature_dim: width of the network, even and divisible by ``n_heads``.
        n_diff_steps: diffusion steps of the training.
        n_heads, n_layers, mlp_ratio: of the transformer.
        align_mask_width: a frame attends to the speech of frames less than this far away; 1 is its own alone.
        target: ``"sample"`` (released) or ``"noise"``: what the network predicts.
        schedule: ``"cosine"`` (released), ``"linear"``, ``"quadratic"`` or ``"sigmoid"``.
        positions: one of ``POSITIONS``.
        features_dim: width of the speech encoder's rows.
        encoder: name that the speech features must carry.

    Raises:
        PlaymateError: a size outside its range.
    """

    motion_feat_dim: int = 73
    n_motions: int = 100
    n_prev_motions: int = 10
    feature_dim: int = 256
    n_diff_steps: int = 50
    n_heads: int = 8
    n_layers: int = 8
    mlp_ratio: int = 4
    align_mask_width: int = 1
    target: str = "sample"
    schedule: str = "cosine"
    positions: str = "legacy_constant"
    features_dim: int = 768
    encoder: str = "joyvasa"

    def __post_init__(self) -> None:
        for name in ("n_motions", "n_prev_motions", "feature_dim", "n_diff_steps", "n_heads", "n_layers", "mlp_ratio",
                     "align_mask_width", "features_dim"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 100_000:
                raise PlaymateError(f"JoyVASA checkpoint: {name} is {value!r}; a whole number above 0 is needed.")
        if not isinstance(self.motion_feat_dim, int) or not USED <= self.motion_feat_dim <= 10_000:
            raise PlaymateError(f"JoyVASA checkpoint: motion_feat_dim is {self.motion_feat_dim!r}; at least {USED} "
                                "numbers a frame are needed (63 expression, scale, translation, angles).")
        if self.feature_dim % (2 * self.n_heads):
            raise PlaymateError(f"JoyVASA checkpoint: feature_dim {self.feature_dim} does not divide into "
                                f"{self.n_heads} heads of even width.")
        if self.target not in ("sample", "noise"):
            raise PlaymateError(f"JoyVASA checkpoint: target is {self.target!r}; sample or noise is needed.")
        if self.positions not in POSITIONS:
            raise PlaymateError(f"JoyVASA positions are {self.positions!r}; use one of: {', '.join(POSITIONS)}.")

    @property
    def length(self) -> int:
        """Frames that the network sees at once: those carried over, then the window's."""
        return self.n_prev_motions + self.n_motions
