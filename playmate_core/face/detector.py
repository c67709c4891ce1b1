"""MediaPipe's two face detectors.

Short range (``face_detector.tflite`` of the face landmarker bundle): "BlazeFace" (Bazarevsky et al. 2019), for faces
that take a fair part of the picture. Full range (``face_detection_full_range_sparse.tflite`` of the mediapipe wheel):
a feature pyramid for small and distant faces; its sparse weights were made dense at conversion. Both by Google,
Apache-2.0, weights unchanged. Their outputs mean the same: per anchor a logit, a box and six keypoints.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Conv2dSame, pad_channels

KEYPOINTS = ("left_eye", "right_eye", "nose", "mouth", "left_ear", "right_ear")
"""The detector's six keypoints; left and right are the picture's (an upright face has its left_eye at smaller x)."""

_VALUES = 4 + 2 * len(KEYPOINTS)
_LOGIT_LIMIT = 100.0  # MediaPipe clips here; keeps the sigmoid exact at both ends


class _BlazeBlock(nn.Module):
    """3x3 depthwise and 1x1 convolution with a skip; the skip is max-pooled and zero-padded where shapes change."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.depthwise = Conv2dSame(channels_in, channels_in, 3, stride=stride, groups=channels_in, bias=False)
        self.pointwise = nn.Conv2d(channels_in, channels_out, 1)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        y = self.pointwise(self.depthwise(x))
        skip = F.max_pool2d(x, 2) if self.stride == 2 else x
        return F.relu(pad_channels(skip, y.shape[1]) + y)


def _anchor_centres(grids: tuple[tuple[int, int], ...]) -> Tensor:
    """[N, 2] x, y in 0..1 for (side, anchors per cell) grids, row by row."""
    rows = []
    for side, repeats in grids:
        axis = (torch.arange(side) + 0.5) / side
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        rows.append(torch.stack([x, y], -1).reshape(-1, 1, 2).expand(-1, repeats, 2).reshape(-1, 2))
    return torch.cat(rows)


