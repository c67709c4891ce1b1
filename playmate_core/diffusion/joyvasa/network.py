"""JoyVASA's denoiser: a transformer over a window's frames; each attends to one row of speech (SPEC.md section 4).

Parameters keep the published names. N is the batch, P frames are carried over, L are the window's, S = P + L, d the
width, m the numbers of a frame's motion.
"""

from __future__ import annotations

import math
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import JoyVasaConfig

STEP_ROWS = 501
FRAME_ROWS = 600


def sinusoids(rows: int, width: int) -> Tensor:
    """[rows, width]: sine in even columns, cosine in odd ones, frequencies 10000^(-2i / width) (SPEC.md 4.2)."""
    frequency = torch.exp(torch.arange(0, width, 2).float() * (-math.log(10000.0) / width))
    angle = torch.arange(rows).float()[:, None] * frequency
    return torch.stack((angle.sin(), angle.cos()), -1).flatten(1)


def alignment_mask(length: int, width: int) -> Tensor:
    """[length, length] bool, True where frame i must not attend to frame j: ``width`` or more frames away."""
    frame = torch.arange(length)
    return (frame[:, None] - frame[None]).abs() >= width


class Attention(nn.Module):
    """Multi-head attention with the three projections stored as one, as torch stores them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor, memory: Tensor, blocked: Optional[Tensor] = None) -> Tensor:
        """[N, S, d] of queries [N, S, d] over ``memory`` [N, S, d]; ``blocked`` [S, S] is True where not to look."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (F.linear(rows, weight, bias).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                   for rows, weight, bias in zip((x, memory, memory), weights, biases, strict=True))
        mixed = F.scaled_dot_product_attention(q, k, v, None if blocked is None else ~blocked)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))

    def own_row(self, memory: Tensor) -> Tensor:
        """What attention to one's own row of ``memory`` alone comes to: softmax over one entry is 1, so queries and
        keys have no say (SPEC.md section 4.3)."""
        width = memory.shape[-1]
        return self.out_proj(F.linear(memory, self.in_proj_weight[2 * width:], self.in_proj_bias[2 * width:]))


class Layer(nn.Module):
    """Post-norm decoder layer: self-attention, speech, feed-forward with exact GELU."""

    def __init__(self, config: JoyVasaConfig) -> None:
        super().__init__()
        width = config.feature_dim
        self.self_attn = Attention(width, config.n_heads)
        self.multihead_attn = Attention(width, config.n_heads)
        self.linear1 = nn.Linear(width, config.mlp_ratio * width)
        self.linear2 = nn.Linear(config.mlp_ratio * width, width)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, from_speech: Tensor, memory: Tensor, blocked: Optional[Tensor]) -> Tensor:
        """[N, S, d] to the same. ``from_speech`` is the speech's contribution where it depends on speech alone
        (``blocked`` is None); else it is worked out from ``memory`` under ``blocked``."""
        x = self.norm1(x + self.self_attn(x, x))
        x = self.norm2(x + (from_speech if blocked is None else self.multihead_attn(x, memory, blocked)))
        return self.norm3(x + self.linear2(F.gelu(self.linear1(x))))


class Stack(nn.Module):
    """The layers under their published name."""

    def __init__(self, config: JoyVasaConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))


class DenoisingNetwork(nn.Module):
    """Noisy motion and speech to clean motion (or noise, for models trained so)."""

    def __init__(self, config: JoyVasaConfig) -> None:
        super().__init__()
        self.config = config
        d, m = config.feature_dim, config.motion_feat_dim
        self.diff_step_map = nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.Linear(d, d))
        self.feature_proj = nn.Linear(m, d)
        self.transformer = Stack(config)
        self.motion_dec = nn.Sequential(nn.Linear(d, d // 2), nn.GELU(), nn.Linear(d // 2, m))
        # Derived, so not part of the state: checkpoints store them in different lengths.
        self.register_buffer("steps", sinusoids(max(STEP_ROWS, config.n_diff_steps + 1), d), persistent=False)
        self.register_buffer("frames", sinusoids(max(FRAME_ROWS, config.length + 1), d), persistent=False)
        blocked = None if config.align_mask_width == 1 else alignment_mask(config.length, config.align_mask_width)
        self.register_buffer("blocked", blocked, persistent=False)

    def embed_step(self, step: Tensor) -> Tensor:
        """[N] whole steps, 1 to ``n_diff_steps``, to [N, 1, d]."""
        return self.diff_step_map(self.steps[step])[:, None]

    def embed_motion(self, motion: Tensor) -> Tensor:
        """[N, S, m] to [N, S, d], positions added."""
        length = motion.shape[1]
        place = self.frames[:length] if self.config.positions == "per_frame" else self.frames[length]
        return self.feature_proj(motion) + place

    def speech_terms(self, memory: Tensor) -> list[Optional[Tensor]]:
        """What each layer takes from speech ``memory`` [N, S, d], the same in every diffusion step; None where it
        also depends on the motion."""
        return [layer.multihead_attn.own_row(memory) if self.blocked is None else None
                for layer in self.transformer.layers]

    def forward(self, motion: Tensor, memory: Tensor, step: Tensor, from_speech: Optional[list] = None) -> Tensor:
        """One prediction.

        Args:
            motion: [N, S, m] carried motion, then the noisy window.
            memory: [N, S, d] speech of the same frames.
            step: [N] int64, 1 to ``n_diff_steps``.
            from_speech: of ``speech_terms``, if it is at hand.

        Returns:
            [N, S, m]; the last L frames are the window's.
        """
        from_speech = self.speech_terms(memory) if from_speech is None else from_speech
        x = self.embed_motion(motion) + self.embed_step(step)
        for layer, part in zip(self.transformer.layers, from_speech, strict=True):
            x = layer(x, part, memory, self.blocked)
        return self.motion_dec(x)


class MotionGenerator(nn.Module):
    """Everything of a checkpoint but its speech encoder."""

    def __init__(self, config: JoyVasaConfig) -> None:
        super().__init__()
        self.config = config
        d = config.feature_dim
        self.start_audio_feat = nn.Parameter(torch.randn(1, config.n_prev_motions, d))
        self.start_motion_feat = nn.Parameter(torch.randn(1, config.n_prev_motions, config.motion_feat_dim))
        self.null_audio_feat = nn.Parameter(torch.randn(1, 1, d))
        self.audio_feature_map = nn.Linear(config.features_dim, d)
        self.denoising_net = DenoisingNetwork(config)
