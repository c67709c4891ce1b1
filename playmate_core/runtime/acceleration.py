"""Optional ways to run a network faster: torch.compile and CUDA graphs. Each is tried once; where one fails, work
continues without it.

torch.compile fuses what lies between the large products; it needs a compiler (Triton on NVIDIA cards, g++ on the CPU)
and takes a minute before the first frame. A CUDA graph records the launches of one call and repeats them at once:
it helps where a network is so small that starting its kernels takes longer than running them, and needs nothing.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from itertools import chain
from typing import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from .errors import PlaymateError

log = logging.getLogger(__name__)

NONE, GRAPHS, COMPILE = "none", "cuda graphs", "torch.compile"
ACCELERATIONS = (NONE, GRAPHS, COMPILE)

TensorFunction = Callable[..., Tensor]
"""Tensors in, a tensor out, and nothing else that changes from call to call save the weights."""

WARM_UP = 3
"""Calls before a graph is recorded, in which libraries choose their algorithms and claim their workspaces."""


def check_acceleration(name: str) -> str:
    """``name``, if there is such a way.

    Raises:
        PlaymateError: it is none of ``ACCELERATIONS``.
    """
    if name not in ACCELERATIONS:
        raise PlaymateError(f"There is no acceleration called {name!r}; use one of: {', '.join(ACCELERATIONS)}.")
    return name


def accelerated(function: TensorFunction, name: str, modules: Iterable[nn.Module] = ()) -> TensorFunction:
    """``function``, or the same made faster; where a way does not work on this machine, ``function`` after a warning.

    Args:
        function: see ``TensorFunction``; run under ``no_grad`` or ``inference_mode``.
        name: one of ``ACCELERATIONS``.
        modules: whose weights the function uses, so that a graph is recorded anew when they have moved.

    Raises:
        PlaymateError: unknown name.
    """
    check_acceleration(name)
    if name == GRAPHS:
        return Graphed(function, tuple(modules))
    return Compiled(function) if name == COMPILE else function


@contextmanager
def tuned() -> Iterator[None]:
    """Within it cuDNN tries its algorithms once for every new shape and keeps the fastest: worth it for long runs."""
    before = torch.backends.cudnn.benchmark
    # Which one is the fastest differs from run to run, so not where somebody asked for the same bits every time.
    torch.backends.cudnn.benchmark = before or not torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@contextmanager
def exact_float32() -> Iterator[None]:
    """Within it convolutions and matrix products of float32 take their inputs as they are.

    Unless it is told otherwise, torch rounds what convolutions are given to 10 bits (TensorFloat-32) on NVIDIA cards
    since Ampere. For networks that run once a clip that saves nothing and moves keypoints.
    """
    backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
    try:
        before = [backend.allow_tf32 for backend in backends]
    except RuntimeError:  # somebody has chosen in torch's newer way, which does not mix with this one
        yield
        return
    try:
        for backend in backends:
            backend.allow_tf32 = False
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    text = str(error).lower()
    return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or any(said in text for said in (
        "out of memory", "can't allocate memory", "not enough memory", "_status_alloc_failed"))


def _why(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


class Compiled:
    """A function through torch.compile, with the function itself to fall back on until one call has succeeded."""

    def __init__(self, function: TensorFunction) -> None:
        self.function = function
        self.fast = None
        self.proven = self.failed = False

    def __call__(self, *tensors: Tensor) -> Tensor:
        if self.failed:
            return self.function(*tensors)
        try:
            if self.fast is None:
                self.fast = torch.compile(self.function, dynamic=False)
            out = self.fast(*tensors)
        except Exception as error:
            # Compilers fail in every way there is: missing, too old, without a temporary folder.
            if self.proven or is_out_of_memory(error):
                raise
            log.warning("torch.compile does not work here (%s); going on without it.", _why(error))
            self.failed = True
        else:
            self.proven = True
            return out
        return self.function(*tensors)


class Graphed:
    """A function as a CUDA graph, recorded at its first call and whenever shapes or the places of weights change.

    On other devices it is the function itself.
    """

    def __init__(self, function: TensorFunction, modules: tuple[nn.Module, ...] = ()) -> None:
        self.function, self.modules = function, modules
        self.failed = False
        self.key = self.inputs = self.output = self.replay = None

    def __call__(self, *tensors: Tensor) -> Tensor:
        if self.failed or not self._recordable(tensors):
            return self.function(*tensors)
        if self.key is None or self.key != self._key(tensors):
            try:
                self._record(tensors)
            except Exception as error:
                self.release()
                if is_out_of_memory(error):
                    raise
                log.warning("CUDA graphs do not work here (%s); going on without them.", _why(error))
                self.failed = True
        if self.failed:
            return self.function(*tensors)
        for held, tensor in zip(self.inputs, tensors, strict=True):
            held.copy_(tensor)
        self.replay()
        # The graph writes into the same memory the next time.
        return self.output.clone()

    def release(self) -> None:
        """Gives the recorded graph's memory back."""
        self.key = self.inputs = self.output = self.replay = None

    def _record(self, tensors: tuple[Tensor, ...]) -> None:
        self.release()
        # Tensors of inference mode could not be written to outside of it.
        with torch.inference_mode(False):
            inputs = [tensor.clone() for tensor in tensors]
        self.replay, self.output = record(self.function, inputs)
        self.inputs = inputs
        # After the first calls, which may have made buffers.
        self.key = self._key(tensors)

    def _key(self, tensors: tuple[Tensor, ...]) -> tuple:
        return (tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in tensors),
                tuple(weight.data_ptr() for weight in self._weights()))

    def _weights(self) -> Iterator[Tensor]:
        return chain.from_iterable(chain(module.parameters(), module.buffers()) for module in self.modules)

    @staticmethod
    def _recordable(tensors: tuple[Tensor, ...]) -> bool:
        return bool(tensors) and all(tensor.is_cuda for tensor in tensors)


def record(function: TensorFunction, inputs: list[Tensor]) -> tuple[Callable[[], None], Tensor]:
    """(what repeats the call, the tensor that holds its result) of ``function(*inputs)`` as a CUDA graph."""
    with torch.cuda.device(inputs[0].device):
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                function(*inputs)
        here.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # Other threads of the program may use the card meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            output = function(*inputs)
    return graph.replay, output
