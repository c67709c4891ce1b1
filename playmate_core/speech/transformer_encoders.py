"""wav2vec2 and HuBERT from folders in transformers' format: config.json beside model.safetensors or pytorch_model.bin.

Nothing is downloaded and nothing is unpickled but tensors. Windows and frames as in ``encoder``, with these
differences: the networks place frames relative to each other, so nothing has to be subtracted; a last window reaches
back instead of being filled up, as the first layer's norm takes its measure over the window; and the recording is
brought to mean 0 and deviation 1 where the folder's preprocessor_config.json asks for it, which transformers does too.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from ..media.audio import Audio
from ..motion.features import SpeechFeatures
from ..runtime.errors import PlaymateError
from ..runtime.host import Host, place_on_device
from ..runtime.progress import Progress
from ..weights.tensors import load_table
from .base import encode_in_windows, rows_needed

RATE = 50
"""Rows a second of every encoder of the two families."""
HOP = 320
"""Samples from row to row."""
SIDE = 40
"""Samples that a window needs at either side so that it gives whole rows, centred on their time."""
WINDOW = 12 * RATE
STRIDE = 9 * RATE
FADE = RATE
SHORTEST = RATE // 2
"""Rows; a shorter recording is filled up with silence."""
FAMILIES = ("wav2vec2", "hubert")
_NOT_TAKEN = ("model_type", "transformers_version", "torch_dtype", "dtype", "attn_implementation",
              "experts_implementation", "auto_map", "add_adapter")
"""Entries of config.json without a say here. Newer transformers take an attention implementation such as "org/name"
for a repository of code that is to be fetched and run; adapters are of no base network, and there can be a million."""
_HEADS = ("lm_head.", "quantizer.", "project_q.", "project_hid.", "classifier.", "projector.")


class TransformersSpeechEncoder:
    """A wav2vec2 or HuBERT over recordings of any length.

    Attributes:
        name: what the features are called; a motion model accepts only the name it was trained on.
        features_dim: C, numbers a frame.
        device: where the network runs; results come back on the CPU.
        normalised: whether the recording is brought to mean 0 and deviation 1 first.
    """

    def __init__(self, network: torch.nn.Module, name: str, normalised: bool = True, device="cpu",
                 host: Host | None = None) -> None:
        self.name = name
        self.device = torch.device(device)
        self.network = network
        self._make_ready = place_on_device(network, self.device, host)
        self.normalised = normalised
        self.features_dim = int(network.config.hidden_size)

    @classmethod
    def load(cls, folder: str | Path, device="cpu", name: str | None = None,
             host: Host | None = None) -> TransformersSpeechEncoder:
        """The encoder in a folder such as ``wav2vec2-base-960h``; its features carry the folder's name.

        A folder of the hub's cache (``models--ORG--NAME/snapshots/..``) is called NAME. ``host`` keeps the network,
        see ``runtime.host``.

        Raises:
            PlaymateError: a file that is missing or damaged, or another network than wav2vec2 or HuBERT.
        """
        folder = Path(folder)
        config = _json(folder / "config.json")
        kind = config.get("model_type")
        if kind not in FAMILIES:
            raise PlaymateError(f"{folder} holds a network of type {str(kind)[:40]!r}; a wav2vec2 or HuBERT speech "
                                "encoder is needed.")
        network = build_network(kind, config, folder_weights(folder), str(folder))
        asks = _json(folder / "preprocessor_config.json", {}).get("do_normalize", True)
        return cls(network, folder_name(folder) if name is None else name, bool(asks), device, host)

    @torch.no_grad()
    def encode(self, audio: Audio, progress: Progress = None) -> SpeechFeatures:
        """See ``base.SpeechEncoder.encode``; the features are the last hidden layer."""
        starts, length = window_starts(rows_needed(audio, RATE))
        shift, factor = level(audio.samples) if self.normalised else (0.0, 1.0)
        self._make_ready(working_bytes(self.network, length * HOP))
        return encode_in_windows(self, audio, RATE, starts,
                                 lambda start: self.encode_window(audio.samples, start, length, shift, factor),
                                 lambda index: window_weights(starts, length, index), progress)

    def encode_window(self, samples: Tensor, start: int, rows: int, shift: float = 0.0, factor: float = 1.0) -> Tensor:
        """[rows, C] from row ``start`` on of ``(samples - shift) * factor``; zeros outside the recording."""
        begin, end = start * HOP - SIDE, (start + rows) * HOP + SIDE
        part = (samples[max(begin, 0):max(end, 0)].to(self.device) - shift) * factor
        part = F.pad(part, (max(-begin, 0), end - max(begin, 0) - len(part)))
        return self.network(part[None]).last_hidden_state[0].float()


def working_bytes(network: torch.nn.Module, samples: int) -> int:
    """Memory for ``samples`` samples at once beside the weights: what the first convolution gives, its norm and its
    activation, in float32; every later layer needs less."""
    config = network.config
    return 3 * 4 * config.conv_dim[0] * (samples // config.conv_stride[0] + 1)


def level(samples: Tensor) -> tuple[float, float]:
    """What to take off ``samples`` [N] and to multiply them by for mean 0 and deviation 1, as transformers'
    feature extractor does."""
    count, at_once = max(len(samples), 1), 1 << 20  # samples: in double precision an hour would fill the memory
    mean = sum(float(part.double().sum()) for part in samples.split(at_once)) / count
    variance = sum(float((part.double() - mean).square().sum()) for part in samples.split(at_once)) / count
    return mean, 1.0 / math.sqrt(variance + 1e-7)


def window_starts(rows: int) -> tuple[list[int], int]:
    """First rows of the windows over ``rows`` rows, and the rows of each; the last window ends with the recording."""
    if rows <= WINDOW:
        return [0], max(rows, SHORTEST)
    starts = list(range(0, rows - WINDOW, STRIDE))
    return [*starts, rows - WINDOW], WINDOW


def window_weights(starts: list[int], length: int, index: int) -> Tensor:
    """[length] how much each row of window ``index`` counts; over all windows every row's weights add up to one.

    Two windows change over in the middle of what they share, within ``FADE`` rows.
    """
    weight = torch.ones(length)
    row = torch.arange(length) + starts[index] + 0.5
    for left in range(max(index - 1, 0), min(index + 1, len(starts) - 1)):
        middle = (starts[left + 1] + starts[left] + length) / 2
        rising = ((row - middle) / FADE + 0.5).clamp(0, 1)
        weight = weight * (rising if left < index else 1 - rising)
    return weight


def folder_name(folder: Path) -> str:
    """What an encoder in ``folder`` is called."""
    for part in reversed(folder.resolve().parts):
        if part.startswith("models--"):
            return part.split("--")[-1]
    return folder.resolve().name


def folder_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder's model.safetensors, or of its pytorch_model.bin.

    Raises:
        PlaymateError: neither file is there or can be read.
    """
    path = next((folder / name for name in ("model.safetensors", "pytorch_model.bin") if (folder / name).is_file()),
                None)
    if path is None:
        raise PlaymateError(f"There is neither model.safetensors nor pytorch_model.bin in {folder}; download the "
                            "speech encoder into that folder.")
    found = load_table(path)
    if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in found.items()):
        raise PlaymateError(f"{path} holds something other than tensors; download it again.")
    return found


