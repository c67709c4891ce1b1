"""What the device could do at best, and where the time goes."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from playmate_core import pipeline

from ..benchmarks import inputs
from ..benchmarks.liveportrait import counted, limits
from ..benchmarks.roofline import finish, peak_bytes, peak_operations
from .drawing import BATCH, bundled_models, turning
from .report import Report
from .setup import Setup, tf32

SHOWN = 15
"""Kernels in a profile."""


def peaks(setup: Setup, report: Report) -> None:
    """A large matrix product in every precision, and a large copy."""
    size, device = setup.pick(8192, 128), setup.device
    for name, dtype, allowed in (("float32", torch.float32, False), ("float32 as TensorFloat-32", torch.float32, True),
                                 ("float16", torch.float16, False), ("bfloat16", torch.bfloat16, False)):
        with report.attempt(name), tf32(False):
            before = torch.backends.cuda.matmul.allow_tf32
            torch.backends.cuda.matmul.allow_tf32 = allowed
            try:
                report.row(f"peak, matrix product, {name}",
                           f"{peak_operations(device, dtype, size) / 1e12:.4g} T operations a second",
                           short=dtype == torch.float16)
            finally:
                torch.backends.cuda.matmul.allow_tf32 = before
    report.row("peak, copy, read and written", f"{peak_bytes(device, setup.pick(2048, 1)) / 1e12:.4g} TB a second",
               short=True)


def roofline(setup: Setup, report: Report) -> None:
    """LivePortrait's frame against the peaks."""
    scene = setup.held["scene"]
    scene.accelerate("none")
    plain = setup.networks().to(setup.device)
    counts = counted(scene, plain, BATCH)
    for what, figure in limits(scene, counts, setup.held.get("seconds", {}), setup.pick(8192, 128),
                               setup.pick(2048, 1)):
        report.row(f"LivePortrait, batches of {BATCH}: {what}", figure, short=what.startswith(("share", "roofline")))


def profile(setup: Setup, report: Report) -> None:
    """Which kernels take the time of LivePortrait's frame, the landmark renderer's and a motion."""
    models = bundled_models(setup, setup.device)
    appearance = pipeline.extract_appearance(models, setup.portrait)
    motion = turning(setup.pick(32, 4))
    features = pipeline.encode_audio(models, inputs.voice(setup.pick(10.0, 0.8)))
    with (setup.folder / "profile.md").open("w", encoding="utf-8") as file:
        calls: list[tuple[str, Callable[[], object]]] = [
            ("the landmark renderer's frames",
             lambda: [frames.cpu() for frames in models.renderer.render(appearance, motion)]),
            ("the motion network", lambda: models.motion.sample(features, steps=setup.pick(10, 2)))]
        if "scene" in setup.held:
            scene = setup.held["scene"]
            scene.accelerate("none")
            calls.append(("LivePortrait's frames", lambda: scene.film(BATCH)))
        for name, call in calls:
            with report.attempt(name):
                call()  # once before, so that nothing is counted that happens once
                lines, told = _profiled(setup, call)
                file.write(f"## {name}\n\n" + "\n".join(lines) + "\n\n")
                file.flush()
                report.row(f"profile of {name}", told, short=True)


def _profiled(setup: Setup, call: Callable[[], object]) -> tuple[list[str], str]:
    """(a Markdown table of the kernels that take longest, a sentence about the whole)."""
    activity = torch.profiler.ProfilerActivity
    watched = [activity.CPU, activity.CUDA] if setup.cuda else [activity.CPU]
    finish(setup.device)
    with torch.profiler.profile(activities=watched) as seen:
        start = time.perf_counter()
        call()
        finish(setup.device)
        wall = time.perf_counter() - start
    took = []
    for event in seen.key_averages():
        on_card = event.device_type != torch.autograd.DeviceType.CPU
        if on_card != setup.cuda:
            continue
        micros = getattr(event, "self_device_time_total", None) if setup.cuda else event.self_cpu_time_total
        if micros is None:  # torch before 2.6
            micros = event.self_cuda_time_total
        took.append((micros / 1e6, event.count, event.key))
    took.sort(reverse=True)
    busy = sum(seconds for seconds, _, _ in took) or 1e-9
    lines = [f"{wall:.3f} s by the clock, of which {busy:.3f} s in {sum(count for _, count, _ in took)} "
             f"{'kernels' if setup.cuda else 'operations'}.", "",
             "| seconds | share | calls | name |", "|---|---|---|---|",
             *(f"| {seconds:.4f} | {seconds / busy:.1%} | {count} | {name[:150].replace('|', '/')} |"
               for seconds, count, name in took[:SHOWN])]
    top = ", ".join(f"{name[:40]} {seconds / busy:.0%}" for seconds, _, name in took[:3])
    return lines, f"{busy / wall:.0%} of the time in {'kernels' if setup.cuda else 'operations'}: {top}"
