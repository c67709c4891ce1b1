"""What was measured where: printed above every figure."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

from .. import ROOT


def describe() -> str:
    """Processor or GPU, thread count, library versions and commit, one item a line."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else processor
    versions = ", ".join(f"{name} {_version(name)}" for name in ("torch", "diffusers", "numpy", "av"))
    # Of what is committed; a plus stands for changes on top of it.
    try:
        commit = subprocess.run(["git", "describe", "--always", "--abbrev=7", "--exclude=*", "--dirty=+"], cwd=ROOT,
                                capture_output=True, text=True).stdout.strip()
    except OSError:  # no git here
        commit = ""
    gpu = "none"
    if torch.cuda.is_available():
        gpu = (f"{torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}, "
               f"cuDNN {torch.backends.cudnn.version()}")
    return "\n".join([
        f"processor: {processor}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads",
        f"gpu:       {gpu}",
        f"python:    {platform.python_version()}, {versions}",
        f"commit:    {commit or 'unknown'}",
    ])


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "is absent"
