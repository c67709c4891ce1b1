"""Trains every stage for a few hundred steps at reduced size on real clips, and measures what docs/training.md claims:
the loss falls, a run that is interrupted goes on exactly, two processes give the same result as one.

    python -m laboratory.measures.training CLIPS --out DIR [--steps 300]

CLIPS is a folder of videos (LivePortrait's d5.mp4, d7.mp4, d8.mp4 will do, although they are silent). The renderer's
networks are as small as they come and have random weights, VGG19 too: what is shown is the training, not a renderer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from .. import ROOT

MODEL = dict(encoder="whisper-tiny.en", features_dim=384, axes=63, width=48, blocks=2, heads=2, kernel=7, dropout=0.0,
             window=25, previous=5, lookahead=2)
LABELS = ("happy", "neutral", "sad", "angry", "surprised")


def write_networks(folder: Path) -> None:
    """A tiny F, M, W and G and a VGG19 with random weights, in the published files' form."""
    from safetensors.torch import save_file

    from playmate_core.render.liveportrait.appearance import AppearanceConfig, AppearanceExtractor
    from playmate_core.render.liveportrait.checkpoint import FILES
    from playmate_core.render.liveportrait.generator import Generator, GeneratorConfig
    from playmate_core.render.liveportrait.motion_extractor import MotionExtractor, MotionExtractorConfig
    from playmate_core.render.liveportrait.warping import WarpingConfig, WarpingModule

    from ..training.vgg import Vgg19

    torch.manual_seed(0)
    dense = dict(block_expansion=4, max_features=8, num_blocks=1, reshape_depth=4, compress=2)
    made = dict(appearance=AppearanceExtractor(AppearanceConfig(3, 4, 2, 16, 4, 4, 1)),
                motion=MotionExtractor(MotionExtractorConfig(3, (1, 1), (16, 32), 21)),
                warping=WarpingModule(WarpingConfig(21, 4, 16, 2, 4, True, dense)),
                generator=Generator(GeneratorConfig(2, 4, 16, 2, 4)))
    with torch.no_grad():
        made["motion"].detector.fc_kp.weight.normal_(std=0.3)
        made["motion"].detector.fc_exp.weight.normal_(std=0.05)
        made["motion"].detector.fc_scale.bias.fill_(1.0)
    folder.mkdir(parents=True, exist_ok=True)
    for role, network in made.items():
        save_file(network.state_dict(), folder / f"{FILES[role]}.safetensors")
    save_file(Vgg19(width=8).state_dict(), folder / "vgg19.safetensors")


KILL = """
import os, sys
from laboratory.training import __main__, loop
learn = loop.Loop._learn
def until(self, progress):
    if self.step == {step}:
        os._exit(9)
    return learn(self, progress)
loop.Loop._learn = until
__main__.main(sys.argv[1:])
"""


DOUBLE = """
import sys
from types import SimpleNamespace
sys.path.insert(0, {root!r})
from laboratory.training import __main__, transfer, vgg
load, read = transfer.load_renderer, vgg.Vgg19.load
transfer.load_renderer = lambda folder: SimpleNamespace(**{{k: v.double() for k, v in vars(load(folder)).items()}})
vgg.Vgg19.load = staticmethod(lambda path: read(path).double())
sys.exit(__main__.main(sys.argv[1:]))
"""


def train(stage: str, out: Path, config: dict, more: list[str], processes: int = 1, resume: bool = False,
          killed_at: int | None = None, double: bool = False) -> None:
    """One sitting of the training command; ``killed_at`` a step its process ends as if the machine had; ``double`` all
    networks of the fine-tune in float64."""
    if not resume and (out / "state.pt").is_file() and (killed_at is not None or torch.load(
            out / "state.pt", weights_only=True)["step"] == config["training"]["steps"]):
        return  # made when the script ran before
    file = out.with_suffix(".json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(config))
    what = ["-m", "laboratory.training"]
    if double:
        what = [str(out.parent / "double.py")]
        Path(what[0]).write_text(DOUBLE.format(root=str(ROOT)))
    launch = [sys.executable, *what]
    if processes > 1:
        # docs/training.md: with --cpu it would want MPI for more than one process.
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes),
                  "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port",
                  "0", *what]
    if killed_at is not None:
        launch = [sys.executable, "-c", KILL.format(step=killed_at)]
    arguments = [stage, "--out", str(out), "--config", str(file), "--device", "cpu",
                 "--threads", "1", *more, *(["--resume"] if resume else [])]
    environment = dict(os.environ, OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE", ACCELERATE_USE_CPU="true")
    subprocess.run(launch + arguments, cwd=ROOT, check=killed_at is None, stderr=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, env=environment)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "state.pt", weights_only=True)["net"]


def log(run: Path, column: str = "loss") -> list[float]:
    return [json.loads(row)[column] for row in (run / "log.jsonl").read_text().splitlines()]


