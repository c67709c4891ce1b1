"""The disentangling fine-tune of the renderer: pairwise pose and expression transfer (PAPER.md 1.2, Eq. 2 to 4).

What the paper leaves open is chosen here, and each choice is a setting: the motion extractor learns and the other
networks stay as published; the reconstruction of one frame from the other is a loss too, since two equally wrong
pictures would satisfy Eq. 4; and the extractor's keypoints and angles are held near what they were, so that motion
made for the published renderer still fits.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, field
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Literal, Protocol

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from playmate_core.motion.geometry import transform_keypoints
from playmate_core.runtime.errors import PlaymateError

from .crops import Crops
from .loop import Loop
from .settings import CHECKED, Optimisation, Positive, Weight, Whole, checked, read_json
from .upkeep import fingerprint
from .vgg import exact, perceptual

ROLES = ("appearance", "motion", "warping", "generator")
Role = Literal["appearance", "motion", "warping", "generator"]
_ANGLE = 90.0  # degrees that count as much as one latent unit

_NEAR = 0.05  # latent units; twice the largest deviation of an expression number in LivePortrait's templates


class Networks(Protocol):
    """F, M, W and G as ``render.liveportrait.checkpoint.Networks`` has them."""

    appearance: nn.Module  # picture [B, 3, S, S] -> volume
    motion: nn.Module  # .motion(picture) -> kp, exp [B, K, 3], rotation [B, 3] degrees, t [B, 3], scale [B, 1]
    warping: nn.Module  # .source(volume, x_s) -> source; (source, x_d) -> {"out": features}
    generator: nn.Module  # features -> picture [B, 3, N, N]


@dataclass(frozen=True, config=CHECKED)
class TransferTraining(Optimisation):
    """Knobs of the fine-tune, beside those of every loop; all are ours.

    Attributes:
        learned: which of ``ROLES`` learn.
        transfer: weight of Eq. 4.
        reconstruction: weight of the perceptual distance between one frame drawn from the other and itself.
        pixels: weight of its mean absolute difference.
        keep: weight of how far the motion extractor's keypoints and angles have moved from where they began.
        size: side of the pictures that F and M see, pixels.
        compared: side at which pictures are compared, pixels.
        apart: least frames between the two of a pair.
    """

    batch: Whole = 16
    steps: Whole = 20000
    learning_rate: Positive = 2e-5
    learned: Annotated[tuple[Role, ...], Field(min_length=1)] = ("motion",)
    transfer: Weight = 1.0
    reconstruction: Weight = 1.0
    pixels: Weight = 1.0
    keep: Weight = 1.0
    size: Whole = 256
    compared: Whole = 256
    apart: Whole = 5


@dataclass(frozen=True, config=CHECKED)
class TransferSettings:
    """The fine-tune's config file: ``training`` alone."""

    training: TransferTraining = field(default_factory=TransferTraining)

    def to_json(self) -> str:
        return json.dumps(dict(training=asdict(self.training)), indent=2, sort_keys=True)

    @staticmethod
    def load(path: str | Path | None = None) -> TransferSettings:
        """Settings from a JSON file, or ours.

        Raises:
            PlaymateError: no such file, not JSON, or a key or value that is not understood.
        """
        return TransferSettings() if path is None else checked(TransferSettings, read_json(path), str(path))


def keypoints(shape: dict[str, Tensor], pose: dict[str, Tensor], expression: dict[str, Tensor]) -> Tensor:
    """[B, K, 3] by Eq. 1: canonical points of ``shape``; rotation, scale and translation of ``pose``; delta of
    ``expression``, each as M tells of a picture."""
    return transform_keypoints(shape["kp"], pose["rotation"], expression["exp"], pose["scale"], pose["t"])


