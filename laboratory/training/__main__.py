"""``python -m laboratory.training``: make or prepare a corpus, train on it."""

from __future__ import annotations

import argparse
import logging
import sys

from playmate_core.runtime.errors import PlaymateError

INTERRUPTED = 130
STOPPED = 143
"""Exit status of a run that SIGTERM or Ctrl-C ended; its state is saved."""


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 something the user can mend (said in one sentence), ``INTERRUPTED``, ``STOPPED``."""
    arguments = sys.argv[1:] if arguments is None else arguments
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if arguments[:1] == ["corpus"]:
            from ..corpus.build import main as make_corpus
            return make_corpus(arguments[1:]) or 0
        if arguments[:1] == ["prepare"]:
            from .prepare import main as prepare_clips
            return prepare_clips(arguments[1:])
        return _train(_parser().parse_args(arguments))
    except PlaymateError as error:
        logging.getLogger(__name__).error("%s", error)
        return 2
    except KeyboardInterrupt:
        logging.getLogger(__name__).error("Interrupted; the same command continues a corpus, --resume a run from its "
                                          "last state.")
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m laboratory.training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("corpus", help="synthesise speech and its motion (see corpus --help)", add_help=False)
    commands.add_parser("prepare", help="make a corpus of real video (see prepare --help)", add_help=False)
    transfer = commands.add_parser("transfer", help="fine-tune the renderer to part pose from expression")
    transfer.add_argument("--liveportrait", required=True, metavar="DIR", help="LivePortrait's weights")
    transfer.add_argument("--vgg", required=True, metavar="FILE", help="torchvision's VGG19 weights")
    stage1 = commands.add_parser("stage1", help="train the motion diffusion model")
    stage2 = commands.add_parser("stage2", help="train the emotion controller on a finished stage 1")
    stage2.add_argument("--stage1", required=True, metavar="FILE", help="the stage-1 model, which stays as it is")
    for stage in (transfer, stage1, stage2):
        stage.add_argument("--corpus", required=True, metavar="DIR", help="folder made by corpus or prepare")
        stage.add_argument("--out", required=True, metavar="DIR", help="the run's folder")
        stage.add_argument("--config", metavar="FILE", help="JSON settings, or the name of some in this package "
                           "(stage1_full, stage2_full, transfer); left out: those of the bundled model")
        stage.add_argument("--resume", action="store_true", help="continue the run in --out")
        stage.add_argument("--minutes", type=float, help="stop, cooled down, after this time in all")
        stage.add_argument("--device", choices=("cpu", "cuda"), help="left out: the accelerator if there is one")
        stage.add_argument("--threads", type=int, help="CPU threads")
        stage.add_argument("--tensorboard", action="store_true", help="also log for TensorBoard, below --out")
    return parser


def _train(options: argparse.Namespace) -> int:
    if options.threads:
        import torch
        torch.set_num_threads(max(1, options.threads))
    from .settings import find_settings, load_settings

    config = find_settings(options.config or options.command)
    common = dict(resume=options.resume, device=options.device, tensorboard=options.tensorboard)
    if options.command == "transfer":
        from .transfer import TransferRun, TransferSettings, load_renderer
        from .vgg import Vgg19
        run = TransferRun(options.corpus, load_renderer(options.liveportrait), Vgg19.load(options.vgg),
                          TransferSettings.load(config), options.out, **common)
    elif options.command == "stage2":
        from .stage2 import Stage2
        run = Stage2(options.corpus, load_settings(config), options.out, stage1=options.stage1, **common)
    else:
        from .stage1 import Stage1
        run = Stage1(options.corpus, load_settings(config), options.out, **common)
    reached = run.train(options.minutes)
    if run.stopped:
        logging.getLogger(__name__).warning("Stopped as asked, at step %d; --resume continues it.", run.step)
        return STOPPED
    if run.accelerator.is_main_process:
        logging.getLogger(__name__).info("Wrote %s: %s", run.out / run.result, reached)
    return 0


if __name__ == "__main__":
    sys.exit(main())
