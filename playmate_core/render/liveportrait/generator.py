"""G: the SPADE generator, features to a picture (SPEC.md section 5; Park et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .upsampled import UpsampledConv

SLOPE = 0.2


@dataclass(frozen=True)
class GeneratorConfig:
    """Sizes of G; names and defaults as published."""

    upscale: int = 2
    block_expansion: int = 64
    max_features: int = 512
    num_down_blocks: int = 2
    out_channels: int = 64
    hidden: int = 128
    """Channels between a SPADE norm's convolutions; the same at every width."""

    @property
    def in_channels(self) -> int:
        """Channels of what W hands over."""
        return min(self.max_features, self.block_expansion * 2**self.num_down_blocks)

    @staticmethod
    def of(weights: dict[str, Tensor]) -> GeneratorConfig:
        """Read off a state dict."""
        channels, upscale = weights["fc.weight"].shape[1], 1
        if "conv_img.0.weight" in weights:
            upscale = round((weights["conv_img.0.weight"].shape[0] / 3) ** 0.5)
        out = weights["conv_img.weight" if upscale == 1 else "conv_img.0.weight"].shape[1]
        hidden = weights["G_middle_0.norm_0.mlp_shared.0.weight"].shape[0]
        return GeneratorConfig(upscale, channels, 2 * channels, 0, out, hidden)


