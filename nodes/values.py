"""Values that other packs send, taken by what they can do and not by their class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..playmate_core.motion.schedule import Unreadable, number
from ..playmate_core.runtime.errors import PlaymateError

NEARLY = 1e-6
"""How far a FLOAT that arrives as INT may be from a whole number: 24.9999999 of a calculation is 25."""


def tensor(value: Any, name: str) -> Tensor:
    """A tensor on the CPU of whatever holds numbers: tensors on any device, arrays, lists of equal pictures.

    Raises:
        PlaymateError: something else.
    """
    if isinstance(value, (list, tuple)) and value and hasattr(value[0], "shape"):
        pictures = [tensor(one, name) for one in value]
        pictures = [one[0] if one.ndim == 4 and len(one) == 1 else one for one in pictures]
        if len({one.shape for one in pictures}) > 1:
            raise PlaymateError(f"{name} is a list of pictures of different sizes; give a batch, or one of them.")
        return torch.stack(pictures)
    try:
        return torch.as_tensor(value).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise PlaymateError(f"{name} is {_shown(value)} where pictures or numbers are needed; connect another "
                            "output.") from error


def pictures(image: Any, name: str = "image") -> Tensor:
    """[B, H, W, C] of an IMAGE: one picture or several, of any device, type of number, and 1, 3 or 4 channels.

    Half precision becomes float32; uint8 stays, which everything here reads as 0 to 255.

    Raises:
        PlaymateError: no picture.
    """
    found = tensor(image, name)
    if found.ndim in (2, 3) and found.shape[-1] not in (1, 3, 4):
        found = found[..., None]  # grey without a channel: [H, W], or [B, H, W] of a mask
    if found.ndim == 3:
        found = found[None]
    if found.ndim != 4 or 0 in found.shape[1:]:
        raise PlaymateError(f"{name} has shape {tuple(found.shape)} where pictures [number, height, width, channels] "
                            "are needed; connect an IMAGE.")
    return found if found.dtype == torch.uint8 else found.float()


def picture(image: Any, index: int) -> Tensor:
    """One picture [H, W, C] of an IMAGE batch.

    Raises:
        PlaymateError: no picture, or the batch has no such one.
    """
    batch = pictures(image)
    if not 0 <= index < len(batch):
        raise PlaymateError(f"image_index is {index}, but the batch holds {len(batch)} pictures; "
                            f"choose 0 to {max(len(batch) - 1, 0)}.")
    return batch[index]


def masks(mask: Any, name: str = "mask") -> Tensor:
    """[B, H, W] float32 of a MASK: [H, W], [B, H, W], [B, 1, H, W] or [B, H, W, 1], of any device and type.

    Raises:
        PlaymateError: no mask.
    """
    found = tensor(mask, name)
    if found.ndim == 4 and found.shape[-1] == 1 and found.shape[1] != 1:
        found = found[..., 0]
    if found.ndim not in (2, 3, 4) or 0 in found.shape:
        raise PlaymateError(f"{name} has shape {tuple(found.shape)} where a mask [height, width] is needed; connect a "
                            "MASK.")
    most = torch.iinfo(found.dtype).max if found.dtype == torch.uint8 else 1
    return found.reshape(-1, *found.shape[-2:]).float() / most


def sound(audio: Any) -> tuple[Tensor, int]:
    """``(waveform [C, N], rate)`` of an AUDIO: the first entry of the batch that holds anything.

    An AUDIO is whatever answers to "waveform" and "sample_rate"; some packs decode it only when it is asked.

    Raises:
        PlaymateError: the AUDIO holds no sound, or the pack that made it cannot give it.
    """
    waveform = _part(audio, "waveform")
    if waveform is not None:
        waveform = tensor(waveform, "audio")
    if waveform is None or not waveform.numel():
        raise PlaymateError("The AUDIO is empty; connect a sound that lasts at least a fraction of a second.")
    entries = waveform.reshape(-1, *waveform.shape[-2:]) if waveform.ndim >= 2 else waveform[None, None]
    heard = (entry for entry in entries if bool((torch.isfinite(entry) & (entry != 0)).any()))
    rate = plain_number(_part(audio, "sample_rate"), "FLOAT", "The AUDIO's sample_rate")
    if rate is None or rate < 1:
        raise PlaymateError(f"The AUDIO has a sample rate of {rate}; connect a sound that says how fast it is played.")
    return next(heard, entries[0]), round(rate)


def _part(audio: Any, name: str) -> Any:
    """What an AUDIO answers to a name; None if it knows none of it."""
    if audio is None or isinstance(audio, (str, bytes, Tensor)):
        return None
    try:
        return audio[name]
    except (KeyError, IndexError, TypeError):
        return getattr(audio, name, None)
    except Exception as error:
        # Whatever the other pack raises when it decodes: the user needs its reason.
        raise PlaymateError(f"The AUDIO cannot be had from the node that gives it ({_reason(error)}); choose another "
                            "sound.") from error


def _reason(error: Exception) -> str:
    """An error in one line: of many, the first and the last, between which FFmpeg lists what it is made of."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    lines = lines if len(lines) < 3 else [lines[0], "...", lines[-1]]
    return " ".join(line if len(line) <= 150 else line[:147] + "..." for line in lines).rstrip(".")


def plain_number(value: Any, kind: str, name: str) -> Any:
    """The Python number that an INT, FLOAT or BOOLEAN stands for; None, and lists of numbers, are left as they are.

    Args:
        value: a number of Python or numpy, a tensor or list of one number, or a number as text.
        kind: "INT", "FLOAT" or "BOOLEAN".
        name: of the input, for messages.

    Raises:
        PlaymateError: no number, or not a whole one for an INT.
    """
    if value is None or kind == "INT" and type(value) is int or kind == "BOOLEAN" and isinstance(value, bool):
        return value
    found = value
    if isinstance(found, str):
        try:
            found = number(found)
        except Unreadable as why:
            if kind == "BOOLEAN":
                return found.strip().lower() in ("true", "yes", "on")
            raise PlaymateError(f"{name} is {_shown(value)}, which {why}; give a number.") from None
    if hasattr(found, "numel") or hasattr(found, "size") and hasattr(found, "item"):
        if (found.numel() if hasattr(found, "numel") else found.size) != 1:
            return value
        found = found.item()
    if isinstance(found, Sequence) and not isinstance(found, str):
        return plain_number(found[0], kind, name) if len(found) == 1 else value
    try:
        found = float(found) if not isinstance(found, int) else found
    except (TypeError, ValueError):
        raise PlaymateError(f"{name} is {_shown(value)}; give a number.") from None
    if isinstance(found, float) and not math.isfinite(found):
        raise PlaymateError(f"{name} is {found}; give a number that can be counted with.")
    if kind == "BOOLEAN":
        return bool(found)
    if kind == "FLOAT":
        return float(found)
    if abs(found - round(found)) > NEARLY * max(1.0, abs(found)):
        raise PlaymateError(f"{name} is {found:g}; give a whole number.")
    return int(round(found))


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
