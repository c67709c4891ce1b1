"""Training on several processes, in several pieces and from the disk is training on one."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from laboratory.training.dataset import Rows, load_corpus
from laboratory.training.loop import LOG, STATE
from laboratory.training.settings import Settings, Training
from laboratory.training.stage1 import Stage1
from playmate_core.diffusion.denoiser import Dropout
from playmate_core.runtime.errors import PlaymateError
from tests.conftest import ROOT
from tests.diffusion_helpers import CONFIG
from tests.test_training_stage1 import CLIPS, toy_lips, write_corpus
from tests.test_training_transfer import in_double, networks, write_pictures

TRAINING = Training(batch=10, steps=4, learning_rate=3e-3, warm_up=2, decay=0.9, features_noise=0.1, short=0.3,
                    validate_every=2, save_every=100)
SETTINGS = Settings(dataclasses.replace(CONFIG, dropout=0.2), TRAINING, {})


def learned(folder):
    return torch.load(folder / STATE, weights_only=True)


def same(a, b):
    for key, value in learned(a)["net"].items():
        torch.testing.assert_close(learned(b)["net"][key], value, rtol=2e-4, atol=2e-6, msg=key)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run of one process on a corpus of shards: the corpus, the run's folder."""
    folder = tmp_path_factory.mktemp("alone")
    corpus = write_corpus(folder / "corpus", CLIPS[:6])
    Stage1(str(corpus), SETTINGS, folder / "run", device="cpu").train(show=False)
    return corpus, folder / "run"


def changed(**training):
    return dataclasses.replace(SETTINGS, training=dataclasses.replace(TRAINING, **training))


def launch(*command, port=0):
    """What docs/training.md says for two processes on the CPU; 0 takes a port that is free."""
    environment = dict(os.environ, ACCELERATE_USE_CPU="true", OMP_NUM_THREADS="1")
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines",
         "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", str(port), *command],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def test_two_processes_are_one(alone, tmp_path):
    corpus, run = alone
    config = tmp_path / "config.json"
    config.write_text(SETTINGS.to_json())
    launch("-m", "laboratory.training", "stage1", "--corpus", str(corpus), "--config", str(config), "--out",
           str(tmp_path / "run"), "--device", "cpu", "--threads", "1")
    same(run, tmp_path / "run")
    one, two = ([json.loads(row) for row in (folder / LOG).read_text().splitlines()]
                for folder in (run, tmp_path / "run"))
    assert [row["processes"] for row in two] == [2] * len(one)
    assert [row["loss"] for row in two] == pytest.approx([row["loss"] for row in one], rel=1e-4)


TRANSFER = """
import sys
sys.path.insert(0, {root!r})
from tests.test_training_transfer import in_double
in_double({corpus!r}, {out!r}).train(show=False)
"""


def test_two_processes_are_one_for_the_transfer_too(tmp_path):
    """In float64: in float32 Adam's first steps make much of rounding, since random networks have gradients that are
    nearly nothing (docs/training.md, Shown). They do so in float64 too, and how much depends on the processor; a share
    of the batch that was lost or counted twice would set the two apart by as much as they moved."""
    corpus = write_pictures(tmp_path / "corpus", held_out=False)
    in_double(corpus, tmp_path / "one").train(show=False)
    script = tmp_path / "two.py"
    script.write_text(TRANSFER.format(root=str(ROOT), corpus=str(corpus), out=str(tmp_path / "two")))
    launch(str(script))
    assert json.loads((tmp_path / "two" / LOG).read_text().splitlines()[-1])["processes"] == 2
    before = {f"{role}.{key}": value for role in ("motion", "generator")
              for key, value in getattr(networks(), role).state_dict().items()}
    one, two = learned(tmp_path / "one")["net"], learned(tmp_path / "two")["net"]
    moved = max(float((one[key] - value).abs().max()) for key, value in before.items())
    apart = max(float((one[key] - two[key]).abs().max()) for key in before)
    assert moved > 5e-4 and apart < 1e-4 * moved


def test_pieces_are_the_whole(alone, tmp_path):
    Stage1(str(alone[0]), changed(accumulate=3), tmp_path, device="cpu").train(show=False)
    same(alone[1], tmp_path)


