"""MediaPipe's face landmark network: 478 points with irises.

The network is the second version, ``face_landmarks_detector.tflite`` of the face landmarker bundle (Google,
Apache-2.0; Grishchenko et al., "Attention Mesh", and Kartynnik et al., "Real-time Facial Surface Geometry from
Monocular Video on Mobile GPUs" describe the family), with its weights unchanged.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Conv2dSame, pad_channels

SIZE = 256
"""Side of the square crop that the network reads, pixels."""

POINTS = 478
"""468 points of the face surface, then five of each iris, the picture's left iris first."""

_STAGES = ((16, 8), (32, 16), (64, 32), (128, 64), (128, 64), (128, 64), (128, 64))
_BLOCKS = 4  # bottlenecks in every stage


class Bottleneck(nn.Module):
    """Residual block: 1x1 down to ``inner`` channels, 3x3 depthwise, 1x1 back up."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, inner, 1)
        self.reduce_act = nn.PReLU(inner)
        self.depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False)
        self.expand = nn.Conv2d(inner, channels, 1)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] -> the same shape."""
        y = self.depthwise(self.reduce_act(self.reduce(x)))
        return self.act(x + self.expand(y))


class Downsample(nn.Module):
    """Halves the resolution; the skip path is a max pool, its missing channels zero."""

    def __init__(self, channels_in: int, channels_out: int, inner: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels_in, inner, 2, stride=2)
        self.reduce_act = nn.PReLU(inner)
        self.depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False)
        self.expand = nn.Conv2d(inner, channels_out, 1)
        self.act = nn.PReLU(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels_in, H, W] -> [B, channels_out, H / 2, W / 2]."""
        y = self.expand(self.depthwise(self.reduce_act(self.reduce(x))))
        return self.act(pad_channels(F.max_pool2d(x, 2), y.shape[1]) + y)


class FaceMesh(nn.Module):
    """Crop of one face to its landmarks."""

    def __init__(self) -> None:
        super().__init__()
        channels = _STAGES[0][0]
        self.stem = Conv2dSame(3, channels, 3, stride=2)
        self.stem_act = nn.PReLU(channels)
        self.stages = nn.ModuleList()
        for index, (width, inner) in enumerate(_STAGES):
            stage = nn.Sequential()
            if index:
                stage.append(Downsample(channels, width, inner))
            stage.extend(Bottleneck(width, inner) for _ in range(_BLOCKS))
            self.stages.append(stage)
            channels = width
        self.presence = nn.Conv2d(channels, 1, 2)
        self.landmarks = nn.Conv2d(channels, 3 * POINTS, 2)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Landmarks of the face in each crop.

        Args:
            crops: [B, 3, 256, 256] RGB, 0 to 1; an upright face that fills about two thirds of the crop.

        Returns:
            landmarks [B, 478, 3] in pixels of the crop (z in the same unit, smaller towards the camera) and
            presence [B], 0 to 1.
        """
        x = self.stem_act(self.stem(crops))
        for stage in self.stages:
            x = stage(x)
        presence = torch.sigmoid(self.presence(x).reshape(-1))
        return self.landmarks(x).reshape(-1, POINTS, 3), presence
