"""LivePortrait's networks at their published sizes with made-up weights, which do not change the speed.

Prints milliseconds a frame (the median of the runs), memory and the arithmetic's share of the measured peak, and puts
the table into docs/performance.md, in the section of the machine's kind of device.
"""

from __future__ import annotations

import copy
import statistics
import sys
import time

import torch

from playmate_core.motion.types import Motion
from playmate_core.render.liveportrait.appearance import AppearanceExtractor
from playmate_core.render.liveportrait.checkpoint import Networks
from playmate_core.render.liveportrait.generator import Generator
from playmate_core.render.liveportrait.motion_extractor import MotionExtractor
from playmate_core.render.liveportrait.stitching import Stitching
from playmate_core.render.liveportrait.warping import WarpingModule

from . import inputs, machine

PAGE = machine.ROOT / "docs" / "performance.md"
FULL_HD = (1080, 1920)


def run(device: str = "cpu", batch: int | None = None, runs: int | None = None) -> None:
    """Measures and prints; ``batch`` frames at once and ``runs`` repetitions, by default what suits the device."""
    where = torch.device(device)
    batch = batch or (4 if where.type == "cuda" else 1)
    runs = runs or (50 if where.type == "cuda" else 3)
    rows = _cpu(runs) if where.type == "cpu" else _gpu(where, batch, runs)
    table = ["| what | figure |", "|---|---|", *(f"| {name} | {figure} |" for name, figure in rows)]
    sys.stdout.write("\n".join(table) + "\n")
    _write(where.type, table)


@torch.no_grad()
def networks() -> Networks:
    """All five at published sizes."""
    torch.manual_seed(0)
    made = Networks(AppearanceExtractor(), MotionExtractor(), WarpingModule(), Generator(), Stitching())
    return made.eval().requires_grad_(False)


def plain_frame(nets: Networks, volume: torch.Tensor, kp_source: torch.Tensor, kp: torch.Tensor) -> torch.Tensor:
    """One frame as the published code draws it: nothing folded, nothing kept from the frame before."""
    kp = nets.stitching.stitch(kp_source, kp)
    return nets.generator(nets.warping(nets.warping.source(volume, kp_source), kp)["out"])


def _ready(nets: Networks, device: torch.device, compile: bool = False):
    """(renderer, appearance's payload for a 1080p picture, motion) with the sample portrait's face."""
    from playmate_core.face.analyzer import FaceAnalyzer
    from playmate_core.face.bridge import LatentBridge
    from playmate_core.render.liveportrait import LivePortraitRenderer

    image = torch.nn.functional.interpolate(inputs.portrait().permute(2, 0, 1)[None, :3], (1080, 1080),
                                            mode="bilinear")[0].permute(1, 2, 0)
    image = torch.nn.functional.pad(image, (0, 0, 0, FULL_HD[1] - 1080))
    face = FaceAnalyzer.load().analyze(image[None])[0][0]
    renderer = LivePortraitRenderer(nets, LatentBridge.load(), device, compile=compile)
    appearance = renderer.prepare(image, face)
    frames = 64 if device.type == "cuda" else 2
    motion = Motion.rest(frames)
    motion.rotation[:, 1] = torch.linspace(0, 10, frames)
    motion.expression[:, 19, 1] = 0.02
    return renderer, appearance, motion


def _cpu(runs: int) -> list[tuple[str, str]]:
    nets = networks()
    plain = copy.deepcopy(nets)
    renderer, appearance, motion = _ready(nets, torch.device("cpu"))
    prepared = appearance.payload
    kp_source, kp = prepared.source.keypoints(), prepared.source.keypoints() + 0.01
    volume = prepared.warp.volume

    def ours() -> torch.Tensor:
        return renderer._crops(prepared.warp, renderer.networks.stitching.stitch(kp_source, kp), 1)

    def theirs() -> torch.Tensor:
        return plain_frame(plain, volume, kp_source, kp)

    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    with torch.no_grad():
        error = float((ours() - theirs()).abs().max())
        # By turns, so that whatever else the machine does falls on both.
        for _ in range(runs):
            for name, call in (("theirs", theirs), ("ours", ours)):
                start = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - start)
        start = time.perf_counter()
        for _ in renderer.render(appearance, motion):
            pass
        whole = (time.perf_counter() - start) / len(motion)
    a, b = (statistics.median(seconds[name]) for name in ("theirs", "ours"))
    return [("plain, unfused, frame by frame: S + W + G", f"{a:.2f} s a frame"),
            ("ours: S + W + G", f"{b:.2f} s a frame"),
            ("ratio of the medians (wanted: 1.3)", f"{a / b:.2f}"),
            ("largest difference between both pictures (0 to 1)", f"{error:.1e}"),
            ("ours with paste-back into 1920 x 1080", f"{whole:.2f} s a frame")]