class Transfer(nn.Module):
    """The losses of a batch of pairs; what it holds stays in evaluation mode, so stored statistics stay too.

    Args:
        networks: see :class:`Networks`.
        features: picture -> maps by which pictures are compared (``Vgg19``).
        training: weights and sizes.
        start: M as it was before, for ``keep``; None leaves that out.
    """

    def __init__(self, networks: Networks, features: nn.Module, training: TransferTraining,
                 start: nn.Module | None = None) -> None:
        super().__init__()
        self.networks = nn.ModuleDict({role: getattr(networks, role) for role in ROLES})
        self.training_settings = training
        for role, network in self.networks.items():
            network.requires_grad_(role in training.learned)
        self.features = features.requires_grad_(False)
        self.start = None if start is None else start.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Transfer:
        """Always evaluation: batch and spectral norms keep what they know."""
        return super().train(False)

    def draw(self, volume: Tensor, source: Tensor, driven: Tensor) -> Tensor:
        """G(W(f, x_s, x_d)), [B, 3, N, N]."""
        warping = self.networks["warping"]
        return self.networks["generator"](warping(warping.source(volume, source), driven)["out"])

    def pictures(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:
        """I_pose and I_exp of Eq. 2 and 3, and frame j drawn from frame i, ``drawn``; i is ``first``, j ``second``.

        Args:
            first, second: [B, 3, S, S] RGB 0..1 of the same clip.
        """
        i, j = (_told(self.networks["motion"], picture) for picture in (first, second))
        f_i, f_j = (self.networks["appearance"](picture) for picture in (first, second))
        x_i, x_j = keypoints(i, i, i), keypoints(j, j, j)
        return dict(pose=self.draw(f_i, x_i, keypoints(i, j, i)), expression=self.draw(f_j, x_j, keypoints(j, j, i)),
                    drawn=self.draw(f_i, x_i, keypoints(i, j, j)), moved=self._moved((first, second), (i, j)))

    def _moved(self, pictures: tuple[Tensor, ...], told: tuple[dict[str, Tensor], ...]) -> Tensor:
        """[B] how far M's keypoints and angles are from where they began."""
        far = pictures[0].new_zeros(len(pictures[0]))
        if self.start is None:
            return far
        for picture, now in zip(pictures, told, strict=True):
            with torch.no_grad():
                then = _told(self.start, picture)
            points = keypoints(now, now, now) - keypoints(then, then, then)
            far = far + _size(points).flatten(1).mean(1) + _size((now["rotation"] - then["rotation"]) / _ANGLE).mean(1)
        return far

    def forward(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:
        """Pairs [B, 3, N, N] of any size -> by name the losses [B]: transfer (Eq. 4), reconstruction, pixels, keep."""
        t = self.training_settings
        kind = next(self.networks.parameters()).dtype
        first, second = first.to(kind), second.to(kind)
        made = self.pictures(*(_resized(picture, t.size) for picture in (first, second)))
        pose, expression, drawn, real = (_resized(exact(picture), t.compared) for picture in (
            made["pose"], made["expression"], made["drawn"], second))
        size = len(first)
        maps = self.features(torch.cat((pose, expression, drawn, real)))
        parts = [[m[k * size:(k + 1) * size] for m in maps] for k in range(4)]
        return dict(transfer=perceptual(parts[0], parts[1]), reconstruction=perceptual(parts[2], parts[3]),
                    pixels=(drawn - real).abs().flatten(1).mean(1), keep=made["moved"])

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """[B] the weighted sum."""
        return sum(getattr(self.training_settings, name) * value for name, value in losses.items())


def _told(motion: nn.Module, picture: Tensor) -> dict[str, Tensor]:
    """What M tells of a picture, never in half precision, whose steps are a thousandth of a keypoint's range."""
    with torch.autocast(picture.device.type, enabled=False):
        return motion.motion(picture)


def _size(way: Tensor) -> Tensor:
    """Absolute value with a round bottom, a little wider than what expressions do.

    At the start all ways are rounding, whose signs must not be learned from. A narrow bottom is also stiff: Adam steps
    over it from side to side, which makes much of little differences (a batch in one piece or in two).
    """
    return (way.square() + _NEAR**2).sqrt() - _NEAR


def _resized(picture: Tensor, side: int) -> Tensor:
    if picture.shape[-1] == side:
        return picture
    if picture.shape[-1] > side:
        return F.interpolate(picture, (side, side), mode="area")
    return F.interpolate(picture, (side, side), mode="bilinear", align_corners=False)


class TransferRun(Loop):
    """A run of the fine-tune: ``TransferRun(...).train()``. Writes the networks that learned under their public names.

    Args:
        corpus: folder with ``crops``.
        networks: the renderer's.
        features: ``Vgg19``, or what stands for it.
        settings, out, resume, device, tensorboard: see :class:`Loop`.

    Raises:
        PlaymateError: as :class:`Loop`; no crops to learn from.
    """

    result = "motion_extractor.safetensors"
    beside = "--liveportrait or --vgg"

    def __init__(self, corpus: str | Path, networks: Networks, features: nn.Module, settings: TransferSettings,
                 out: str | Path, *, resume: bool = False, device: str | None = None,
                 tensorboard: bool = False) -> None:
        super().__init__(settings, out, resume=resume, device=device, tensorboard=tensorboard)
        t = self.training
        self.crops, self.held_out = Crops(corpus, "train", t.apart), Crops(corpus, "heldout", t.apart)
        if not len(self.crops):
            raise PlaymateError(f"The crops in {corpus} are all held out; prepare some to learn from.")
        self._fingerprint = fingerprint(*(getattr(networks, role) for role in ROLES), features)
        start = copy.deepcopy(networks.motion) if t.keep and "motion" in t.learned else None
        self._begin(Transfer(networks, features, t, start), self._stored(resume))
        self.result = _file(t.learned[0])

    def _beside(self) -> str:
        return self._fingerprint

    def _learner(self) -> nn.ModuleDict:
        networks = self._plain().networks
        return nn.ModuleDict({role: networks[role] for role in self.training.learned})

    def _losses(self) -> Iterator[Tensor]:
        t, plain = self.training, self._plain()
        drawn = self.crops.draw(t.batch, self.generator)
        for part in self.parts():
            first, second = (picture.to(self.accelerator.device) for picture in self.crops.take(drawn, part))
            yield plain.total(self.net(first, second)).sum() * self.accelerator.num_processes / t.batch

    @torch.no_grad()
    def _figures(self, learner: nn.ModuleDict, pairs: int = 16) -> dict:
        if not len(self.held_out):
            return {}
        plain = self._plain()
        held = plain.networks
        try:
            # The loss as it is, with the averaged networks in their places for the moment.
            plain.networks = nn.ModuleDict({role: learner[role] if role in learner else held[role] for role in ROLES})
            drawn = self.held_out.draw(pairs, torch.Generator().manual_seed(1))
            rows: dict[str, list[Tensor]] = {}
            for k in range(0, pairs, 4):
                batch = self.held_out.take(drawn, slice(k, k + 4))
                for name, value in plain(*(picture.to(self.accelerator.device) for picture in batch)).items():
                    rows.setdefault(f"val_{name}", []).append(value.float().cpu())
        finally:
            plain.networks = held
        return {name: round(float(torch.cat(values).mean()), 5) for name, values in rows.items()}

    def _about(self) -> dict:
        return dict(frames=int(self.crops.lengths.sum()))

    def _write_result(self, learner: nn.ModuleDict, reached: dict) -> None:
        from safetensors.torch import save_file

        for role, network in learner.items():
            path = self.out / _file(role)
            part = path.with_name(f".{path.name}.tmp")
            tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
            save_file(tensors, str(part), metadata={"reached": json.dumps(reached)})
            os.replace(part, path)


def find_role(role: str, path: str | Path) -> Path:
    """The file of one of ``ROLES``, given itself or a folder that holds it.

    Raises:
        PlaymateError: no such file.
    """
    from playmate_core.render.liveportrait import checkpoint

    path = Path(path)
    if path.is_file():
        return path
    name = checkpoint.FILES[role]
    tries = [path / sub / (name + ending) for ending in (".safetensors", ".pth") for sub in checkpoint.FOLDERS]
    found = next((each for each in tries if each.is_file()), None)
    if found is None:
        raise PlaymateError(f"LivePortrait's {name} (.safetensors or .pth) cannot be found in {path}; put it there or "
                            "give its folder.")
    return found


def load_role(role: str, path: str | Path) -> nn.Module:
    """One of ``ROLES`` of LivePortrait's published networks, from its file or from a folder that holds it.

    Raises:
        PlaymateError: no such file, or one that holds something else.
    """
    from playmate_core.render.liveportrait import checkpoint

    return checkpoint.load_network(role, find_role(role, path))


def load_renderer(folder: str | Path) -> Networks:
    """``ROLES`` from a folder with LivePortrait's files; raises PlaymateError as :func:`load_role`."""
    return SimpleNamespace(**{role: load_role(role, folder) for role in ROLES})


def _file(role: str) -> str:
    from playmate_core.render.liveportrait.checkpoint import FILES

    return f"{FILES[role]}.safetensors"

