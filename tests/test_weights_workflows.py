"""What the workflows say of downloads, by the rules of ComfyUI's front end 1.32.9 (``loadGraphData``).

Measured in a browser: entries at a workflow's top level open the missing-model dialog whenever a file is missing;
entries on a node do so while one of its widgets holds the entry's name.
"""

import importlib.util
import json
from pathlib import Path

import pytest

from playmate_core.weights.catalogue import workflow_models
from tests.weights_helpers import liveportrait

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
VARIANT = ROOT / "workflows" / "liveportrait" / "quick_start.json"


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


def test_choosing_joyvasa_in_the_quick_start_asks_for_its_file():
    graph = read(ROOT / "workflows" / "quick_start.json")
    node = next(node for node in graph["nodes"] if node["type"] == "PlaymateLoadModels")
    assert node["properties"]["models"] == workflow_models("liveportrait") + workflow_models("joyvasa")
    node["widgets_values"][2] = "joyvasa/motion_generator_hubert_chinese.pt"
    assert wanted(graph) == {("playmate", "joyvasa/motion_generator_hubert_chinese.pt")}


def test_the_liveportrait_workflow_asks_for_what_the_node_needs(tmp_path):
    there = {("liveportrait", path.name) for path in liveportrait(tmp_path).values()}
    assert wanted(read(VARIANT)) == there
    loader = next(node for node in read(VARIANT)["nodes"] if node["type"] == "PlaymateLoadModels")
    assert loader["widgets_values"][0] == "liveportrait"


def test_the_liveportrait_workflow_is_the_quick_start():
    spec = importlib.util.spec_from_file_location("tool", ROOT / "tools" / "make_liveportrait_workflow.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert read(VARIANT) == tool.with_liveportrait(read(tool.SOURCE)), "run tools/make_liveportrait_workflow.py"
