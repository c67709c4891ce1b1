"""From a clip to a talking head through everything that docs/training.md tells, with tiny random networks."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from laboratory.measures.training import write_networks
from laboratory.training.__main__ import main
from laboratory.training.dataset import load_corpus
from laboratory.training.settings import Settings, find_settings, load_settings
from playmate_core.cli import main as cli
from playmate_core.diffusion.model import PlaymateMotionModel
from playmate_core.motion.files import load_motion
from tests.diffusion_helpers import CONFIG
from tests.joyvasa_helpers import write_encoder
from tests.test_training_prepare import film
from tests.test_training_transfer import TRAINING as FINE_TUNE


@pytest.fixture(scope="module")
def chain(tmp_path_factory, portrait_path, voice_path):
    """Run the commands; the folder in which they wrote."""
    folder = tmp_path_factory.mktemp("chain")
    film(folder / "happy" / "one.mp4", portrait_path, voice_path)
    write_networks(folder / "networks")
    write_encoder(folder / "wav2vec2-tiny", "wav2vec2")
    full = load_settings(find_settings("stage2_full")).training
    settings = Settings(
        dataclasses.replace(CONFIG, axes=63, encoder="wav2vec2-tiny", features_dim=64, dropout=0.1),
        dataclasses.replace(full, batch=4, steps=2, warm_up=1, validate_every=1, save_every=1), {})
    (folder / "stage.json").write_text(settings.to_json())
    fine_tune = dataclasses.replace(FINE_TUNE, learned=("motion",), batch=2, steps=2)
    (folder / "transfer.json").write_text(json.dumps(dict(training=dataclasses.asdict(fine_tune))))

    def prepare(out, weights):
        assert main(["prepare", str(folder / "happy"), "--out", str(out), "--liveportrait", str(weights), "--crops",
                     "64", "--speech-encoder", str(folder / "wav2vec2-tiny"), "--workers", "1", "--heldout", "0",
                     "--least-seconds", "0.5", "--least-voiced", "0", "--labels", str(folder / "labels.csv")]) == 0

    def train(stage, corpus, config, *more):
        assert main([stage, "--corpus", str(folder / corpus), "--out", str(folder / stage), "--config",
                     str(folder / config), "--device", "cpu", *more]) == 0

    (folder / "labels.csv").write_text("file,emotion\none,happy\n")
    prepare(folder / "first", folder / "networks")
    train("transfer", "first", "transfer.json", "--liveportrait", str(folder / "networks"), "--vgg",
          str(folder / "networks" / "vgg19.safetensors"))
    prepare(folder / "second", folder / "transfer")
    train("stage1", "second", "stage.json")
    train("stage2", "second", "stage.json", "--stage1", str(folder / "stage1" / "motion_stage1.safetensors"))
    return folder


def test_the_fine_tuned_extractor_sees_otherwise(chain):
    before, after = (load_file(chain / name / "motion_extractor.safetensors") for name in ("networks", "transfer"))
    assert before.keys() == after.keys() and any(not torch.equal(v, after[k]) for k, v in before.items())
    (first,), (second,) = load_corpus(chain / "first"), load_corpus(chain / "second")
    assert first.info["extractor"] == "liveportrait" and first.info["encoder"] == "wav2vec2-tiny"
    assert torch.equal(first.tensors["features"], second.tensors["features"])
    assert not torch.equal(first.tensors["expression"], second.tensors["expression"])


def test_the_emotional_model_speaks_through_its_encoder(chain, tmp_path, portrait_path, capsys):
    model = PlaymateMotionModel.load(chain / "stage2" / "motion_stage2.safetensors")
    assert model.encoder == "wav2vec2-tiny" and model.has_emotion_head and model.reached["step"] == 2
    moved = shutil.copy(chain / "stage2" / "motion_stage2.safetensors", tmp_path)
    common = ["animate", str(portrait_path), str(chain / "happy" / "one.mp4"), "-o", str(tmp_path / "out.mp4"),
              "--motion-model", moved, "--emotion", "happy 0.5", "--steps", "8", "--motion-out",
              str(tmp_path / "out.safetensors")]
    assert cli.main(common) != 0 and "wav2vec2-tiny" in capsys.readouterr().err, "its encoder is nowhere near"
    assert cli.main([*common, "--speech-encoder", str(chain / "wav2vec2-tiny")]) == 0
    assert (tmp_path / "out.mp4").stat().st_size > 1000
    motion = load_motion(tmp_path / "out.safetensors")
    assert len(motion) in (20, 21) and bool(torch.isfinite(motion.expression).all())
    assert float((motion.expression[1:] - motion.expression[:-1]).abs().max()) > 0
