"""The nodes in a real ComfyUI: whole workflows, cancelling, files, and what it says to bad input."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.test_comfy_workflows import NAMES, api

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = ROOT / "workflows"

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def studio(comfy, tmp_path_factory):
    """The server with the sample inputs in its input folder, put there as the front end does it."""
    from playmate_core.motion.edits import slice_frames
    from playmate_core.motion.files import load_motion, save_motion

    for name in ("portrait.jpg", "voice.wav", "drive_head.mp4", "drive_brows.mp4"):
        assert comfy.upload(WORKFLOWS / "inputs" / name) == name
    sample = load_motion(WORKFLOWS / "inputs" / "look_around.safetensors")
    comfy.upload(save_motion(slice_frames(sample, 20, 24), tmp_path_factory.mktemp("motion") / "short.safetensors"))
    return comfy


def ended_well(history):
    assert history["status"]["status_str"] == "success", history["status"]["messages"][-1]
    return history["outputs"]


def sentence(history) -> str:
    """The one sentence that a user sees."""
    assert history["status"]["status_str"] == "error"
    event, data = history["status"]["messages"][-1]
    assert event == "execution_error"
    assert data["exception_type"].endswith("PlaymateError"), data
    text = data["exception_message"].strip()
    assert "\n" not in text and text.endswith(".") and 20 < len(text) < 400
    return text


def refusals(comfy, prompt) -> str:
    """What the server says when it does not take a prompt."""
    status, answer = comfy.post("/prompt", {"prompt": prompt})
    assert status == 400, answer
    return " ".join(error["details"] for node in answer["node_errors"].values() for error in node["errors"])


def forget(comfy):
    """Empties the server's cache of results, so that the next run computes everything."""
    comfy.post("/free", {"free_memory": True})
    time.sleep(1.5)


def video_of(comfy, outputs) -> Path:
    files = [comfy.base / entry["type"] / entry["subfolder"] / entry["filename"]
             for output in outputs.values() for entry in output.get("images", []) if entry["filename"].endswith(".mp4")]
    assert len(files) == 1
    return files[0]


