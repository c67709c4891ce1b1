"""Motion models as safetensors files: half-precision weights, statistics, and everything needed to use them.

Tensors ``denoiser.*`` (float16) are the network's parameters under their own names, ``statistics.*`` (float32) the
fields of ``MotionStatistics``. Metadata: ``format``, ``version``, ``config`` (DenoiserConfig as JSON), ``sampling``
(default knobs as JSON), ``reached`` (figures measured when it was made, as JSON). A model with an emotion head also
holds ``controller.*`` (float16) and ``emotion.means`` [7, 63] (float32), each emotion's mean expression; one with a
regression beside it holds ``articulation.*`` (float32).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from torch import Tensor

from ..emotion.curve import EMOTIONS
from ..runtime.errors import PlaymateError
from ..weights.tensors import load_safetensors
from ..weights.unreadable import Unreadable
from .articulation import Articulation
from .config import EXPRESSION_DIM, DenoiserConfig
from .controller import EmotionController
from .denoiser import Denoiser
from .normalisation import MotionStatistics

FORMAT = "playmate-motion"
VERSION = "1"
BUNDLED = "motion.safetensors"


def save_checkpoint(path: str | os.PathLike, denoiser: Denoiser, statistics: MotionStatistics,
                    sampling: dict | None = None, reached: dict | None = None,
                    controller: EmotionController | None = None, emotion_means: Tensor | None = None,
                    articulation: Articulation | None = None) -> None:
    """Write a model so that a reader never sees half of it.

    Args:
        sampling: default knobs (``audio_guidance``, ``temperature``).
        reached: figures to keep with the weights.
        controller, emotion_means: of stage 2, both or neither.
        articulation: the regression beside the model, if it has one.
    """
    from safetensors.torch import save_file

    tensors = {f"denoiser.{k}": v.detach().to("cpu", torch.float16).contiguous()
               for k, v in denoiser.state_dict().items()}
    tensors |= {f"statistics.{k}": v.detach().to("cpu", torch.float32).contiguous()
                for k, v in statistics.tensors().items()}
    if controller is not None:
        tensors |= {f"controller.{k}": v.detach().to("cpu", torch.float16).contiguous()
                    for k, v in controller.state_dict().items()}
        tensors["emotion.means"] = emotion_means.detach().to("cpu", torch.float32).contiguous()
    if articulation is not None:
        tensors |= {f"articulation.{k}": v.detach().to("cpu", torch.float32).contiguous()
                    for k, v in articulation.tensors().items()}
    metadata = dict(format=FORMAT, version=VERSION, config=denoiser.config.to_json(),
                    sampling=json.dumps(sampling or {}), reached=json.dumps(reached or {}))
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, temporary, metadata)
        temporary.chmod(0o644)  # safetensors keeps new files to their owner
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def encoder_of(path: str | os.PathLike) -> str | None:
    """Name of the speech encoder that a checkpoint was trained with; None for a file that is none. Reads no tensor."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
        return DenoiserConfig.from_json(metadata["config"]).encoder if metadata.get("format") == FORMAT else None
    except (SafetensorError, OSError, KeyError, PlaymateError):
        return None


def load_checkpoint(path: str | os.PathLike) -> tuple[Denoiser, MotionStatistics, dict]:
    """The network (fp32, evaluation mode, CPU), its statistics and ``dict(sampling=.., reached=..)``.

    With an emotion head the dict also has ``controller`` and ``emotion_means``, with a regression ``articulation``.

    Raises:
        PlaymateError: no such file, not a safetensors file, another kind of file, or tensors that do not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise PlaymateError(f"There is no motion model at {path}; give the path of a Playmate motion checkpoint.")
    try:
        tensors, metadata = load_safetensors(path)
    except Unreadable as error:
        raise PlaymateError(f"{path.name} was not loaded, because it {error}; download or train it again.") from None
    if metadata.get("format") != FORMAT:
        raise PlaymateError(f"{path.name} is not a Playmate motion model; choose a file that "
                            "Playmate's own training wrote, or the bundled one.")
    if metadata.get("version") != VERSION:
        raise PlaymateError(f"{path.name} is a motion model of format version {metadata.get('version')}, this program "
                            f"reads {VERSION}; update ComfyUI-Playmate or the model.")
    config = DenoiserConfig.from_json(metadata.get("config", ""))
    denoiser = Denoiser(config)
    wanted = {f"denoiser.{k}": tuple(v.shape) for k, v in denoiser.state_dict().items()}
    wanted |= {f"statistics.{k}": v for k, v in MotionStatistics.shapes(config.axes, config.features_dim).items()}
    controller = None
    if any(key.startswith("controller.") for key in tensors):
        controller = EmotionController(config.width, config.heads)
        wanted |= {f"controller.{k}": tuple(v.shape) for k, v in controller.state_dict().items()}
        wanted["emotion.means"] = (len(EMOTIONS), EXPRESSION_DIM)
    regressed = any(key.startswith("articulation.") for key in tensors)
    if regressed:
        shapes = Articulation.shapes(config.features_dim, "articulation.width_weight" in tensors)
        wanted |= {f"articulation.{k}": v for k, v in shapes.items()}
    _check(path.name, wanted, tensors)
    denoiser.load_state_dict(_part(tensors, "denoiser."))
    statistics = MotionStatistics(**_part(tensors, "statistics."))
    extra = {k: _json(metadata.get(k)) for k in ("sampling", "reached")}
    if controller is not None:
        controller.load_state_dict(_part(tensors, "controller."))
        extra |= dict(controller=controller.eval(), emotion_means=tensors["emotion.means"].float())
    if regressed:
        extra["articulation"] = Articulation(**_part(tensors, "articulation."))
    return denoiser.eval(), statistics, extra


def _check(name: str, wanted: dict[str, tuple], tensors: dict[str, Tensor]) -> None:
    for key, shape in wanted.items():
        if key not in tensors:
            raise PlaymateError(f"{name} lacks {key}; download or train the motion model again.")
        if tuple(tensors[key].shape) != shape:
            raise PlaymateError(f"{name}: {key} has shape {tuple(tensors[key].shape)} where its config says {shape}; "
                                "download or train the motion model again.")
        if not bool(torch.isfinite(tensors[key]).all()):
            raise PlaymateError(f"{name}: {key} holds numbers that are not finite; download or train it again.")
    extra = sorted(set(tensors) - set(wanted))
    if extra:
        raise PlaymateError(f"{name} holds {extra[0]} that this version does not know; update ComfyUI-Playmate.")


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix):]: v.float() for k, v in tensors.items() if k.startswith(prefix)}


def _json(text: str | None) -> dict:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
