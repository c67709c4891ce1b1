"""Workflows with either pack in a real ComfyUI: one widget is switched, and nothing else.

LivePortrait's files are random and of the published format and size. Its networks take fifteen seconds a frame on a
core, so voice and clips last two frames here, and one workflow is drawn with them, which reads clips by them too, and
two pictures.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.comfy_prompts import ROOT, appearance_of, check_video, ended_well, video_of
from tests.published_weights import in_place, room_for_them, write_all
from tests.test_comfy_workflows import NAMES, api, api_of

FRAMES, FPS = 2, 25.0
LOUD = 1.25
"""Seconds into the voice and the clips where something happens."""
SHORT = {"voice.wav": "voice_short.wav", "drive_head.mp4": "head_short.mp4", "drive_brows.mp4": "brows_short.mp4"}
OF_THEIR_OWN = ("dialogue", "dub_film", "transparent_presenter")
"""Workflows of other inputs than the portrait, the voice and the clips; test_comfy_workflows runs them whole."""
VARIANTS = sorted((ROOT / "workflows" / "liveportrait").glob("*.json"))

pytestmark = pytest.mark.comfy


def cut_sound(source: Path, target: Path) -> Path:
    import wave

    with wave.open(str(source)) as file, wave.open(str(target), "wb") as out:
        out.setparams(file.getparams())
        file.setpos(round(LOUD * file.getframerate()))
        out.writeframes(file.readframes(round(FRAMES / FPS * file.getframerate())))
    return target


def cut_clip(source: Path, target: Path) -> Path:
    """Two frames that lie a second apart, so that the head has moved between them."""
    import av

    from playmate_core.media.video_writer import write_video

    with av.open(str(source)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    first = round(LOUD * FPS)
    picked = torch.from_numpy(np.stack(frames[first:first + 26:25])).float() / 255
    assert len(picked) == FRAMES
    write_video(target, iter([picked]), FPS, FRAMES)
    return target


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    if not room_for_them(folder):
        pytest.skip("less than 4 GB are free for weight files of the published size")
    yield write_all(folder)
    shutil.rmtree(folder)  # pytest would keep it for three more sessions


@pytest.fixture(scope="module")
def studio(comfy, tmp_path_factory):
    """The server with the portrait, and with a voice and clips of two frames."""
    folder, inputs = tmp_path_factory.mktemp("short"), ROOT / "workflows" / "inputs"
    for whole in ("portrait.jpg", "presenter.png", "two_people.jpg", "dialogue.wav", "talk.mp4", "new_voice.wav"):
        comfy.upload(inputs / whole)
    for name, short in SHORT.items():
        comfy.upload((cut_sound if name.endswith(".wav") else cut_clip)(inputs / name, folder / short))
    return comfy


def prompt_of(name: str, pack: str) -> dict:
    """A workflow that ships, with short inputs, and with one widget changed."""
    prompt = api(name)
    for node in prompt.values():
        for key, value in node["inputs"].items():
            if isinstance(value, str):
                node["inputs"][key] = SHORT.get(value, value)
    loader, = (node for node in prompt.values() if node["class_type"] == "PlaymateLoadModels")
    loader["inputs"]["pack"] = pack
    return prompt


def frames_of(path: Path) -> np.ndarray:
    import av

    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(float)


@pytest.fixture(scope="module")
def drawn(studio):
    """Frames [T, H, W, 3] in 0..255 of a workflow with a pack, and of which files; each is rendered once."""
    done = {}

    def draw(name: str, pack: str, files: Path | None = None) -> np.ndarray:
        if (name, pack, files) not in done:
            with in_place(studio.base / "models", files):
                video = video_of(studio, ended_well(studio.run(prompt_of(name, pack), 600)))
            check_video(video, FRAMES / FPS)
            done[name, pack, files] = frames_of(video)
        return done[name, pack, files]

    return draw


@pytest.mark.parametrize("pack", ["liveportrait", "liveportrait-animal"])
@pytest.mark.parametrize("name", NAMES)
def test_missing_weights_end_in_one_sentence(studio, name, pack):
    with in_place(studio.base / "models", None):
        event, data = studio.run(prompt_of(name, pack))["status"]["messages"][-1]
    assert event == "execution_error" and data["node_type"] == "PlaymateLoadModels"
    assert data["exception_type"].endswith("PlaymateError")
    said = data["exception_message"].strip()
    assert "\n" not in said and said.count(". ") == 0
    folder = studio.base / "models" / "liveportrait"
    assert str(folder / "animal" if pack == "liveportrait-animal" else folder) in said
    for file in ("appearance_feature_extractor", "motion_extractor", "warping_module", "spade_generator",
                 "stitching_retargeting_module"):
        assert f"{file}.safetensors" in said
    assert said.endswith(f": python -m playmate_core weights download {pack}")  # to be copied, so no full stop


@pytest.mark.parametrize("name", [name for name in NAMES if name not in OF_THEIR_OWN])
def test_bundled(drawn, name):
    assert drawn(name, "bundled").shape == (FRAMES, 512, 512, 3)


@pytest.mark.slow
def test_liveportrait_by_switching_one_widget(drawn, weights):
    name = "splice_video"
    frames, bundled = drawn(name, "liveportrait", weights["kwai"]), drawn(name, "bundled")
    assert frames.shape == bundled.shape
    # Random networks draw noise where the face is, and leave what lies outside of the crop as it is.
    face, corner = (slice(None), slice(200, 400), slice(150, 360)), (slice(None), slice(0, 20), slice(0, 20))
    assert abs(frames[face] - bundled[face]).mean() > 10 and abs(frames[corner] - bundled[corner]).mean() < 3
    assert frames[face].std() > 10


@pytest.mark.parametrize("path", VARIANTS, ids=lambda path: path.stem)
def test_the_variants_are_the_workflows_with_that_widget_switched(path):
    graph = json.loads(path.read_text(encoding="utf-8"))
    animal = path.stem.endswith("_animal")
    prompt = api(path.stem.removesuffix("_animal"))
    loader, = (node for node in prompt.values() if node["class_type"] == "PlaymateLoadModels")
    loader["inputs"]["pack"] = "liveportrait-animal" if animal else "liveportrait"
    assert api_of(graph) == {key: {"class_type": node["class_type"], "inputs": node["inputs"]}
                             for key, node in prompt.items()}


@pytest.fixture(scope="module")
def still(studio, tmp_path_factory):
    """One frame [H, W, 3] as a lossless picture, from given files."""
    from playmate_core.media.pictures import read_image
    from playmate_core.motion.edits import slice_frames
    from playmate_core.motion.files import load_motion, save_motion

    sample = load_motion(ROOT / "workflows" / "inputs" / "look_around.safetensors")
    studio.upload(save_motion(slice_frames(sample, 20, 21), tmp_path_factory.mktemp("still") / "still.safetensors"))
    prompt = appearance_of(["i", 0], {"i": {"class_type": "LoadImage", "inputs": {"image": "portrait.jpg"}}})
    prompt["l"]["inputs"]["file"] = "still.safetensors"
    prompt["s"]["inputs"]["images"] = ["f", 0]
    del prompt["g"]

    def draw(files: Path, pack: str = "liveportrait"):
        prompt["m"]["inputs"]["pack"], prompt["f"]["inputs"]["batch_size"] = pack, 4
        with in_place(studio.base / "models", files):
            shown, = ended_well(studio.run(prompt, 600))["s"]["images"]
        return read_image(studio.base / shown["type"] / shown["subfolder"] / shown["filename"])

    return draw


@pytest.mark.slow
def test_either_form_holds_the_same_networks(weights):
    """Bit for bit, so that only one of them has to be drawn with."""
    from playmate_core.render.liveportrait import load_networks

    one, other = (load_networks(weights[form]).state_dict() for form in ("kijai", "kwai"))
    assert one.keys() == other.keys() and sum(value.numel() for value in one.values()) > 100e6
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.slow
def test_networks_are_unloaded_and_others_come(studio, still, weights):
    pictures = []
    for pack in ("liveportrait", "liveportrait-animal"):
        pictures.append(still(weights["kijai"], pack))
        networks, = studio.held("Networks")
        assert networks["patcher"] == "ModelPatcher" and networks["device"] == "cpu"
        assert networks["loaded"] == networks["bytes"] > 450e6
        if pack == "liveportrait":
            studio.unload()
            assert not studio.held("Networks")
    assert (pictures[1] - pictures[0]).abs().mean() > 8 / 255
    # Another pack takes their place, and nothing keeps them.
    assert studio.held("Networks")
    ended_well(studio.run(prompt_of("quick_start", "bundled")))
    until = time.monotonic() + 60
    while studio.held("Networks"):
        assert time.monotonic() < until, "networks that nobody uses are still there"
        time.sleep(0.5)
