"""Stage 2: the emotion controller (PAPER.md 1.7), two adaLN DiT blocks between the Conformer and the Exp-MLP.

Beyond the paper the condition is a vector of amounts for every frame instead of one label for a clip, so emotions mix,
have a strength and change over time; each frame modulates its own tokens (frame-wise adaLN). All gates start at zero:
an untrained controller is stage 1.
"""

from __future__ import annotations

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..emotion.curve import EMOTIONS
from .denoiser import Attention, Denoiser, mlp

MLP_RATIO = 4


class DiTBlock(nn.Module):
    """LayerNorm, shift and scale, self-attention, gate; LayerNorm, shift and scale, MLP, gate (Fig. 3)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width, elementwise_affine=False)
        self.norm_mlp = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = Attention(width, heads)
        self.mlp = mlp(width, MLP_RATIO * width, width)
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor, mask: Optional[Tensor]) -> Tensor:
        """x, condition [B, L, D]; mask [B, L] true where a token exists, or None -> [B, L, D]."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(condition).chunk(6, -1)
        x = x + gate_a * self.attention(self.norm_attention(x) * (1 + scale_a) + shift_a, mask)
        return x + gate_m * self.mlp(self.norm_mlp(x) * (1 + scale_m) + shift_m)


class EmotionController(nn.Module):
    """What stands before the Exp-MLP in stage 2.

    Args:
        width: channels of the stage-1 network it belongs to.
        heads: attention heads.
        blocks: DiT blocks, 2 in the paper.
    """

    def __init__(self, width: int, heads: int, blocks: int = 2) -> None:
        super().__init__()
        self.embedding = mlp(len(EMOTIONS), width, width)
        self.time = nn.Linear(width, width)
        self.blocks = nn.ModuleList(DiTBlock(width, heads) for _ in range(blocks))

    def forward(self, hidden: Tensor, time: Tensor, emotion_weights: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        """The expression's tokens.

        Args:
            hidden: [B, L, D] Conformer output.
            time: [B, D] timestep embedding.
            emotion_weights: [B, L, 7] amounts of ``emotion.curve.EMOTIONS``, 0 to 2; those of previous
                frames included.
            mask: [B, L] true where a token exists; None where all do.

        Returns:
            [B, L, D].
        """
        condition = F.silu(self.embedding(emotion_weights) + self.time(time)[:, None])
        for block in self.blocks:
            hidden = block(hidden, condition, mask)
        return hidden


class EmotionalDenoiser(nn.Module):
    """A frozen stage 1 with a controller to train; called like ``Denoiser``, with ``emotion_weights`` [B, P + W, 7]."""

    def __init__(self, denoiser: Denoiser, controller: EmotionController) -> None:
        super().__init__()
        self.denoiser = denoiser.requires_grad_(False)
        self.controller = controller
        self.config = denoiser.config

    def train(self, mode: bool = True) -> EmotionalDenoiser:
        """Training mode is the controller's only: stage 1 stays as it was made."""
        super().train(mode)
        self.denoiser.eval()
        return self

    def forward(self, motion: Tensor, audio: Tensor, audio_mask: Tensor, t: Tensor, *, has_audio: Tensor,
                emotion_weights: Tensor, mask: Optional[Tensor] = None, **conditions) -> Tensor:
        """Predicted noise [B, W, K + 6]; gradients reach the controller alone."""
        with torch.no_grad():
            speech = self.denoiser.speech_tokens(audio, audio_mask, has_audio)
            trunk = self.denoiser.trunk(motion, speech, t, mask=mask, **conditions)
        return self.denoiser.heads(trunk, motion, t,
                                   lambda hidden, time: self.controller(hidden, time, emotion_weights, mask))
