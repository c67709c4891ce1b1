"""What is checked on which device, at which size."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from playmate_core.render.liveportrait.checkpoint import Networks
from playmate_core.runtime.acceleration import COMPILE, GRAPHS, NONE

from ..benchmarks import inputs
from ..parity.liveportrait import FullSize
from ..parity.recipe import small_kinds


@dataclass
class Setup:
    """One run.

    Attributes:
        device: what is checked.
        fixtures: the reference's folder with liveportrait/ and joyvasa/ in it, or None.
        folder: where files go.
        toy: every line at a size that a CPU does in seconds.
    """

    device: torch.device
    fixtures: Path | None
    folder: Path
    toy: bool = False
    held: dict = field(default_factory=dict)

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def accelerations(self) -> tuple[str, ...]:
        return (NONE, GRAPHS, COMPILE)

    @property
    def portrait(self) -> torch.Tensor:
        return inputs.portrait(128 if self.toy else 512)

    @property
    def film(self) -> tuple[int, int]:
        """Rows and columns of the picture into which crops are pasted back."""
        return (144, 256) if self.toy else (1080, 1920)

    def pick(self, published, toy):
        """One of two sizes."""
        return toy if self.toy else published

    @cached_property
    def full_size(self) -> FullSize:
        """Weights by the reference's recipe, drawn once for parity and speed."""
        if not self.toy:
            return FullSize()
        roles = {"F": "appearance", "M": "motion", "W": "warping", "G": "generator"}
        return FullSize({tag: small_kinds(4)[role] for tag, role in roles.items()})

    def networks(self) -> Networks:
        """All five, plain, on the CPU; whoever asks may change them."""
        if "networks" not in self.held:
            full = self.full_size
            self.held["networks"] = Networks(full.build("F"), full.build("M"), full.build("W"), full.build("G"),
                                             full.stitching()).requires_grad_(False)
        return copy.deepcopy(self.held["networks"])


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether matrix products and convolutions of float32 may round their inputs to TensorFloat-32: not at all, or as
    torch has it by default (convolutions may, products may not)."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = allowed, False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@contextlib.contextmanager
def little_memory(device: torch.device, limit: int, renderer, fits: int) -> Iterator[None]:
    """Within it batches of more than ``fits`` frames do not fit: torch may claim no more than ``limit`` bytes of a
    card; elsewhere the renderer is made to fail as a card does."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        number = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), number)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, number)
        return
    draw = renderer._draw

    def full(*given):
        if len(renderer_batch(given)) > fits:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory (made up).")
        return draw(*given)

    renderer._draw = full
    try:
        yield
    finally:
        renderer._draw = draw


def renderer_batch(given: tuple):
    """What counts the frames among the arguments of either renderer's drawing: keypoints, or what moves."""
    return getattr(given[-1], "moves", given[-1])
