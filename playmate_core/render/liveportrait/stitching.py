"""S: the three small networks that stitch and retarget keypoints (SPEC.md section 6)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class MlpConfig:
    """Sizes of one network; names as in the published configuration."""

    input_size: int
    hidden_sizes: tuple[int, ...]
    output_size: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden_sizes", tuple(self.hidden_sizes))

    @staticmethod
    def of(weights: dict[str, Tensor]) -> MlpConfig:
        """Read off a state dict."""
        order = sorted(int(key.split(".")[1]) for key in weights if key.endswith(".weight"))
        sizes = [weights[f"mlp.{i}.weight"].shape for i in order]
        return MlpConfig(sizes[0][1], tuple(size[0] for size in sizes[:-1]), sizes[-1][0])


STITCHING = MlpConfig(126, (128, 128, 64), 65)
LIP = MlpConfig(65, (128, 128, 64), 63)
EYE = MlpConfig(66, (256, 256, 128, 128, 64), 63)


class Mlp(nn.Module):
    """Linear layers with ReLU between them, [B, input_size] -> [B, output_size]."""

    def __init__(self, config: MlpConfig) -> None:
        super().__init__()
        self.config = config
        sizes = (config.input_size, *config.hidden_sizes, config.output_size)
        layers: list[nn.Module] = []
        for before, after in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.mlp = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


class Stitching(nn.Module):
    """The stitching network and, where the checkpoint has them, the retargeting ones. Always float32.

    Args:
        stitching, eye, lip: their sizes.
    """

    def __init__(self, stitching: MlpConfig = STITCHING, eye: MlpConfig = EYE, lip: MlpConfig = LIP) -> None:
        super().__init__()
        self.stitching = Mlp(stitching)
        self.eye = Mlp(eye)
        self.lip = Mlp(lip)

    def stitch(self, kp_source: Tensor, kp_driving: Tensor) -> Tensor:
        """Driving keypoints moved so that the shoulders stay where the portrait has them.

        Args:
            kp_source: [B or 1, K, 3].
            kp_driving: [B, K, 3].

        Returns:
            [B, K, 3].
        """
        kp_source = kp_source.expand_as(kp_driving)
        raw = self.stitching(torch.cat([kp_source.flatten(1), kp_driving.flatten(1)], dim=1).float())
        moved = kp_driving + raw[:, :-2].reshape(kp_driving.shape)
        shift = torch.nn.functional.pad(raw[:, -2:], (0, 1))
        return moved + shift[:, None]

    def eye_delta(self, kp_source: Tensor, ratios: Tensor) -> Tensor:
        """[B, K, 3] keypoints and [B, 3] (source left, source right, wanted) eye ratios -> [B, K, 3] offsets."""
        return _delta(self.eye, kp_source, ratios)

    def lip_delta(self, kp_source: Tensor, ratios: Tensor) -> Tensor:
        """[B, K, 3] keypoints and [B, 2] (source, wanted) lip ratios -> [B, K, 3] offsets."""
        return _delta(self.lip, kp_source, ratios)


def _delta(network: Mlp, kp_source: Tensor, ratios: Tensor) -> Tensor:
    kp_source = kp_source.expand(len(ratios), -1, -1)
    return network(torch.cat([kp_source.flatten(1), ratios], dim=1).float()).reshape(kp_source.shape)
