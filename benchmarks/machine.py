"""What was measured where: printed above every figure."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent


def describe() -> str:
    """Processor or GPU, thread count, library versions and commit, one item a line."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else processor
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "diffusers", "numpy", "av"))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    return "\n".join([
        f"processor: {processor}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads",
        f"gpu:       {gpu}",
        f"python:    {platform.python_version()}, {versions}",
        f"commit:    {commit.stdout.strip() or 'unknown'}",
    ])
