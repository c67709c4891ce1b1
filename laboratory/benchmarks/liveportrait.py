"""LivePortrait's networks at their published sizes with made-up weights, which do not change the speed.

Prints milliseconds a frame (the median of the runs), memory, the arithmetic's share of the measured peak and the time
of the speech's way to motion, and puts the table into docs/performance.md, at the machine's kind of device.
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from playmate_core.motion.types import Motion
from playmate_core.render.base import Appearance
from playmate_core.render.liveportrait.appearance import AppearanceExtractor
from playmate_core.render.liveportrait.checkpoint import Networks
from playmate_core.render.liveportrait.generator import Generator
from playmate_core.render.liveportrait.motion_extractor import MotionExtractor
from playmate_core.render.liveportrait.renderer import LivePortraitRenderer
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


def plain_frame(nets: Networks, volume: Tensor, kp_source: Tensor, kp: Tensor) -> Tensor:
    """One frame as the published code draws it: nothing folded, nothing kept from the frame before."""
    kp = nets.stitching.stitch(kp_source, kp)
    return nets.generator(nets.warping(nets.warping.source(volume, kp_source), kp)["out"])


@dataclass
class Scene:
    """A renderer with a portrait and a motion; the methods are what is timed."""

    renderer: LivePortraitRenderer
    appearance: Appearance
    motion: Motion

    @staticmethod
    def of(nets: Networks, device: torch.device, frames: int, size: tuple[int, int] = FULL_HD,
           animal: bool = False) -> Scene:
        """The sample portrait's face, as high as a picture of ``size`` (rows, columns) and at its left; the networks
        are taken over."""
        from playmate_core.face.analyzer import FaceAnalyzer
        from playmate_core.face.bridge import LatentBridge

        image = torch.nn.functional.interpolate(inputs.portrait().permute(2, 0, 1)[None, :3], (size[0], size[0]),
                                                mode="bilinear")[0].permute(1, 2, 0)
        image = torch.nn.functional.pad(image, (0, 0, 0, size[1] - size[0]))
        face = FaceAnalyzer.load().analyze(image[None])[0][0]
        renderer = LivePortraitRenderer(nets, LatentBridge.load(), device, animal=animal)
        motion = Motion.rest(frames)
        motion.rotation[:, 1] = torch.linspace(0, 10, frames)
        motion.expression[:, 19, 1] = 0.02
        return Scene(renderer, renderer.prepare(image, face), motion)

    @property
    def device(self) -> torch.device:
        return self.renderer.device

    def accelerate(self, name: str) -> None:
        """From now on W and G run this way."""
        networks = self.renderer.networks
        self.renderer.acceleration = name
        self.renderer._draw = accelerated(self.renderer._warp_and_generate, name,
                                          (networks.warping, networks.generator))

    @property
    def given_up(self) -> bool:
        """Whether the acceleration did not work on this machine."""
        return bool(getattr(self.renderer._draw, "failed", False))

    def crops(self, batch: int) -> Tensor:
        """[batch, 3, h, w] drawn squares: S, W and G, nothing else."""
        source, kp_source = self.appearance.payload.warp, self.appearance.payload.source.keypoints()
        kp = kp_source.expand(batch, -1, -1) + 0.01
        return self.renderer._crops(source, self.renderer.networks.stitching.stitch(kp_source, kp), batch)

    def film(self, batch: int, times: int = 1) -> None:
        """Draws the motion and pastes it back into the picture, ``times`` times."""
        for _ in range(times):
            for _ in self.renderer.render(self.appearance, self.motion, batch_size=batch):
                pass

    def seconds(self, batch: int, runs: int) -> float:
        """Of S, W and G, a frame."""
        with torch.no_grad(), tuned():
            return timed(lambda: self.crops(batch), self.device, runs, warm_up=5 if runs > 2 else 1) / batch

    def film_seconds(self, batch: int, runs: int) -> float:
        """With paste-back, a frame."""
        return timed(lambda: self.film(batch), self.device, runs, 1) / len(self.motion)

    def memory(self, batch: int, times: int) -> int:
        """Most bytes held at once while the motion is drawn ``times`` times; 0 where a device does not count."""
        counts = self.device.type == "cuda"
        if counts:
            torch.cuda.reset_peak_memory_stats(self.device)
        self.film(batch, times)
        return torch.cuda.max_memory_allocated(self.device) if counts else 0


def _cpu(runs: int) -> list[Row]:
    nets = networks()
    plain = copy.deepcopy(nets)
    scene = Scene.of(nets, torch.device("cpu"), 2)
    prepared = scene.appearance.payload
    kp_source, kp = prepared.source.keypoints(), prepared.source.keypoints() + 0.01

    def theirs() -> Tensor:
        return plain_frame(plain, prepared.warp.volume, kp_source, kp)

    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    with torch.no_grad():
        error = float((scene.crops(1) - theirs()).abs().max())
        # By turns, so that whatever else the machine does falls on both.
        for _ in range(runs):
            for name, call in (("theirs", theirs), ("ours", lambda: scene.crops(1))):
                start = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - start)
    whole = scene.film_seconds(1, 1)
    a, b = (statistics.median(seconds[name]) for name in ("theirs", "ours"))
    ratios = sorted(x / y for x, y in zip(seconds["theirs"], seconds["ours"], strict=True))
    return [("plain, unfused, frame by frame: S + W + G", f"{a:.2f} s a frame"),
            ("ours: S + W + G", f"{b:.2f} s a frame"),
            (f"ratio of the medians of {runs} turns; turn by turn",
             f"{a / b:.2f}; {ratios[0]:.2f} to {ratios[-1]:.2f}"),
            ("largest difference between both pictures (0 to 1)", f"{error:.1e}"),
            ("ours with paste-back into 1920 x 1080", f"{whole:.2f} s a frame"),
            *speech(torch.device("cpu"))]


@torch.no_grad()
def _gpu(device: torch.device, batch: int, runs: int) -> list[Row]:
    nets = networks()
    plain = copy.deepcopy(nets).to(device)
    scene = Scene.of(nets, device, 64)
    counts = counted(scene, plain, batch)
    del plain
    rows, seconds = [], {}
    for name in (NONE, GRAPHS, COMPILE) if device.type == "cuda" else (NONE,):
        scene.accelerate(name)
        label = "" if name == NONE else f", {name}"
        bound = f" ({WANTED[name]})" if name in WANTED else ""
        taken = scene.seconds(batch, runs)
        if scene.given_up:
            rows.append((f"W + G + S, {name}", "does not work here"))
            continue
        seconds[name] = taken
        rows.append((f"W + G + S, batches of {batch}, {scene.renderer.dtype}{label}{bound}",
                     f"{1e3 * taken:.2f} ms a frame"))
        for times in (1, 2) if device.type == "cuda" else ():
            rows.append((f"memory{label}, {times * len(scene.motion)} frames in batches of {batch} "
                         "(wanted: 4 GB, flat)", f"{scene.memory(batch, times) / 2**30:.2f} GB"))
        rows.append((f"with paste-back into 1920 x 1080{label} (wanted: 8 ms)",
                     f"{1e3 * scene.film_seconds(batch, 5):.2f} ms a frame"))
    return rows + limits(scene, counts, seconds) + speech(device, names=(NONE, GRAPHS))


@dataclass
class Counted:
    """What a frame costs: launches of a batch of ours, of one frame unfused, and their largest difference."""

    batch: int
    ours: Counter
    unfused: Counter
    error: float


@torch.no_grad()
def counted(scene: Scene, plain: Networks, batch: int) -> Counted:
    """``plain``: the same networks unfused, on the same device."""
    prepared = scene.appearance.payload
    kp_source = prepared.source.keypoints()
    with Counter() as ours:
        picture = scene.crops(batch)
    with Counter() as unfused:
        wanted = plain_frame(plain, prepared.warp.volume.float(), kp_source, kp_source + 0.01)
    return Counted(batch, ours, unfused, float((picture[:1].float() - wanted).abs().max()))


def limits(scene: Scene, counts: Counted, seconds: dict[str, float], size: int = 8192,
           megabytes: int = 2048) -> list[Row]:
    """What the device could do at best, and what share of it each acceleration reaches in its seconds a frame."""
    device, batch, ours = scene.device, counts.batch, counts.ours
    peak = peak_operations(device, scene.renderer.dtype, size)
    moved = peak_bytes(device, megabytes)
    return [("largest difference from the float32 networks, unfused (0 to 1)", f"{counts.error:.1e}"),
            ("operations a frame: ours, unfused",
             f"{ours.operations / batch / 1e9:.0f} G, {counts.unfused.operations / 1e9:.0f} G"),
            ("launches a batch", str(len(ours.launches))),
            ("peak of a large matrix product", f"{peak / 1e12:.3g} T operations a second"),
            ("share of that peak: " + ", ".join(seconds),
             ", ".join(f"{ours.operations / batch / value / peak:.0%}" for value in seconds.values())),
            ("bytes that the launches read and write, a frame", f"{ours.bytes / batch / 1e9:.2f} GB"),
            ("peak of a large copy, read and written", f"{moved / 1e12:.3g} TB a second"),
            ("roofline: every launch at the peak that binds it",
             f"{1e3 * ours.seconds_at(peak, moved) / batch:.2f} ms a frame")]


def speech(device: torch.device, seconds: float = SPEECH, names: Sequence[str] = (NONE,), runs: int = 3,
           steps: int = 10, failed: Callable[[str], None] = lambda sentence: None) -> list[Row]:
    """Speech to motion with the bundled encoder and motion model, neutral and happy.

    Args:
        names: accelerations.
        failed: told of what did not work.
    """
    from playmate_core.emotion.curve import EmotionCurve
    from playmate_core.media.sound import from_waveform
    from playmate_core.pipeline import load_motion_and_speech

    try:
        sound = from_waveform(*inputs.voice(seconds))
        model, encoder = load_motion_and_speech(device=device)
    except ImportError as error:
        failed(str(error))
        return [(f"{seconds:.0f} s of speech to motion", f"not measured: {error}")]
    bound = " (wanted: 1 s)" if device.type == "cuda" else ""
    happy = EmotionCurve.constant("happy", 1.0, round(25 * seconds), 25.0)
    rows = []
    for name in names:
        model.acceleration = name
        label = "" if name == NONE else f", {name}"
        for emotion, feels in ((None, ""), (happy, ", happy")):
            took = timed(lambda: model.sample(encoder.encode(sound), emotion=emotion, steps=steps),  # noqa: B023
                         device, runs, 1)
            rows.append((f"{seconds:.0f} s of speech to motion{feels}{label}{bound}", f"{took:.2f} s"))
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
