"""Adaptive normalisation (PAPER.md 1.3, Eq. 5 and 6) and what stands beside it.

Expression uses corpus statistics, as Eq. 5. The 63 expression numbers are strongly correlated (20 principal axes
hold 99.5 % of the variance of real latents), so per-number deviations would make the model spend most of its loss
on combinations that no face makes. Ours: the corpus mean and K principal axes, each scaled to unit variance and then
turned, within that whitened space, so that the first axes are those that speech explains best (canonical
correlation). With K = 63 nothing is lost; with fewer the rest is noise of the landmark tracker. Eq. 5 as printed, each
number by its own mean and deviation, is ``fit_statistics(..., turned=False)``; the full-scale settings ask for it.

Pose uses each clip's own mean and deviation, as Eq. 6, with a floor for heads that stand still. A single photograph
has no such statistics: sampling uses rest as mean and the corpus's average deviation times a head-motion knob.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .config import EXPRESSION_DIM, POSE_DIM

POSE_COLUMNS = (0, 1, 2, 3, 4, 6)
"""Columns of a clip's pose [T, 7] (pitch, yaw, roll, x, y, z, scale) that are generated: all but z."""

POSE_FLOOR = (0.3, 0.3, 0.3, 0.002, 0.002, 0.002)
"""Least deviation per generated pose number: degrees, degrees, degrees, latent units twice, factor."""

LEAST_VARIANCE = 1e-3
"""Least variance of an axis, as a share of the largest one's: what moves less is not blown up to unit size. Ours."""


def prosody(loudness: Tensor, pitch: Tensor) -> Tensor:
    """[T] dB and [T] Hz (0 unvoiced) to [T, 3]: loudness, octaves from 150 Hz, voicing, each about unit size."""
    voiced = (pitch > 0).float()
    octaves = torch.log2(pitch.float().clamp(40.0, 800.0) / 150.0) * voiced
    return torch.stack((loudness.float().clamp(-80.0, 0.0) / 20.0 + 2.0, octaves, voiced), -1)


