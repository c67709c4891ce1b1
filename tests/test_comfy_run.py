"""Whole workflows in a real ComfyUI: run, cancelled, and followed by the progress bar."""

import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.comfy_prompts import (
    PORTRAIT,
    WORKFLOWS,
    appearance_of,
    check_video,
    emotion,
    ended_well,
    forget,
    kept,
    preview_of_sample,
    video_of,
    without_video,
)
from tests.test_comfy_workflows import NAMES, api

pytestmark = pytest.mark.comfy


VOICE_SECONDS = 6.05
OF_THEIR_OWN = {"dub_film": {"seconds": 4.6, "size": (400, 400), "sound_seconds": 4.365},
                "dialogue": {"seconds": 9.254, "size": (960, 576)}}
"""What comes of the workflows that do not draw the sample portrait with the sample voice; a film plays to its end."""


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"quick_start", "splice_video"}))  # they have tests of their own
def test_workflow_over_plain_http(studio, name):
    outputs = ended_well(studio.run(api(name)))
    check_video(video_of(studio, outputs), **OF_THEIR_OWN.get(name, {"seconds": VOICE_SECONDS}))


def correlation(a, b):
    import torch

    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def test_head_mouth_and_brows_come_from_a_clip_a_voice_and_another_clip(studio, models):
    """The parts of ``splice_video``'s motion are its sources' own, and they are seen in the finished frames."""
    from playmate_core.driving.film import motion_from_frames
    from playmate_core.face.geometry import BROWS_UPPER
    from playmate_core.media.video_reader import open_video
    from playmate_core.motion.files import load_motion
    from playmate_core.motion.pose import pose_offsets
    from playmate_core.motion.regions import REGION_KEYPOINTS

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
    assert expression[:, mouth].allclose(voice.expression_offset[:, mouth], atol=1e-5)
    assert expression[clip, brows].allclose(b.expression_offset[:, brows], atol=1e-5)
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


def test_workflow_by_comfy_cli(studio, tmp_path):
    """The UI form, as a user saved it; the command turns it into API form against the server's own schemas."""
    # Beside the interpreter first: an environment's programs are not on the path unless it is activated.
    comfy = shutil.which("comfy", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if comfy is None:
        pytest.skip("comfy-cli is not installed (make test installs it)")
    forget(studio)
    environment = {**os.environ, "DO_NOT_TRACK": "1", "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    before = set((studio.base / "output" / "video").glob("*.mp4"))
    done = subprocess.run(
        [comfy, "--skip-prompt", "run", "--workflow", str(WORKFLOWS / "quick_start.json"), "--wait",
         "--host", "127.0.0.1", "--port", str(studio.port), "--timeout", "300"],
        env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    new = set((studio.base / "output" / "video").glob("*.mp4")) - before
    assert len(new) == 1
    check_video(new.pop(), VOICE_SECONDS)


def followed(comfy, prompt):
    """Queues a prompt and yields the server's messages about it, as the front end gets them."""
    websocket = pytest.importorskip("websocket")
    client = uuid.uuid4().hex
    socket = websocket.create_connection(f"ws://127.0.0.1:{comfy.port}/ws?clientId={client}", timeout=120)
    try:
        status, answer = comfy.post("/prompt", {"prompt": prompt, "client_id": client})
        assert status == 200, answer
        while True:
            message = socket.recv()
            if isinstance(message, str):
                told = json.loads(message)
                yield told["type"], told["data"]
    finally:
        socket.close()


def cancelled(comfy, prompt, key) -> None:
    """Cancels as soon as a node tells that part of its work is done; it must be the one that stops, unfinished."""
    furthest = 0.0
    for kind, told in followed(comfy, prompt):
        if kind == "progress" and told["node"] == key and told["value"]:
            if not furthest:
                comfy.post("/interrupt", {})
            furthest = max(furthest, told["value"] / told["max"])
        assert kind not in ("execution_error", "execution_success"), told
        if kind == "execution_interrupted":
            assert told["node_id"] == key and 0 < furthest < 1
            return


def part_files(comfy):
    return [p for folder in ("temp", "output") for p in (comfy.base / folder).rglob("*part*")]


def test_cancel_in_the_middle_of_a_video(studio):
    prompt = api("quick_start")
    ended_well(studio.run(prompt))  # everything before the video is in the cache now
    render = next(key for key, node in prompt.items() if node["class_type"] == "PlaymateRenderVideo")
    prompt[render]["inputs"]["crf"] = 30
    cancelled(studio, prompt, render)
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
    prompt[sampler]["inputs"].update(scheduler="ddim", steps=100)
    cancelled(studio, prompt, sampler)


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
    prompt = api("quick_start")
    render = next(key for key, node in prompt.items() if node["class_type"] == "PlaymateRenderVideo")
    prompt[render]["inputs"]["crf"] = 35
    seen = []
    for kind, told in followed(studio, prompt):
        assert kind != "execution_error", told
        if kind == "progress" and told["node"] == render:
            seen.append((told["value"], told["max"]))
        if kind == "execution_success":
            break
    assert len(seen) > 5 and seen[-1] == (151, 151)
    assert [value for value, _ in seen] == sorted(value for value, _ in seen)
