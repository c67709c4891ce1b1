"""The teacher: from a speech encoder's features to a real mouth.

Fitted on the talking tracks: a ridge regression over seven frames and a small ensemble of temporal convolutions,
averaged; their errors differ, so the mean follows unseen speakers better than either. A regression shrinks towards
the mean, so each principal component of the mouth is given back the spread that real mouths have.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from playmate_core.runtime.errors import PlaymateError
from playmate_core.runtime.progress import Progress, report

CONTEXT = 3
"""Frames either side that the ridge sees."""
COMPONENTS = 20
"""Principal components of the mouth's latents that are predicted."""
_FEATURE_COMPONENTS = 256
_RIDGE = 3.0
_MOST_GAIN = 1.8
_WIDTH = 96


@dataclass(frozen=True)
class Lesson:
    """One stretch of speech with its mouth.

    Attributes:
        speaker: lessons of one speaker are never split between fitting and checking.
        features: [T, C].
        mouth: [T, 63] latents from rest, brought to a common amplitude.
        name: of the clip that it is a recording of; the speaker's where there is one clip of each.
    """

    speaker: str
    features: Tensor
    mouth: Tensor
    name: str = ""


def stack_context(features: Tensor, reach: int = CONTEXT) -> Tensor:
    """[T, C] -> [T, (2 reach + 1) C]: each frame with its neighbours; ends are repeated."""
    padded = torch.cat([features[:1].expand(reach, -1), features, features[-1:].expand(reach, -1)])
    return torch.cat([padded[i:i + len(features)] for i in range(2 * reach + 1)], 1)


def _network(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(0.3), nn.Conv1d(channels, _WIDTH, 1), nn.GELU(), nn.Dropout(0.4),
        nn.Conv1d(_WIDTH, _WIDTH, 5, padding=2), nn.GELU(), nn.Dropout(0.4),
        nn.Conv1d(_WIDTH, _WIDTH, 5, padding=2), nn.GELU(), nn.Dropout(0.4),
        nn.Conv1d(_WIDTH, COMPONENTS, 1))


