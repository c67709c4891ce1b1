"""Motion models and the speech encoders that belong to them, whatever family a file is of."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Tuple, Union

import torch

from .acceleration import NONE
from .hosting import Host

if TYPE_CHECKING:
    from .diffusion.joyvasa.model import JoyVasa
    from .diffusion.model import MotionModel
    from .speech.encoder import SpeechEncoder
    from .speech.joyvasa import JoyVasaEncoder
    from .speech.transformer_encoders import TransformerEncoder

    AnyEncoder = Union[SpeechEncoder, TransformerEncoder, JoyVasaEncoder]
    AnyMotionModel = Union[MotionModel, JoyVasa]


def load_speech_encoder(path: str | PathLike | None, device: str | torch.device = "cpu",
                        host: Host = None) -> AnyEncoder:
    """The bundled encoder (None), a folder in transformers' format with wav2vec2 or HuBERT, or a file of Playmate's.

    ``host`` keeps a wav2vec2 or HuBERT, see ``hosting``; Playmate's own are small and stay on the device.

    Raises:
        PlaymateError: nothing there, or no speech encoder.
    """
    if path is not None and Path(path).is_dir():
        from .speech.transformer_encoders import TransformerEncoder
        return TransformerEncoder.load(path, device, host=host)
    from .speech.encoder import SpeechEncoder
    return SpeechEncoder.load(path=path, device=device)


def load_motion_and_speech(motion_model: str | PathLike | None = None, speech_encoder: str | PathLike | None = None,
                           device: str | torch.device = "cpu",
                           host: Host = None, acceleration: str = NONE) -> Tuple[AnyMotionModel, AnyEncoder]:
    """A motion model and what it listens through.

    Args:
        motion_model: None for the bundled one, a Playmate checkpoint (.safetensors), or JoyVASA's (.pt with
            motion_template.pkl nearby, or .safetensors).
        speech_encoder: None for the one that belongs to the motion model: JoyVASA's lies in its checkpoint; others
            are looked for as a folder of the encoder's name beside the motion model or one folder up, else it is the
            bundled one. Otherwise as ``load_speech_encoder``.
        device: where they run.
        host: keeps all of them but those that ship with the package, see ``hosting``.
        acceleration: of Playmate's own motion models, see ``MotionModel``; of no effect on JoyVASA's.

    Raises:
        PlaymateError: files that are missing, damaged or foreign.
    """
    from .diffusion.joyvasa.checkpoint import is_joyvasa

    if motion_model is None or not is_joyvasa(motion_model):
        from .diffusion.model import MotionModel
        model = MotionModel.load(path=motion_model, device=device, host=None if motion_model is None else host)
        model.acceleration = acceleration
        own = None if motion_model is None else _beside(Path(motion_model), model.encoder)
        return model, load_speech_encoder(own if speech_encoder is None else speech_encoder, device, host)
    from .diffusion.joyvasa.checkpoint import load_joyvasa
    from .diffusion.joyvasa.model import JoyVasa

    checkpoint = load_joyvasa(motion_model)
    model = JoyVasa.of(checkpoint, device, host)
    if speech_encoder is not None:
        return model, load_speech_encoder(speech_encoder, device, host)
    from .speech.joyvasa import JoyVasaEncoder
    from .speech.transformer_encoders import build_network

    network = build_network("hubert", checkpoint.audio_config, checkpoint.audio, Path(motion_model).name)
    return model, JoyVasaEncoder(network, model.config.n_motions, device, host)


def _beside(path: Path, encoder: str) -> Path | None:
    """The folder of a motion model's speech encoder near ``path``, if it is there."""
    if Path(encoder).name != encoder:
        return None
    places = (folder / encoder for folder in (path.parent, path.parent.parent))
    return next((place for place in places if (place / "config.json").is_file()), None)