def _gpu(device: torch.device, batch: int, runs: int) -> list[tuple[str, str]]:
    from torch.utils.flop_counter import FlopCounterMode

    rows, nets = [], networks()
    plain = copy.deepcopy(nets).to(device)
    renderer, appearance, motion = _ready(nets, device)
    prepared = appearance.payload
    kp_source = prepared.source.keypoints()
    kp = kp_source.expand(batch, -1, -1) + 0.01
    source = prepared.warp

    def draw() -> torch.Tensor:
        return renderer._crops(source, nets.stitching.stitch(kp_source, kp), batch)

    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            draw()
        operations = counter.get_total_flops() / batch
        with FlopCounterMode(display=False) as counter:
            plain_frame(plain, source.volume.float(), kp_source, kp[:1])
        unfused = counter.get_total_flops()
        del plain
        forget = torch.cuda.empty_cache if device.type == "cuda" else (lambda: None)
        forget()
        peak = _peak(device)
        eager = _timed(draw, device, runs) / batch
        rows.append((f"W + G + S, batches of {batch}, {renderer.dtype}, without torch.compile (wanted: 6 ms)",
                     f"{1e3 * eager:.2f} ms a frame"))
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        for length in (1, 2):
            for _ in range(length):
                for _ in renderer.render(appearance, motion, batch_size=batch):
                    pass
            if device.type == "cuda":
                rows.append((f"memory, {length * len(motion)} frames in batches of {batch} (wanted: 4 GB, flat)",
                             f"{torch.cuda.max_memory_allocated(device) / 2**30:.2f} GB"))
        whole = _timed(lambda: [None for _ in renderer.render(appearance, motion, batch_size=batch)], device, 3)
        rows.append(("with paste-back into 1920 x 1080 (wanted: 8 ms)", f"{1e3 * whole / len(motion):.2f} ms a frame"))
        renderer._draw, renderer.compiled = torch.compile(renderer._warp_and_generate), True
        compiled = _timed(draw, device, runs) / batch
    rows.insert(1, ("the same with torch.compile (wanted: 4 ms)", f"{1e3 * compiled:.2f} ms a frame"))
    rows += [("floating-point operations a frame: ours, unfused", f"{operations / 1e9:.0f} G, {unfused / 1e9:.0f} G"),
             ("peak of a large matrix product", f"{peak / 1e12:.0f} T a second"),
             ("share of the peak, without and with torch.compile",
              f"{operations / eager / peak:.0%}, {operations / compiled / peak:.0%}")]
    return rows


def _timed(call, device: torch.device, runs: int) -> float:
    """Median seconds of a call that is finished on the device."""
    wait = torch.cuda.synchronize if device.type == "cuda" else torch.mps.synchronize
    for _ in range(3):
        call()
    seconds = []
    for _ in range(runs):
        wait()
        start = time.perf_counter()
        call()
        wait()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _peak(device: torch.device, size: int = 8192) -> float:
    """Floating-point operations a second of a matrix product in half precision."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.float16) for _ in range(2))
    return 2 * size**3 / _timed(lambda: a @ b, device, 20)


def _write(kind: str, table: list[str]) -> None:
    """Puts the table between the page's marks for this kind of device."""
    first, last = f"<!-- liveportrait {kind} -->", f"<!-- end liveportrait {kind} -->"
    text = PAGE.read_text() if PAGE.is_file() else ""
    if first not in text or last not in text:
        sys.stdout.write(f"{PAGE.name} has no place for the device {kind}; it is left as it is.\n")
        return
    before, rest = text.split(first, 1)
    after = rest.split(last, 1)[1]
    body = "\n".join(["```", machine.describe(), "```", "", *table])
    PAGE.write_text(f"{before}{first}\n{body}\n{last}{after}")