def test_dropout_is_the_batchs_not_the_pieces(alone, tmp_path):
    """Without it the runs above would agree for nothing."""
    layer, x = Dropout(0.5), torch.ones(6, 4, 50)
    torch.manual_seed(0)
    layer.place = slice(0, 6), 6
    whole = layer(x)
    assert 0.4 < float((whole == 0).float().mean()) < 0.6 and float(whole.max()) == 2.0
    torch.manual_seed(0)
    layer.place = slice(2, 5), 6
    assert torch.equal(layer(x[2:5]), whole[2:5])
    assert torch.equal(layer.eval()(x), x)
    none = dataclasses.replace(SETTINGS, model=CONFIG)
    Stage1(str(alone[0]), none, tmp_path, device="cpu").train(show=False)
    with pytest.raises(AssertionError):
        same(alone[1], tmp_path)


def test_from_the_disk_as_from_memory(alone, tmp_path):
    run = Stage1(str(alone[0]), changed(storage="disk"), tmp_path, device="cpu")
    run.train(show=False)
    for key, value in learned(alone[1])["net"].items():
        assert torch.equal(learned(tmp_path)["net"][key], value), key
    written = (tmp_path / "windows" / "audio.bin").stat().st_mtime_ns
    again = Stage1(str(alone[0]), changed(storage="disk"), tmp_path, resume=True, device="cpu")
    assert (tmp_path / "windows" / "audio.bin").stat().st_mtime_ns == written, "what is there is used"
    assert torch.equal(again.windows.motion, run.windows.motion)


def test_a_disk_too_small_for_the_corpus(alone, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(PlaymateError, match="needs 0.0 GB.*storage to memory"):
        Stage1(str(alone[0]), changed(storage="disk"), tmp_path, device="cpu")


def test_rows_are_read_as_far_as_asked(alone):
    whole, lazy = (load_corpus(alone[0], lazy=kind)[2].tensors["expression"] for kind in (False, True))
    assert isinstance(lazy, Rows) and len(lazy) == len(whole) and lazy.shape == tuple(whole.shape)
    for rows in (slice(3, 9), slice(None), slice(1, None, 4), slice(100, 500)):
        torch.testing.assert_close(lazy[rows].float(), whole[rows])
    torch.testing.assert_close(lazy.double(), whole.double())


def test_a_batch_that_cannot_be_shared(alone, tmp_path):
    with pytest.raises(PlaymateError, match="cannot be shared"):
        Stage1(str(alone[0]), changed(accumulate=11), tmp_path, device="cpu")


def test_a_corpus_of_another_encoder(alone, tmp_path):
    other = dataclasses.replace(SETTINGS, model=dataclasses.replace(CONFIG, features_dim=20))
    with pytest.raises(PlaymateError, match="holds 12 speech features"):
        Stage1(str(alone[0]), other, tmp_path, device="cpu")
    clips = [dataclasses.replace(c, info=c.info | {"encoder": "ears"}) for c in CLIPS[:2]]
    with pytest.raises(PlaymateError, match="of ears"):
        Stage1(clips, SETTINGS, tmp_path / "b", device="cpu")


def test_the_log_for_tensorboard(alone, tmp_path, monkeypatch):
    """Without the package one sentence; with it, losses and figures by step."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(PlaymateError, match="TensorBoard is not installed"):
        Stage1(str(alone[0]), SETTINGS, tmp_path, device="cpu", tensorboard=True)
    rows = []

    class Writer:
        def __init__(self, folder, purge_step):
            self.folder = folder

        def add_scalar(self, name, value, step):
            rows.append((name, step))

        def flush(self):
            pass

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    run = Stage1(CLIPS, changed(steps=50, batch=2, validate_every=50), tmp_path, device="cpu", tensorboard=True,
                 lips=toy_lips)
    monkeypatch.setattr(run, "_measure", lambda model: dict(gap_r=0.5))
    run.train(show=False)
    assert {("loss", 50), ("learning_rate", 50), ("val_loss", 50), ("gap_r", 50)} <= set(rows)
