"""What the workflows say of downloads, by the rules of ComfyUI's front end 1.32.9 (``loadGraphData``).

Measured in a browser: entries at a workflow's top level open the missing-model dialog whenever a file is missing;
entries on a node do so while one of its widgets holds the entry's name.
"""

import json
from pathlib import Path

import pytest

from playmate_core.weights.catalogue import workflow_models
from tests.weights_helpers import liveportrait

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
VARIANTS = sorted((ROOT / "workflows" / "liveportrait").glob("*.json"))


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def wanted(graph):
    """The files that the front end looks for when it loads a workflow: {(folder, name)}."""
    entries = list(graph.get("models", []))
    for node in graph["nodes"]:
        shown = {value for value in node.get("widgets_values", []) if isinstance(value, str) and value.strip()}
        entries += [entry for entry in node["properties"].get("models", []) if entry["name"] in shown]
    return {(entry["directory"], entry["name"]) for entry in entries if entry.get("url") or entry.get("hash")}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_bundled_workflows_open_without_a_dialog(path):
    assert wanted(read(path)) == set()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_choosing_joyvasa_asks_for_its_file(path):
    graph = read(path)
    node = next(node for node in graph["nodes"] if node["type"] == "PlaymateLoadModels")
    assert node["properties"]["models"] == workflow_models("liveportrait") + workflow_models("joyvasa")
    node["widgets_values"][2] = "joyvasa/motion_generator_hubert_chinese.pt"
    assert wanted(graph) == {("playmate", "joyvasa/motion_generator_hubert_chinese.pt")}


@pytest.fixture(scope="module")
def tool():
    from laboratory.samples import liveportrait_workflow

    return liveportrait_workflow


@pytest.mark.parametrize("path", VARIANTS, ids=lambda path: path.stem)
def test_the_liveportrait_workflows_ask_for_what_the_node_needs(path, tool, tmp_path):
    people = {("liveportrait", file.name) for file in liveportrait(tmp_path).values()}
    _, pack = tool.VARIANTS[path.stem]
    files = people if pack == "liveportrait" else \
        {(folder, name if "stitching" in name else f"animal/{name}") for folder, name in people}
    assert wanted(read(path)) == files
    loader = next(node for node in read(path)["nodes"] if node["type"] == "PlaymateLoadModels")
    assert loader["widgets_values"][0] == pack


@pytest.mark.parametrize("path", VARIANTS, ids=lambda path: path.stem)
def test_the_liveportrait_workflows_are_the_bundled_ones(path, tool):
    source, pack = tool.VARIANTS[path.stem]
    made = tool.variant(read(tool.SOURCES / f"{source}.json"), source, pack)
    assert read(path) == made, "run laboratory/samples/liveportrait_workflow.py"


def test_every_workflow_has_its_variant(tool):
    sources = {source for source, pack in tool.VARIANTS.values() if pack == "liveportrait"}
    assert sources == {path.stem for path in WORKFLOWS} and set(tool.VARIANTS) == {path.stem for path in VARIANTS}
