"""docs/training.md tells every setting of the full-scale configs, with its value and whose choice it is."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, fields

import pytest

from laboratory.training.footage import Filters
from laboratory.training.settings import Training, find_settings, load_settings
from laboratory.training.transfer import TransferSettings, TransferTraining
from playmate_core.diffusion.config import DenoiserConfig
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def table(header):
    """Of the table under the header that names a file: {key: (value, whose)}; several keys may share a row."""
    lines = PAGE[PAGE.index(header):].splitlines()[2:]
    found = {}
    for line in lines[:next(number for number, line in enumerate(lines) if not line.startswith("|"))]:
        keys, value, whose = (cell.strip() for cell in line.strip("|").split("|")[:3])
        names = re.findall(r"`(\w+)`", keys)
        values = [value] if len(names) == 1 else value.split(", ")
        assert len(values) == len(names), line
        found |= {name: (each, whose) for name, each in zip(names, values, strict=True)}
    return found


STAGES, FINE_TUNE = table("| `stage1_full.json`"), table("| `transfer.json`")


def told(value):
    """As the page writes a value."""
    if isinstance(value, float):
        return f"{value:f}".rstrip("0") + ("0" if value == int(value) else "")
    return value if isinstance(value, str) else json.dumps(value)


@pytest.mark.parametrize("stage, place", [("stage1_full", 0), ("stage2_full", 1)])
def test_every_setting_of_the_stages(stage, place):
    settings = load_settings(find_settings(stage))
    values = asdict(settings.model) | asdict(settings.training) | settings.sampling
    for key, value in values.items():
        assert key in STAGES, f"docs/training.md does not tell {key}"
        cell = STAGES[key][0].split("; ")
        assert cell[min(place, len(cell) - 1)] == told(value), key
    assert set(values) <= set(STAGES) <= set(values) | {"emotion_guidance"}


def test_every_setting_of_the_fine_tune():
    values = asdict(TransferSettings.load(find_settings("transfer")).training)
    assert set(FINE_TUNE) == set(values)
    for key, value in values.items():
        assert FINE_TUNE[key][0] == told(list(value) if isinstance(value, tuple) else value), key


def test_every_choice_is_marked():
    for rows in (STAGES, FINE_TUNE):
        assert {whose for _, whose in rows.values()} == {"paper", "ours"}
    papers = {key for rows in (STAGES, FINE_TUNE) for key, (_, whose) in rows.items() if whose == "paper"}
    assert {"previous_noise", "normalisation", "loss", "audio_guidance", "emotion_guidance", "transfer"} <= papers
    assert not {"learning_rate", "batch", "steps", "width", "window"} & papers, "the paper does not say"


def test_every_knob_has_its_place():
    for kind, rows in ((DenoiserConfig, STAGES), (Training, STAGES), (TransferTraining, FINE_TUNE)):
        assert {field.name for field in fields(kind)} <= set(rows)
    for field in fields(Filters):
        assert f"--{field.name.replace('_', '-')}" in PAGE, field.name
