"""What a real ComfyUI says to bad input, and what good input of every kind becomes."""

import pytest

from tests.comfy_prompts import (
    EMPTY,
    PORTRAIT,
    WORKFLOWS,
    appearance_of,
    emotion,
    ended_well,
    forget,
    kept,
    models,
    preview_of_sample,
    refusals,
    sentence,
    without_video,
)
from tests.test_comfy_workflows import api

pytestmark = pytest.mark.comfy


def test_a_picture_without_a_face_ends_in_one_sentence(studio):
    assert "face" in sentence(studio.run(appearance_of(["i", 0], EMPTY))).lower()


def test_a_picture_of_one_pixel_ends_in_one_sentence(studio):
    dot = {"i": {"class_type": "EmptyImage", "inputs": {"width": 1, "height": 1, "batch_size": 1, "color": 0}}}
    assert "face" in sentence(studio.run(appearance_of(["i", 0], dot))).lower()


def test_no_such_picture_in_the_batch(studio):
    assert "image_index is 3" in sentence(studio.run(appearance_of(["i", 0], PORTRAIT, image_index=3)))


def test_transparency_batches_and_empty_masks_are_fine(studio):
    """RGBA through core's own node; the MASK of a picture without alpha is empty and must not hide the face."""
    nodes = {**PORTRAIT,
             "k": {"class_type": "SolidMask", "inputs": {"value": 0.0, "width": 512, "height": 512}},
             "j": {"class_type": "JoinImageWithAlpha", "inputs": {"image": ["i", 0], "alpha": ["k", 0]}}}
    outputs = ended_well(studio.run(appearance_of(["j", 0], nodes, mask=["i", 1])))
    assert len(outputs["s"]["images"]) == 2
    nodes["r"] = {"class_type": "RepeatImageBatch", "inputs": {"image": ["i", 0], "amount": 2}}
    ended_well(studio.run(appearance_of(["r", 0], nodes, image_index=1)))


def test_a_mask_beside_the_face_leaves_none(studio):
    nodes = {**PORTRAIT,
             "b": {"class_type": "SolidMask", "inputs": {"value": 0.0, "width": 512, "height": 512}},
             "k": {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 40, "height": 40}},
             "c": {"class_type": "MaskComposite", "inputs": {"destination": ["b", 0], "source": ["k", 0], "x": 2,
                                                             "y": 2, "operation": "add"}}}
    assert "mask" in sentence(studio.run(appearance_of(["i", 0], nodes, mask=["c", 0]))).lower()


def test_silence_and_too_short_sound(studio):
    def speak(seconds):
        return {"m": models(),
                "a": {"class_type": "EmptyAudio", "inputs": {"duration": seconds, "sample_rate": 44100, "channels": 2}},
                "e": {"class_type": "PlaymateAudioEncoder", "inputs": {"models": ["m", 0], "audio": ["a", 0]}},
                "n": {"class_type": "PlaymateMotionSampler",
                      "inputs": {"models": ["m", 0], "speech": ["e", 0], "seed": 1, "steps": 2, "scheduler": "ddim",
                                 "audio_guidance": 0.0, "head_motion": 1.0, "fps": 30.0}},
                "p": {"class_type": "PlaymatePreviewMotion", "inputs": {"models": ["m", 0], "motion": ["n", 0],
                                                                        "width": 320, "height": 256}}}

    ended_well(studio.run(speak(1.0)))
    assert "audio" in sentence(studio.run(speak(0.0))).lower()


def test_choices_and_texts_are_checked_before_anything_runs(studio):
    prompt = preview_of_sample()
    prompt["m"]["inputs"]["pack"] = "full"
    assert "pack is 'full'; choose one of: bundled, liveportrait" in refusals(studio, prompt)
    pose = {"motion": ["l", 0], "mode": "replace", "source": "keyframes", "axes": "yaw", "pitch": 0.0, "yaw": 0.0,
            "roll": 0.0, "x": 0.0, "y": 0.0, "scale": 1.0, "keyframes": "0 yaw=left", "amount": 1.0,
            "length": "mirror"}
    for change, said in (({}, "yaw=left"), ({"axes": "yaw, nose"}, "'nose'"), ({"mode": "swap"}, "mode is 'swap'"),
                         ({"yaw": 60.0}, "yaw")):
        prompt = preview_of_sample()
        prompt["o"] = {"class_type": "PlaymatePoseOverride", "inputs": {**pose, **change}}
        prompt["p"]["inputs"]["motion"] = ["o", 0]
        assert said in refusals(studio, prompt)


