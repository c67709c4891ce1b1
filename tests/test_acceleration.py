"""torch.compile and CUDA graphs: the same result, or given up in peace. Recording itself needs a card; the rest not."""

from __future__ import annotations

import logging
import shutil

import pytest
import torch

from playmate_core.diffusion.model import PlaymateMotionModel
from playmate_core.motion.features import SpeechFeatures
from playmate_core.runtime import acceleration
from playmate_core.runtime.acceleration import COMPILE, GRAPHS, NONE, Compiled, Graphed, accelerated, tuned
from playmate_core.runtime.errors import PlaymateError


class Recorder:
    """What a card does, on the CPU: a recorded call reads its inputs' memory and writes its output's."""

    def __init__(self, monkeypatch):
        self.recorded = self.replayed = 0
        monkeypatch.setattr(acceleration, "record", self.record)
        monkeypatch.setattr(Graphed, "_recordable", staticmethod(lambda tensors: bool(tensors)))

    def record(self, function, inputs):
        self.recorded += 1
        output = function(*inputs)

        def replay():
            self.replayed += 1
            output.copy_(function(*inputs))

        return replay, output


@pytest.fixture
def recorder(monkeypatch):
    return Recorder(monkeypatch)


def test_names():
    with pytest.raises(PlaymateError, match="no acceleration called 'turbo'; use one of: none, cuda graphs"):
        accelerated(torch.neg, "turbo")
    assert accelerated(torch.neg, NONE) is torch.neg


def test_a_graph_is_recorded_once_and_its_results_stay(recorder):
    fast = accelerated(lambda x, y: x @ y, GRAPHS)
    a, b, c = torch.randn(3, 2, 2)
    first, second = fast(a, b), fast(a, c)
    assert torch.equal(first, a @ b) and torch.equal(second, a @ c)
    assert recorder.recorded == 1 and recorder.replayed == 2


def test_other_shapes_and_moved_weights_are_recorded_anew(recorder):
    net = torch.nn.Linear(2, 2).requires_grad_(False)
    fast = Graphed(lambda x: net(x), (net,))
    x = torch.randn(3, 2)
    for _ in range(2):
        assert torch.equal(fast(x), net(x))
    assert recorder.recorded == 1
    assert torch.equal(fast(x[:2]), net(x[:2])) and recorder.recorded == 2
    # As a memory manager does: away, and back to another place.
    kept = net.weight.data
    net.weight.data = torch.full((2, 2), 0.5)
    assert torch.equal(fast(x[:2]), net(x[:2])) and recorder.recorded == 3
    net.weight.data = kept
    fast.release()
    assert torch.equal(fast(x), net(x)) and recorder.recorded == 4


def test_buffers_made_by_the_first_call_cause_no_second_recording(recorder):
    class Lazy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", None, persistent=False)

        def forward(self, x):
            if self.table is None:
                self.table = torch.arange(3.0)
            return x + self.table

    net = Lazy()
    fast = Graphed(lambda x: net(x), (net,))
    for _ in range(3):
        fast(torch.zeros(3))
    assert recorder.recorded == 1


def test_a_card_that_cannot_record(monkeypatch, recorder, caplog):
    def broken(function, inputs):
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore lines")

    monkeypatch.setattr(acceleration, "record", broken)
    fast = Graphed(lambda x: x * 2)
    with caplog.at_level(logging.WARNING):
        assert fast(torch.ones(2)).tolist() == [2, 2]
        assert fast(torch.ones(3)).tolist() == [2, 2, 2]
    assert [record.message for record in caplog.records] == [
        "CUDA graphs do not work here (RuntimeError: CUDA error: operation not permitted when stream is capturing); "
        "going on without them."]

    def full(function, inputs):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(acceleration, "record", full)
    fast = Graphed(lambda x: x * 2)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        fast(torch.ones(2))
    assert not fast.failed, "smaller batches may fit"


def test_off_the_card_a_graph_is_the_function():
    calls = []
    fast = Graphed(lambda x: calls.append(1) or x + 1)
    assert fast(torch.zeros(1)).tolist() == [1] and fast(torch.ones(1)).tolist() == [2]
    assert len(calls) == 2


def test_without_a_compiler(monkeypatch, caplog):
    def compile(function, **options):
        def fails(*tensors):
            raise RuntimeError("Cannot find a working triton installation.\nSet TORCHDYNAMO_VERBOSE=1")
        return fails

    monkeypatch.setattr(torch, "compile", compile)
    fast = Compiled(lambda x: x + 1)
    with caplog.at_level(logging.WARNING):
        assert fast(torch.zeros(1)).tolist() == [1] and fast(torch.ones(1)).tolist() == [2]
    assert len(caplog.records) == 1
    assert "does not work here (RuntimeError: Cannot find a working triton installation.)" in caplog.text


def test_what_fails_later_or_for_want_of_memory_is_told(monkeypatch):
    answers = [torch.ones(1), RuntimeError("later"), torch.cuda.OutOfMemoryError("CUDA out of memory.")]

    def compile(function, **options):
        def answer(*tensors):
            found = answers.pop(0)
            if isinstance(found, Exception):
                raise found
            return found
        return answer

    monkeypatch.setattr(torch, "compile", compile)
    fast = Compiled(lambda x: x)
    fast(torch.zeros(1))
    with pytest.raises(RuntimeError, match="later"):
        fast(torch.zeros(1))
    fast = Compiled(lambda x: x)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        fast(torch.zeros(1))
    assert not fast.failed


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
def test_compiled_for_real(monkeypatch):
    import torch._inductor.config as inductor

    # Else it builds and loads a library for each of the processor's vector units, to see which the compiler knows.
    monkeypatch.setattr(inductor.cpp, "vec_isa_ok", False)
    fast = Compiled(lambda x, y: torch.relu(x * 3 - y).sum(0))
    x, y = torch.randn(2, 5, 4)
    for _ in range(2):
        torch.testing.assert_close(fast(x, y), torch.relu(x * 3 - y).sum(0))
    assert fast.proven


def test_tuning_ends_with_its_block(monkeypatch):
    assert not torch.backends.cudnn.benchmark
    with tuned():
        assert torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.benchmark
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    with tuned():
        assert not torch.backends.cudnn.benchmark


@pytest.mark.parametrize("schedule", [None, "happy"])
def test_recorded_motion_is_the_motion(recorder, schedule):
    from playmate_core.emotion.curve import EmotionCurve

    model = PlaymateMotionModel.load()
    frames = 2 * model.config.window + 7
    random = torch.Generator().manual_seed(0)
    features = SpeechFeatures(torch.randn(frames, model.config.features_dim, generator=random), torch.rand(frames),
                              torch.zeros(frames), 25.0, frames / 25, model.encoder)
    emotion = None if schedule is None else EmotionCurve.constant(schedule, 1.0, frames, 25.0)
    plain = model.sample(features, steps=3, emotion=emotion)
    model.acceleration = COMPILE
    fast = model.sample(features, steps=3, emotion=emotion)
    assert torch.equal(plain.expression, fast.expression) and torch.equal(plain.rotation, fast.rotation)
    # The whole windows, and the shorter last one.
    assert recorder.recorded == 2 and recorder.replayed == 9


def test_load_models_hands_it_to_the_motion_model():
    from playmate_core.pipeline import load_models

    assert load_models().motion.acceleration == NONE
    assert load_models(acceleration=GRAPHS).motion.acceleration == GRAPHS
    with pytest.raises(PlaymateError, match="no acceleration called"):
        load_models(acceleration="turbo")
