"""The stage-1 network (PAPER.md 1.5): four projectors, Conformer blocks, a pose and an expression head.

Choices where the paper is silent: the projected streams of a frame are added; time and identity also scale and
shift every sub-layer's norm (adaLN); positions are rotary, so a window means the same wherever it lies; the
convolution module normalises over channels, not over the batch, so that a batch of one equals a batch of many.

The network predicts noise, as Eq. 7 asks, through skips from its input:
``eps = sqrt(1 - abar_t) m_t + sqrt(abar_t) (heads - sqrt(1 - abar_t) carry_n last)``. Near pure noise the input
already is the answer to within sqrt(abar_t), and asking a small network to reproduce its input to four digits would
waste it. The second skip carries the last previous frame on, fading with a learned rate of its own for every number
and frame n of the window: heads and faces mostly go on as they were, which is what makes windows join.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Callable, NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import POSE_DIM, PROSODY_DIM, DenoiserConfig

ExpressionHook = Callable[[Tensor, Tensor], Tensor]
"""(Conformer output [B, L, D], timestep embedding [B, D]) -> what the Exp-MLP sees [B, L, D] (stage 2's place)."""


class Conditions(NamedTuple):
    """What time and identity do to the network; a whole sampling needs it once, for all of its steps."""

    time: Tensor  # [B, D] timestep embedding
    both: Tensor  # [B, D] with the identity's added
    modulation: tuple[Tensor, ...]  # [B, 8 D] of every block: factors of its four norms, then shifts

    def row(self, index: int) -> Conditions:
        """One row, as a batch of one."""
        rows = slice(index, index + 1)
        return Conditions(self.time[rows], self.both[rows], tuple(part[rows] for part in self.modulation))


class Trunk(NamedTuple):
    """What the heads need; shared between guidance terms that differ only after the Conformer."""

    hidden: Tensor  # [B, previous + W, D]
    time: Tensor  # [B, D]
    last: Tensor  # [B, K + 6] last previous frame, zeros where there is none


@cache
def rotary(length: int, dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines [length, dim / 2] of rotary positions; worked out once and kept, since a recorded CUDA graph
    goes on reading them."""
    # Tensors of inference mode could not be used in training afterwards.
    with torch.inference_mode(False):
        rate = 1.0 / (1000.0 ** (torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim))
        angle = torch.arange(length, device=device, dtype=torch.float32)[:, None] * rate
        return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the channel pairs of ``x`` [..., L, dim] by their position's angle."""
    a, b = x.chunk(2, -1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)


def timestep_embedding(t: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding [B, dim] of timesteps [B]."""
    half = dim // 2
    rate = torch.exp(-math.log(10_000.0) * torch.arange(half, device=t.device, dtype=torch.float32) / half)
    angle = t.float()[:, None] * rate
    return torch.cat((angle.cos(), angle.sin()), -1)


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Optional[Tensor]) -> Tensor:
        """x [B, L, D]; mask [B, L] true where a token exists, or None."""
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k = rotate(qkv[:2], *rotary(length, width // self.heads, x.device))
        v = qkv[2]
        where = None if mask is None else mask[:, None, None, :]
        if x.device.type == "cpu" and q.dtype == torch.bfloat16:
            # On CPU torch's half-precision attention is several times slower than its single-precision one.
            with torch.autocast("cpu", enabled=False):
                x = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=where)
        else:
            x = F.scaled_dot_product_attention(q, k, v, attn_mask=where)
        return self.out(x.transpose(1, 2).reshape(batch, length, width))


class Dropout(nn.Dropout):
    """Dropout that can be drawn for a whole batch of which ``forward`` sees a part.

    Attributes:
        place: (which samples, of how many); every process and every piece that starts from the same seed then leaves
            out what a single one would have left out. None draws for what is seen.
    """

    place: Optional[tuple[slice, int]] = None

    def forward(self, x: Tensor) -> Tensor:
        """x [B, ...] -> the same."""
        if not self.training or self.place is None:
            return super().forward(x)
        part, size = self.place
        kept = torch.rand(size, *x.shape[1:], device=x.device)[part] >= self.p
        return x * kept / (1 - self.p)


def dropout(rate: float) -> nn.Module:
    """Dropout that costs nothing where there is none (on CPU drawing the zeros is a tenth of a training step)."""
    return Dropout(rate) if rate else nn.Identity()


def feed_forward(width: int, multiple: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, multiple * width), nn.SiLU(), nn.Linear(multiple * width, width))


class Convolution(nn.Module):
    """The Conformer's convolution module; channel-last, missing tokens count as zeros."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Optional[Tensor]) -> Tensor:
        x = F.glu(self.expand(x), -1)
        if mask is not None:
            x = x * mask[..., None].to(x.dtype)
        x = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return self.out(F.silu(self.norm(x)))


class ConformerBlock(nn.Module):
    """Half feed-forward, attention, convolution, half feed-forward, each modulated by time and identity."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        width = config.width
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(4))
        self.modulation = nn.Linear(width, 8 * width)
        self.first = feed_forward(width, config.feed_forward)
        self.attention = Attention(width, config.heads)
        self.convolution = Convolution(width, config.kernel)
        self.second = feed_forward(width, config.feed_forward)
        self.dropout = dropout(config.dropout)
        self.norm = nn.LayerNorm(width)

    def modulated(self, condition: Tensor) -> Tensor:
        """[B, D] time and identity -> [B, 8 D] factors of the four norms, then their shifts."""
        scale, shift = self.modulation(condition).chunk(2, -1)
        return torch.cat((1 + scale, shift), -1)

    def forward(self, x: Tensor, modulation: Tensor, mask: Optional[Tensor]) -> Tensor:
        """x [B, L, D], modulation [B or 1, 8 D] of ``modulated``, mask [B, L] or None -> [B, L, D]."""
        part = modulation[:, None].chunk(8, -1)
        n = [lambda v, i=i: self.norms[i](v) * part[i] + part[4 + i] for i in range(4)]
        x = x + 0.5 * self.dropout(self.first(n[0](x)))
        x = x + self.dropout(self.attention(n[1](x), mask))
        x = x + self.dropout(self.convolution(n[2](x), mask))
        x = x + 0.5 * self.dropout(self.second(n[3](x)))
        return self.norm(x)


class AudioProjector(nn.Module):
    """A-Proj: speech features and prosody to the model's width, then the paper's trainable self-attention block.

    Frames outside the recording are a learned "no sound here"; speech left out for guidance is another one.
    """

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        width = config.width
        self.project = nn.Linear(config.features_dim + PROSODY_DIM, width)
        self.outside = nn.Parameter(torch.zeros(width))
        self.null = nn.Parameter(torch.zeros(width))
        self.local = nn.Conv1d(width, width, 7, padding=3)
        self.norm_attention, self.norm_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, config.heads)
        self.forward_half = feed_forward(width, config.feed_forward)
        self.dropout = dropout(config.dropout)

    def forward(self, audio: Tensor, audio_mask: Tensor, present: Tensor) -> Tensor:
        """audio [B, L, C + 3], audio_mask [B, L] bool, present [B] bool -> [B, L, D]."""
        x = torch.where(audio_mask[..., None], self.project(self.dropout(audio)), self.outside)
        x = x + F.silu(self.local(x.transpose(1, 2))).transpose(1, 2)
        x = x + self.attention(self.norm_attention(x), None)
        x = x + self.forward_half(self.norm_forward(x))
        return torch.where(present[:, None, None], x, self.null)


def mlp(inside: int, width: int, outside: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inside, width), nn.SiLU(), nn.Linear(width, outside))


class Denoiser(nn.Module):
    """eps_theta of Eq. 7 and Eq. 10.

    All of ``motion`` is normalised (``normalisation``). L = previous + W with W up to ``config.window``; the first
    ``config.previous`` tokens are the clean frames of the piece before. Where there is no piece before
    (``continued`` false) those tokens are learned start tokens, in training exactly as in sampling.
    """

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.audio = AudioProjector(config)
        self.motion = nn.Linear(config.motion_dim, width)
        self.identity = mlp(config.identity_dim, width, width)
        self.no_identity = nn.Parameter(torch.zeros(width))
        self.time = mlp(width, width, width)
        self.start = nn.Parameter(torch.randn(config.previous, width) * 0.02)
        self.role = nn.Parameter(torch.randn(2, width) * 0.02)  # previous, noisy
        self.blocks = nn.ModuleList(ConformerBlock(config) for _ in range(config.blocks))
        self.expression_head = mlp(width, width, config.axes)
        self.pose_head = mlp(width, width, POSE_DIM)
        self.carry = nn.Parameter(_fading(config))
        self.register_buffer("alphas_cumprod", _alphas_cumprod(config), persistent=False)
        self.reset()

    def reset(self) -> None:
        """Zero the modulations and the heads' last layers: training starts from eps = sqrt(1 - abar) m_t."""
        for block in self.blocks:
            nn.init.zeros_(block.modulation.weight)
            nn.init.zeros_(block.modulation.bias)
        for head in (self.expression_head, self.pose_head):
            nn.init.zeros_(head[-1].weight)
            nn.init.zeros_(head[-1].bias)

    def speech_tokens(self, audio: Tensor, audio_mask: Tensor, has_audio: Tensor) -> Tensor:
        """Speech tokens [B, P + W + lookahead, D]; they do not depend on t, so a window needs them once.

        Args:
            audio: [B, P + W + lookahead, C + 3] normalised features and prosody.
            audio_mask: [B, P + W + lookahead] bool, whether the recording reaches there.
            has_audio: [B] bool, false where speech is left out (guidance).
        """
        return self.audio(audio, audio_mask, has_audio)

    def trunk(self, motion: Tensor, speech: Tensor, t: Tensor, *, continued: Tensor, identity: Tensor,
              has_identity: Tensor, mask: Optional[Tensor] = None) -> Trunk:
        """Everything before the heads: ``flow`` under ``conditions``.

        Args:
            motion: [B, P + W, K + 6] previous frames, then noisy frames.
            speech: of ``speech_tokens``; those beyond P + W have done their work there.
            t: [B] timesteps, 0 to train_timesteps - 1.
            continued: [B] bool, whether there is a piece before.
            identity: [B, identity_dim]; has_identity: [B] bool, false where left out.
            mask: [B, P + W] bool, true where a token exists; None where all do.
        """
        return self.flow(motion, speech, self.conditions(t, identity, has_identity), continued, mask)

    def conditions(self, t: Tensor, identity: Tensor, has_identity: Tensor) -> Conditions:
        """Of timesteps [B], identities [B, identity_dim] and [B] bool; they do not depend on the motion."""
        time = self.time(timestep_embedding(t, self.config.width))
        both = time + torch.where(has_identity[:, None], self.identity(identity), self.no_identity)
        condition = F.silu(both)
        return Conditions(time, both, tuple(block.modulated(condition) for block in self.blocks))

    def flow(self, motion: Tensor, speech: Tensor, conditions: Conditions, continued: Tensor,
             mask: Optional[Tensor] = None) -> Trunk:
        """As ``trunk``, of a batch or with one row of conditions for all of it."""
        previous = self.config.previous
        tokens = self.motion(motion)
        before = torch.where(continued[:, None, None], tokens[:, :previous], self.start.to(tokens.dtype))
        tokens = torch.cat((before + self.role[0], tokens[:, previous:] + self.role[1]), 1)
        x = tokens + speech[:, :motion.shape[1]] + conditions.both[:, None]
        for block, modulation in zip(self.blocks, conditions.modulation, strict=True):
            x = block(x, modulation, mask)
        return Trunk(x, conditions.time.expand(len(x), -1), motion[:, previous - 1] * continued[:, None])

    def heads(self, trunk: Trunk, motion: Tensor, t: Tensor, hook: Optional[ExpressionHook] = None) -> Tensor:
        """Predicted noise [B, W, K + 6] of the noisy frames; ``hook`` stands before the Exp-MLP only."""
        previous = self.config.previous
        hidden = trunk.hidden[:, previous:]
        expression = hidden if hook is None else hook(trunk.hidden, trunk.time)[:, previous:]
        out = torch.cat((self.expression_head(expression), self.pose_head(hidden)), -1).float()
        kept = self.alphas_cumprod[t][:, None, None]
        carried = self.carry[:out.shape[1]] * trunk.last.float()[:, None]
        out = out - (1 - kept).sqrt() * carried
        return (1 - kept).sqrt() * motion[:, previous:].float() + kept.sqrt() * out

    def forward(self, motion: Tensor, audio: Tensor, audio_mask: Tensor, t: Tensor, *, has_audio: Tensor,
                hook: Optional[ExpressionHook] = None, **conditions) -> Tensor:
        """``heads(trunk(.., speech_tokens(..), ..))``: predicted noise [B, W, K + 6]."""
        speech = self.speech_tokens(audio, audio_mask, has_audio)
        return self.heads(self.trunk(motion, speech, t, **conditions), motion, t, hook)


def _fading(config: DenoiserConfig) -> Tensor:
    """[window, K + 6] where training starts: a face is another after a few frames, a head after half a second."""
    n = torch.arange(config.window, dtype=torch.float32)[:, None]
    reach = torch.tensor([2.0] * config.axes + [12.0] * POSE_DIM)
    return torch.exp(-(n + 1) / reach)


def _alphas_cumprod(config: DenoiserConfig) -> Tensor:
    from .schedule import training_scheduler
    return training_scheduler(config).alphas_cumprod.float().clone()
