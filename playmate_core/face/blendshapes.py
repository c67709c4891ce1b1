"""The 52 blendshape scores, read off the landmarks by MediaPipe's MLP mixer.

``face_blendshapes.tflite`` of the face landmarker bundle (Google, Apache-2.0), its weights unchanged; the network is
an MLP-Mixer (Tolstikhin et al. 2021) over 96 tokens that are learned combinations of 146 landmarks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NAMES: tuple[str, ...] = tuple(
    """_neutral browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft
    cheekSquintRight eyeBlinkLeft eyeBlinkRight eyeLookDownLeft eyeLookDownRight eyeLookInLeft eyeLookInRight
    eyeLookOutLeft eyeLookOutRight eyeLookUpLeft eyeLookUpRight eyeSquintLeft eyeSquintRight eyeWideLeft eyeWideRight
    jawForward jawLeft jawOpen jawRight mouthClose mouthDimpleLeft mouthDimpleRight mouthFrownLeft mouthFrownRight
    mouthFunnel mouthLeft mouthLowerDownLeft mouthLowerDownRight mouthPressLeft mouthPressRight mouthPucker mouthRight
    mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthSmileLeft mouthSmileRight mouthStretchLeft
    mouthStretchRight mouthUpperUpLeft mouthUpperUpRight noseSneerLeft noseSneerRight""".split())
"""ARKit's names in MediaPipe's order. Left and right are the person's own."""

LANDMARKS: tuple[int, ...] = (
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78, 80,
    81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150, 152, 153,
    154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251,
    263, 267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318,
    321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386,
    387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477)
"""The landmarks that the network looks at, in the order in which it wants them."""

_TOKENS, _WIDTH, _TOKEN_HIDDEN, _CHANNEL_HIDDEN, _DEPTH = 96, 64, 384, 256, 4


class ScaleNorm(nn.Module):
    """Layer normalisation with a gain and no bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, None, eps=1e-6)


class MixerBlock(nn.Module):
    """Mixes tokens, then channels, each behind a normalisation and a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.token_norm = ScaleNorm(_WIDTH)
        self.token_in = nn.Linear(_TOKENS + 1, _TOKEN_HIDDEN)
        self.token_out = nn.Linear(_TOKEN_HIDDEN, _TOKENS + 1)
        self.channel_norm = ScaleNorm(_WIDTH)
        self.channel_in = nn.Linear(_WIDTH, _CHANNEL_HIDDEN)
        self.channel_out = nn.Linear(_CHANNEL_HIDDEN, _WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """[B, tokens + 1, width] -> the same shape."""
        tokens = self.token_norm(x).transpose(1, 2)
        x = x + self.token_out(F.relu(self.token_in(tokens))).transpose(1, 2)
        return x + self.channel_out(F.relu(self.channel_in(self.channel_norm(x))))


class Blendshapes(nn.Module):
    """Landmarks to blendshape scores."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Linear(len(LANDMARKS), _TOKENS)
        self.embedding = nn.Linear(2, _WIDTH)
        self.summary_token = nn.Parameter(torch.zeros(1, 1, _WIDTH))
        self.blocks = nn.ModuleList(MixerBlock() for _ in range(_DEPTH))
        self.head = nn.Linear(_WIDTH, len(NAMES))

    def forward(self, landmarks: Tensor) -> Tensor:
        """Scores of faces, whatever their place and size.

        Args:
            landmarks: [B, 478, 2 or 3] in any unit in which x and y are equally long; the head upright.

        Returns:
            [B, 52] scores, 0 to 1, in the order of ``NAMES``.
        """
        points = landmarks[:, LANDMARKS, :2]
        points = points - points.mean(1, keepdim=True)
        points = points / points.norm(dim=-1, keepdim=True).mean(1, keepdim=True)
        tokens = self.tokens((points / 2).transpose(1, 2)).transpose(1, 2)
        x = self.embedding(tokens)
        x = torch.cat([self.summary_token.expand(x.shape[0], -1, -1), x], 1)
        for block in self.blocks:
            x = block(x)
        return torch.sigmoid(self.head(x[:, 0]))
