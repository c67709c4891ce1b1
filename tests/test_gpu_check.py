"""The check for machines with a graphics card, rehearsed on the CPU: every line of it, at toy sizes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

from laboratory.gpu_check import command
from laboratory.gpu_check.report import FAILED, OK, SKIPPED, Report
from tests.conftest import ROOT

# What a bare machine lacks; ImportError from there on. What is imported stays, so that looking for garbage in it a
# dozen times over, as the check does between its parts, is in vain.
BARE = """
import gc
import sys
sys.modules["av"] = None
from laboratory.gpu_check.command import main
gc.freeze()
sys.exit(main(sys.argv[1:]))
"""


def test_every_part_runs_where_there_is_no_card_and_no_av(tmp_path):
    done = subprocess.run([sys.executable, "-c", BARE, "--rehearse", "--out", str(tmp_path / "found"),
                           "--seconds", "3600"], cwd=ROOT, capture_output=True, text=True)
    held = json.loads((tmp_path / "found" / "results.json").read_text())
    failed = [suite["traceback"] for suite in held["suites"] if suite["traceback"]]
    assert done.returncode == 0 and not failed, "\n".join(failed) or done.stderr
    assert [suite["name"] for suite in held["suites"]] == ["machine", *(name for name, *_ in command.PARTS)]
    assert held["failures"] == 0 and all(suite["cases"] for suite in held["suites"])
    skipped = {(suite["name"], case["what"]) for suite in held["suites"] for case in suite["cases"]
               if case["result"] == SKIPPED}
    # The reference of JoyVASA is not everywhere; LivePortrait's is made up on the way.
    assert skipped <= {("fixtures, JoyVASA", "fixtures")}
    table = (tmp_path / "found" / "table.md").read_text()
    assert table.count("\n") == held["tests"] + 2
    assert "| LivePortrait | LivePortrait, cuda graphs: S + W + G" in done.stdout.split("\n\n")[-2]
    profile = (tmp_path / "found" / "profile.md").read_text()
    assert profile.count("## ") == 3 and "convolution" in profile


def rows(report):
    return [(part, row.what, row.result) for part, row in report.rows]


def test_a_failure_stops_nothing_but_itself(tmp_path):
    report = Report(tmp_path, 60, lambda text: None)

    def two():
        with report.attempt("the first"):
            raise RuntimeError("a kernel failed\nmore")
        report.bounded("the second", 1e-5, 1e-4)
        report.bounded("the third", float("nan"), 1e-4)
        raise KeyError("later")

    report.part("two", two, 10)
    report.part("after", lambda: report.row("still", "here"), 10)
    report.finish()
    assert rows(report) == [("two", "the first", FAILED), ("two", "the second", OK), ("two", "the third", FAILED),
                            ("two", "everything", FAILED), ("after", "still", "told")]
    assert report.failed == 3
    assert "a kernel failed" in (tmp_path / "log.txt").read_text()
    held = json.loads((tmp_path / "results.json").read_text())
    assert held["failures"] == 3 and "KeyError" in held["suites"][0]["traceback"]
    assert "failed: RuntimeError: a kernel failed |" in (tmp_path / "table.md").read_text()


def test_the_short_table_comes_last(tmp_path):
    said = []
    report = Report(tmp_path, 60, said.append)
    report.part("one", lambda: (report.row("long", "1"), report.row("short", "2", short=True)), 10)
    report.finish()
    assert "| one | short | 2 |  | told |" in said[-1] and "long" not in "".join(said)
    assert "0 within their bounds, 2 without one, 0 failed, 0 skipped" in said[-1]
    assert "| one | long | 1 |" in (tmp_path / "table.md").read_text()


def test_it_ends_by_itself(tmp_path):
    # A shell's background job is born deaf to Ctrl-C, which is what ends an endless part.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    report = Report(tmp_path, 0.6, lambda text: None)

    def endless():
        report.row("begun", "yes")
        while True:
            time.sleep(0.01)

    report.part("endless", endless, 0.2)
    report.part("too long for what is left", lambda: report.row("never", ""), 10, least=5)
    report.part("cut off by the whole's end", endless, 10)
    report.finish()
    assert rows(report) == [("endless", "begun", "told"), ("endless", "the rest", SKIPPED),
                            ("too long for what is left", "everything", SKIPPED),
                            ("cut off by the whole's end", "begun", "told"),
                            ("cut off by the whole's end", "the rest", SKIPPED)]
    assert report.failed == 0


def test_what_cannot_be_interrupted_ends_the_process(tmp_path):
    hung = """
import sys, signal
from pathlib import Path
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a library's call that never returns
from laboratory.gpu_check import report
report.GRACE = 0.2
held = report.Report(Path(sys.argv[1]), 60)
import time
held.part("hangs", lambda: time.sleep(60), 0.2)
"""
    done = subprocess.run([sys.executable, "-c", hung, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "the check ends here" in done.stdout
    assert json.loads((tmp_path / "results.json").read_text())["failures"] == 1


def test_without_a_card_it_says_so(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert command.main(["--out", str(tmp_path)]) == 2
    assert "--rehearse" in capsys.readouterr().err


def test_it_ends_before_the_eight_minutes_that_are_lent():
    from laboratory.gpu_check.report import GRACE

    assert command.SECONDS + GRACE < 7.5 * 60
