"""Whisper's audio encoder (Radford et al. 2022, section 2.2) for windows of any length up to 30 s.

transformers' ``WhisperEncoder`` refuses anything but 3000 spectra, and padding a short sentence to 30 s would cost
ten times its work; so this is the same network, with the same parameter names, minus that condition. A test holds
it equal to transformers'.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEAD = 64
"""Channels of an attention head in every Whisper."""


class Attention(nn.Module):
    """Unmasked multi-head self-attention; the key has no bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, width] to [B, T, width]."""
        q, k, v = (p(x).unflatten(-1, (self.heads, HEAD)).transpose(1, 2)
                   for p in (self.q_proj, self.k_proj, self.v_proj))
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.self_attn = Attention(width)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, width] to [B, T, width]."""
        x = x + self.self_attn(self.self_attn_layer_norm(x))
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))


class Positions(nn.Module):
    """The table of position encodings. No ``nn.Embedding``: drawing its initial values on the meta device, only to
    be replaced, imports seconds' worth of torch's compiler."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, width))


class WhisperEncoder(nn.Module):
    """Log-mel spectra in, one row for every two spectra (50 a second) out."""

    def __init__(self, bands: int, width: int, inner: int, layers: int, positions: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(bands, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.embed_positions = Positions(positions, width)
        self.layers = nn.ModuleList(Layer(width, inner) for _ in range(layers))
        self.layer_norm = nn.LayerNorm(width)

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> WhisperEncoder:
        """The network whose sizes the tensors' shapes tell, in float32, evaluating.

        Raises:
            KeyError, RuntimeError: the tensors are not a Whisper encoder's.
        """
        width, bands = tensors["conv1.weight"].shape[:2]
        inner = tensors["layers.0.fc1.weight"].shape[0]
        layers = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("layers."))
        with torch.device("meta"):
            model = cls(bands, width, inner, layers, tensors["embed_positions.weight"].shape[0])
        model.load_state_dict({name: value.float() for name, value in tensors.items()}, assign=True)
        return model.eval().requires_grad_(False)

    def forward(self, mel: Tensor) -> Tensor:
        """Encode a window.

        Args:
            mel: [B, bands, K] log-mel spectra at 100 Hz, K even and at most twice the position table.

        Returns:
            [B, K / 2, width]; row j is centred on spectrum 2 j.
        """
        x = F.gelu(self.conv1(mel))
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        x = x + self.embed_positions.weight[:x.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return self.layer_norm(x)