def check_video(path: Path, seconds: float, fps: float = 25.0):
    """It plays from beginning to end, and picture and sound last as long as the voice, to a frame."""
    import av

    with av.open(str(path)) as container:
        picture, sound = container.streams.video[0], container.streams.audio[0]
        assert (picture.width, picture.height) == (512, 512) and picture.codec_context.pix_fmt == "yuv420p"
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(frames) == round(seconds * fps)
        assert abs(float(picture.duration * picture.time_base) - seconds) <= 1 / fps
        assert abs(float(sound.duration * sound.time_base) - seconds) <= 1 / fps
        container.seek(0)
        heard = sum(frame.samples for frame in container.decode(audio=0)) / sound.rate
        assert abs(heard - seconds) <= 0.1  # AAC works in blocks
    middle = frames[len(frames) // 2].astype(float)
    assert 20 < middle.mean() < 235
    assert max(abs(frame.astype(float) - middle).mean() for frame in frames[::10]) > 0.1, "nothing moves"


VOICE_SECONDS = 6.05


@pytest.mark.parametrize("name", [name for name in NAMES if name != "splice_video"])  # which has a test of its own
def test_workflow_over_plain_http(studio, name):
    outputs = ended_well(studio.run(api(name)))
    check_video(video_of(studio, outputs), VOICE_SECONDS)


def kept(motion, name):
    return {"class_type": "PlaymateSaveMotion", "inputs": {"motion": motion, "filename_prefix": f"motions/{name}",
                                                           "format": "safetensors"}}


def correlation(a, b):
    import torch

    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def test_head_mouth_and_brows_come_from_a_clip_a_voice_and_another_clip(studio, models):
    """The parts of ``splice_video``'s motion are its sources' own, and they are seen in the finished frames."""
    from playmate_core.face.driving import motion_from_frames
    from playmate_core.face.geometry import BROWS_UPPER
    from playmate_core.motion.files import load_motion
    from playmate_core.motion.pose import pose_offsets
    from playmate_core.motion.regions import REGION_KEYPOINTS
    from playmate_core.video_reading import open_video

    prompt = api("splice_video")
    by_title = {node["_meta"]["title"]: key for key, node in prompt.items()}
    sources = {"voice": "Motion Sampler (mouth)", "a": "Motion From Video (A: head)",
               "b": "Motion From Video (B: brows)", "all": "Pose Override (head)"}
    prompt.update({name: kept([by_title[title], 0], f"splice_{name}") for name, title in sources.items()})
    outputs = ended_well(studio.run(prompt))
    check_video(video_of(studio, outputs), VOICE_SECONDS)
    voice, a, b, spliced = (load_motion(studio.base / "output" / entry["subfolder"] / entry["filename"])
                            for entry in (outputs[name]["motions"][0] for name in sources))
    clip = slice(0, len(a))  # the clips are shorter than the voice
    assert len(a) == len(b) == 100 and len(spliced) == len(voice) == 151
    mouth, brows = (list(REGION_KEYPOINTS[region]) for region in ("mouth", "brows"))
    expression = spliced.expression_offset
    assert expression[:, mouth].allclose(voice.expression_offset[:, mouth], atol=1e-6)
    assert expression[clip, brows].allclose(b.expression_offset[:, brows], atol=1e-6)
    assert pose_offsets(spliced)[clip, :5].allclose(pose_offsets(a)[:, :5], atol=1e-3)

    reader = open_video(video_of(studio, outputs))
    seen = motion_from_frames(models.face, models.bridge, reader, reader.fps)

    def shown(motion):
        raised = -models.bridge.displacement(motion.expression_offset)[:, BROWS_UPPER[0][2], 1]
        return motion.rotation[:, 1], raised, models.bridge.lip_gap(motion.expression_offset)

    yaw, raised, gap = shown(seen)
    assert correlation(yaw[clip], shown(a)[0]) > 0.97
    assert correlation(raised[clip], shown(b)[1]) > 0.8
    assert correlation(gap, shown(voice)[2]) > 0.8
    # The performance of the voice moved head and brows as well, otherwise.
    assert correlation(yaw, shown(voice)[0]) < 0.6 and correlation(raised, shown(voice)[1]) < 0.6


@pytest.mark.parametrize("name", ["quick_start", "splice_video"])
def test_workflow_by_comfy_cli(studio, name, tmp_path):
    """The UI form, as a user saved it; the command turns it into API form against the server's own schemas."""
    # Beside the interpreter first: an environment's programs are not on the path unless it is activated.
    comfy = shutil.which("comfy", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if comfy is None:
        pytest.skip("comfy-cli is not installed (make test installs it)")
    forget(studio)
    environment = {**os.environ, "DO_NOT_TRACK": "1", "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    before = set((studio.base / "output" / "video").glob("*.mp4"))
    done = subprocess.run(
        [comfy, "--skip-prompt", "run", "--workflow", str(WORKFLOWS / f"{name}.json"), "--wait",
         "--host", "127.0.0.1", "--port", str(studio.port), "--timeout", "300"],
        env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    new = set((studio.base / "output" / "video").glob("*.mp4")) - before
    assert len(new) == 1
    check_video(new.pop(), VOICE_SECONDS)


def until_running(comfy, prompt_id, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if any(item[1] == prompt_id for item in comfy.get("/queue")["queue_running"]):
            return
        time.sleep(0.02)
    raise TimeoutError(prompt_id)


def cancel_after(comfy, prompt, delay):
    """Seconds until the queue was free again, the node that was stopped, and the history."""
    prompt_id = comfy.queue(prompt)
    until_running(comfy, prompt_id)
    time.sleep(delay)
    start = time.monotonic()
    comfy.post("/interrupt", {})
    while comfy.get("/queue")["queue_running"]:
        assert time.monotonic() - start < 30
        time.sleep(0.02)
    took = time.monotonic() - start
    event, data = comfy.wait(prompt_id)["status"]["messages"][-1]
    assert event == "execution_interrupted"
    return took, data["node_type"]


def best_cancel(comfy, prompt, delay, node, **changes):
    """Cancels within 2 seconds, at the first of three attempts that other work on the machine does not disturb."""
    node["inputs"].update(changes)
    for _ in range(3):
        took, stopped = cancel_after(comfy, prompt, delay)
        if took < 2.0:
            return stopped
    raise AssertionError(f"the queue was free only {took:.1f} s after cancelling")


def without_video(prompt):
    return {key: node for key, node in prompt.items() if node["class_type"] not in {"PlaymateRenderVideo", "SaveVideo"}}


def part_files(comfy):
    return [p for folder in ("temp", "output") for p in (comfy.base / folder).rglob("*part*")]


def test_cancel_in_the_middle_of_a_video(studio):
    prompt = api("quick_start")
    ended_well(studio.run(prompt))  # everything before the video is in the cache now
    render = next(node for node in prompt.values() if node["class_type"] == "PlaymateRenderVideo")
    assert best_cancel(studio, prompt, 1.5, render, crf=30) == "PlaymateRenderVideo"
    assert not part_files(studio)
    ended_well(studio.run({"1": {"class_type": "PlaymateEmotionControl", "inputs": emotion()}, **preview_of_sample()}))


def test_cancel_in_the_middle_of_sampling(studio):
    prompt = without_video(api("quick_start"))
    sampler = next(key for key, node in prompt.items() if node["class_type"] == "PlaymateMotionSampler")
    prompt["p"] = {"class_type": "PlaymatePreviewMotion", "inputs": {"models": prompt[sampler]["inputs"]["models"],
                                                                     "motion": [sampler, 0], "width": 320,
                                                                     "height": 256}}
    prompt[sampler]["inputs"].update(steps=1)
    ended_well(studio.run(prompt))
    prompt[sampler]["inputs"].update(scheduler="ddim")
    assert best_cancel(studio, prompt, 0.7, prompt[sampler], steps=100) == "PlaymateMotionSampler"


def emotion(**changes):
    return {"emotion": "neutral", "strength": 1.0, "start": 0.0, "end": 0.0, "fade_in": 0.5, "fade_out": 0.5,
            "schedule": "", **changes}


def models():
    return {"class_type": "PlaymateLoadModels", "inputs": {"pack": "bundled", "device": "auto",
                                                           "motion_model": "bundled"}}


def preview_of_sample(width=320):
    return {"m": models(),
            "l": {"class_type": "PlaymateLoadMotion", "inputs": {"file": "look_around.safetensors [example]"}},
            "p": {"class_type": "PlaymatePreviewMotion", "inputs": {"models": ["m", 0], "motion": ["l", 0],
                                                                    "width": width, "height": 256}}}


def appearance_of(image, extra=None, **inputs):
    """A prompt that extracts the appearance of ``image``'s output and draws two frames of it."""
    return {**(extra or {}), "m": models(),
            "a": {"class_type": "PlaymateExtractAppearance",
                  "inputs": {"models": ["m", 0], "image": image, "face": "largest", "face_index": 0, "image_index": 0,
                             **inputs}},
            "l": {"class_type": "PlaymateLoadMotion", "inputs": {"file": "short.safetensors"}},
            "f": {"class_type": "PlaymateRenderFrames", "inputs": {"models": ["m", 0], "appearance": ["a", 0],
                                                                   "motion": ["l", 0], "batch_size": 8}},
            "s": {"class_type": "PreviewImage", "inputs": {"images": ["g", 0]}},
            "g": {"class_type": "ImageFromBatch", "inputs": {"image": ["f", 0], "batch_index": 1, "length": 2}}}


PORTRAIT = {"i": {"class_type": "LoadImage", "inputs": {"image": "portrait.jpg"}}}
EMPTY = {"i": {"class_type": "EmptyImage", "inputs": {"width": 256, "height": 256, "batch_size": 1, "color": 8421504}}}


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
    assert len(still) == 1 and still.expression[0].allclose(slider_offset({"smile": 1.0}), atol=1e-7)
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


def saved(studio, prefix, form):
    prompt = {"l": {"class_type": "PlaymateLoadMotion", "inputs": {"file": "look_around.safetensors [example]"}},
              "s": {"class_type": "PlaymateSaveMotion", "inputs": {"motion": ["l", 0], "filename_prefix": prefix,
                                                                   "format": form}}}
    forget(studio)
    entry = ended_well(studio.run(prompt))["s"]["motions"][0]
    return studio.base / "output" / entry["subfolder"] / entry["filename"]


def test_motions_are_saved_under_new_numbers_and_load_again(studio):
    from playmate_core.motion.files import load_motion

    first, second = saved(studio, "motions/take", "safetensors"), saved(studio, "motions/take", "safetensors")
    assert first != second and first.parent == studio.base / "output" / "motions"
    template = saved(studio, "motions/take", "pkl")
    sample = load_motion(WORKFLOWS / "inputs" / "look_around.safetensors")
    assert load_motion(second).rotation.equal(sample.rotation)
    assert len(load_motion(template)) == len(sample) + 1
    offered = studio.get("/object_info/PlaymateLoadMotion")["PlaymateLoadMotion"]["input"]["required"]["file"][1]
    for file in (first, second, template):
        name = f"motions/{file.name} [output]"
        assert name in offered["options"]
        prompt = preview_of_sample()
        prompt["l"]["inputs"]["file"] = name
        ended_well(studio.run(prompt))


def evil_files(comfy):
    """Other tests' folders lie in the same place and may hold such names too."""
    return set(comfy.base.parent.rglob("evil*")) | set(Path("/tmp").glob("evil*"))


@pytest.mark.parametrize("prefix", ["../evil", "/tmp/evil", "a/../../evil", "C:\\evil", "", "motions/", "a\0b"])
def test_nothing_is_written_outside_the_output_folder(studio, prefix):
    prompt = preview_of_sample()
    prompt["s"] = {"class_type": "PlaymateSaveMotion", "inputs": {"motion": ["l", 0], "filename_prefix": prefix,
                                                                  "format": "safetensors"}}
    del prompt["p"]
    before = evil_files(studio)
    assert "filename_prefix" in refusals(studio, prompt)
    assert evil_files(studio) == before


@pytest.mark.parametrize("name", ["../comfyui.log", "../../x.safetensors", "/etc/passwd", "missing.pkl", "portrait.jpg",
                                  "..\\x.pkl [output]", "x.safetensors [temp]"])
def test_only_motions_in_the_proper_folders_are_read(studio, name):
    prompt = preview_of_sample()
    prompt["l"]["inputs"]["file"] = name
    assert "motion" in refusals(studio, prompt)


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/playmate_evil",)


def test_an_evil_pickle_and_a_foreign_file_are_refused(studio, tmp_path):
    from safetensors.torch import save_file
    from torch import zeros

    evil, foreign = tmp_path / "evil.pkl", tmp_path / "foreign.safetensors"
    evil.write_bytes(pickle.dumps({"motion": Evil()}))
    save_file({"weight": zeros(3)}, foreign)
    for file in (evil, foreign):
        prompt = preview_of_sample()
        prompt["l"]["inputs"]["file"] = studio.upload(file)
        assert file.name in sentence(studio.run(prompt))
    assert not Path("/tmp/playmate_evil").exists()


def test_a_changed_file_is_read_again(studio, tmp_path):
    import torch

    from playmate_core.motion.files import save_motion
    from playmate_core.motion.types import Motion

    prompt = preview_of_sample()
    for frames in (10, 20):
        file = save_motion(Motion.rest(frames), tmp_path / "changing.safetensors")
        prompt["l"]["inputs"]["file"] = studio.upload(file)
        prompt["s"] = {"class_type": "PlaymateSaveMotion", "inputs": {"motion": ["l", 0], "format": "safetensors",
                                                                      "filename_prefix": "motions/changed"}}
        entry = ended_well(studio.run(prompt))["s"]["motions"][0]
        from safetensors.torch import load_file
        kept = load_file(studio.base / "output" / entry["subfolder"] / entry["filename"])
        assert len(kept["rotation"]) == frames and torch.isfinite(kept["rotation"]).all()


def test_models_of_the_users_own_folder_are_offered_and_checked(studio):
    from safetensors.torch import save_file
    from torch import zeros

    folder = studio.base / "models" / "playmate"
    (folder / "motions").mkdir(parents=True, exist_ok=True)
    save_file({"weight": zeros(3)}, folder / "foreign.safetensors")
    try:
        offered = studio.get("/object_info/PlaymateLoadModels")["PlaymateLoadModels"]["input"]["required"]
        assert "foreign.safetensors" in offered["motion_model"][1]["options"]
        prompt = preview_of_sample()
        prompt["m"]["inputs"]["motion_model"] = "foreign.safetensors"
        assert "foreign.safetensors" in sentence(studio.run(prompt))
        prompt["m"]["inputs"]["motion_model"] = "../../x.safetensors"
        assert "motion_model" in refusals(studio, prompt)
    finally:
        (folder / "foreign.safetensors").unlink()


def test_frames_and_their_rate_make_a_video_through_core_nodes(studio):
    prompt = appearance_of(["i", 0], PORTRAIT)
    prompt["v"] = {"class_type": "CreateVideo", "inputs": {"images": ["g", 0], "fps": ["f", 1]}}
    prompt["w"] = {"class_type": "SaveVideo", "inputs": {"video": ["v", 0], "filename_prefix": "video/frames",
                                                         "format": "auto", "codec": "auto"}}
    file = video_of(studio, ended_well(studio.run(prompt)))
    import av

    with av.open(str(file)) as container:
        assert container.streams.video[0].average_rate == 25
        assert sum(1 for _ in container.decode(video=0)) == 2


def test_progress_is_told_while_a_video_is_drawn(studio):
    """The front end's progress bar lives on these messages."""
    websocket = pytest.importorskip("websocket")
    socket = websocket.create_connection(f"ws://127.0.0.1:{studio.port}/ws?clientId=progress-test", timeout=60)
    try:
        prompt = api("quick_start")
        render = next(key for key, node in prompt.items() if node["class_type"] == "PlaymateRenderVideo")
        prompt[render]["inputs"]["crf"] = 35
        studio.post("/prompt", {"prompt": prompt, "client_id": "progress-test"})
        seen = []
        while True:
            message = socket.recv()
            if isinstance(message, str):
                told = json.loads(message)
                if told["type"] == "progress" and told["data"]["node"] == render:
                    seen.append((told["data"]["value"], told["data"]["max"]))
                if told["type"] == "execution_success":
                    break
                assert told["type"] != "execution_error", told
    finally:
        socket.close()
    assert len(seen) > 5 and seen[-1] == (151, 151)
    assert [value for value, _ in seen] == sorted(value for value, _ in seen)