@dataclass(frozen=True)
class MotionStatistics:
    """Numbers between latents and what the network sees; stored in the checkpoint.

    Attributes:
        mean: [63] mean expression.
        axes: [K, 63] expression of one unit along each axis.
        inverse: [63, K] expression minus mean to axis units.
        speech_share: [K] share of each axis's variance that a linear map from speech explains.
        pose_deviation: [6] corpus average of the clips' own deviations.
        pose_floor: [6] least deviation.
        features_mean, features_deviation: [C] of the speech features.
    """

    mean: Tensor
    axes: Tensor
    inverse: Tensor
    speech_share: Tensor
    pose_deviation: Tensor
    pose_floor: Tensor
    features_mean: Tensor
    features_deviation: Tensor

    def encode_expression(self, expression: Tensor) -> Tensor:
        """[..., 63] latents -> [..., K] axis units."""
        return (expression - self.mean) @ self.inverse

    def decode_expression(self, units: Tensor) -> Tensor:
        """[..., K] axis units -> [..., 63] latents."""
        return units @ self.axes + self.mean

    def encode_pose(self, pose: Tensor) -> Tensor:
        """One clip's pose [T, 7] -> [T, 6] by its own mean and deviation (Eq. 6, with the floor)."""
        pose = pose[:, POSE_COLUMNS]
        deviation = pose.std(0, unbiased=False).clamp(min=self.pose_floor)
        return (pose - pose.mean(0)) / deviation

    def decode_pose(self, units: Tensor, head_motion: float) -> Tensor:
        """[T, 6] -> [T, 7] around rest (angles and shifts 0, scale 1); 0 keeps the head still, 1 is natural."""
        moved = units * (self.pose_deviation * head_motion)
        pose = moved.new_zeros(len(units), 7)
        pose[:, POSE_COLUMNS] = moved
        pose[:, 6] += 1.0
        pose[:, 6].clamp_(0.5, 2.0)
        return pose

    def encode_audio(self, features: Tensor, loudness: Tensor, pitch: Tensor) -> Tensor:
        """[T, C], [T], [T] -> [T, C + 3] network input."""
        normalised = (features.float() - self.features_mean) / self.features_deviation
        return torch.cat((normalised, prosody(loudness, pitch)), -1)

    @property
    def axis_weight(self) -> Tensor:
        """[K] loss weight, mean one: the root of the motion an axis makes, so that lips outweigh tracker noise."""
        size = self.axes.square().sum(1).sqrt().sqrt()
        return (size / size.mean()).clamp(0.3, 3.0)

    def to(self, device) -> MotionStatistics:
        """The same on ``device``."""
        return MotionStatistics(**{k: v.to(device) for k, v in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """By name, for the checkpoint."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @staticmethod
    def shapes(axes: int, features_dim: int) -> dict[str, tuple[int, ...]]:
        """What a checkpoint must hold."""
        return dict(mean=(EXPRESSION_DIM,), axes=(axes, EXPRESSION_DIM), inverse=(EXPRESSION_DIM, axes),
                    speech_share=(axes,), pose_deviation=(POSE_DIM,), pose_floor=(POSE_DIM,),
                    features_mean=(features_dim,), features_deviation=(features_dim,))


def fit_statistics(clips: list[dict[str, Tensor]], axes: int, weights: list[float] | None = None,
                   max_frames: int = 60_000, turned: bool = True) -> MotionStatistics:
    """Statistics of a corpus.

    Args:
        clips: each with features [T, C], loudness [T], pitch [T], expression [T, 63], pose [T, 7].
        axes: K.
        weights: of the clips' frames; real recordings may count more than synthetic ones.
        max_frames: frames used for the speech share; every n-th frame beyond that.
        turned: principal axes, turned towards speech; False takes the 63 numbers as they are (Eq. 5; K is 63).
    """
    weights = [1.0] * len(clips) if weights is None else weights
    lengths = torch.tensor([len(c["expression"]) for c in clips])
    frame_weight = torch.repeat_interleave(torch.tensor(weights, dtype=torch.float64), lengths)
    frame_weight = frame_weight / frame_weight.sum()
    expression = torch.cat([c["expression"].double() for c in clips])
    mean = (expression * frame_weight[:, None]).sum(0)
    centred = expression - mean
    covariance = centred.T @ (centred * frame_weight[:, None])
    if turned:
        value, vector = torch.linalg.eigh(covariance)
        value, vector = value.flip(0)[:axes], vector.flip(1)[:, :axes]
    else:
        value, vector = covariance.diagonal(), torch.eye(len(covariance), dtype=covariance.dtype)
    value = value.clamp(min=max(LEAST_VARIANCE * float(value.max()), 1e-12))
    inverse = vector / value.sqrt()  # [63, K]
    forward = vector.T * value.sqrt()[:, None]  # [K, 63]

    step = max(1, len(expression) // max_frames)
    features = torch.cat([c["features"][_phase(i, step)::step].float() for i, c in enumerate(clips)])
    features_mean = features.mean(0)
    features_deviation = features.std(0).clamp(min=1e-3)
    speech, units, seen = [], [], []
    start = 0
    for i, clip in enumerate(clips):
        frames = len(clip["expression"])
        rows = slice(_phase(i, step), None, step)
        x = (clip["features"].float() - features_mean) / features_deviation
        x = torch.cat((_shift(x, -2), x, _shift(x, 2), prosody(clip["loudness"], clip["pitch"])), 1)
        speech.append(x[rows])
        units.append((centred[start:start + frames] @ inverse)[rows])
        seen.append(frame_weight[start:start + frames][rows])
        start += frames
    x, y, w = torch.cat(speech), torch.cat(units).float(), torch.cat(seen).float()
    w = (w / w.sum())[:, None]
    x, y = x - (x * w).sum(0), y - (y * w).sum(0)
    gram = x.T @ (x * w)
    ridge = 0.1 * gram.diagonal().mean() * torch.eye(x.shape[1])
    predicted = x @ torch.linalg.solve(gram + ridge, x.T @ (y * w))
    explained = (predicted.T @ (predicted * w)).double()
    if turned:
        share, turn = torch.linalg.eigh(explained)
        share, turn = share.flip(0), turn.flip(1)
    else:
        share, turn = explained.diagonal(), torch.eye(len(explained), dtype=explained.dtype)

    deviations = torch.stack([c["pose"][:, POSE_COLUMNS].float().std(0, unbiased=False) for c in clips])
    by_clip = lengths.float() * torch.tensor(weights)
    deviation = (deviations * by_clip[:, None]).sum(0) / by_clip.sum()
    return MotionStatistics(mean.float(), (turn.T @ forward).float(), (inverse @ turn).float(),
                            share.clamp(0.0, 1.0).float(), deviation, torch.tensor(POSE_FLOOR),
                            features_mean, features_deviation)


def _phase(index: int, step: int) -> int:
    return index % step


def _shift(x: Tensor, frames: int) -> Tensor:
    """Rows moved by ``frames``, the end rows repeated."""
    rows = (torch.arange(len(x)) + frames).clamp(0, max(len(x) - 1, 0))
    return x[rows]
