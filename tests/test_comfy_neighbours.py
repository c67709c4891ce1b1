"""Values as other packs hand them over, in a real ComfyUI: lazy sounds, pictures and masks in other forms, numbers."""

import time

import pytest

from tests.comfy_prompts import PORTRAIT, appearance_of, ended_well, models, sentence
from tests.test_comfy_motion import node, saved

pytestmark = pytest.mark.comfy

SHORT = {"l": node("LoadMotion", file="short.safetensors")}

LAST = 3.76
"""Seconds of drive_head.mp4 after which six of its frames are left."""


def lazy(seconds=1.0, fails=False):
    return {"class_type": "ProbeSound", "inputs": {"seconds": seconds, "fails": fails}}


def speaking(sound):
    return {"m": models(), "s": sound, "e": node("AudioEncoder", models=["m", 0], audio=["s", 0]),
            "n": node("MotionSampler", models=["m", 0], speech=["e", 0], steps=2),
            "o": node("SaveMotion", motion=["n", 0])}


def test_a_sound_that_is_decoded_when_it_is_asked_for(studio):
    prompt = speaking(lazy(1.2))
    outputs = ended_well(studio.run(prompt))
    assert outputs["o"]["motions"]
    film = {**appearance_of(["i", 0], PORTRAIT), "s": lazy(0.16)}
    film = {key: film[key] for key in ("i", "m", "a", "l", "s")}
    film["v"] = node("RenderVideo", models=["m", 0], appearance=["a", 0], motion=["l", 0], audio=["s", 0])
    film["o"] = {"class_type": "SaveVideo", "inputs": {"video": ["v", 0], "filename_prefix": "lazy", "format": "auto",
                                                       "codec": "auto"}}
    ended_well(studio.run(film))
    for length in ("LoopMotion", "RetimeMotion"):
        motion = saved(studio, {**SHORT, "a": lazy(2.0), "r": node(length, motion=["l", 0], audio=["a", 0]),
                                "s": node("SaveMotion", motion=["r", 0])})
        assert len(motion) == round(2.0 * motion.fps)


def test_a_sound_that_cannot_be_had_ends_in_one_sentence(studio):
    text = sentence(studio.run(speaking(lazy(fails=True))))
    assert "the film has no sound" in text


FORMS = [("half", "hw"), ("double", "1hw"), ("rgba", "b1hw"), ("grey", "bhw1"), ("one", "half"), ("bytes", "bool"),
         ("list", "bytes"), ("array", "array"), ("strided", "hw")]


@pytest.mark.parametrize("image, mask", FORMS)
def test_pictures_and_masks_in_every_legal_form(studio, image, mask):
    prompt = {**PORTRAIT, "m": models(),
              "q": {"class_type": "ProbeImage", "inputs": {"image": ["i", 0], "image_form": image, "mask_form": mask}},
              "a": node("ExtractAppearance", models=["m", 0], image=["q", 0], mask=["q", 1]),
              "o": {"class_type": "PreviewAny", "inputs": {"source": ["a", 0]}}}
    ended_well(studio.run(prompt))


def test_a_clip_of_half_precision(studio):
    motion = saved(studio, {
        **PORTRAIT, "m": models(),
        "q": {"class_type": "ProbeImage", "inputs": {"image": ["i", 0], "image_form": "clip", "mask_form": "hw"}},
        "f": node("MotionFromVideo", models=["m", 0], images=["q", 0], image_fps=30.0),
        "s": node("SaveMotion", motion=["f", 0])})
    assert len(motion) == 6 and motion.fps == 30


def number(form, value=3):
    return {"class_type": "ProbeNumber", "inputs": {"value": value, "form": form}}


@pytest.mark.parametrize("form", ["whole float", "numpy float", "numpy int", "tensor", "text", "fraction", "list"])
def test_numbers_of_every_kind(studio, form):
    """An INT (frame), FLOATs (fade, aaa) and a BOOLEAN (mouth) over a wire."""
    plain = {**SHORT, "e": node("ExpressionEdit", motion=["l", 0], apply="frame", frame=3, fade=3.0, aaa=3.0),
             "k": node("RegionMask", motion=["e", 0], mouth=True), "s": node("SaveMotion", motion=["k", 0])}
    wired = {**plain, "q": number(form)}
    wired["e"] = node("ExpressionEdit", motion=["l", 0], apply="frame", frame=["q", 0], fade=["q", 1], aaa=["q", 1])
    wired["k"] = node("RegionMask", motion=["e", 0], mouth=["q", 2])
    assert saved(studio, wired).expression.equal(saved(studio, plain).expression)