class _Detector(nn.Module):
    """What both networks share: an input size, anchors and the decoding of their outputs."""

    size: int
    anchors: Tensor

    def raw(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 3, size, size] in -1..1 -> the network's own outputs: values [B, N, 16] in pixels, logits [B, N]."""
        raise NotImplementedError

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Every anchor's opinion.

        Args:
            pictures: [B, 3, size, size] RGB, 0 to 1.

        Returns:
            boxes [B, N, 4] (x0, y0, x1, y1) and keypoints [B, N, 6, 2], both as fractions of the picture's side,
            and scores [B, N], 0 to 1.
        """
        values, logits = self.raw(pictures * 2 - 1)
        values = values / self.size
        centre = values[..., :2] + self.anchors
        half = values[..., 2:4] / 2
        keypoints = values[..., 4:].unflatten(-1, (-1, 2)) + self.anchors[:, None]
        return torch.cat([centre - half, centre + half], -1), keypoints, logits.clamp(
            -_LOGIT_LIMIT, _LOGIT_LIMIT).sigmoid()


def _anchor_rows(maps: Tensor, values: int) -> Tensor:
    """[B, anchors * values, H, W] -> [B, H * W * anchors, values]."""
    return maps.permute(0, 2, 3, 1).reshape(maps.shape[0], -1, values)


class ShortRangeDetector(_Detector):
    """896 anchors over a picture of 128 x 128 pixels; faces down to about a tenth of the picture's side."""

    size = 128

    # (output channels, stride) of every block; the first eleven feed the fine grid, the others the coarse one
    _FINE = ((24, 1), (28, 1), (32, 2), (36, 1), (42, 1), (48, 2), (56, 1), (64, 1), (72, 1), (80, 1), (88, 1))
    _COARSE = ((96, 2), (96, 1), (96, 1), (96, 1), (96, 1))

    def __init__(self) -> None:
        super().__init__()
        self.stem = Conv2dSame(3, 24, 5, stride=2)
        self.fine = nn.Sequential()
        self.coarse = nn.Sequential()
        channels = 24
        for blocks, widths in ((self.fine, self._FINE), (self.coarse, self._COARSE)):
            for width, stride in widths:
                blocks.append(_BlazeBlock(channels, width, stride))
                channels = width
        self.fine_logits = nn.Conv2d(88, 2, 1)
        self.coarse_logits = nn.Conv2d(96, 6, 1)
        self.fine_values = nn.Conv2d(88, 2 * _VALUES, 1)
        self.coarse_values = nn.Conv2d(96, 6 * _VALUES, 1)
        self.register_buffer("anchors", _anchor_centres(((16, 2), (8, 6))), persistent=False)

    def raw(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(F.relu(self.stem(pictures)))
        coarse = self.coarse(fine)
        logits = torch.cat([_anchor_rows(self.fine_logits(fine), 1), _anchor_rows(self.coarse_logits(coarse), 1)], 1)
        values = torch.cat([_anchor_rows(self.fine_values(fine), _VALUES),
                            _anchor_rows(self.coarse_values(coarse), _VALUES)], 1)
        return values, logits[..., 0]


class _DoubleBlock(nn.Module):
    """Two depthwise-pointwise pairs through a narrow middle; a skip joins them unless the shape changes."""

    def __init__(self, channels_in: int, inner: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise_in = nn.Conv2d(channels_in, channels_in, 3, stride=stride, padding=1, groups=channels_in)
        self.reduce = nn.Conv2d(channels_in, inner, 1)
        self.depthwise_out = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.expand = nn.Conv2d(inner, channels_out, 1)
        self.skip = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(self.depthwise_out(F.relu(self.reduce(self.depthwise_in(x)))))
        return F.relu(x + y if self.skip else y)


class _FoldedHead(nn.Module):
    """A prediction for every cell, computed at half the resolution and unfolded from the channels."""

    def __init__(self, channels: int, values: int) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(channels, 4 * values, 1)
        self.depthwise = nn.Conv2d(4 * values, 4 * values, 3, stride=2, padding=1, groups=4 * values)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, H * W, values]."""
        y = self.depthwise(self.pointwise(x))
        # TensorFlow keeps the 2x2 cell in the slow part of the channel index, torch's pixel_shuffle in the fast one
        y = F.pixel_shuffle(y.unflatten(1, (4, -1)).transpose(1, 2).flatten(1, 2), 2)
        return _anchor_rows(y, y.shape[1])


class FullRangeDetector(_Detector):
    """2304 anchors over a picture of 192 x 192 pixels; faces down to about a thirtieth of the picture's side."""

    size = 192

    # (channels, inner channels, residual blocks, channels handed to the way up) from fine to coarse
    _DOWN = ((64, 16, 2, 48), (128, 32, 2, 64), (192, 48, 2, 96), (384, 96, 3, 96))
    _UP = ((96, 48, 2), (64, 32, 2), (48, 24, 1))  # (channels, inner channels, residual blocks), coarse to fine

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, stride=2, padding=1)
        self.stem_blocks = nn.Sequential(_DoubleBlock(32, 8, 32), _DoubleBlock(32, 8, 32))
        self.down, self.lateral, self.up, self.narrow = (nn.ModuleList() for _ in range(4))
        channels = 32
        for width, inner, blocks, lateral in self._DOWN:
            self.down.append(nn.Sequential(_DoubleBlock(channels, inner, width, stride=2),
                                           *(_DoubleBlock(width, inner, width) for _ in range(blocks))))
            self.lateral.append(nn.Conv2d(width, lateral, 1))
            channels = width
        for index, (width, inner, blocks) in enumerate(self._UP):
            self.up.append(nn.Sequential(*(_DoubleBlock(width, inner, width) for _ in range(blocks))))
            if index + 1 < len(self._UP):
                self.narrow.append(nn.Conv2d(width, self._UP[index + 1][0], 1))
        self.logits = _FoldedHead(48, 1)
        self.values = _FoldedHead(48, _VALUES)
        self.register_buffer("anchors", _anchor_centres(((48, 1),)), persistent=False)

    def raw(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem_blocks(F.relu(self.stem(pictures)))
        laterals = []
        for stage, lateral in zip(self.down, self.lateral, strict=True):
            x = stage(x)
            laterals.append(F.relu(lateral(x)))
        x = laterals.pop()
        for index, blocks in enumerate(self.up):
            if index:
                x = F.relu(self.narrow[index - 1](x))
            x = blocks(laterals.pop() + F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
        logits = self.logits(x)[..., 0]
        return self.values(x), logits


def weighted_suppression(boxes: Tensor, keypoints: Tensor, scores: Tensor, threshold: float = 0.5,
                         overlap: float = 0.3) -> tuple[Tensor, Tensor, Tensor]:
    """MediaPipe's weighted non-maximum suppression, for one picture.

    From the best score down, all boxes that overlap it are averaged, weighted by their scores: that steadies the box
    between frames where plain suppression would jump from anchor to anchor.

    Args:
        boxes: [N, 4] x0, y0, x1, y1, any unit.
        keypoints: [N, K, 2] in the same unit.
        scores: [N], 0 to 1.
        threshold: scores below it are ignored.
        overlap: intersection over union from which two boxes are one face.

    Returns:
        boxes [M, 4], keypoints [M, K, 2] and scores [M] of the faces, best score first.
    """
    order = (scores >= threshold).nonzero()[:, 0]
    order = order[scores[order].argsort(descending=True, stable=True)]
    boxes, keypoints, scores = boxes[order], keypoints[order], scores[order]
    faces: list[tuple[Tensor, Tensor, Tensor]] = []
    while len(scores):
        same = box_overlap(boxes[:1], boxes)[0] > overlap
        same[0] = True  # an empty box does not overlap even itself
        weights = scores[same] / scores[same].sum()
        faces.append(((weights[:, None] * boxes[same]).sum(0), (weights[:, None, None] * keypoints[same]).sum(0),
                      scores[0]))
        boxes, keypoints, scores = boxes[~same], keypoints[~same], scores[~same]
    if not faces:
        return boxes[:0], keypoints[:0], scores[:0]
    return tuple(torch.stack(parts) for parts in zip(*faces, strict=True))


def box_overlap(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes [N, 4] and [M, 4] (x0, y0, x1, y1) -> [N, M]."""
    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    high = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    common = (high - low).clamp(min=0).prod(-1)
    area = [(b[:, 2:] - b[:, :2]).clamp(min=0).prod(-1) for b in (first, second)]
    return common / (area[0][:, None] + area[1][None] - common).clamp(min=1e-9)
