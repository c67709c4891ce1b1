"""LivePortrait's networks at their published sizes with made-up weights, which do not change the speed.

Prints milliseconds a frame (the median of the runs), memory, the arithmetic's share of the measured peak and the time
of the speech's way to motion, and puts the table into docs/performance.md, at the machine's kind of device.
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
from playmate_core.runtime.acceleration import COMPILE, GRAPHS, NONE, accelerated, tuned

from . import inputs, machine
from .roofline import Counter, peak_bytes, peak_operations, timed

PAGE = machine.ROOT / "docs" / "performance.md"
FULL_HD = (1080, 1920)
SPEECH = 60.0
"""Seconds of the voice that becomes motion."""

WANTED = {NONE: "wanted: 6 ms", COMPILE: "wanted: 4 ms"}

Row = tuple[str, str]


def run(device: str = "cpu", batch: int | None = None, runs: int | None = None) -> None:
    """Measures and prints; ``batch`` frames at once and ``runs`` repetitions, by default what suits the device."""
    where = torch.device(device)
    batch = batch or (4 if where.type == "cuda" else 1)
    runs = runs or (50 if where.type == "cuda" else 7)
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


def _ready(nets: Networks, device: torch.device):
    """(renderer, appearance of a 1080p picture with the sample portrait's face, motion)."""
    from playmate_core.face.analyzer import FaceAnalyzer
    from playmate_core.face.bridge import LatentBridge
    from playmate_core.render.liveportrait import LivePortraitRenderer

    image = torch.nn.functional.interpolate(inputs.portrait().permute(2, 0, 1)[None, :3], (1080, 1080),
                                            mode="bilinear")[0].permute(1, 2, 0)
    image = torch.nn.functional.pad(image, (0, 0, 0, FULL_HD[1] - 1080))
    face = FaceAnalyzer.load().analyze(image[None])[0][0]
    renderer = LivePortraitRenderer(nets, LatentBridge.load(), device)
    appearance = renderer.prepare(image, face)
    frames = 64 if device.type == "cuda" else 2
    motion = Motion.rest(frames)
    motion.rotation[:, 1] = torch.linspace(0, 10, frames)
    motion.expression[:, 19, 1] = 0.02
    return renderer, appearance, motion


def _cpu(runs: int) -> list[Row]:
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
    ratios = sorted(x / y for x, y in zip(seconds["theirs"], seconds["ours"], strict=True))
    return [("plain, unfused, frame by frame: S + W + G", f"{a:.2f} s a frame"),
            ("ours: S + W + G", f"{b:.2f} s a frame"),
            (f"ratio of the medians of {runs} turns (wanted: 1.3); turn by turn",
             f"{a / b:.2f}; {ratios[0]:.2f} to {ratios[-1]:.2f}"),
            ("largest difference between both pictures (0 to 1)", f"{error:.1e}"),
            ("ours with paste-back into 1920 x 1080", f"{whole:.2f} s a frame"),
            *_speech(torch.device("cpu"))]


@torch.no_grad()
def _gpu(device: torch.device, batch: int, runs: int) -> list[Row]:
    nets = networks()
    plain = copy.deepcopy(nets).to(device)
    renderer, appearance, motion = _ready(nets, device)
    source, kp_source = appearance.payload.warp, appearance.payload.source.keypoints()
    kp = kp_source.expand(batch, -1, -1) + 0.01

    def draw() -> torch.Tensor:
        return renderer._crops(source, nets.stitching.stitch(kp_source, kp), batch)

    with Counter() as ours:
        picture = draw()
    with Counter() as theirs:
        wanted = plain_frame(plain, source.volume.float(), kp_source, kp[:1])
    error = float((picture[:1].float() - wanted).abs().max())
    del plain, wanted
    if device.type == "cuda":
        torch.cuda.empty_cache()
    rows, seconds = [], {}
    for name in (NONE, GRAPHS, COMPILE) if device.type == "cuda" else (NONE,):
        rows += _drawn(renderer, name, draw, appearance, motion, device, batch, runs, seconds)
    rows.append(("largest difference from the float32 networks, unfused (0 to 1)", f"{error:.1e}"))
    peak = peak_operations(device, renderer.dtype)
    rows += [("operations a frame: ours, unfused",
              f"{ours.operations / batch / 1e9:.0f} G, {theirs.operations / 1e9:.0f} G"),
             ("launches a batch", str(len(ours.launches))),
             ("peak of a large matrix product", f"{peak / 1e12:.0f} T operations a second"),
             ("share of that peak: " + ", ".join(seconds),
              ", ".join(f"{ours.operations / batch / value / peak:.0%}" for value in seconds.values()))]
    if device.type == "cuda":
        moved = peak_bytes(device)
        rows += [("bytes that the launches read and write, a frame", f"{ours.bytes / batch / 1e9:.2f} GB"),
                 ("peak of a large copy, read and written", f"{moved / 1e12:.2f} TB a second"),
                 ("roofline: every launch at the peak that binds it",
                  f"{1e3 * ours.seconds_at(peak, moved) / batch:.2f} ms a frame")]
    return rows + _speech(device)


def _drawn(renderer, name: str, draw, appearance, motion, device: torch.device, batch: int, runs: int,
           seconds: dict[str, float]) -> list[Row]:
    """Rows of one acceleration; its seconds a frame go into ``seconds``."""
    renderer.acceleration = name
    modules = (renderer.networks.warping, renderer.networks.generator)
    renderer._draw = accelerated(renderer._warp_and_generate, name, modules)
    with tuned():
        seconds[name] = timed(draw, device, runs, warm_up=5) / batch
    if getattr(renderer._draw, "failed", False):
        seconds.pop(name)
        return [(f"W + G + S, {name}", "does not work here")]
    label = "" if name == NONE else f", {name}"
    bound = f" ({WANTED[name]})" if name in WANTED else ""
    rows = [(f"W + G + S, batches of {batch}, {renderer.dtype}{label}{bound}", f"{1e3 * seconds[name]:.2f} ms a frame")]

    def whole(times: int = 1) -> None:
        for _ in range(times):
            for _ in renderer.render(appearance, motion, batch_size=batch):
                pass

    if device.type == "cuda":
        for times in (1, 2):
            torch.cuda.reset_peak_memory_stats(device)
            whole(times)
            rows.append((f"memory{label}, {times * len(motion)} frames in batches of {batch} (wanted: 4 GB, flat)",
                         f"{torch.cuda.max_memory_allocated(device) / 2**30:.2f} GB"))
    rows.append((f"with paste-back into 1920 x 1080{label} (wanted: 8 ms)",
                 f"{1e3 * timed(whole, device, 5, 1) / len(motion):.2f} ms a frame"))
    return rows


def _speech(device: torch.device) -> list[Row]:
    """A minute of speech to motion with the bundled encoder and motion model."""
    try:
        from playmate_core.emotion.curve import EmotionCurve
        from playmate_core.media.sound import from_waveform
        from playmate_core.pipeline import load_motion_and_speech

        sound = from_waveform(*inputs.voice(SPEECH))
        model, encoder = load_motion_and_speech(device=device)
    except ImportError as error:
        return [(f"{SPEECH:.0f} s of speech to motion", f"not measured: {error}")]
    bound = " (wanted: 1 s)" if device.type == "cuda" else ""
    happy = EmotionCurve.constant("happy", 1.0, round(25 * SPEECH), 25.0)
    rows = []
    for name in (NONE, GRAPHS) if device.type == "cuda" else (NONE,):
        model.acceleration = name
        label = "" if name == NONE else f", {name}"
        for emotion, feels in ((None, ""), (happy, ", happy")):
            took = timed(lambda: model.sample(encoder.encode(sound), emotion=emotion), device, 3, 1)  # noqa: B023
            rows.append((f"{SPEECH:.0f} s of speech to motion{feels}{label}{bound}", f"{took:.2f} s"))
    return rows


def _write(kind: str, table: list[str]) -> None:
    """Puts the table between the page's marks for this kind of device."""
    first, last = f"<!-- liveportrait {kind} -->", f"<!-- end liveportrait {kind} -->"
    text = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    if first not in text or last not in text:
        sys.stdout.write(f"{PAGE.name} has no place for the device {kind}; it is left as it is.\n")
        return
    before, rest = text.split(first, 1)
    after = rest.split(last, 1)[1]
    body = "\n".join(["```", machine.describe(), "```", "", *table])
    PAGE.write_text(f"{before}{first}\n{body}\n{last}{after}", encoding="utf-8")
