"""What surrounds a training run: its state and log on the disk, TensorBoard, the bar, and signals that end it."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import signal
import threading
from pathlib import Path

import torch

from playmate_core.runtime.errors import PlaymateError

_STATE_KEYS = {"settings", "net", "average", "optimiser", "step", "elapsed", "reached", "generator"}


class Heed:
    """While it is entered, SIGTERM and Ctrl-C only set ``asked``, so that a step can be finished and the state saved.

    SIGTERM is how clusters and launchers end a job. A second Ctrl-C is heeded at once. Signals can be caught by a
    program's main thread alone; elsewhere nothing is caught.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict = {}

    def _ask(self, number: int, _) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True

    def __enter__(self) -> Heed:
        self.asked = False
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


def write_text(path: Path, text: str) -> None:
    """Replace a file's text in one step."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def read_state(path: Path) -> dict:
    """The state that a run left, on the CPU.

    Raises:
        PlaymateError: the file is damaged or something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        held = isinstance(state, dict) and set(state) >= _STATE_KEYS
    except (OSError, RuntimeError, EOFError, ValueError, TypeError, KeyError, pickle.UnpicklingError):
        held = False
    if not held:
        raise PlaymateError(f"{path} is damaged or no training state; delete it and start the run anew.")
    return state


def fingerprint(*networks: torch.nn.Module) -> str:
    """A digest of networks' parameters and buffers."""
    digest = hashlib.sha256()
    for network in networks:
        for name, value in network.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def strike_later(path: Path, step: int) -> None:
    """Strike from a log what it tells of steps after ``step``, which will be made again, and a half-written line."""
    if not path.is_file():
        return
    rows = path.read_text(encoding="utf-8").splitlines()
    kept = [row for row in rows if row.endswith("}") and json.loads(row)["step"] <= step]
    write_text(path, "".join(f"{row}\n" for row in kept))


def board(folder: Path, step: int | None = None):
    """TensorBoard's writer; one that continues after ``step`` hides what was logged of later ones.

    Raises:
        PlaymateError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise PlaymateError("TensorBoard is not installed; install the package tensorboard or leave out "
                            "--tensorboard.") from None
    return SummaryWriter(str(folder), purge_step=None if step is None else step + 1)


def knows_bf16() -> bool:
    """Whether the GPU itself calculates in bf16 (NVIDIA's since Ampere, all of AMD's that PyTorch supports)."""
    return torch.version.hip is not None or torch.cuda.get_device_capability() >= (8, 0)


def bar(total: int, start: int, show: bool):
    """A progress bar of steps."""
    from tqdm.auto import tqdm

    return tqdm(total=total, initial=start, disable=not show, dynamic_ncols=True, mininterval=2.0)
