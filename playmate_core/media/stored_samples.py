"""Long sound that lies in a file of its own instead of in memory."""

from __future__ import annotations

import tempfile
from typing import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from ..runtime.errors import PlaymateError

LONG = 10 * 60 * 16_000
"""Samples from which it pays: ten minutes are 38 MB."""


class StoredSamples:
    """[N] float32, to be read by slices, as far as a tensor would be.

    The file has no name and vanishes with the object, also when the process is killed.
    """

    device = torch.device("cpu")

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="playmate")  # noqa: SIM115 (closed with the object)
        self._length, self._changes = 0, []

    def append(self, samples: np.ndarray) -> None:
        """Takes [n] float32 more.

        Raises:
            PlaymateError: a full disk.
        """
        try:
            self._file.seek(0, 2)
            self._file.write(np.ascontiguousarray(samples, np.float32).data)
            self._file.flush()
        except OSError as error:
            raise PlaymateError(f"The sound is long and could not be laid aside in {tempfile.gettempdir()} "
                                f"({error.strerror or error}); free some space there.") from error
        self._length += len(samples)

    def change(self, change: Callable[[Tensor], Tensor]) -> None:
        """From now on samples are read through ``change``, which must treat each by itself and may work in place."""
        self._changes.append(change)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, which: slice) -> Tensor:
        start, stop, step = which.indices(self._length)
        if step != 1:
            raise IndexError("stored samples are read in their order")
        self._file.seek(4 * start)
        part = torch.from_numpy(np.frombuffer(bytearray(self._file.read(4 * max(stop - start, 0))), np.float32))
        for change in self._changes:
            part = change(part)
        return part

    def split(self, size: int) -> Iterator[Tensor]:
        """As ``Tensor.split``."""
        return (self[start:start + size] for start in range(0, self._length, size))

    def new_zeros(self, *shape: int) -> Tensor:
        """As ``Tensor.new_zeros``."""
        return torch.zeros(*shape)