def show(stage: str, out: Path, config: dict, more: list[str], steps: int) -> dict:
    """The three proofs for one stage."""
    def of(count: int, **training) -> dict:
        return config | {"training": config["training"] | dict(steps=count, save_every=10**6) | training}

    few = max(10, steps // 10)
    train(stage, out / stage, of(steps, validate_every=few), more)
    fall = log(out / stage)
    train(stage, out / f"{stage}-few", of(few, validate_every=few), more)
    halves = of(few, validate_every=few, save_every=few // 2)
    train(stage, out / f"{stage}-part", halves, more, killed_at=few * 3 // 4)
    if torch.load(out / f"{stage}-part" / "state.pt", weights_only=True)["step"] == few // 2:
        train(stage, out / f"{stage}-part", halves, more, resume=True)
    whole, again = weights(out / f"{stage}-few"), weights(out / f"{stage}-part")
    repeated = all(torch.equal(v, again[k]) for k, v in whole.items())
    train(stage, out / f"{stage}-two", of(few, validate_every=few), more, processes=2)
    two = weights(out / f"{stage}-two")
    figures = dict(steps=steps, loss_first=fall[0], loss_last=fall[-1], resumed_exactly=repeated, few=few,
                   processes=log(out / f"{stage}-two", "processes")[-1],
                   two_processes_loss=[log(out / f"{stage}-few")[-1], log(out / f"{stage}-two")[-1]],
                   two_processes=compared(whole, two))
    held = log(out / stage, "val_transfer" if stage == "transfer" else "val_loss")
    figures |= dict(held_out_first=held[0], held_out_last=held[-1])
    if stage == "transfer":
        figures |= alike(out, of(few, validate_every=few), more)
    return figures


def alike(out: Path, few: dict, more: list[str]) -> dict:
    """Two processes against one for the fine-tune: as it is, with M alone as by default, and in float64."""
    from safetensors.torch import load_file

    start = {}
    for role, name in (("motion", "motion_extractor"), ("generator", "spade_generator")):
        start |= {f"{role}.{k}": v for k, v in load_file(out / "networks" / f"{name}.safetensors").items()}
    alone = few | {"training": few["training"] | dict(learned=["motion"])}
    found = {}
    for name, plan, double in (("", few, False), ("-alone", alone, False), ("-double", few, True)):
        runs = [out / f"transfer{name}-{count}" for count in ("one", "two")]
        for count, run in enumerate(runs, 1):
            train("transfer", run, plan, more, count, double=double)
        found[f"two_processes{name}"] = compared(*map(weights, runs), start)
    return found


def compared(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor],
             start: dict[str, torch.Tensor] | None = None) -> dict[str, float]:
    """How far weights of two runs are apart: at most, and in all, relative to the way from ``start`` (None: zero)."""
    rows = [(v.double(), two[k].double(), 0.0 if start is None else start[k].double())
            for k, v in one.items() if v.is_floating_point()]
    return dict(at_most=max(float((a - b).abs().max()) for a, b, _ in rows),
                relative=(sum(float((a - b).square().sum()) for a, b, _ in rows)
                          / sum(float((a - s).square().sum()) for a, _, s in rows)) ** 0.5,
                largest_weight=max(float(a.abs().max()) for a, _, _ in rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips")
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--stages", nargs="*", default=["stage1", "stage2", "transfer"])
    options = parser.parse_args()
    clips, out = Path(options.clips).resolve(), Path(options.out).resolve()
    corpus = out / "corpus"
    out.mkdir(parents=True, exist_ok=True)
    videos = sorted(p.name for p in clips.glob("*.mp4"))
    (out / "labels.csv").write_text("file,emotion,split\n" + "".join(
        f"{name},{LABELS[k % len(LABELS)]},{'train' if k else 'heldout'}\n" for k, name in enumerate(videos)))
    if not (corpus / "manifest.json").is_file():
        subprocess.run([sys.executable, "-m", "laboratory.training", "prepare", str(clips), "--out", str(corpus),
                        "--labels", str(out / "labels.csv"), "--crops", "128", "--heldout", "0", "--workers", "1",
                        "--least-voiced", "0", "--least-loudness", "-100"], cwd=ROOT, check=True)
    if not (out / "networks").is_dir():
        write_networks(out / "networks")
    common = ["--corpus", str(corpus)]
    training = dict(batch=16, learning_rate=0.002, warm_up=10, mixed_precision="no")
    paper = training | dict(normalisation="numbers", loss="noise", clean_previous=0.0, unlabelled="leave out")
    plans = dict(
        stage1=(dict(model=MODEL, training=paper), common),
        stage2=(dict(model=MODEL, training=paper),
                [*common, "--stage1", str(out / "stage1" / "motion_stage1.safetensors")]),
        transfer=(dict(training=dict(training, batch=4, learning_rate=0.0005, size=32, compared=32,
                                     learned=["motion", "generator"])),
                  [*common, "--liveportrait", str(out / "networks"), "--vgg", str(out / "networks/vgg19.safetensors")]))
    for stage in options.stages:
        figures = show(stage, out, *plans[stage], options.steps)
        (out / f"{stage}.figures.json").write_text(json.dumps(figures, indent=1))
        sys.stdout.write(json.dumps({stage: figures}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
