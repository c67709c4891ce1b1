"""Devices that compute on the CPU and otherwise are as strict as a graphics card, NVIDIA's ("cuda") or Apple's ("mps").

Tensors on them are wrappers around the CPU's. What a real card refuses is refused: tensors of two devices in one
operation, and on Apple's what torch has not got there (``LACKING``). What waits for a card, reading a number back or
copying to the CPU, is counted.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from playmate_core.runtime import sampling

aten = torch.ops.aten
ANY_INDEX = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
"""Take indices from the CPU as well."""

LACKING = frozenset((
    "grid_sampler_3d", "cummax", "_cummax_helper", "cummin", "_cummin_helper", "index_copy", "index_copy_", "col2im",
    "im2col", "isin", "histc", "searchsorted", "bucketize", "_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa",
    "avg_pool3d", "max_pool3d_with_indices", "conv_transpose3d", "unique_dim", "scatter_reduce", "index_reduce",
    "_linalg_svd", "_linalg_det", "_linalg_eigh", "_linalg_solve_ex", "linalg_lstsq", "linalg_cholesky_ex",
    "linalg_inv_ex", "linalg_qr", "linalg_eig", "linalg_lu_factor_ex", "angle", "frexp", "logcumsumexp"))
"""Operations that some or all versions of torch from 2.4 on lack on Apple's GPUs (pytorch/pytorch#77764, #141287 and
#154052), by name."""


WIDE = (torch.float64, torch.complex128)


# torch's own walk through nested values knows many more containers, and took half of these tests' time.
def leaves(value, into: list | None = None) -> list:
    """What tuples, lists and tables hold, however deep."""
    into = [] if into is None else into
    kind = type(value)
    if kind is tuple or kind is list:
        for item in value:
            leaves(item, into)
    elif kind is dict:
        for item in value.values():
            leaves(item, into)
    else:
        into.append(value)
    return into


def each(change, value):
    """The same nesting with every leaf changed."""
    kind = type(value)
    if kind is tuple or kind is list:
        return kind([each(change, item) for item in value])
    if kind is dict:
        return {key: each(change, item) for key, item in value.items()}
    return change(value)


def missing_on_apple(func, args, kwargs) -> str | None:
    """What Apple's GPUs lack of a call, or None."""
    name = func._schema.name.split("::")[1]
    if name in LACKING:
        return f"The operator 'aten::{name}' is not currently implemented for the MPS device."
    if name == "grid_sampler_2d" and args[3] != 0:
        return "MPS: Unsupported Border padding mode"
    if name == "grid_sampler_2d" and not all(tensor.is_contiguous() for tensor in args[:2]):
        return "MPS: Not supported: what is read is wrong where memory is not contiguous (made up; it is silent there)"
    if name == "_adaptive_avg_pool2d" and any(side % wanted for side, wanted in zip(args[0].shape[-2:], args[1],
                                                                                   strict=True)):
        return "Adaptive pool MPS: input sizes must be divisible by output sizes. Not supported."
    return None


def _parts(index, axes: int):
    """(the slices of an index, its tensors and lists as the dispatcher takes them); None for want of the latter."""
    parts = list(index) if isinstance(index, tuple) else [index]
    parts = [torch.as_tensor(part) if isinstance(part, (list, tuple)) else part for part in parts]
    if not any(isinstance(part, torch.Tensor) for part in parts):
        return None
    if any(part is ... for part in parts):
        where = next(place for place, part in enumerate(parts) if part is ...)
        used = sum(part.ndim if isinstance(part, torch.Tensor) and part.dtype is torch.bool else 1
                   for part in parts if part is not None) - 1
        parts[where:where + 1] = [slice(None)] * (axes - used)
    slices, picked = [], []
    for part in parts:
        chosen = isinstance(part, torch.Tensor)
        slices += [slice(None)] * (part.ndim if part.dtype is torch.bool else 1) if chosen else [part]
        picked += [] if isinstance(part, int) else [part if chosen else None]
    return tuple(slices), picked


