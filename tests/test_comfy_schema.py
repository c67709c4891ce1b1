"""Node and input ids are promises: a real ComfyUI's account of the nodes, against a snapshot that only grows."""

import json
import os
import re
from pathlib import Path

import pytest

from tests.archive import FOLDER

ROOT = Path(__file__).resolve().parent.parent
SNAPSHOT = Path(__file__).parent / "data" / "node_schemas.json"
FILE_LISTS = {("PlaymateLoadModels", "motion_model"), ("PlaymateLoadModels", "speech_encoder"),
              ("PlaymateLoadMotion", "file"), ("PlaymateMotionFromBlendshapes", "file")}
"""Choices that depend on what lies in the user's folders."""
FROZEN = json.loads(SNAPSHOT.read_text(encoding="utf-8")) if SNAPSHOT.is_file() else {}

pytestmark = pytest.mark.comfy


def frozen_part(name: str, info: dict) -> dict:
    """What must not change in a node."""
    inputs = {}
    for kind in ("required", "optional"):
        for key in info["input_order"].get(kind, []):
            what, options = info["input"][kind][key]
            kept = {k: options[k] for k in ("default", "min", "max", "options") if k in options}
            if (name, key) in FILE_LISTS:
                kept = {}
            inputs[key] = {"type": what, "kind": kind, **kept}
    return {"display_name": info["display_name"], "category": info["category"], "inputs": inputs,
            "outputs": [list(pair) for pair in zip(info["output_name"], info["output"], strict=True)],
            "output_node": info["output_node"]}


@pytest.fixture(scope="module")
def nodes(comfy):
    return {name: info for name, info in comfy.get("/object_info").items()
            if info["python_module"] == f"custom_nodes.{FOLDER}"}


def test_the_snapshot_knows_everything(nodes):
    found = {name: frozen_part(name, info) for name, info in sorted(nodes.items())}
    if os.environ.get("PLAYMATE_UPDATE_SCHEMAS"):
        SNAPSHOT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    assert found == json.loads(SNAPSHOT.read_text(encoding="utf-8")), \
        "nodes changed: if only something was added, run once with PLAYMATE_UPDATE_SCHEMAS=1"


@pytest.mark.parametrize("name", FROZEN)
def test_nothing_that_workflows_rely_on_has_changed(nodes, name):
    """Against the ids of the first release, which no update of the snapshot may lose."""
    assert name in nodes
    assert name.startswith("Playmate")
    assert nodes[name]["category"] == "Playmate"
    assert [o[0] for o in FROZEN[name]["outputs"]] == nodes[name]["output_name"][:len(FROZEN[name]["outputs"])]


FIRST_RELEASE = {
    "PlaymateLoadModels": "pack device motion_model",
    "PlaymateExtractAppearance": "models image face face_index image_index mask",
    "PlaymateAudioEncoder": "models audio audio_encoder_output",
    "PlaymateEmotionControl": "emotion strength start end fade_in fade_out schedule",
    "PlaymateMotionSampler": "models speech seed steps scheduler audio_guidance head_motion fps appearance emotion",
    "PlaymatePoseOverride": "motion mode source axes pitch yaw roll x y scale keyframes amount length pose_motion",
    "PlaymateBlendMotion": "motion_a motion_b mouth eyes brows rest pose length",
    "PlaymateLoadMotion": "file",
    "PlaymateSaveMotion": "motion filename_prefix format",
    "PlaymatePreviewMotion": "models motion width height",
    "PlaymateRenderFrames": "models appearance motion batch_size",
    "PlaymateRenderVideo": "models appearance motion crf batch_size audio",
}


@pytest.mark.parametrize("name", FIRST_RELEASE)
def test_ids_of_the_first_release(nodes, name):
    """Saved workflows hold widgets by position: what was there stays in its order, new ones come after."""
    info, first = nodes[name], FIRST_RELEASE[name].split()
    now = [key for kind in ("required", "optional") for key in info["input_order"].get(kind, [])]
    assert [key for key in now if key in first] == first
    widgets = [key for kind in ("required", "optional") for key in info["input_order"].get(kind, [])
               if info["input"][kind][key][0] in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")]
    old = [key for key in first if key in widgets]
    assert widgets[:len(old)] == old
    assert all(key in first for key in info["input_order"]["required"]), "new inputs must be optional"


def test_every_input_and_output_has_a_tooltip(nodes):
    for name, info in nodes.items():
        assert info["description"].endswith(".")
        for kind in ("required", "optional"):
            for key, (_, options) in info["input"].get(kind, {}).items():
                assert len(options.get("tooltip", "")) > 15, f"{name}.{key}"
        assert len(info["output_tooltips"]) == len(info["output"])
        assert all(tip and len(tip) > 15 for tip in info["output_tooltips"]), name


def test_every_node_has_a_help_page_that_tells_all(nodes, comfy):
    for name, info in nodes.items():
        page = (ROOT / "web" / "docs" / f"{name}.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {info['display_name']}\n")
        told = set(re.findall(r"^\| \*\*(\w+)\*\* \|", page, re.M))
        wanted = {key for kind in ("required", "optional") for key in info["input"].get(kind, {})}
        assert wanted | set(info["output_name"]) == told, name
        assert "## Example" in page and "## When something goes wrong" in page
        served = comfy.get(f"/extensions/{FOLDER}/docs/{name}.md")
        assert served.decode().splitlines()[0] == page.splitlines()[0]


def test_the_log_shows_no_trouble_at_import(comfy):
    log = comfy.log_text()
    start = log[:log.index("To see the GUI")]
    assert f"custom_nodes/{FOLDER}" in start
    for word in ("IMPORT FAILED", "Traceback", "Error while calling comfy_entrypoint", "Cannot import", "lack of NODE"):
        assert word not in start
    assert not [line for line in start.splitlines() if re.search(r"playmate", line, re.I)
                and re.search(r"warn|error|deprecat", line, re.I)]


def test_the_model_folder_is_registered(comfy):
    assert "playmate" in comfy.get("/models")


def test_workflows_are_offered_as_templates(comfy):
    offered = comfy.get("/workflow_templates")[FOLDER]
    assert {"quick_start", "splice"} <= set(offered)
    for name in offered:
        assert comfy.get(f"/api/workflow_templates/{FOLDER}/{name}.json")["nodes"]
        assert comfy.get(f"/api/workflow_templates/{FOLDER}/{name}.jpg")[:2] == b"\xff\xd8"
