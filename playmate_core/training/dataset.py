"""A corpus in memory: shards of clips, drawn as windows exactly as the sampler will ask for them.

A shard is a safetensors file (written by ``training.corpus``): clip i has "i.features" [T, 384], "i.loudness" [T] dB,
"i.pitch" [T] Hz, "i.expression" [T, 63] offsets from rest, "i.pose" [T, 7] (degrees, latent units, factor) and
"i.identity" [63]; metadata "clips" is a JSON list (or "i" a JSON object each) with source, language, seconds, split.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..diffusion.config import DenoiserConfig
from ..diffusion.normalisation import MotionStatistics
from ..errors import PlaymateError

KEYS = ("features", "loudness", "pitch", "expression", "pose", "identity")

OUTLIER = 8.0
"""Deviations beyond which a motion number is a tracking error; a squared loss would spend itself on these."""


@dataclass(frozen=True)
class Clip:
    """One recording with its motion; ``info`` is the shard's description (source, language, split ...)."""

    name: str
    tensors: dict[str, Tensor]
    info: dict

    @property
    def split(self) -> str:
        """"train", "heldout" (validation), or another that neither trains nor validates."""
        return self.info.get("split", "train")

    @property
    def weight(self) -> float:
        """How often its frames are drawn relative to others', as the corpus sees it."""
        return float(self.info.get("weight", 1.0))

    def __len__(self) -> int:
        return len(self.tensors["expression"])


def load_corpus(folder: str | Path, least_frames: int = 10) -> list[Clip]:
    """All clips of the shards in ``folder``, in the order of their names; features stay in half precision.

    Raises:
        PlaymateError: no shards, a file that is none, or a clip whose lengths disagree.
    """
    from safetensors import SafetensorError, safe_open

    paths = sorted(Path(folder).glob("*.safetensors"))
    if not paths:
        raise PlaymateError(f"There are no corpus shards (*.safetensors) in {folder}; make them with "
                            "python -m playmate_core.training corpus.")
    clips: list[Clip] = []
    for path in paths:
        try:
            with safe_open(str(path), framework="pt", device="cpu") as file:
                names = sorted({k.rsplit(".", 1)[0] for k in file.keys()}, key=lambda n: (len(n), n))
                infos = _infos(file.metadata() or {}, names)
                for name in names:
                    tensors = {k: file.get_tensor(f"{name}.{k}") for k in KEYS}
                    clip = Clip(f"{path.stem}/{name}", _checked(path, name, tensors), infos.get(name, {}))
                    if len(clip) >= least_frames:
                        clips.append(clip)
        except (SafetensorError, OSError) as error:
            raise PlaymateError(f"{path} is not a corpus shard ({error}); make the corpus again.") from None
    return clips


def _infos(metadata: dict[str, str], names: list[str]) -> dict[str, dict]:
    try:
        listed = json.loads(metadata.get("clips", "[]"))
    except ValueError:
        return {}
    return {name: info for name, info in zip(names, listed, strict=False) if isinstance(info, dict)}


