"""torch's threads come back whatever happens to what is drawn, and errors are told apart."""

from __future__ import annotations

import threading

import pytest
import torch

from playmate_core import pipeline
from playmate_core.motion.types import Motion
from playmate_core.runtime.devices import (
    a_core_left_free,
    each_with_a_core_left_free,
    is_unsupported,
    runs_on,
    told_to_leave,
)
from playmate_core.runtime.errors import PlaymateError


@pytest.fixture(autouse=True)
def four():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def counted(frames: int, seen: list):
    for number in range(frames):
        seen.append(torch.get_num_threads())
        yield number


def test_a_core_is_left_free_while_an_item_is_made_and_only_then():
    seen = []
    between = [(item, torch.get_num_threads()) for item in each_with_a_core_left_free(counted(3, seen))]
    assert seen == [3, 3, 3] and between == [(0, 4), (1, 4), (2, 4)]
    assert torch.get_num_threads() == 4


def test_a_render_that_is_given_up_or_fails_leaves_all_threads(models, appearance):
    frames = pipeline.render_frames(models, appearance, Motion.rest(3), batch_size=1)
    next(frames)
    assert torch.get_num_threads() == 4, "nobody may ever ask for the rest"

    def fails():
        yield 1
        raise RuntimeError("lost")

    broken = each_with_a_core_left_free(fails())
    next(broken)
    with pytest.raises(RuntimeError, match="lost"):
        next(broken)
    assert torch.get_num_threads() == 4

    def cancelled(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(pipeline.render_frames(models, appearance, Motion.rest(3), batch_size=1, progress=cancelled))
    assert torch.get_num_threads() == 4
    with pytest.raises(PlaymateError), a_core_left_free():
        raise PlaymateError("no")
    assert torch.get_num_threads() == 4


def test_closing_reaches_the_renderer():
    closed = []

    def watched():
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    frames = each_with_a_core_left_free(watched())
    next(frames)
    frames.close()
    assert closed == [True]


def test_two_renders_by_turns():
    first, second = (each_with_a_core_left_free(counted(3, [])) for _ in range(2))
    next(first)
    next(second)
    first.close()
    next(second)
    assert torch.get_num_threads() == 4
    with a_core_left_free(), a_core_left_free():
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == 4


def test_two_threads_at_once():
    """A thread that begins while another holds fewer inherits its number and must not take it for its own."""
    inside, told, numbers = threading.Event(), threading.Event(), {}

    def other():
        with a_core_left_free():
            numbers["within"] = torch.get_num_threads()
            inside.set()
            told.wait(10)
        numbers["after"] = torch.get_num_threads()

    with a_core_left_free():
        thread = threading.Thread(target=other)
        thread.start()
        assert inside.wait(10)
    assert torch.get_num_threads() == 4
    told.set()
    thread.join()
    assert numbers == {"within": 3, "after": 4}
    with a_core_left_free():
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize("error", [
    NotImplementedError("The operator 'aten::cummax' is not currently implemented for the MPS device."),
    RuntimeError("MPS: Unsupported Border padding mode"),
    TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."),
    RuntimeError("Adaptive pool MPS: ... Non-divisible input sizes are not implemented on MPS device yet."),
    RuntimeError("CUDA error: no kernel image is available for execution on the device")])
def test_what_a_device_lacks_is_told_from_faults(error, caplog):
    assert is_unsupported(error)
    assert told_to_leave(error, torch.device("mps"), "the renderer")
    assert "The device mps cannot do everything that the renderer needs (" in caplog.text
    assert not told_to_leave(error, torch.device("cpu"), "the renderer")


@pytest.mark.parametrize("error", [RuntimeError("Expected all tensors to be on the same device"),
                                   RuntimeError("MPS backend out of memory"), ValueError("unsupported"),
                                   PlaymateError("not supported")])
def test_faults_pass(error):
    assert not told_to_leave(error, torch.device("mps"), "the renderer")

    def use():
        raise error

    with pytest.raises(type(error)):
        runs_on("mps", "it", use)


def test_the_cpu_and_cuda_are_believed():
    for device in ("cpu", "cuda"):
        assert runs_on(device, "it", lambda: 1 / 0)
