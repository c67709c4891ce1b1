"""Two people of one picture in a real ComfyUI, by the workflow that the laboratory writes."""

from __future__ import annotations

import wave

import av
import numpy as np
import pytest
from PIL import Image

from laboratory.samples.dialogue_workflow import nodes, prompt
from tests.comfy_prompts import ROOT, ended_well, refusals, video_of

SECONDS = 0.8

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def studio(comfy, tmp_path_factory):
    """The server with the sample portrait beside its mirror image, and a short voice."""
    folder, inputs = tmp_path_factory.mktemp("pair"), ROOT / "workflows" / "inputs"
    portrait = np.asarray(Image.open(inputs / "portrait.jpg").convert("RGB").resize((200, 200)))
    Image.fromarray(np.concatenate([portrait, portrait[:, ::-1]], 1)).save(folder / "pair.png")
    with wave.open(str(inputs / "voice.wav")) as file, wave.open(str(folder / "talk.wav"), "wb") as out:
        out.setparams(file.getparams())
        out.writeframes(file.readframes(round(SECONDS * file.getframerate())))
    comfy.upload(folder / "pair.png")
    comfy.upload(folder / "talk.wav")
    return comfy


def dialogue(turns="0 1; 0.4 2"):
    asked = prompt(nodes("pair.png", "talk.wav", turns), {})
    for number in ("10", "11"):
        asked[number]["inputs"]["steps"] = 2
    return asked


def test_a_dialogue_becomes_a_film(studio):
    outputs = ended_well(studio.run(dialogue()))
    with av.open(str(video_of(studio, outputs))) as film:
        picture, sound = film.streams.video[0], film.streams.audio[0]
        assert (picture.width, picture.height) == (400, 200)
        assert abs(float(sound.duration * sound.time_base) - SECONDS) <= 1 / 25
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in film.decode(video=0)]
    assert len(frames) == round(SECONDS * 25)
    moved = np.abs(frames[-1] - frames[3]).max(-1) > 40
    assert moved[:, :200].any() and moved[:, 200:].any()


def test_mistakes_are_told_before_anything_runs(studio):
    told = refusals(studio, dialogue("0 1; 0.4 three"))
    assert '"three"' in told and "character 10" in told
