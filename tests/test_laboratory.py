"""The laboratory's rooms: every module imports, every command helps, and the page knows them all."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from laboratory.__main__ import FOLDER, commands, main

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in FOLDER.rglob("*.py")
                 if path.name not in ("__init__.py", "__main__.py"))
HELP = """
import contextlib, io, os, runpy, sys
for name in sys.argv[1:]:
    sys.argv = [name, "--help"]
    said, status = io.StringIO(), None
    with contextlib.redirect_stdout(said):
        try:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            status = end.code
    if status not in (0, None) or "usage:" not in said.getvalue():
        sys.exit(f"{name} --help: status {status}, {said.getvalue()[:300]!r}")
"""


@pytest.mark.parametrize("name", MODULES)
def test_every_module_imports(name):
    importlib.import_module(name)


def test_every_command_helps():
    """And does nothing else: the samples' commands write into the repository."""
    names = [*commands(), "laboratory"]
    assert len(names) > 15
    done = subprocess.run([sys.executable, "-c", HELP, *names], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("command", ["corpus", "prepare", "stage1", "stage2", "transfer"])
def test_every_stage_helps(command, capsys):
    from laboratory.training.__main__ import main as train

    with pytest.raises(SystemExit) as end:
        train([command, "--help"])
    assert end.value.code == 0 and f"laboratory.training {command}" in capsys.readouterr().out


def test_the_page_lists_every_command_and_no_file_that_is_not_there(capsys):
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name, said in commands().items():
        assert f"`python -m {name}" in page, f"laboratory/README.md does not tell of {name}"
        assert len(said) > 20, f"{name} says nothing of itself"
    for link in re.findall(r"\]\((?!http)([^)#]+)", page):
        assert (FOLDER / link).exists(), link
    rooms = {path.name for path in FOLDER.iterdir() if (path / "__init__.py").is_file()}
    assert rooms <= set(re.findall(r"^\| `(\w+)/` \|", page, re.M))
    assert main([]) == 0
    assert "python -m laboratory.training\n" in capsys.readouterr().out
