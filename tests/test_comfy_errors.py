"""One wrong value, one error: what a real ComfyUI reports of a prompt with a single mistake, over all nodes."""

import json
from pathlib import Path

import pytest

from tests.comfy_prompts import PORTRAIT, models

pytestmark = pytest.mark.comfy

SCHEMAS = json.loads((Path(__file__).parent / "data" / "node_schemas.json").read_text(encoding="utf-8"))
SOURCES = {
    "PLAYMATE_MODELS": ["m", 0], "PLAYMATE_APPEARANCE": ["a", 0], "PLAYMATE_SPEECH": ["e", 0],
    "PLAYMATE_MOTION": ["l", 0], "IMAGE": ["i", 0], "AUDIO": ["s", 0],
}
BEFORE = {
    **PORTRAIT, "m": models(),
    "a": {"class_type": "PlaymateExtractAppearance",
          "inputs": {"models": ["m", 0], "image": ["i", 0], "face": "largest", "face_index": 0, "image_index": 0}},
    "s": {"class_type": "EmptyAudio", "inputs": {"duration": 1.0, "sample_rate": 16000, "channels": 1}},
    "e": {"class_type": "PlaymateAudioEncoder", "inputs": {"models": ["m", 0], "audio": ["s", 0]}},
    "l": {"class_type": "PlaymateLoadMotion", "inputs": {"file": "look_around.safetensors [example]"}},
}
TEXTS = {
    ("PlaymatePoseOverride", "axes"): "yaw, nose", ("PlaymatePoseOverride", "keyframes"): "0 yaw=left",
    ("PlaymateEmotionControl", "schedule"): "0.0 joyful", ("PlaymateEyes", "gaze_keyframes"): "0 x=left",
    ("PlaymateSaveMotion", "filename_prefix"): "../up", ("PlaymateExtractAppearance", "face_box"): "12",
    ("PlaymateExtractAppearance", "face_points"): "1 2; 3", ("PlaymateExpressionEdit", "blendshapes"): "smirk 1",
    ("PlaymateMotionToBlendshapes", "filename_prefix"): "../up", ("PlaymateRenderVideo", "background"): "nocolour",
    ("PlaymateSplitSpeakers", "turns"): "0 one; x 2",
}
FILES = {("PlaymateLoadModels", "motion_model"): "bundled", ("PlaymateLoadModels", "speech_encoder"): "auto",
         ("PlaymateLoadMotion", "file"): "look_around.safetensors [example]",
         ("PlaymateMotionFromBlendshapes", "file"): "take.csv"}
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


@pytest.fixture(scope="module", autouse=True)
def take(studio, tmp_path_factory):
    file = tmp_path_factory.mktemp("take") / "take.csv"
    file.write_text("jawOpen\n0.1\n0.2\n", encoding="utf-8")
    assert studio.upload(file) == "take.csv"


def mistakes():
    for node, schema in SCHEMAS.items():
        for name, info in schema["inputs"].items():
            if info["type"] == "COMBO":
                yield node, name, "none such"
            elif info["type"] == "STRING":
                yield node, name, TEXTS[node, name]
            elif info["type"] in ("INT", "FLOAT") and "max" in info and not name.endswith("_values"):
                yield node, name, info["max"] + 1


def prompt_for(node):
    inputs = {}
    for name, info in SCHEMAS[node]["inputs"].items():
        if info["type"] in WIDGETS and not name.endswith("_values"):
            inputs[name] = FILES.get((node, name), info.get("default"))
        elif info["kind"] == "required":
            inputs[name] = SOURCES[info["type"]]
    return {**BEFORE, "n": {"class_type": node, "inputs": inputs},
            "out": {"class_type": "PreviewAny", "inputs": {"source": ["n", 0]}}}


@pytest.mark.parametrize("node, name, wrong", list(mistakes()))
def test_one_wrong_value_is_one_error(studio, node, name, wrong):
    prompt = prompt_for(node)
    prompt["n"]["inputs"][name] = wrong
    status, answer = studio.post("/prompt", {"prompt": prompt})
    assert status == 400, answer
    (reported, told), = answer["node_errors"].items()
    error, = told["errors"]
    assert reported == "n"
    assert name.replace("_", " ") in error["details"].replace("_", " ") or wrong in error["details"]
    if error["type"] == "custom_validation_failed":
        assert error["extra_info"]["input_name"] == name