def _checked(path: Path, name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    frames = len(tensors["expression"])
    for key in KEYS[:-1]:
        if len(tensors[key]) != frames:
            raise PlaymateError(f"{path}: clip {name} has {len(tensors[key])} frames of {key} but {frames} of "
                                "expression; make the corpus again.")
        if not bool(torch.isfinite(tensors[key].float()).all()):
            raise PlaymateError(f"{path}: clip {name} holds {key} that is not finite; make the corpus again.")
    tensors["expression"] = tensors["expression"].reshape(frames, -1).float()
    return {k: v if k == "features" else v.float() for k, v in tensors.items()}


class Windows:
    """Random training windows of a corpus, everything already normalised.

    States that the sampler meets all occur here just as they do there (PAPER.md 5.6): a first window (start tokens,
    nothing heard before), an end of the recording inside the look-ahead, a window shorter than usual, no identity,
    no speech (for guidance).

    Args:
        clips: to draw from.
        weights: chance of one frame of each clip relative to other clips'.
    """

    def __init__(self, clips: list[Clip], statistics: MotionStatistics, config: DenoiserConfig, weights: list[float],
                 *, first: float, short: float, drop_audio: float, drop_identity: float,
                 features_noise: float = 0.0, device: str | torch.device = "cpu") -> None:
        self.config, self.device = config, torch.device(device)
        self.first, self.short = first, short
        self.drop_audio, self.drop_identity, self.features_noise = drop_audio, drop_identity, features_noise
        lengths = [len(c) for c in clips]
        self.lengths = torch.tensor(lengths)
        self.starts = torch.cat((torch.zeros(1, dtype=torch.long), self.lengths.cumsum(0)[:-1]))
        self.chances = self.lengths.double() * torch.tensor(weights, dtype=torch.float64)
        self.audio = torch.empty(sum(lengths), config.features_dim + 3, dtype=torch.float16)
        self.motion = torch.empty(sum(lengths), config.motion_dim)
        for start, clip in zip(self.starts.tolist(), clips, strict=True):
            rows, t = slice(start, start + len(clip)), clip.tensors
            self.audio[rows] = statistics.encode_audio(t["features"], t["loudness"], t["pitch"]).half()
            units = statistics.encode_expression(t["expression"])
            self.motion[rows] = torch.cat((units, statistics.encode_pose(t["pose"])), 1).clamp(-OUTLIER, OUTLIER)
        self.identity = torch.stack([c.tensors["identity"].float().reshape(-1) for c in clips])
        for name in ("audio", "motion", "identity"):
            setattr(self, name, getattr(self, name).to(self.device))

    def batch(self, size: int, generator: torch.Generator) -> dict[str, Tensor]:
        """``size`` windows as keyword arguments of ``Denoiser.trunk`` plus ``clean`` [B, P + W, K + 6].

        All draws come from ``generator`` (CPU), so that a resumed run goes on with the same windows.
        """
        config = self.config
        previous, window = config.previous, config.window
        clip = torch.multinomial(self.chances, size, replacement=True, generator=generator)
        length = self.lengths[clip]
        u = torch.rand(6, size, generator=generator, dtype=torch.float64)
        frames = torch.where(u[0] < self.short, 1 + (u[1] * window).long(), window).clamp(max=window)
        frames = torch.minimum(frames, length)
        start = (u[2] * (length - frames + 1)).long()
        # A window with fewer than ``previous`` frames before it can only be a first one. Sampling knows no other
        # kind either: its windows are full until the last, so the one after the first has all its frames before it.
        first = (u[3] < self.first) | (start < previous)
        if previous > window:
            first = first | (start < window)
        # A first window may begin anywhere in a clip; what lies before it is then unheard, as at a file's start.
        earliest = torch.where(first, start, torch.zeros_like(start))
        rows = start[:, None] + torch.arange(-previous, window + config.lookahead)
        # A window cut short ends the recording there, as the last window of a file does.
        latest = torch.where(frames < window, start + frames, length)
        heard = (rows >= earliest[:, None]) & (rows < latest[:, None])
        exists = torch.arange(previous + window)[None] < (previous + frames)[:, None]
        index = (self.starts[clip][:, None] + rows.clamp(min=0).minimum(length[:, None] - 1)).to(self.device)
        heard, exists = heard.to(self.device), exists.to(self.device)
        audio = self.audio[index].float() * heard[..., None]
        if self.features_noise:
            noise = torch.randn(audio.shape, generator=generator).to(self.device)
            audio = audio + self.features_noise * noise * heard[..., None]
        return dict(
            clean=self.motion[index[:, :previous + window]] * exists[..., None], audio=audio, heard=heard,
            continued=(~first).to(self.device), mask=exists, identity=self.identity[clip.to(self.device)],
            has_identity=(u[4] >= self.drop_identity).to(self.device),
            has_audio=(u[5] >= self.drop_audio).to(self.device),
            **self.rows_of(index, previous + window),
        )

    def rows_of(self, index: Tensor, frames: int) -> dict[str, Tensor]:
        """What else a later stage is told of the ``frames`` tokens at the rows ``index`` [B, >= frames]."""
        return {}
