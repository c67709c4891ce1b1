"""A corpus in memory: shards of clips, drawn as windows exactly as the sampler will ask for them.

A shard is a safetensors file (written by ``laboratory.corpus``): clip i has "i.features" [T, 384], "i.loudness" [T] dB,
"i.pitch" [T] Hz, "i.expression" [T, 63] offsets from rest, "i.pose" [T, 7] (degrees, latent units, factor) and
"i.identity" [63]; metadata "clips" is a JSON list (or "i" a JSON object each) with source, language, seconds, split.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from playmate_core.diffusion.config import DenoiserConfig
from playmate_core.diffusion.normalisation import MotionStatistics
from playmate_core.runtime.errors import PlaymateError

KEYS = ("features", "loudness", "pitch", "expression", "pose", "identity")

LARGE = ("features", "expression", "pose")
"""What is left in the files of a corpus that is larger than memory."""

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


class Rows:
    """A tensor [T, ...] of a shard that is read when it is asked for, and only as far; knows what clips ask of it."""

    def __init__(self, path: Path, key: str, shape: tuple[int, ...]) -> None:
        self.path, self.key, self.shape = path, key, shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows) -> Tensor:
        from safetensors import safe_open

        with safe_open(str(self.path), framework="pt", device="cpu") as file:
            if isinstance(rows, slice) and rows.step in (None, 1):
                return file.get_slice(self.key)[rows.start or 0:len(self) if rows.stop is None else rows.stop]
            return file.get_tensor(self.key)[rows]

    def float(self) -> Tensor:
        """All of it in float32."""
        return self[:].float()

    def double(self) -> Tensor:
        """All of it in float64."""
        return self[:].double()


def load_corpus(folder: str | Path, least_frames: int = 10, lazy: bool = False) -> list[Clip]:
    """All clips of the shards in ``folder``, in the order of their names; features stay in half precision.

    Args:
        lazy: leave what is ``LARGE`` in the files until it is needed (``Rows``), unchecked.

    Raises:
        PlaymateError: no shards, a file that is none, or a clip whose lengths disagree.
    """
    from safetensors import SafetensorError, safe_open

    paths = sorted(Path(folder).glob("*.safetensors"))
    if not paths:
        raise PlaymateError(f"There are no corpus shards (*.safetensors) in {folder}; make them with "
                            "python -m laboratory.training corpus.")
    clips: list[Clip] = []
    for path in paths:
        try:
            with safe_open(str(path), framework="pt", device="cpu") as file:
                names = sorted({k.rsplit(".", 1)[0] for k in file.keys()}, key=lambda n: (len(n), n))
                infos = _infos(file.metadata() or {}, names)
                for name in names:
                    if lazy:
                        tensors = {k: Rows(path, f"{name}.{k}", tuple(file.get_slice(f"{name}.{k}").get_shape()))
                                   if k in LARGE else file.get_tensor(f"{name}.{k}").float() for k in KEYS}
                    else:
                        tensors = _checked(path, name, {k: file.get_tensor(f"{name}.{k}") for k in KEYS})
                    clip = Clip(f"{path.stem}/{name}", tensors, infos.get(name, {}))
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
        storage: folder in which the normalised corpus lies on the disk, or shall; None keeps it on ``device``.
        turn: accelerate's ``Accelerator`` where several processes share ``storage``: one of a machine writes it.
    """

    def __init__(self, clips: list[Clip], statistics: MotionStatistics, config: DenoiserConfig, weights: list[float],
                 *, first: float, short: float, drop_audio: float, drop_identity: float,
                 features_noise: float = 0.0, device: str | torch.device = "cpu", storage: Path | None = None,
                 turn=None) -> None:
        self.config, self.device, self.statistics = config, torch.device(device), statistics
        self.first, self.short = first, short
        self.drop_audio, self.drop_identity, self.features_noise = drop_audio, drop_identity, features_noise
        lengths = [len(c) for c in clips]
        self.lengths = torch.tensor(lengths)
        self.starts = torch.cat((torch.zeros(1, dtype=torch.long), self.lengths.cumsum(0)[:-1]))
        self.chances = self.lengths.double() * torch.tensor(weights, dtype=torch.float64)
        self.identity = torch.stack([c.tensors["identity"].float().reshape(-1) for c in clips]).to(self.device)
        self.home = self.device if storage is None else torch.device("cpu")
        if storage is None:
            rows = {name: torch.empty(sum(lengths), width, dtype=kind) for name, (width, kind) in self.kinds().items()}
            self._fill(rows, clips)
        else:
            rows = self._mapped(storage, clips, turn)
        self.rows = {name: value.to(self.home) for name, value in rows.items()}

    @property
    def audio(self) -> Tensor:
        """[frames, C + 3] of all clips in turn."""
        return self.rows["audio"]

    @property
    def motion(self) -> Tensor:
        """[frames, K + 6] of all clips in turn."""
        return self.rows["motion"]

    def kinds(self) -> dict[str, tuple[int, torch.dtype]]:
        """What is kept of every frame: numbers and their type."""
        return dict(audio=(self.config.features_dim + 3, torch.float16), motion=(self.config.motion_dim, torch.float32))

    def encode(self, clip: Clip) -> dict[str, Tensor]:
        """``kinds`` of one clip."""
        t = clip.tensors
        units = self.statistics.encode_expression(t["expression"].float())
        audio = self.statistics.encode_audio(t["features"].float(), t["loudness"].float(), t["pitch"].float())
        motion = torch.cat((units, self.statistics.encode_pose(t["pose"].float())), 1)
        return dict(audio=audio.half(), motion=motion.clamp(-OUTLIER, OUTLIER))

    def _fill(self, rows: dict[str, Tensor], clips: list[Clip]) -> None:
        for start, clip in zip(self.starts.tolist(), clips, strict=True):
            for name, value in self.encode(clip).items():
                rows[name][start:start + len(clip)] = value

    def _mapped(self, folder: Path, clips: list[Clip], turn) -> dict[str, Tensor]:
        """``kinds`` of all clips, mapped from files that are written unless they are there from an earlier sitting."""
        folder.mkdir(parents=True, exist_ok=True)
        frames, mark = int(self.lengths.sum()), folder / "written.json"
        digest = hashlib.sha256(repr([(c.name, len(c)) for c in clips]).encode())
        for value in self.statistics.tensors().values():
            digest.update(value.contiguous().cpu().numpy().tobytes())
        wanted = json.dumps(dict(of=digest.hexdigest(), kinds=repr(self.kinds())))

        sizes = {folder / f"{name}.bin": frames * width * torch.empty(0, dtype=kind).element_size()
                 for name, (width, kind) in self.kinds().items()}

        def mapped(write: bool) -> dict[str, Tensor]:
            rows = {}
            for path, (name, (width, kind)) in zip(sizes, self.kinds().items(), strict=True):
                if write:
                    with open(path, "wb") as file:
                        file.truncate(sizes[path])
                rows[name] = torch.from_file(str(path), shared=True, size=frames * width, dtype=kind)
                rows[name] = rows[name].view(frames, width)
            return rows

        if turn is None or turn.is_local_main_process:
            if not mark.is_file() or mark.read_text(encoding="utf-8") != wanted:
                mark.unlink(missing_ok=True)
                for path in sizes:
                    path.unlink(missing_ok=True)
                # Writing into a mapped file on a full disk ends the process without a word.
                needed, free = sum(sizes.values()), shutil.disk_usage(folder).free
                if needed > free:
                    raise PlaymateError(f"The corpus needs {needed / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} "
                                        "GB are free; free some space there, choose another --out, or set storage to "
                                        "memory.")
                self._fill(mapped(write=True), clips)
                mark.write_text(wanted, encoding="utf-8")
        if turn is not None:
            turn.wait_for_everyone()
        return mapped(write=False)

    def batch(self, size: int, generator: torch.Generator) -> dict[str, Tensor]:
        """``size`` windows as keyword arguments of ``Denoiser.trunk`` plus ``clean`` [B, P + W, K + 6] and ``tokens``.

        All draws come from ``generator`` (CPU), so that a resumed run draws the same windows.
        """
        return self.take(self.draw(size, generator))

    def draw(self, size: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Which windows, and in which states: everything random about ``size`` of them, on the CPU."""
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
        drawn = dict(clip=clip, length=length, frames=frames, start=start, first=first,
                     has_identity=u[4] >= self.drop_identity, has_audio=u[5] >= self.drop_audio)
        if self.features_noise:
            shape = (size, previous + window + config.lookahead, config.features_dim + 3)
            drawn["noise"] = torch.randn(shape, generator=generator)
        return drawn

    def take(self, drawn: dict[str, Tensor], part: slice = slice(None), processes: int = 1) -> dict[str, Tensor]:
        """The windows of a ``draw``, or of a ``part`` of it; ``tokens`` is all of the draw's frames / ``processes``."""
        config = self.config
        previous, window = config.previous, config.window
        tokens = float(drawn["frames"].sum()) / processes
        drawn = {name: value[part] for name, value in drawn.items()}
        clip, length, frames, start, first = (drawn[k] for k in ("clip", "length", "frames", "start", "first"))
        # A first window may begin anywhere in a clip; what lies before it is then unheard, as at a file's start.
        earliest = torch.where(first, start, torch.zeros_like(start))
        rows = start[:, None] + torch.arange(-previous, window + config.lookahead)
        # A window cut short ends the recording there, as the last window of a file does.
        latest = torch.where(frames < window, start + frames, length)
        audio_mask = ((rows >= earliest[:, None]) & (rows < latest[:, None])).to(self.device)
        exists = (torch.arange(previous + window)[None] < (previous + frames)[:, None]).to(self.device)
        index = (self.starts[clip][:, None] + rows.clamp(min=0).minimum(length[:, None] - 1)).to(self.home)
        audio = self.audio[index].to(self.device).float() * audio_mask[..., None]
        if "noise" in drawn:
            audio = audio + self.features_noise * drawn["noise"].to(self.device) * audio_mask[..., None]
        clean = self.motion[index[:, :previous + window]].to(self.device)
        return dict(
            clean=clean * exists[..., None], tokens=tokens, audio=audio, audio_mask=audio_mask,
            continued=(~first).to(self.device), mask=exists, identity=self.identity[clip.to(self.device)],
            has_identity=drawn["has_identity"].to(self.device), has_audio=drawn["has_audio"].to(self.device),
            **self.rows_of(index, previous + window),
        )

    def rows_of(self, index: Tensor, frames: int) -> dict[str, Tensor]:
        """What else a later stage is given for the ``frames`` tokens at the rows ``index`` [B, >= frames]."""
        return {}
