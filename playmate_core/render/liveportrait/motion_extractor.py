"""M: the motion extractor, a ConvNeXt V2 with seven heads (SPEC.md section 3; Woo et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...motion.geometry import HEADPOSE_BINS, headpose_degrees

EPSILON = 1e-6


@dataclass(frozen=True)
class MotionExtractorConfig:
    """Sizes of M; the defaults are those of the published weights (backbone convnextv2_tiny)."""

    in_chans: int = 3
    depths: tuple[int, ...] = (3, 3, 9, 3)
    dims: tuple[int, ...] = (96, 192, 384, 768)
    num_kp: int = 21
    num_bins: int = HEADPOSE_BINS

    def __post_init__(self) -> None:
        object.__setattr__(self, "depths", tuple(self.depths))
        object.__setattr__(self, "dims", tuple(self.dims))

    @staticmethod
    def of(weights: dict[str, Tensor]) -> MotionExtractorConfig:
        """Read off a state dict."""
        found: dict[int, int] = {}
        for key in weights:
            parts = key.split(".")
            if parts[1] == "stages":
                found[int(parts[2])] = max(found.get(int(parts[2]), 0), int(parts[3]) + 1)
        dims = tuple(weights[f"detector.stages.{stage}.0.dwconv.bias"].shape[0] for stage in sorted(found))
        return MotionExtractorConfig(
            weights["detector.downsample_layers.0.0.weight"].shape[1], tuple(found[s] for s in sorted(found)), dims,
            weights["detector.fc_kp.bias"].shape[0] // 3, weights["detector.fc_pitch.bias"].shape[0])


class ChannelNorm(nn.Module):
    """Layer norm over the channels of [B, C, H, W], pixel by pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, EPSILON)
        return x.permute(0, 3, 1, 2)


class ResponseNorm(nn.Module):
    """Global response normalisation of [B, H, W, C]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        # A sum of squares over a whole map leaves the range of float16.
        response = x.float().square().sum(dim=(1, 2), keepdim=True).sqrt()
        share = (response / (response.mean(dim=-1, keepdim=True) + EPSILON)).to(x.dtype)
        return torch.addcmul(self.beta + x, self.gamma, x * share)


class Block(nn.Module):
    """One residual block of ConvNeXt V2, [B, C, H, W] -> same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, EPSILON)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.grn = ResponseNorm(4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.pwconv2(self.grn(F.gelu(self.pwconv1(y))))
        return x + y.permute(0, 3, 1, 2)


class Detector(nn.Module):
    """Backbone and heads; all of M's weights."""

    def __init__(self, config: MotionExtractorConfig) -> None:
        super().__init__()
        dims = config.dims
        stem = nn.Sequential(nn.Conv2d(config.in_chans, dims[0], 4, stride=4), ChannelNorm(dims[0]))
        reducers = [nn.Sequential(ChannelNorm(a), nn.Conv2d(a, b, 2, stride=2))
                    for a, b in zip(dims[:-1], dims[1:], strict=True)]
        self.downsample_layers = nn.ModuleList([stem, *reducers])
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(dim) for _ in range(depth))) for dim, depth in zip(dims, config.depths, strict=True))
        self.norm = nn.LayerNorm(dims[-1], EPSILON)
        self.fc_kp = nn.Linear(dims[-1], 3 * config.num_kp)
        self.fc_scale = nn.Linear(dims[-1], 1)
        self.fc_pitch = nn.Linear(dims[-1], config.num_bins)
        self.fc_yaw = nn.Linear(dims[-1], config.num_bins)
        self.fc_roll = nn.Linear(dims[-1], config.num_bins)
        self.fc_t = nn.Linear(dims[-1], 3)
        self.fc_exp = nn.Linear(dims[-1], 3 * config.num_kp)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = image
        for reduce, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(reduce(x))
        x = self.norm(x.mean(dim=(2, 3)))
        return {name: getattr(self, f"fc_{name}")(x) for name in ("kp", "scale", "pitch", "yaw", "roll", "t", "exp")}


class MotionExtractor(nn.Module):
    """M. ``forward`` gives the raw heads, :meth:`motion` what they mean."""

    def __init__(self, config: MotionExtractorConfig = MotionExtractorConfig()) -> None:  # noqa: B008
        super().__init__()
        self.config = config
        self.detector = Detector(config)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """[B, 3, H, W] RGB 0..1 (256 x 256 for the published weights) -> the seven raw heads, [B, n] each."""
        return self.detector(image)

    def motion(self, image: Tensor) -> dict[str, Tensor]:
        """What a picture shows, in float32.

        Args:
            image: [B, 3, H, W] RGB 0..1.

        Returns:
            kp [B, K, 3] canonical keypoints, exp [B, K, 3], rotation [B, 3] degrees (pitch, yaw, roll), t [B, 3],
            scale [B, 1].
        """
        raw = {name: value.float() for name, value in self(image).items()}
        count = self.config.num_kp
        return {
            "kp": raw["kp"].reshape(-1, count, 3),
            "exp": raw["exp"].reshape(-1, count, 3),
            "rotation": torch.stack([headpose_degrees(raw[name]) for name in ("pitch", "yaw", "roll")], dim=-1),
            "t": raw["t"],
            "scale": raw["scale"],
        }
