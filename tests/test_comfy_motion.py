"""The nodes that read and edit motion, in a real ComfyUI."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCHEMAS = json.loads((Path(__file__).parent / "data" / "node_schemas.json").read_text(encoding="utf-8"))

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def studio(comfy):
    for name in ("portrait.jpg", "voice.wav"):
        comfy.upload(ROOT / "workflows" / "inputs" / name)
    return comfy


def node(kind, **inputs):
    """A node of an API prompt with its widgets at their defaults but for ``inputs``."""
    spec = SCHEMAS[f"Playmate{kind}"]["inputs"]
    defaults = {key: value["default"] for key, value in spec.items() if "default" in value}
    return {"class_type": f"Playmate{kind}", "inputs": {**defaults, **inputs}}


SAMPLE = {"l": node("LoadMotion", file="look_around.safetensors [example]")}


def saved(studio, prompt):
    """The motion that the prompt's Save Motion node ``s`` wrote."""
    from playmate_core.motion.files import load_motion

    history = studio.run(prompt)
    assert history["status"]["status_str"] == "success", history["status"]["messages"][-1]
    (entry,) = history["outputs"]["s"]["motions"]
    return load_motion(studio.base / entry["type"] / entry["subfolder"] / entry["filename"])


def test_a_drawn_clip_becomes_motion_again(studio):
    prompt = {
        **SAMPLE,
        "m": node("LoadModels", device="cpu", motion_model="bundled"),
        "i": {"class_type": "LoadImage", "inputs": {"image": "portrait.jpg"}},
        "a": node("ExtractAppearance", models=["m", 0], image=["i", 0]),
        "r": node("RetimeMotion", motion=["l", 0], start=0.5, end=0.9),
        "v": node("RenderVideo", models=["m", 0], appearance=["a", 0], motion=["r", 0]),
        "f": node("MotionFromVideo", models=["m", 0], video=["v", 0], use="pose"),
        "s": node("SaveMotion", motion=["f", 0]),
    }
    motion = saved(studio, prompt)
    assert len(motion) == 10 and motion.fps == 25 and not motion.expression.any()
    del prompt["f"]["inputs"]["video"]
    history = studio.run(prompt)
    assert history["status"]["status_str"] == "error"
    assert "needs one clip" in history["status"]["messages"][-1][1]["exception_message"]
    prompt["f"]["inputs"] |= {"video": ["v", 0], "extractor": "motion extractor"}
    message = studio.run(prompt)["status"]["messages"][-1][1]
    assert message["node_type"] == "PlaymateMotionFromVideo"
    assert "no motion extractor" in message["exception_message"]


def test_liveportraits_options_leave_the_bundled_pack_alone(studio):
    """And a template is written by the same prompt, with one frame more."""
    motion = saved(studio, {
        **SAMPLE,
        "m": node("LoadModels", device="cpu", motion_model="bundled"),
        "o": node("LivePortraitOptions", models=["m", 0], driving_multiplier=1.5),
        "i": {"class_type": "LoadImage", "inputs": {"image": "portrait.jpg"}},
        "a": node("ExtractAppearance", models=["o", 0], image=["i", 0]),
        "r": node("RetimeMotion", motion=["l", 0], start=0.4, end=0.52),
        "f": node("RenderFrames", models=["o", 0], appearance=["a", 0], motion=["r", 0]),
        "p": {"class_type": "PreviewImage", "inputs": {"images": ["f", 0]}},
        "s": node("SaveMotion", motion=["r", 0], format="pkl"),
    })
    assert len(motion) == 1 + 3


def test_motion_is_edited_node_by_node(studio):
    motion = saved(studio, {
        **SAMPLE,
        "w": {"class_type": "LoadAudio", "inputs": {"audio": "voice.wav"}},
        "r": node("RetimeMotion", motion=["l", 0], start=1.0, end=3.0, speed=2.0),
        "k": node("RegionMask", motion=["r", 0], amount=0.5),
        "c": node("ConcatenateMotion", motion_a=["k", 0], motion_b=["l", 0], crossfade=0.2),
        "o": node("LoopMotion", motion=["c", 0], audio=["w", 0]),
        "h": node("SmoothMotion", motion=["o", 0], mouth=0.0),
        "s": node("SaveMotion", motion=["h", 0]),
    })
    assert len(motion) == round(6.05 * 25)


def test_blendshapes_go_out_and_come_back(studio):
    """Through a file in the output folder, which the node lists at once."""
    history = studio.run({**SAMPLE,
                          "e": node("ExpressionEdit", motion=["l", 0], blendshapes="jawOpen 0.6, mouthSmile 0.4"),
                          "b": node("MotionToBlendshapes", motion=["e", 0])})
    assert history["status"]["status_str"] == "success", history["status"]["messages"][-1]
    (entry,) = history["outputs"]["b"]["blendshapes"]
    name = f"{entry['subfolder']}/{entry['filename']} [{entry['type']}]"
    info = studio.get("/object_info/PlaymateMotionFromBlendshapes")["PlaymateMotionFromBlendshapes"]
    assert name in info["input"]["required"]["file"][1]["options"]
    motion = saved(studio, {"f": node("MotionFromBlendshapes", file=name, fps=25.0, head="as recorded"),
                            "s": node("SaveMotion", motion=["f", 0])})
    assert motion.fps == 25 and motion.expression.any() and float(motion.rotation[:, 1].abs().max()) > 5
    prompt = {**SAMPLE, "e": node("ExpressionEdit", motion=["l", 0], blendshapes="smirk 1"),
              "s": node("SaveMotion", motion=["e", 0])}
    status, answer = studio.post("/prompt", {"prompt": prompt})
    assert status == 400 and "no 'smirk' among" in str(answer["node_errors"])


@pytest.mark.parametrize("kind, change", [
    ("RetimeMotion", {"fit": "squeeze"}), ("SmoothMotion", {"method": "magic"}), ("RegionMask", {"length": "long"}),
    ("LoopMotion", {"seam": "tape"}),
])
def test_choices_are_checked_before_anything_runs(studio, kind, change):
    prompt = {**SAMPLE, "n": node(kind, motion=["l", 0], **change), "s": node("SaveMotion", motion=["n", 0])}
    status, answer = studio.post("/prompt", {"prompt": prompt})
    assert status == 400
    told = " ".join(error["details"] for found in answer["node_errors"].values() for error in found["errors"])
    assert f"is '{next(iter(change.values()))}'; choose one of" in told
