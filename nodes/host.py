"""ComfyUI's side of a running node: progress, cancelling, and its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import comfy.model_management
import comfy.utils
import torch
from torch import Tensor

from ..playmate_core.runtime.errors import PlaymateError


def progress() -> Callable[[int, int], None]:
    """A library progress callback that fills the node's bar and raises when the user cancels."""
    bar = comfy.utils.ProgressBar(1)

    def report(done: int, total: int) -> None:
        check_cancelled()
        bar.update_absolute(done, max(total, 1))

    return report


def check_cancelled() -> None:
    """Raises ComfyUI's own exception when the user has pressed cancel."""
    comfy.model_management.throw_exception_if_processing_interrupted()


_told: set[str] = set()


def tell(note: str | None) -> None:
    """Shows a sentence on the node that is running, in the front end; None takes away what an earlier run said."""
    from comfy_execution.utils import get_executing_context
    from server import PromptServer

    context, server = get_executing_context(), getattr(PromptServer, "instance", None)
    if context is None or server is None or not (note or context.node_id in _told):
        return
    (_told.add if note else _told.discard)(context.node_id)
    server.send_progress_text(note or "", context.node_id)


def picture(image: Tensor, index: int) -> Tensor:
    """One picture [H, W, C] of an IMAGE batch [B, H, W, C].

    Raises:
        PlaymateError: the batch has no such picture.
    """
    if image.ndim == 3:
        image = image[None]
    if not 0 <= index < len(image):
        raise PlaymateError(f"image_index is {index}, but the batch holds {len(image)} pictures; "
                            f"choose 0 to {max(len(image) - 1, 0)}.")
    return image[index]


def sound(audio: Mapping) -> tuple[Tensor, int]:
    """``(waveform [C, N], rate)`` of an AUDIO: the first entry of the batch that holds anything.

    Raises:
        PlaymateError: the AUDIO holds no sound.
    """
    waveform = audio.get("waveform") if isinstance(audio, Mapping) else None
    if waveform is None or not waveform.numel():
        raise PlaymateError("The AUDIO is empty; connect a sound that lasts at least a fraction of a second.")
    entries = waveform.reshape(-1, *waveform.shape[-2:]) if waveform.ndim >= 2 else waveform[None, None]
    heard = (entry for entry in entries if bool((torch.isfinite(entry) & (entry != 0)).any()))
    return next(heard, entries[0]), int(audio["sample_rate"])


def one_of(value: str | None, options: Sequence[str], name: str) -> str | None:
    """A sentence if ``value`` is none of ``options``: ComfyUI 0.3.75 does not check the choices of V3 nodes.

    None, a value that arrives over a wire, is checked when the node runs.
    """
    if value is None or value in options:
        return None
    return f"{name} is {value!r}; choose one of: {', '.join(options)}."
