"""The reference's fixtures on the device: exactly, with TensorFloat-32 as torch has it, and in half precision."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..parity import joyvasa, liveportrait
from ..parity.files import fixture
from .report import FAILED, OK, SKIPPED, TOLD, Report
from .setup import Setup, tf32

MODES = (("exact", False), ("TF32 as torch has it", True))


def _modes(setup: Setup):
    """Small networks are compared in both, large ones on the CPU of a rehearsal in one: it knows no other."""
    return MODES[:1] if setup.toy else MODES


def _folder(setup: Setup, report: Report, name: str):
    folder = None if setup.fixtures is None else setup.fixtures / name
    if folder is None or not folder.is_dir():
        report.row("fixtures", f"there is no folder {name}; give reference/ by --fixtures", result=SKIPPED)
        return None
    return folder


def _tell(report: Report, what: str, error: float, bound: float | None, unit: str = "", short: bool = False) -> None:
    if bound is not None:
        report.bounded(what, error, bound, unit, short)
    else:
        report.row(what, f"{error:.2e}{unit}", short=short)


def small(setup: Setup, report: Report) -> None:
    """S, M, F, W and G with few channels, every array."""
    folder = _folder(setup, report, "liveportrait")
    if folder is None:
        return
    ways: list[tuple[str, str, Callable[..., dict]]] = [
        ("S", "", liveportrait.stitching), ("M", "", liveportrait.motion_extractor),
        ("F", "", liveportrait.appearance_extractor)]
    ways += [("W", way, liveportrait.warping) for way in liveportrait.WARPING_WAYS]
    ways += [("G", way, liveportrait.generator) for way in liveportrait.GENERATOR_WAYS]
    for mode, allowed in MODES:
        worst = 0.0
        for letter, way, compute in ways:
            with report.attempt(f"{letter} {way}, {mode}"), tf32(allowed):
                tensors, metadata = fixture(folder / f"parity_{letter}.safetensors")
                more = {"way": way} if way else {}
                errors = liveportrait.relative_errors(tensors, compute(tensors, metadata, setup.device, **more))
                name, error = max(errors.items(), key=lambda item: item[1])
                worst = max(worst, error)
                _tell(report, f"{letter} {way}, {mode}: largest relative error ({name})", error,
                      None if allowed else liveportrait.SMALL)
        report.row(f"S, M, F, W, G, small, {mode}: largest relative error", f"{worst:.1e}", short=True)
    for letter, way, compute in (("W", "stacked planes", liveportrait.warping),
                                 ("G", "channels last", liveportrait.generator)):
        with report.attempt(f"{letter} in half precision"):
            tensors, metadata = fixture(folder / f"parity_{letter}.safetensors")
            found = compute(tensors, metadata, setup.device, way=way, dtype=torch.float16)
            errors = liveportrait.relative_errors(tensors, {key: value for key, value in found.items()
                                                            if key.startswith("out.")})
            report.row(f"{letter} {way}, float16: relative errors",
                       ", ".join(f"{key[4:]} {error:.1e}" for key, error in errors.items()))


def full(setup: Setup, report: Report) -> None:
    """W, G and the whole chain at published sizes."""
    folder = _folder(setup, report, "liveportrait")
    if folder is None:
        return
    tensors, metadata = fixture(folder / "parity_full.safetensors")
    networks, device = setup.full_size, setup.device

    def compare(title: str, mode: str, bounded: bool, found: dict[str, torch.Tensor]) -> None:
        worst, share = "nothing", -1.0
        for name, value in found.items():
            error = float(liveportrait.difference(tensors, metadata, name, value).max())
            bound = liveportrait.allowed(name)
            if not error / bound <= share:
                worst, share = f"{error:.1e} of {bound:.0e} ({name})", error / bound
            _tell(report, f"{title}, {mode}: {name}, absolute", error, bound if bounded else None)
        report.row(f"{title}, {mode}: nearest to its bound", worst, short=True,
                   result=(OK if share < 1 else FAILED) if bounded else TOLD)

    for mode, allowed in _modes(setup):
        with tf32(allowed):
            for way in ("fused", "stacked planes"):
                with report.attempt(f"chain {way}, {mode}"):
                    compare(f"two pictures to a picture, {way}", mode, not allowed,
                            liveportrait.chain(networks, tensors, device, way))
            for way in liveportrait.WARPING_WAYS:
                with report.attempt(f"W {way}, {mode}"):
                    compare(f"W alone, {way}", mode, not allowed,
                            liveportrait.warping_alone(networks, tensors, metadata, device, way))
            for way in liveportrait.GENERATOR_WAYS:
                with report.attempt(f"G {way}, {mode}"):
                    compare(f"G alone, {way}", mode, not allowed,
                            liveportrait.generator_alone(networks, metadata, device, way))
    with report.attempt("G in half precision"):
        picture = liveportrait.generator_alone(networks, metadata, device, "channels last", torch.float16)
        _grey(report, "G alone, float16", liveportrait.difference(tensors, metadata, "isoG.image",
                                                                  picture["isoG.image"]))
    with report.attempt("the chain in half precision"):
        picture = liveportrait.chain_in_half(networks, tensors, device)
        _grey(report, "two pictures to a picture, W and G in float16",
              liveportrait.difference(tensors, metadata, "G.image", picture))


def _grey(report: Report, what: str, error: torch.Tensor) -> None:
    most, mean = float(error.max()) * 255, float(error.mean()) * 255
    bounds = liveportrait.HALF
    report.row(f"{what}, grey levels of 255", f"{most:.2f} at most, mean {mean:.3f}", short=True,
               allowed=f"{bounds[0]:g}, {bounds[1]:g}", result=OK if most < bounds[0] and mean < bounds[1] else FAILED)


def motion_generator(setup: Setup, report: Report) -> None:
    """JoyVASA's generator and its speech encoder."""
    folder = _folder(setup, report, "joyvasa")
    if folder is None:
        return
    for mode, allowed in _modes(setup):
        worst = 0.0
        for name, compute in joyvasa.FILES.items():
            with report.attempt(f"{name}, {mode}"), tf32(allowed):
                tensors, metadata = fixture(folder / f"parity_{name}.safetensors")
                try:
                    found = compute(tensors, metadata["spec"], setup.device)
                except ImportError as error:
                    report.row(name, f"not compared: {error}", result=SKIPPED)
                    continue
                errors = joyvasa.relative_errors(tensors, found)
                key, error = max(errors.items(), key=lambda item: item[1])
                worst = max(worst, error)
                _tell(report, f"{name}, {mode}: largest relative error of {len(errors)} arrays ({key})", error,
                      None if allowed else joyvasa.BOUND)
        report.row(f"JoyVASA's generator, {mode}: largest relative error", f"{worst:.1e}", short=True)