class Teacher:
    """A fitted teacher; ``tensors`` is all of its state.

    Attributes:
        unseen: after :func:`fit`, the mean mouth [T, 63] of the first recording of each clip by a teacher that has not
            seen its speaker: what an honest error is measured from.
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors
        self.unseen: dict[str, Tensor] = {}
        self._networks = []
        for index in range(int(tensors["networks"])):
            network = _network(tensors["feature_mean"].shape[0])
            prefix = f"network{index}."
            network.load_state_dict({k[len(prefix):]: v for k, v in tensors.items() if k.startswith(prefix)})
            self._networks.append(network.eval())

    @torch.inference_mode()
    def components(self, features: Tensor) -> Tensor:
        """[T, C] features -> [T, 20] mouth components, standardised, before the gain."""
        t = self.tensors
        clean = features.float() - t["feature_mean"]
        linear = stack_context(clean @ t["feature_basis"]) @ t["ridge"] + t["ridge_offset"]
        if not self._networks:
            return linear
        scaled = (clean / t["feature_scale"]).T[None]
        return 0.5 * linear + 0.5 * torch.stack([net(scaled)[0].T for net in self._networks]).mean(0)

    def mean(self, features: Tensor) -> Tensor:
        """[T, C] encoder features -> [T, 63] the mean mouth, of less movement than real ones have."""
        return self._latents(self.components(features))

    def _latents(self, scores: Tensor) -> Tensor:
        t = self.tensors
        return (scores * t["mouth_scale"]) @ t["mouth_basis"] + t["mouth_mean"]

    def mouth(self, features: Tensor) -> Tensor:
        """[T, C] encoder features at 25 frames a second -> [T, 63] mouth latents from rest, of real spread."""
        t = self.tensors
        scores = (self.components(features) - t["level"]) * t["gain"] + t["level"]
        return self._latents(scores)

    def save(self, path: Path) -> None:
        """Written under a temporary name, then moved into place."""
        from safetensors.torch import save_file

        part = Path(path).with_suffix(".part")
        save_file({k: v.contiguous() for k, v in self.tensors.items()}, str(part))
        part.replace(path)

    @staticmethod
    def load(path: Path) -> Teacher:
        """Read what :meth:`save` wrote."""
        from safetensors.torch import load_file

        return Teacher(load_file(str(path)))


def fit(lessons: list[Lesson], networks: int = 3, steps: int = 900, seed: int = 0, folds: int = 3,
        progress: Progress = None) -> Teacher:
    """Fit a teacher.

    Args:
        lessons: of at least one speaker.
        networks: size of the convolutional ensemble; 0 is the ridge alone.
        steps: of training of each network.
        seed: of the networks.
        folds: groups of speakers for finding the gain on speakers that were not fitted; 1 skips it (gain 1).
        progress: called with (fits done, fits to do).

    Raises:
        PlaymateError: no lessons.
    """
    if not lessons:
        raise PlaymateError("The teacher has no lessons; give a folder with talking tracks.")
    speakers = sorted({lesson.speaker for lesson in lessons})
    folds = min(folds, len(speakers))
    total = (folds if folds > 1 else 0) + 1
    final = _fit_once(lessons, networks, steps, seed)
    report(progress, 1, total)
    if folds > 1:
        wanted, said = [], []
        for fold in range(folds):
            left_out = set(speakers[fold::folds])
            part = _fit_once([x for x in lessons if x.speaker not in left_out], min(networks, 1), steps, seed, final)
            seen: set[str] = set()
            for lesson in lessons:
                # The first lesson of a clip is the unchanged recording; variants would count it twice.
                name = lesson.name or lesson.speaker
                if lesson.speaker in left_out and name not in seen:
                    seen.add(name)
                    scores = (lesson.mouth - final.tensors["mouth_mean"]) @ final.tensors["mouth_basis"].T
                    wanted.append(scores / final.tensors["mouth_scale"])
                    said.append(part.components(lesson.features))
                    final.unseen[name] = final._latents(said[-1])
            report(progress, fold + 2, total)
        final.tensors.update(gain=find_gain(torch.cat(said), torch.cat(wanted)), level=torch.cat(said).mean(0))
    return final


def find_gain(said: Tensor, wanted: Tensor) -> Tensor:
    """[N, K] predicted and real components -> [K] gain that gives back the real spread.

    A component that the features hardly predict keeps its small spread: amplified it would be noise.
    """
    a, b = said - said.mean(0), wanted - wanted.mean(0)
    agreement = (a * b).mean(0) / (a.std(0) * b.std(0)).clamp_min(1e-6)
    gain = (b.std(0) / a.std(0).clamp_min(1e-6)).clamp(1.0, _MOST_GAIN)
    trust = ((agreement - 0.15) / 0.3).clamp(0.0, 1.0)
    return 1.0 + (gain - 1.0) * trust


def _fit_once(lessons: list[Lesson], networks: int, steps: int, seed: int, like: Teacher | None = None) -> Teacher:
    features = torch.cat([x.features.float() for x in lessons])
    mouths = torch.cat([x.mouth.float() for x in lessons])
    mean = features.mean(0)
    # Components of a sample: the basis needs no more, and the full decomposition of hours would take minutes.
    sample = (features - mean)[:: max(1, len(features) // 8000)]
    basis = torch.linalg.svd(sample, full_matrices=False).Vh[:_FEATURE_COMPONENTS].T.contiguous()
    if like is None:
        mouth_mean = mouths.mean(0)
        mouth_basis = torch.linalg.svd((mouths - mouth_mean)[:: max(1, len(mouths) // 20000)],
                                       full_matrices=False).Vh[:COMPONENTS]
        # One scale for all: a component counts by how far it moves the mouth.
        mouth_scale = ((mouths - mouth_mean) @ mouth_basis.T).std(0).max().reshape(1)
    else:
        mouth_mean, mouth_basis, mouth_scale = (like.tensors[k] for k in ("mouth_mean", "mouth_basis", "mouth_scale"))
    width = basis.shape[1] * (2 * CONTEXT + 1)
    inner, outer = torch.zeros(width, width), torch.zeros(width, COMPONENTS)
    x_sum, y_sum, count = torch.zeros(width), torch.zeros(COMPONENTS), 0
    targets = [((x.mouth - mouth_mean) @ mouth_basis.T) / mouth_scale for x in lessons]
    for lesson, target in zip(lessons, targets, strict=False):
        x = stack_context((lesson.features.float() - mean) @ basis)
        inner.addmm_(x.T, x)
        outer.addmm_(x.T, target)
        x_sum, y_sum, count = x_sum + x.sum(0), y_sum + target.sum(0), count + len(x)
    x_mean, y_mean = x_sum / count, y_sum / count
    inner -= count * torch.outer(x_mean, x_mean)
    outer -= count * torch.outer(x_mean, y_mean)
    ridge = _RIDGE * count * float((features - mean).square().mean())
    weights = torch.linalg.solve(inner.double() + ridge * torch.eye(width, dtype=torch.float64), outer.double()).float()
    tensors = {
        "feature_mean": mean, "feature_scale": (features - mean).std(0) + 1e-6, "feature_basis": basis,
        "ridge": weights, "ridge_offset": y_mean - x_mean @ weights, "mouth_mean": mouth_mean,
        "mouth_basis": mouth_basis.contiguous(), "mouth_scale": mouth_scale, "gain": torch.ones(COMPONENTS),
        "level": torch.zeros(COMPONENTS), "networks": torch.tensor(networks)}
    for index in range(networks):
        network = _train(lessons, targets, tensors, steps, seed + index)
        tensors.update({f"network{index}.{k}": v.detach() for k, v in network.state_dict().items()})
    return Teacher(tensors)


def _train(lessons, targets, tensors, steps: int, seed: int, length: int = 64, batch: int = 16) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(len(tensors["feature_mean"]))
        optimiser = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
        # The root keeps a long track from drowning the others.
        odds = torch.tensor([len(x.features) ** 0.5 for x in lessons])
        inputs = [((x.features.float() - tensors["feature_mean"]) / tensors["feature_scale"]).T for x in lessons]
        for _ in range(steps):
            xs, ys = [], []
            for pick in torch.multinomial(odds, batch, True, generator=generator).tolist():
                room = max(len(targets[pick]) - length, 0)
                start = int(torch.randint(room + 1, (1,), generator=generator))
                x, y = inputs[pick][:, start:start + length], targets[pick][start:start + length].T
                xs.append(F.pad(x, (0, length - x.shape[1])))
                ys.append(F.pad(y, (0, length - y.shape[1])))
            x = torch.stack(xs)
            x = x + 0.2 * torch.randn(x.shape, generator=generator)
            loss = (network(x) - torch.stack(ys)).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()