class SpectralConv(nn.Module):
    """A convolution whose weight is divided by its largest singular value, with torch's older parameter names.

    In evaluation mode the stored vectors give the singular value; in training mode one power iteration renews them.
    """

    def __init__(self, before: int, after: int, kernel: int, bias: bool = True) -> None:
        super().__init__()
        self.padding = kernel // 2
        self.bias = nn.Parameter(torch.zeros(after)) if bias else None
        self.weight_orig = nn.Parameter(torch.empty(after, before, kernel, kernel))
        nn.init.xavier_normal_(self.weight_orig)
        self.register_buffer("weight_u", F.normalize(torch.ones(after), dim=0))
        self.register_buffer("weight_v", F.normalize(torch.ones(before * kernel * kernel), dim=0))

    def weight(self) -> Tensor:
        """The weight that is convolved with."""
        matrix = self.weight_orig.flatten(1)
        if self.training:
            with torch.no_grad():
                self.weight_v.copy_(F.normalize(matrix.T @ self.weight_u, dim=0, eps=1e-12))
                self.weight_u.copy_(F.normalize(matrix @ self.weight_v, dim=0, eps=1e-12))
        # Copies, since the next step's power iteration changes the buffers that the gradient still needs.
        u, v = (self.weight_u.clone(), self.weight_v.clone()) if self.training else (self.weight_u, self.weight_v)
        # A sum of products, since autocast would take a product of matrices in half precision.
        return self.weight_orig / torch.dot(u, (matrix * v).sum(1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight(), self.bias, padding=self.padding)

    @torch.no_grad()
    def folded(self) -> nn.Conv2d:
        """A plain convolution that does the same. The singular value is taken in float32 at least."""
        after, before, kernel, _ = self.weight_orig.shape
        matrix = self.weight_orig.float()
        sigma = torch.dot(self.weight_u.float(), matrix.flatten(1) @ self.weight_v.float())
        return _plain(matrix / sigma, self.bias, self.weight_orig.dtype, self.padding)


def _plain(weight: Tensor, bias: Tensor | None, dtype: torch.dtype, padding: int) -> nn.Conv2d:
    after, before, kernel, _ = weight.shape
    conv = nn.Conv2d(before, after, kernel, padding=padding, bias=bias is not None, device="meta")
    conv.weight = nn.Parameter(weight.detach().to(dtype).contiguous(), requires_grad=False)
    if bias is not None:
        conv.bias = nn.Parameter(bias.detach().to(dtype).clone(), requires_grad=False)
    return conv


class SpadeNorm(nn.Module):
    """Instance norm whose gain and offset are read off a map, pixel by pixel."""

    def __init__(self, channels: int, map_channels: int, hidden: int = 128) -> None:
        super().__init__()
        self.mlp_shared = nn.Sequential(nn.Conv2d(map_channels, hidden, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        """[B, C, H, W] and a map [B, M, h, w] of another size, which is resized by repetition."""
        if guide.shape[2:] != x.shape[2:]:
            guide = F.interpolate(guide, size=x.shape[2:], mode="nearest")
        hidden = self.mlp_shared(guide)
        return F.instance_norm(x, eps=1e-5) * (1 + self.mlp_gamma(hidden)) + self.mlp_beta(hidden)


class SpadeBlock(nn.Module):
    """Residual block of two SPADE norms, with a third on the shortcut where the width changes."""

    def __init__(self, before: int, after: int, map_channels: int, hidden: int = 128) -> None:
        super().__init__()
        middle = min(before, after)
        self.learned_shortcut = before != after
        self.conv_0 = SpectralConv(before, middle, 3)
        self.conv_1 = SpectralConv(middle, after, 3)
        if self.learned_shortcut:
            self.conv_s = SpectralConv(before, after, 1, bias=False)
            self.norm_s = SpadeNorm(before, map_channels, hidden)
        self.norm_0 = SpadeNorm(before, map_channels, hidden)
        self.norm_1 = SpadeNorm(middle, map_channels, hidden)

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        shortcut = self.conv_s(self.norm_s(x, guide)) if self.learned_shortcut else x
        y = self.conv_0(F.leaky_relu(self.norm_0(x, guide), SLOPE))
        y = self.conv_1(F.leaky_relu(self.norm_1(y, guide), SLOPE))
        return shortcut + y


class Generator(nn.Module):
    """G: [B, C, h, w] -> [B, 3, 4 u h, 4 u w] RGB in 0..1, with u = upscale (64 -> 512 as published)."""

    def __init__(self, config: GeneratorConfig = GeneratorConfig()) -> None:  # noqa: B008
        super().__init__()
        self.config = config
        channels, hidden = config.in_channels, config.hidden
        self.fc = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        for number in range(6):
            self.add_module(f"G_middle_{number}", SpadeBlock(2 * channels, 2 * channels, channels, hidden))
        self.up_0 = SpadeBlock(2 * channels, channels, channels, hidden)
        self.up_1 = SpadeBlock(channels, config.out_channels, channels, hidden)
        if config.upscale > 1:
            self.conv_img = nn.Sequential(
                nn.Conv2d(config.out_channels, 3 * config.upscale**2, 3, padding=1), nn.PixelShuffle(config.upscale))
        else:
            self.conv_img = nn.Conv2d(config.out_channels, 3, 3, padding=1)

    def forward(self, feature: Tensor) -> Tensor:
        x = self.fc(feature)
        for number in range(6):
            x = getattr(self, f"G_middle_{number}")(x, feature)
        x = self.up_0(F.interpolate(x, scale_factor=2), feature)
        x = self.up_1(F.interpolate(x, scale_factor=2), feature)
        return self.conv_img(F.leaky_relu(x, SLOPE)).sigmoid()

    def set_size(self, height: int, width: int) -> None:
        """Makes the tables that the folded network needs for features of this size."""
        for part in self.modules():
            if isinstance(part, UpsampledConv):
                part.set_size(height, width)

    def fold(self) -> None:
        """Folds spectral norms and lays together what the norms of a block convolve. Once, after loading."""
        blocks = [(f"G_middle_{number}", 1) for number in range(6)] + [("up_0", 2), ("up_1", 4)]
        for name, scale in blocks:
            block = getattr(self, name)
            if isinstance(block, SpadeBlock):
                setattr(self, name, FoldedBlock(block, scale))


class FoldedNorm(nn.Module):
    """A SPADE norm that reads its gain and offset off a hidden map, with "1 +" put into the gain's bias.

    Args:
        norm: the norm.
        scale: how much larger the pictures are than the map.
        after: [out, C] a 1x1 convolution that follows. It is then applied here, and because it is linear the offset
            goes straight to its output: far fewer products than offset first and convolution second.
    """

    def __init__(self, norm: SpadeNorm, scale: int, after: Tensor | None = None) -> None:
        super().__init__()
        shared, gamma, beta = norm.mlp_shared[0], norm.mlp_gamma, norm.mlp_beta
        dtype = gamma.weight.dtype
        weight, bias = beta.weight.detach(), beta.bias.detach()
        self.after = None
        if after is not None:
            after = after.detach()
            weight = torch.einsum("oc,cihw->oihw", after.double(), weight.double())
            bias = after.double() @ bias.double()
            self.after = nn.Parameter(after[:, :, None, None].clone(), requires_grad=False)
        self.shared = shared if scale == 1 else UpsampledConv(shared, scale)
        self.gain = _plain(gamma.weight, gamma.bias.detach() + 1, dtype, 1)
        self.offset = _plain(weight, bias, dtype, 1)

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        """[B, C, H, W] already normalised, and the map [B, M, h, w]."""
        hidden = self.shared(guide).relu_()
        # Two convolutions, not one that is cut in two: the parts of a cut lie apart in memory, which costs each of the
        # passes that follow more than reading the hidden map twice.
        if self.after is None:
            return torch.addcmul(self.offset(hidden), x, self.gain(hidden))
        return F.conv2d(x * self.gain(hidden), self.after) + self.offset(hidden)


class FoldedBlock(nn.Module):
    """A :class:`SpadeBlock` for evaluation: the same function with less arithmetic.

    Args:
        block: the loaded block.
        scale: how much larger its pictures are than the map.
    """

    def __init__(self, block: SpadeBlock, scale: int) -> None:
        super().__init__()
        self.conv_0, self.conv_1 = block.conv_0.folded(), block.conv_1.folded()
        self.norm_0, self.norm_1 = FoldedNorm(block.norm_0, scale), FoldedNorm(block.norm_1, scale)
        self.norm_s = None
        if block.learned_shortcut:
            self.norm_s = FoldedNorm(block.norm_s, scale, block.conv_s.folded().weight.flatten(1))

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        plain = instance_norm(x)
        y = self.conv_0(F.leaky_relu_(self.norm_0(plain, guide), SLOPE))
        y = self.conv_1(F.leaky_relu_(self.norm_1(instance_norm(y), guide), SLOPE))
        return y.add_(x if self.norm_s is None else self.norm_s(plain, guide))


def instance_norm(x: Tensor, eps: float = 1e-5) -> Tensor:
    """[B, C, H, W] with mean 0 and variance 1 over each picture's plane; statistics in float32.

    torch's own lays pictures out anew when their channels come last, twice a call; there this takes its place. Its
    variance is the mean square less the squared mean, as exact as half precision where means are not hundreds of
    deviations.
    """
    if x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
        return F.instance_norm(x, eps=eps)
    mean = x.mean((2, 3), keepdim=True, dtype=torch.float32)
    square = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True, dtype=torch.float32).square()
    gain = (square / (x.shape[2] * x.shape[3]) - mean.square()).clamp_min_(0).add_(eps).rsqrt_()
    return torch.addcmul((-mean * gain).to(x.dtype), x, gain.to(x.dtype))