def build_network(kind: str, config: Mapping, tensors: Mapping[str, Tensor], where: str) -> torch.nn.Module:
    """transformers' bare network of a family with the given weights, float32, evaluating, on the CPU.

    Args:
        kind: ``"wav2vec2"`` or ``"hubert"``.
        config: values of config.json.
        tensors: by their published names, with or without the family's prefix; heads for other tasks are left out,
            and either spelling of the positional convolution's weight norm is taken.
        where: named in errors.

    Raises:
        PlaymateError: tensors that are missing, superfluous or of another shape than the config says.
    """
    import transformers

    classes = {"wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
               "hubert": (transformers.HubertConfig, transformers.HubertModel)}
    make_config, make = classes[kind]
    layers = config.get("num_hidden_layers")
    if isinstance(layers, int) and layers > len(tensors):  # before that many are built
        raise PlaymateError(f"{where}: config.json speaks of {layers} layers, and there are {len(tensors)} tensors; "
                            "download the speech encoder again.")
    try:
        settings = make_config(**{k: v for k, v in config.items() if k not in _NOT_TAKEN and not k.startswith("_")})
        with torch.device("meta"):
            network = make(settings)
    except Exception as error:  # transformers checks configs in many ways
        raise PlaymateError(f"{where}: config.json is not one of a {kind} network ({str(error)[:120]}).") from None
    wanted = network.state_dict()
    found = {}
    for key, value in tensors.items():
        name = _current(key.removeprefix(f"{kind}."), wanted)
        if name in wanted:
            found[name] = value.float()
        elif not name.startswith(_HEADS):
            raise PlaymateError(f"{where}: {key} belongs to no {kind} network of this config; download it again.")
    if "masked_spec_embed" in wanted:  # used in training alone, and some checkpoints leave it out
        found.setdefault("masked_spec_embed", torch.zeros(wanted["masked_spec_embed"].shape))
    for name, value in wanted.items():
        if name not in found:
            raise PlaymateError(f"{where} lacks {name}; download the speech encoder again.")
        if found[name].shape != value.shape:
            raise PlaymateError(f"{where}: {name} has shape {tuple(found[name].shape)} where the config says "
                                f"{tuple(value.shape)}; download the speech encoder again.")
        if not bool(torch.isfinite(found[name]).all()):
            raise PlaymateError(f"{where}: {name} holds numbers that are not finite; download it again.")
    network.load_state_dict(found, assign=True)
    return network.eval().requires_grad_(False)


def _current(name: str, wanted: Mapping) -> str:
    """``name`` as this version of torch spells it: weight norm is kept as weight_g, weight_v or parametrizations."""
    if name in wanted:
        return name
    for old, new in (("weight_g", "parametrizations.weight.original0"),
                     ("weight_v", "parametrizations.weight.original1")):
        for a, b in ((old, new), (new, old)):
            other = re.sub(rf"\.{re.escape(a)}$", f".{b}", name)
            if other != name and other in wanted:
                return other
    return name


def _json(path: Path, default: dict | None = None) -> dict:
    if not path.is_file():
        if default is not None:
            return default
        raise PlaymateError(f"There is no {path.name} in {path.parent}; a speech encoder is a folder with config.json "
                            "and model.safetensors.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        values = None
    if not isinstance(values, dict):
        raise PlaymateError(f"{path} cannot be read; download it again.")
    return values
