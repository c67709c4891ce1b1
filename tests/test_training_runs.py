"""What can befall a run: signals, a full disk, a kill while it writes, damaged states, half precision, TensorBoard."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from laboratory.training import __main__ as command
from laboratory.training.loop import LOG, STATE
from laboratory.training.settings import Settings, settings_from
from laboratory.training.stage1 import RESULT, Stage1
from laboratory.training.stage2 import Stage2
from laboratory.training.transfer import TransferRun, TransferSettings
from laboratory.training.upkeep import fingerprint, strike_later
from playmate_core.runtime.errors import PlaymateError
from tests.conftest import ROOT
from tests.diffusion_helpers import CONFIG
from tests.test_training_stage1 import CLIPS, SETTINGS, TRAINING, toy_lips, write_corpus
from tests.test_training_transfer import TRAINING as FINE_TUNE
from tests.test_training_transfer import features, networks, write_pictures


def run(out, resume=False, **changed):
    settings = dataclasses.replace(SETTINGS, training=dataclasses.replace(TRAINING, **changed))
    return Stage1(CLIPS, settings, out, resume=resume, device="cpu", lips=toy_lips)


def net(folder):
    return torch.load(folder / STATE, weights_only=True)["net"]


def rows(folder):
    return [json.loads(row) for row in (folder / LOG).read_text().splitlines()]


@pytest.fixture
def afresh():
    """accelerate holds one precision a process; a test that wants another starts it anew."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing befell, of four steps."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder, steps=4, save_every=2, validate_every=2).train(show=False)
    return folder


def ending(one, number, at):
    """``one`` gets a signal while it takes the step ``at``."""
    learn = one._learn

    def learn_and_be_told(progress):
        if one.step == at:
            os.kill(os.getpid(), number)
        return learn(progress)

    one._learn = learn_and_be_told
    return one


class TestSignals:
    def test_told_to_stop_it_saves_and_goes_on_exactly(self, whole, tmp_path):
        before = signal.getsignal(signal.SIGTERM)
        one = ending(run(tmp_path, steps=4, save_every=100, validate_every=2), signal.SIGTERM, 2)
        one.train(show=False)
        assert one.stopped and one.step == 3 and signal.getsignal(signal.SIGTERM) is before
        again = run(tmp_path, resume=True, steps=4, save_every=100, validate_every=2)
        assert again.step == 3
        again.train(show=False)
        assert not again.stopped and all(torch.equal(net(whole)[k], v) for k, v in net(tmp_path).items())
        assert [row | {"minutes": 0} for row in rows(tmp_path)] == [row | {"minutes": 0} for row in rows(whole)]

    def test_a_second_interrupt_is_heeded_at_once(self, tmp_path):
        one = run(tmp_path, steps=4)
        with one._heed:
            signal.raise_signal(signal.SIGINT)
            assert one._heed.asked
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)

    def test_the_command_tells_how_to_go_on(self, tmp_path, monkeypatch, caplog):
        corpus, config = write_corpus(tmp_path / "c", CLIPS[:6]), tmp_path / "config.json"
        config.write_text(Settings(CONFIG, dataclasses.replace(TRAINING, steps=50), {}).to_json())
        learn = Stage1._learn

        def learn_and_be_told(self, progress):
            signal.raise_signal(signal.SIGTERM)
            return learn(self, progress)

        monkeypatch.setattr(Stage1, "_learn", learn_and_be_told)
        assert command.main(["stage1", "--corpus", str(corpus), "--config", str(config), "--out",
                             str(tmp_path / "run"), "--device", "cpu"]) == command.STOPPED
        assert "at step 1; --resume" in caplog.text


class TestDisk:
    def test_a_full_disk_is_told_and_leaves_the_state_before(self, tmp_path):
        resource = pytest.importorskip("resource")
        one = run(tmp_path, steps=4, save_every=1)
        one._learn(0.0)
        one.step = 1
        one.save()
        kept = (tmp_path / STATE).read_bytes()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
            with pytest.raises(PlaymateError, match="Step 1 cannot be saved.*free some space.*--resume"):
                one.save()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert (tmp_path / STATE).read_bytes() == kept
        assert sorted(path.name for path in tmp_path.iterdir()) == [RESULT, STATE]

    def test_killed_while_it_writes(self, whole, tmp_path):
        """SIGKILL after half of the second state: the first is whole and the run goes on exactly."""
        script = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
import torch
from tests.test_training_runs import run
torch.set_num_threads(1)
write, number = torch.save, 0
def save(state, file):
    global number
    number += 1
    if number == 2:
        file.write(b"half of it")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    write(state, file)
