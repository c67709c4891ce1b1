"""Films as portraits in a real ComfyUI; the renderer is a stand-in that gives the film's own pictures back."""

from __future__ import annotations

import av
import pytest

from tests.comfy_prompts import ended_well, models, sentence, video_of
from tests.portrait_films import person, scene, stranger, write_film
from tests.test_comfy_motion import node, saved

pytestmark = pytest.mark.comfy

SHORT = {"m": models(), "p": {"class_type": "ProbeStandIn", "inputs": {"models": ["m", 0]}},
         "l": node("LoadMotion", file="short.safetensors")}


@pytest.fixture(scope="module")
def cinema(studio, portrait, tmp_path_factory):
    """The server with a film of somebody who walks, and one without a face."""
    folder = tmp_path_factory.mktemp("films")
    one, other = person(portrait), stranger(portrait)
    walk = [scene(160, 224, (one, 8 + 4 * step, 8)) for step in range(6)] + [scene(160, 224, (other, 8, 8))] * 2
    studio.upload(write_film(folder / "walk.mp4", walk, 30, sound=0.3))
    studio.upload(write_film(folder / "wall.mp4", [scene(64, 64)] * 3))
    return studio


def film(name="walk.mp4"):
    return {"v": {"class_type": "LoadVideo", "inputs": {"file": name}}}


def extracted(**inputs):
    return {"a": node("ExtractFilm", models=["p", 0], **inputs)}


def test_a_film_is_dubbed(cinema):
    prompt = {**SHORT, **film(), **extracted(video=["v", 0]),
              "r": node("RenderVideo", models=["p", 0], appearance=["a", 0], motion=["l", 0], audio=["a", 3],
                        film_length="ping-pong"),
              "s": {"class_type": "SaveVideo", "inputs": {"video": ["r", 0], "filename_prefix": "dubbed",
                                                          "format": "auto", "codec": "auto"}}}
    path = video_of(cinema, ended_well(cinema.run(prompt)))
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 30 and len(container.streams.audio) == 1
        # The motion has four frames and some more of the short sample; the film is longer and plays to its end.
        assert sum(1 for _ in container.decode(video=0)) >= 8


def test_frames_of_another_node_and_the_films_own_motion(cinema):
    prompt = {**SHORT, **film(), "c": {"class_type": "GetVideoComponents", "inputs": {"video": ["v", 0]}},
              **extracted(frames=["c", 0], fps=["c", 2]), "s": node("SaveMotion", motion=["a", 1]),
              "f": node("RenderFrames", models=["p", 0], appearance=["a", 0], motion=["a", 1], scope="face"),
              "o": {"class_type": "PreviewImage", "inputs": {"images": ["f", 0]}}}
    motion = saved(cinema, prompt)
    assert len(motion) == 8 and motion.fps == 30


def test_films_that_cannot_be_used_are_sentences(cinema):
    assert "No face was found" in sentence(cinema.run(
        {**SHORT, **film("wall.mp4"), **extracted(video=["v", 0]), "s": node("SaveMotion", motion=["a", 1])}))
    assert "needs one film" in sentence(cinema.run(
        {**SHORT, **extracted(), "s": node("SaveMotion", motion=["a", 1])}))