class Wrapped(torch.Tensor):
    """A tensor that says it is on the device; ``held`` is on the CPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, real: torch.Tensor, device: torch.device):
        return torch.Tensor._make_wrapper_subclass(
            cls, real.size(), strides=real.stride(), storage_offset=real.storage_offset(), dtype=real.dtype,
            device=device, requires_grad=False)

    def __init__(self, real: torch.Tensor, device: torch.device) -> None:
        self.held = real

    # torch turns what it is given into indices beneath all modes.
    def __getitem__(self, index):
        found = _parts(index, self.ndim)
        if found is None:
            return super().__getitem__(index)
        return aten.index.Tensor(super().__getitem__(found[0]), found[1])

    def __setitem__(self, index, value) -> None:
        found = _parts(index, self.ndim)
        place = super().__getitem__(index if found is None else found[0])
        if not isinstance(value, torch.Tensor):
            value = torch.tensor(value, dtype=self.dtype, device=self.device)
        if found is None:
            place.copy_(value)
        else:
            aten.index_put_.default(place, found[1], value)

    @property
    def device(self) -> torch.device:
        return Pretend.now.shown

    @property
    def is_cuda(self) -> bool:
        return Pretend.now.shown.type == "cuda"

    @property
    def is_mps(self) -> bool:
        return Pretend.now.shown.type == "mps"

    def new_tensor(self, data, *, dtype=None, device=None):
        return torch.tensor(data, dtype=dtype or self.dtype, device=device or self.device)

    def tolist(self):
        Pretend.now.waits.append("item")
        return self.held.tolist()

    def __repr__(self, *, tensor_contents=None) -> str:
        return f"Wrapped({self.held}, {self.device})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return Pretend.now.compute(func, args, kwargs or {})


class Pretend(TorchDispatchMode):
    """Within it tensors may be put on the device."""

    now: Pretend

    def __init__(self, kind: str) -> None:
        super().__init__()
        # torch knows how to guard NVIDIA's devices without one, and no others.
        self.device, self.shown = torch.device("cuda", 0), torch.device(kind, 0)
        self.apple = kind == "mps"
        self.waits: list[str] = []
        self.trace = None

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return self.compute(func, args, kwargs or {})

    def compute(self, func, args, kwargs):
        tensors = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        wrapped = [tensor for tensor in tensors if isinstance(tensor, Wrapped)]
        named = kwargs.get("device")
        target = torch.device(named) if named is not None else None
        here = target.type == self.device.type if target is not None else bool(wrapped)
        if func is aten._local_scalar_dense.default and wrapped:
            self.waits.append("item")
            if self.trace:
                self.trace()
        elif wrapped and (target is not None and target.type == "cpu"):
            self.waits.append("cpu")
        copies = func in (aten._to_copy.default, aten.copy_.default)
        if wrapped and not copies:
            strangers = [t for t in tensors if not isinstance(t, Wrapped) and t.ndim > 0]
            if func in ANY_INDEX:
                strangers = [t for t in strangers if t.dtype not in (torch.int64, torch.bool)]
            if strangers:
                raise RuntimeError(f"Expected all tensors to be on the same device, but {func} was given "
                                   f"{self.device} and cpu")
        if func is aten.copy_.default and wrapped and not isinstance(args[0], Wrapped):
            self.waits.append("cpu")
        plain_args, plain_kwargs = each(held, (args, kwargs)) if wrapped else (args, kwargs)
        if here and self.apple:
            lacking = missing_on_apple(func, plain_args, plain_kwargs)
            if lacking:
                raise (RuntimeError if "MPS:" in lacking else NotImplementedError)(lacking)
        if target is not None and here:
            plain_kwargs = {**plain_kwargs, "device": torch.device("cpu")}
        out = func(*plain_args, **plain_kwargs)
        if here and self.apple and any(isinstance(leaf, torch.Tensor) and leaf.dtype in WIDE
                                       for leaf in leaves(out)):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support "
                            "float64. Please use float32 instead.")
        if func is aten.copy_.default:
            return args[0]
        return self._wrapped(wrapped, out) if here else out

    def _wrapped(self, wrapped, out):
        """The results on the device; what was written in place is the very tensor that was given."""
        given = {id(tensor.held): tensor for tensor in wrapped}
        return each(lambda item: self._one(given, item), out)

    def _one(self, given: dict, item):
        if not isinstance(item, torch.Tensor):
            return item
        return given[id(item)] if id(item) in given else Wrapped(item, self.device)


class Renamed(TorchFunctionMode):
    """Takes devices called ``kind`` for the one that torch can guard."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def _inner(self, value):
        named = isinstance(value, torch.device) and value.type == self.kind
        if named or isinstance(value, str) and value.split(":")[0] == self.kind:
            return torch.device("cuda", 0)
        return value

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        args, kwargs = each(self._inner, (args, kwargs or {}))
        return func(*args, **kwargs)


@contextmanager
def pretended(kind: str, monkeypatch):
    """``with pretended("cuda", monkeypatch) as device:`` yields the mode; ``device.waits`` says what had to wait."""
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(sampling, "_ways", {})
    for name in ("empty_cache", "synchronize"):
        monkeypatch.setattr(torch.mps, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (8 * 2**30, 16 * 2**30))
    for name in ("memory_reserved", "memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: 0)
    # Wrappers cannot be tensors of inference mode.
    monkeypatch.setattr(torch.inference_mode, "__enter__", _enter)
    monkeypatch.setattr(torch.inference_mode, "__exit__", _leave)
    make = torch.tensor

    def tensor(data, *, dtype=None, device=None, **more):
        # It fills its tensor beneath all modes.
        there = device is not None and torch.device(device).type == kind
        made = make(data, dtype=dtype, device=None if there else device, **more)
        return made.to(device) if there else made

    monkeypatch.setattr(torch, "tensor", tensor)
    spectrum = torch.stft

    def stft(x, *args, window=None, **more):
        # It changes its result's shape in place, which a wrapper cannot follow.
        found = spectrum(held(x), *args, window=None if window is None else held(window), **more)
        return Wrapped(found, mode.device) if isinstance(x, Wrapped) else found

    monkeypatch.setattr(torch, "stft", stft)
    torch._C._ensureCUDADeviceGuardSet()
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    library = torch._C._get_cudnn_enabled()
    torch._C._set_cudnn_enabled(False)
    Pretend.now = mode = Pretend(kind)
    try:
        with Renamed(kind) if kind != "cuda" else nullcontext(), mode:
            yield mode
    finally:
        torch._C._set_cudnn_enabled(library)
        torch.__future__.set_overwrite_module_params_on_conversion(before)


def _enter(mode) -> None:
    mode.before = torch.is_grad_enabled()
    torch.set_grad_enabled(mode.before and not mode.mode)


def _leave(mode, *_) -> None:
    torch.set_grad_enabled(mode.before)


def held(tensor: torch.Tensor) -> torch.Tensor:
    """The numbers of a tensor that may be on the device."""
    return tensor.held if isinstance(tensor, Wrapped) else tensor
