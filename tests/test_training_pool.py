"""Processes that share tasks, with real ones: nothing is left behind when one fails or the first of them is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from laboratory.training.pool import pooled
from tests.conftest import ROOT

SCRIPT = """
import os, sys, time
sys.path.insert(0, {root!r})
from laboratory.training.pool import pooled

def work(folder, number):
    open(os.path.join(folder, str(os.getpid())), "w").close()
    time.sleep(60)

if __name__ == "__main__":
    list(pooled(work, [({folder!r}, number) for number in range(2)], 2))
"""


def test_results_failures_and_nothing_to_do():
    assert list(pooled(pow, [], 4)) == []
    assert sorted(pooled(pow, [(2, 3), (3, 2), (5, 1)], 2)) == [5, 8, 9]
    with pytest.raises(TypeError):
        list(pooled(pow, [("x", 2)], 1))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows ends processes otherwise")
def test_processes_end_with_the_one_that_started_them(tmp_path):
    script, folder = tmp_path / "script.py", tmp_path / "workers"
    folder.mkdir()
    script.write_text(SCRIPT.format(root=str(ROOT), folder=str(folder)))
    first = subprocess.Popen([sys.executable, str(script)])
    try:
        wait(lambda: len(list(folder.iterdir())) == 2, 120)
        assert first.poll() is None
    finally:
        first.kill()
        first.wait()
    wait(lambda: not any(alive(int(worker.name)) for worker in folder.iterdir()), 20)


def wait(until, seconds):
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.1)


def alive(pid):
    """Whether a process runs; one that has ended and waits to be asked about does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    return not done.strip().startswith("Z")