@pytest.mark.parametrize("changes, said", [
    ({"schedule": "0.0 joyful"}, "joyful"),
    ({"emotion": "joyful"}, "emotion is 'joyful'"),
    ({"emotion": "happy", "strength": 1.5, "second_emotion": "sad", "second_strength": 1.0}, "add up to 2.5"),
    ({"emotion": "happy", "start": 2.0, "end": 1.0}, "before it starts"),
    ({"emotion": "happy", "combine": "stir"}, "combine is 'stir'"),
])
def test_emotions_that_cannot_be_are_refused_in_one_sentence(studio, changes, said):
    prompt = api("quick_start")
    sampler = next(node for node in prompt.values() if node["class_type"] == "PlaymateMotionSampler")
    prompt["e"] = {"class_type": "PlaymateEmotionControl", "inputs": emotion(**changes)}
    sampler["inputs"]["emotion"] = ["e", 0]
    assert said in refusals(studio, prompt)


def test_chained_emotions_reach_the_sampler(studio):
    prompt = api("quick_start")
    sampler = next(key for key, node in prompt.items() if node["class_type"] == "PlaymateMotionSampler")
    prompt["e"] = {"class_type": "PlaymateEmotionControl", "inputs": emotion(schedule="0.0 neutral\n1.5 happy 0.5")}
    prompt["f"] = {"class_type": "PlaymateEmotionControl",
                   "inputs": emotion(emotion="sad", start=2.0, second_emotion="fear", combine="replace",
                                     previous=["e", 0])}
    prompt[sampler]["inputs"].update(emotion=["f", 0], steps=2, emotion_guidance=1.5)
    prompt = without_video(prompt)
    prompt["s"] = {"class_type": "PlaymateSaveMotion", "inputs": {"motion": [sampler, 0], "format": "safetensors",
                                                                  "filename_prefix": "motions/felt"}}
    ended_well(studio.run(prompt))


EDIT = {"smile": 0.0, "eyebrow": 0.0, "blink": 0.0, "wink": 0.0, "pupil_x": 0.0, "pupil_y": 0.0, "aaa": 0.0, "eee": 0.0,
        "woo": 0.0, "apply": "whole", "start": 0.0, "end": 0.0, "fade": 0.2, "frame": 0}
EYES = {"blink_mode": "replace", "blink_rate": 60.0, "seed": 3, "gaze_mode": "add", "gaze_x": 0.0, "gaze_y": 0.0,
        "gaze_keyframes": "", "gaze_style": "jump", "saccades": 0.0, "keep_gaze": 0.0, "openness": 1.0}


def test_faces_and_eyes_are_edited(studio):
    from playmate_core.motion.blinks import find_blinks
    from playmate_core.motion.eyes import read_eyes
    from playmate_core.motion.files import load_motion
    from playmate_core.motion.sliders import slider_offset

    prompt = {
        "still": {"class_type": "PlaymateExpressionEdit", "inputs": {**EDIT, "smile": 1.0}},
        "l": {"class_type": "PlaymateLoadMotion", "inputs": {"file": "look_around.safetensors [example]"}},
        "range": {"class_type": "PlaymateExpressionEdit",
                  "inputs": {**EDIT, "aaa": 50.0, "apply": "range", "start": 1.0, "end": 2.0, "motion": ["l", 0]}},
        "eyes": {"class_type": "PlaymateEyes",
                 "inputs": {**EYES, "motion": ["range", 0], "gaze_keyframes": "0 x=0; 1 x=0.4"}},
        "a": kept(["still", 0], "still"), "b": kept(["range", 0], "range"), "c": kept(["eyes", 0], "eyes"),
    }
    forget(studio)
    outputs = ended_well(studio.run(prompt))
    still, edited, eyes = [load_motion(studio.base / "output" / entry["subfolder"] / entry["filename"])
                           for entry in (outputs[node]["motions"][0] for node in "abc")]
    sample = load_motion(WORKFLOWS / "inputs" / "look_around.safetensors")
    assert len(still) == 1 and still.expression[0].allclose(slider_offset({"smile": 1.0}), atol=1e-5)
    assert edited.expression[:25].equal(sample.expression[:25]) and not edited.expression.equal(sample.expression)
    closure, gaze = read_eyes(eyes.expression_offset)
    moved = (gaze - read_eyes(sample.expression_offset)[1])[:, 0]
    assert find_blinks(closure, eyes.fps) and abs(float(moved[-1]) - 10) < 0.1 and abs(float(moved[0])) < 0.1
    # A prompt is refused as a whole only if none of its outputs can be had.
    prompt = {key: prompt[key] for key in ("l", "range", "eyes", "c")}
    for node, change, said in (
            ("range", {"apply": "often"}, "apply is 'often'"), ("range", {"end": 0.5}, "set end later"),
            ("range", {"smile": 9.0}, "smile"), ("eyes", {"blink_mode": "never"}, "'never'"),
            ("eyes", {"gaze_keyframes": "0 x=left"}, "x=left")):
        wrong = {**prompt, node: {**prompt[node], "inputs": {**prompt[node]["inputs"], **change}}}
        assert said in refusals(studio, wrong)
    prompt["range"]["inputs"].update(apply="frame", frame=100000)
    assert "no frame 100000" in sentence(studio.run(prompt))