@pytest.mark.parametrize("form, said", [("broken", "frame is 3.5; give a whole number"), ("endless", "frame is inf")])
def test_numbers_that_are_none_are_named(studio, form, said):
    prompt = {**SHORT, "q": number(form), "s": node("SaveMotion", motion=["e", 0]),
              "e": node("ExpressionEdit", motion=["l", 0], apply="frame", frame=["q", 0])}
    assert said in sentence(studio.run(prompt))


@pytest.mark.parametrize("form, start, seconds, frames", [
    ("window", 0.4, 0.32, 8), ("length alone", 0.4, 0.32, 8), ("window", LAST, 0.0, 6),
])
def test_a_film_s_trim_is_honoured(studio, form, start, seconds, frames):
    """The pictures that newer versions of ComfyUI show of a trimmed film are those that are followed."""
    def followed(**more):
        return saved(studio, {
            "m": models(), "v": {"class_type": "LoadVideo", "inputs": {"file": "drive_head.mp4"}},
            "q": {"class_type": "ProbeFilm", "inputs": {"video": ["v", 0], "start": start, "seconds": seconds,
                                                        "form": form}},
            "f": node("MotionFromVideo", models=["m", 0], use="pose", smoothing=0.0, neutral="first frame", **more),
            "s": node("SaveMotion", motion=["f", 0])})

    trimmed = followed(video=["q", 0])
    cut = followed(video=["v", 0], start=start, seconds=seconds)
    assert len(trimmed) == len(cut) == frames and trimmed.rotation.allclose(cut.rotation, atol=0.05)
    inner = followed(video=["q", 0], start=0.08, seconds=0.12)
    assert len(inner) == 3 and inner.rotation.allclose(
        followed(video=["v", 0], start=start + 0.08, seconds=0.12).rotation, atol=0.05)


def test_a_cropped_film_is_followed_as_it_is_cropped(studio):
    """A corner of it shows no face."""
    prompt = {"m": models(), "v": {"class_type": "LoadVideo", "inputs": {"file": "drive_head.mp4"}},
              "q": {"class_type": "ProbeFilm", "inputs": {"video": ["v", 0], "start": 0.0, "seconds": 0.2,
                                                          "form": "crop"}},
              "f": node("MotionFromVideo", models=["m", 0], video=["q", 0]), "s": node("SaveMotion", motion=["f", 0])}
    assert "face" in sentence(studio.run(prompt)).lower()


def test_dates_and_widgets_in_a_file_s_name(studio):
    """As the front end would fill them in for core's own nodes, here for a prompt over the API."""
    prompt = {"l": {**node("LoadMotion", file="short.safetensors"), "_meta": {"title": "My motion"}},
              "s": node("SaveMotion", motion=["l", 0],
                        filename_prefix="motions/%date:yyyy-MM-dd%/%My motion.file%_%year%_%PlaymateLoadMotion.file%")}
    (entry,) = ended_well(studio.run(prompt))["s"]["motions"]
    year = time.strftime("%Y")
    assert entry["subfolder"].replace("\\", "/").startswith(f"motions/{year}-")
    assert entry["filename"] == f"short.safetensors_{year}_short.safetensors_00001_.safetensors"
    prompt["s"]["inputs"]["filename_prefix"] = "%date:yyyy/../..%/x"
    assert ended_well(studio.run(prompt))["s"]["motions"][0]["subfolder"] == f"{year}_.._.."


def test_a_film_that_cannot_be_read_ends_in_one_sentence(studio, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no film" * 100)
    studio.upload(tmp_path / "broken.mp4")
    prompt = {"m": models(), "v": {"class_type": "LoadVideo", "inputs": {"file": "broken.mp4"}},
              "f": node("MotionFromVideo", models=["m", 0], video=["v", 0]), "s": node("SaveMotion", motion=["f", 0])}
    assert "broken.mp4" in sentence(studio.run(prompt))
