"""Both renderers on the device: right, how fast, in how much memory, and when memory runs out."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from playmate_core import pipeline
from playmate_core.motion.edits import slice_frames
from playmate_core.motion.types import Motion
from playmate_core.render.liveportrait import LivePortraitRenderer
from playmate_core.runtime.acceleration import COMPILE, GRAPHS, NONE

from ..benchmarks import inputs
from ..benchmarks.liveportrait import Scene
from ..benchmarks.roofline import timed
from ..benchmarks.speed import Stages, to_motion
from .report import FAILED, OK, Report
from .setup import Setup, little_memory, tf32

CPU = torch.device("cpu")
EMOTION = "happy 1"
SAME_MOTION = (1e-4, 5e-3)
"""Largest difference of expression, and of angles in degrees, between the device's motion and the CPU's."""
SAME_FRAMES = 0.1
"""Mean difference in grey levels of 255 between the device's frames and the CPU's, both in float32: a few pixels at
the edges of masks differ more."""
HALF_FRAMES = 1.0
"""The same where the device draws in half precision."""
BATCH = 4


def frames_of(renderer, appearance, motion: Motion, batch: int | None = None) -> Tensor:
    """[T, H, W, 3] on the CPU."""
    return torch.cat([frames.cpu() for frames in renderer.render(appearance, motion, batch_size=batch)])


def grey(report: Report, what: str, found: Tensor, wanted: Tensor, bound: float, short: bool = False) -> None:
    """A row with the difference of two films in grey levels of 255; their mean is held to ``bound``."""
    error = (found.float() - wanted.float()).abs() * 255
    mean = float(error.mean())
    report.row(f"{what}, grey levels of 255", f"mean {mean:.3f}, {float(error.max()):.1f} at most",
               allowed=f"mean {bound:g}", result=OK if found.shape == wanted.shape and mean < bound else FAILED,
               short=short)


def bundled_models(setup: Setup, device: torch.device, acceleration: str = NONE) -> pipeline.Models:
    key = f"bundled {device} {acceleration}"
    if key not in setup.held:
        setup.held[key] = pipeline.load_models(device=device, acceleration=acceleration)
    return setup.held[key]


def _path(models: pipeline.Models, setup: Setup, seconds: float, label: str, report: Report, short: bool,
          batch: int | None = None) -> tuple:
    """Rows of the whole way from a sound to frames, after once in small; (appearance, motion)."""
    small = inputs.voice(setup.pick(0.5, 0.2))
    if not setup.toy or not setup.held.get("warm"):  # a rehearsal has nothing to warm up
        for _ in pipeline.render_frames(models, *to_motion(models, setup.portrait, small, Stages(models.device),
                                                           steps=2), batch):
            setup.held["warm"] = True
    stages = Stages(models.device)
    appearance, motion = to_motion(models, setup.portrait, inputs.voice(seconds), stages, seed=3, emotion=EMOTION)
    stages("render", lambda: [frames.cpu() for frames in pipeline.render_frames(models, appearance, motion, batch)])
    whole, frames = sum(stages.seconds.values()), max(len(motion), 1)
    told = ", ".join(f"{name} {value:.3f} s" for name, value in stages.seconds.items())
    report.row(f"{label}: {seconds:g} s of voice to {len(motion)} frames",
               f"{whole:.2f} s, {1e3 * stages.seconds['render'] / frames:.1f} ms a frame drawn ({told})", short=short)
    return appearance, motion


def bundled(setup: Setup, report: Report) -> None:
    """The pack that ships: from sound to frames on the device, on the CPU, and accelerated."""
    seconds, part = setup.pick(10.0, 0.24), setup.pick(100, 5)
    motions, films = {}, {}
    for device in dict.fromkeys((CPU, setup.device)):
        with report.attempt(f"bundled pack on {device}"):
            models = bundled_models(setup, device)
            appearance, motions[device] = _path(models, setup, seconds, f"bundled pack on {device}", report, True)
            films[device] = frames_of(models.renderer, appearance, slice_frames(motions[CPU], 0, part))
    with report.attempt("the same on both"):
        _same_motion(report, f"motion, {setup.device} against CPU", motions[setup.device], motions[CPU], True)
        grey(report, f"landmark renderer, {setup.device} against CPU", films[setup.device], films[CPU], SAME_FRAMES,
             True)
    for name in (GRAPHS, COMPILE):
        with report.attempt(f"bundled pack, {name}"):
            models = bundled_models(setup, setup.device, name)
            _, motion = _path(models, setup, seconds, f"bundled pack, {name}", report, True)
            _same_motion(report, f"motion, {name} against plain", motion, motions[setup.device])


def _same_motion(report: Report, what: str, found: Motion, wanted: Motion, short: bool = False) -> None:
    for name, bound in zip(("expression", "rotation"), SAME_MOTION, strict=True):
        error = float((getattr(found, name) - getattr(wanted, name)).abs().max())
        report.bounded(f"{what}: {name}", error, bound, short=short)


def landmark(setup: Setup, report: Report) -> None:
    """The landmark renderer alone: batches, memory, memory that runs out, a large picture."""
    models, device = bundled_models(setup, setup.device), setup.device
    frames = setup.pick(64, 4)
    motion = turning(frames)
    appearance = pipeline.extract_appearance(models, setup.portrait)
    wanted = frames_of(models.renderer, appearance, motion, 1)
    for batch in (1, 2, 4, 16):
        with report.attempt(f"batches of {batch}"):
            seconds = timed(lambda: frames_of(models.renderer, appearance, motion, batch),  # noqa: B023
                            device, setup.pick(3, 1), 1)
            report.row(f"landmark renderer, batches of {batch}, {setup.portrait.shape[0]} pixels",
                       f"{1e3 * seconds / frames:.2f} ms a frame{memory_of(device, models, appearance, motion, batch)}",
                       short=batch == 4)
    with report.attempt("memory that runs out"):
        ran_out(setup, report, "landmark renderer", models.renderer, appearance, motion, wanted, SAME_FRAMES)
    with report.attempt("a large picture"):
        rows, columns = setup.film
        large = torch.nn.functional.interpolate(setup.portrait.permute(2, 0, 1)[None], (rows, rows), mode="bilinear")
        large = torch.nn.functional.pad(large[0].permute(1, 2, 0), (0, 0, 0, columns - rows))
        held = pipeline.extract_appearance(models, large)
        seconds = timed(lambda: frames_of(models.renderer, held, slice_frames(motion, 0, 6)), device, 1, 0) / 6
        report.row(f"landmark renderer, {columns} x {rows}", f"{1e3 * seconds:.1f} ms a frame", short=True)


def turning(frames: int) -> Motion:
    """A head that turns and speaks."""
    motion = Motion.rest(frames)
    motion.rotation[:, 1] = torch.linspace(0, 8, frames)
    motion.expression[:, 19, 1] = torch.linspace(0, 0.03, frames)
    return motion


def memory_of(device: torch.device, models, appearance, motion: Motion, batch: int) -> str:
    if device.type != "cuda":
        return ""
    torch.cuda.reset_peak_memory_stats(device)
    for _ in models.renderer.render(appearance, motion, batch_size=batch):
        pass
    return f", {torch.cuda.max_memory_allocated(device) / 2**30:.2f} GB at most"


def ran_out(setup: Setup, report: Report, what: str, renderer, appearance, motion: Motion, wanted: Tensor,
            bound: float) -> None:
    """A batch that does not fit is halved and nothing is lost."""
    device, large = setup.device, len(motion)
    limit = 0
    if setup.cuda:
        claimed = []
        for batch in (1, large):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            frames_of(renderer, appearance, slice_frames(motion, 0, batch), batch)
            claimed.append(torch.cuda.max_memory_reserved(device))
        limit = claimed[0] + (claimed[1] - claimed[0]) // 3
        report.row(f"{what}: memory claimed for 1 and {large} frames at once",
                   f"{claimed[0] / 2**30:.2f} GB, {claimed[1] / 2**30:.2f} GB; allowed now {limit / 2**30:.2f} GB")
    with little_memory(device, limit, renderer, fits=1):
        sizes = [len(frames) for frames in renderer.render(appearance, motion, batch_size=large)]
        found = frames_of(renderer, appearance, motion, large)
    report.row(f"{what}: memory that runs out", f"{large} frames at once became {max(sizes)}; {sum(sizes)} drawn",
               allowed=f"{large} drawn, fewer at once", short=True,
               result=OK if sum(sizes) == large and max(sizes) < large else FAILED)
    grey(report, f"{what}: drawn then, against one by one", found, wanted, bound)


def liveportrait(setup: Setup, report: Report) -> None:
    """LivePortrait at its published sizes, plain and as CUDA graphs: speed, memory, agreement, paste-back."""
    scene = Scene.of(setup.networks(), setup.device, setup.pick(64, 4), setup.film)
    setup.held["scene"] = scene
    few = slice_frames(scene.motion, 0, 4)
    setup.held["drawn plainly"] = frames_of(scene.renderer, scene.appearance, few, BATCH)
    for name in (NONE, GRAPHS):
        with report.attempt(f"LivePortrait, {name}"):
            accelerated(setup, report, scene, name)
    scene.accelerate(NONE)
    for batch in (1, 2, 8):
        with report.attempt(f"batches of {batch}"):
            seconds = scene.seconds(batch, setup.pick(20, 1))
            report.row(f"LivePortrait, S + W + G, batches of {batch}",
                       f"{1e3 * seconds:.2f} ms a frame, {scene.memory(batch, 1) / 2**30:.2f} GB at most")
    with report.attempt("against the CPU"):
        model = Scene.of(setup.networks(), CPU, 2, setup.film)
        wanted = frames_of(model.renderer, model.appearance, model.motion, 1)
        given = model.appearance.image, model.appearance.face
        exact = LivePortraitRenderer(setup.networks(), model.renderer.bridge, setup.device, torch.float32)
        for renderer, bound, rounded in ((scene.renderer, HALF_FRAMES, True), (exact, SAME_FRAMES, False)):
            # As torch has it by default, and as it is: F and M never round, W and G in float32 would.
            with tf32(rounded):
                found = frames_of(renderer, renderer.prepare(*given), model.motion, 2)
            grey(report, f"LivePortrait, {setup.device} in {renderer.dtype} against CPU, pasted back", found, wanted,
                 bound, True)
    with report.attempt("memory that runs out"):
        motion = turning(8)
        wanted = frames_of(scene.renderer, scene.appearance, motion, 1)
        ran_out(setup, report, "LivePortrait", scene.renderer, scene.appearance, motion, wanted, HALF_FRAMES)


def accelerated(setup: Setup, report: Report, scene: Scene, name: str) -> None:
    """Rows of one acceleration of LivePortrait's networks."""
    scene.accelerate(name)
    seconds = scene.seconds(BATCH, setup.pick(30, 1))
    if scene.given_up:
        report.row(f"LivePortrait, {name}", "does not work here, see the log", result=FAILED, short=True)
        return
    setup.held.setdefault("seconds", {})[name] = seconds
    report.row(f"LivePortrait, {name}: S + W + G, batches of {BATCH}, {scene.renderer.dtype}",
               f"{1e3 * seconds:.2f} ms a frame", short=True)
    held = [scene.memory(BATCH, times) / 2**30 for times in (1, 2)]
    report.row(f"LivePortrait, {name}: memory for {len(scene.motion)} frames and twice as many",
               f"{held[0]:.2f} GB, {held[1]:.2f} GB", short=True, allowed="flat",
               result=OK if held[1] <= held[0] * 1.02 else FAILED)
    report.row(f"LivePortrait, {name}: with paste-back into {setup.film[1]} x {setup.film[0]}",
               f"{1e3 * scene.film_seconds(BATCH, setup.pick(3, 1)):.2f} ms a frame", short=True)
    found = frames_of(scene.renderer, scene.appearance, slice_frames(scene.motion, 0, 4), BATCH)
    grey(report, f"LivePortrait, {name} against plain", found, setup.held["drawn plainly"], HALF_FRAMES)


def compiled(setup: Setup, report: Report) -> None:
    """LivePortrait through torch.compile, which takes its time to start."""
    scene = setup.held["scene"]
    accelerated(setup, report, scene, COMPILE)
    _through(setup, report, scene, COMPILE)


def whole_path(setup: Setup, report: Report) -> None:
    """From a sound to LivePortrait's frames, people and animals."""
    scene = setup.held["scene"]
    for name in (NONE, GRAPHS):
        with report.attempt(f"the whole path, {name}"):
            scene.accelerate(name)
            _through(setup, report, scene, name)
    with report.attempt("animals"):
        bundled = bundled_models(setup, setup.device)
        animal = LivePortraitRenderer(setup.networks(), bundled.bridge, setup.device, animal=True)
        _path(replace(bundled, renderer=animal), setup, setup.pick(2.0, 0.24), "LivePortrait for animals", report, True,
              BATCH)


def _through(setup: Setup, report: Report, scene: Scene, name: str) -> None:
    models = replace(bundled_models(setup, setup.device, name), renderer=scene.renderer)
    _path(models, setup, setup.pick(10.0, 0.24), f"LivePortrait, {name}, on {setup.device}", report, True, BATCH)