torch.save = save
from pathlib import Path
run(Path({str(tmp_path)!r}), steps=4, save_every=2, validate_every=2).train(show=False)
"""
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, timeout=200)
        assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
        assert (tmp_path / f".{STATE}.tmp").read_bytes() == b"half of it"
        again = run(tmp_path, resume=True, steps=4, save_every=2, validate_every=2)
        assert again.step == 2 and [row["step"] for row in rows(tmp_path)] == [2], "step 4 is struck from the log"
        again.train(show=False)
        assert [row["step"] for row in rows(tmp_path)] == [2, 4]
        for key, value in net(whole).items():
            torch.testing.assert_close(net(tmp_path)[key], value, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("content", [b"no state", b"", None])
    def test_damaged_states(self, tmp_path, content):
        if content is None:
            torch.save(dict(step=3), tmp_path / STATE)
        else:
            (tmp_path / STATE).write_bytes(content)
        with pytest.raises(PlaymateError, match="damaged or no training state"):
            run(tmp_path, resume=True)

    def test_a_half_written_line_of_the_log(self, tmp_path):
        (tmp_path / LOG).write_text('{"step": 2}\n{"step": 4}\n{"ste')
        strike_later(tmp_path / LOG, 3)
        assert rows(tmp_path) == [{"step": 2}]

    def test_a_folder_that_cannot_be(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(PlaymateError, match="cannot be made"):
            run(tmp_path / "file")


def test_memory_that_does_not_suffice(tmp_path, monkeypatch):
    one = run(tmp_path, accumulate=2)

    def learn(progress):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(one, "_learn", learn)
    with pytest.raises(PlaymateError, match="accumulate in the config to 4"):
        one.train(show=False)


class TestPrecision:
    def test_bf16_on_the_cpu(self, whole, tmp_path, afresh):
        run(tmp_path, steps=4, save_every=2, validate_every=2, mixed_precision="bf16").train(show=False)
        assert all(v.dtype == torch.float32 for v in net(tmp_path).values() if v.is_floating_point())
        assert rows(tmp_path)[-1]["loss"] == pytest.approx(rows(whole)[-1]["loss"], rel=0.02)
        assert not all(torch.equal(net(whole)[k], v) for k, v in net(tmp_path).items()), "it is another precision"

    def test_the_transfer_in_bf16(self, tmp_path, afresh):
        """G's spectral norms and M's keypoints stay in float32 under autocast."""
        corpus = write_pictures(tmp_path / "corpus")
        training = dataclasses.replace(FINE_TUNE, steps=1, save_every=9, mixed_precision="bf16")
        one = TransferRun(corpus, networks(), features(), TransferSettings(training), tmp_path / "run", device="cpu")
        pair = one.crops.take(one.crops.draw(2, torch.Generator().manual_seed(0)))
        exact = one._plain().networks["motion"].motion(torch.nn.functional.avg_pool2d(pair[0], 2))
        told = []
        keypoints = one._plain()._moved
        one._plain()._moved = lambda pictures, moved: told.append(moved) or keypoints(pictures, moved)
        with torch.no_grad():
            losses = one.net(*pair)
        assert {v.dtype for v in losses.values()} == {torch.float32} and one.accelerator.mixed_precision == "bf16"
        torch.testing.assert_close(told[0][0]["exp"], exact["exp"], rtol=1e-5, atol=1e-5)
        assert one.train(show=False)["val_pixels"] > 0

    def test_fp16_wants_a_gpu(self, tmp_path):
        with pytest.raises(PlaymateError, match="fp16 needs a GPU"):
            run(tmp_path, mixed_precision="fp16")
        if not torch.cuda.is_available():
            with pytest.raises(PlaymateError, match="finds no GPU"):
                Stage1(CLIPS, SETTINGS, tmp_path, device="cuda")

    def test_the_gradient_scaler_is_part_of_the_state(self, tmp_path):
        one = run(tmp_path / "a", steps=4)
        one.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3)
        one.save()
        assert torch.load(tmp_path / "a" / STATE, weights_only=True)["scaler"]["scale"] == 8.0
        again = run(tmp_path / "b", steps=4)
        again.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
        again._begin(again._network(), torch.load(tmp_path / "a" / STATE, weights_only=True))
        assert again.accelerator.scaler.get_scale() == 8.0 and again.accelerator.scaler.get_growth_interval() == 3


class TestWhatStandsBeside:
    def test_another_stage_1_is_refused(self, tmp_path):
        for seed in (0, 1):
            run(tmp_path / str(seed), steps=1, seed=seed).save()
        settings = dataclasses.replace(SETTINGS, training=dataclasses.replace(TRAINING, steps=2))
        start = dict(device="cpu", lips=toy_lips)
        Stage2(CLIPS, settings, tmp_path / "2", stage1=tmp_path / "0" / RESULT, **start).save()
        with pytest.raises(PlaymateError, match="other weights.*--stage1"):
            Stage2(CLIPS, settings, tmp_path / "2", stage1=tmp_path / "1" / RESULT, resume=True, **start)
        Stage2(CLIPS, settings, tmp_path / "2", stage1=tmp_path / "0" / RESULT, resume=True, **start)

    def test_other_networks_are_refused(self, tmp_path):
        corpus, training = write_pictures(tmp_path / "corpus"), dataclasses.replace(FINE_TUNE, steps=2)

        def start(seed=0, resume=True, **changed):
            settings = TransferSettings(dataclasses.replace(training, **changed))
            return TransferRun(corpus, networks(seed), features(), settings, tmp_path / "run", resume=resume,
                               device="cpu")

        start(resume=False).save()
        with pytest.raises(PlaymateError, match="other weights.*--liveportrait"):
            start(seed=1)
        with pytest.raises(PlaymateError, match="other networks or sizes"):
            start(learned=("motion",))
        assert fingerprint(networks().motion) != fingerprint(networks(1).motion)

    def test_a_launcher_that_starts_one_process_alone(self, tmp_path, monkeypatch, caplog):
        run(tmp_path / "a")
        assert "one process alone" not in caplog.text
        monkeypatch.setenv("MASTER_PORT", "29500")
        run(tmp_path / "b")
        assert "one process alone" in caplog.text


@pytest.mark.parametrize("training, word", [
    (dict(learning_rate="x"), "training learning_rate is 'x'; it must be a valid number"),
    (dict(learning_rate=0), "learning_rate is 0; it must be greater than 0"),
    (dict(learning_rate=float("nan")), "learning_rate is nan; it must be a finite number"),
    (dict(seed="x"), "training seed is 'x'"), (dict(seed=-1), "training seed is -1; .*greater than or equal to 0"),
    (dict(drop_audio="x"), "drop_audio"), (dict(drop_audio=1.5), "drop_audio is 1.5; .*less than or equal to 1"),
    (dict(source_weights=[1]), "source_weights must hold names and values"),
    (dict(source_weights=dict(real=-1)), "training source_weights real is -1"),
    (dict(pose_weight=-1), "pose_weight"), (dict(warm_up=True), "warm_up is True; it must be a valid integer"),
    (dict(batch=2.5), "batch is 2.5"), (dict(loss="x"), "loss is 'x'; it must be 'noise' or 'velocity'"),
    (5, "training must hold names and values in braces"), (dict(hats=1), "training knows no hats; it knows accumulate"),
])
def test_values_that_are_none(training, word):
    with pytest.raises(PlaymateError, match=word) as caught:
        settings_from(dict(training=training), "mine.json")
    assert str(caught.value).startswith("mine.json: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("sampling, word", [
    (dict(audio_guidence=1.5), "sampling knows no audio_guidence; it knows audio_guidance, blinks, emotion_guid"),
    (dict(temperature="hot"), "sampling temperature is 'hot'"), (dict(temperature=-1), "sampling temperature is -1")])
def test_sampling_knobs_that_there_are_not(sampling, word):
    with pytest.raises(PlaymateError, match=word):
        settings_from(dict(sampling=sampling))


def test_tensorboard_reads_the_log_back(tmp_path):
    """Written by a run, and by one that goes on after steps that are made again."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = dataclasses.replace(SETTINGS, training=dataclasses.replace(
        TRAINING, batch=4, steps=150, save_every=100, validate_every=50))

    def board(resume=False):
        one = Stage1(CLIPS, settings, tmp_path, device="cpu", lips=toy_lips, tensorboard=True, resume=resume)
        one._measure = lambda model: dict(gap_r=0.5)
        return one

    class Killed(Exception):
        pass

    one, save = board(), Stage1.save

    def killed():
        if one.step == 150:
            raise Killed
        save(one)

    one.save = killed
    with pytest.raises(Killed):
        one.train(show=False)
    board(resume=True).train(show=False)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert {"loss", "learning_rate", "val_loss", "gap_r"} <= set(events.Tags()["scalars"])
    told = {name: [(event.step, event.value) for event in events.Scalars(name)] for name in ("loss", "val_loss")}
    assert [step for step, _ in told["loss"]] == [50, 100, 150], "step 150 is told once, though made twice"
    assert [value for _, value in told["val_loss"]] == pytest.approx([row["val_loss"] for row in rows(tmp_path)],
                                                                     abs=1e-4)
