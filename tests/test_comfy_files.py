"""Files in a real ComfyUI: saved, loaded, kept within their folders, and refused when they are evil."""

import os
import pickle
from pathlib import Path

import pytest

from tests.comfy_prompts import (
    WORKFLOWS,
    ended_well,
    forget,
    preview_of_sample,
    refusals,
    sentence,
)

pytestmark = pytest.mark.comfy


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
