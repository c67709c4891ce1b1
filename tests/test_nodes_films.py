"""Films through the nodes, without a server; the renderer is a stand-in."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import av
import pytest
import torch

from tests.node_helpers import InputImpl, node_modules
from tests.portrait_films import person, scene, write_film


@pytest.fixture(scope="module")
def nodes():
    with node_modules("extract_film", "render_frames", "render_video", "films") as modules:
        sys.modules["comfy.model_management"].get_free_memory = lambda device: 1e12
        yield modules


class Numbers:
    """Draws the film's own pictures."""

    name = "landmark"

    def __init__(self, renderer):
        self.prepare, self.render, self.scopes = renderer.prepare, renderer.render, []

    def prepare_film(self, film, progress=None):
        return replace(film, payload=True)

    def render_film(self, film, pictures, motion, scope, batch_size=None, progress=None):
        self.scopes.append(scope)
        for _, picture in pictures:
            yield (picture.float() / 255 if picture.dtype == torch.uint8 else picture)[None]


@pytest.fixture(scope="module")
def cast(nodes):
    models = nodes.pipeline.load_models()
    return replace(models, renderer=Numbers(models.renderer))


@pytest.fixture(scope="module")
def walk(portrait):
    return torch.stack([scene(160, 200, (person(portrait), 8 + 4 * step, 8)) for step in range(8)])


@pytest.fixture(scope="module")
def film(walk, tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("film") / "a.mp4", list(walk), sound=0.3)


@pytest.fixture(scope="module")
def extracted(nodes, cast, film):
    return nodes.extract_film.ExtractFilm.execute(cast, "largest", 0, 25.0,
                                                  video=InputImpl.VideoFromFile(str(film))).args


def said(nodes):
    return " ".join(text for text, _ in nodes.server.said if text)


def motion_of(nodes, count, fps=25.0):
    return nodes.pipeline.Motion.rest(count, fps)


def test_a_film_from_a_file(extracted):
    appearance, motion, fps, audio = extracted
    assert len(appearance.film) == len(motion) == 8 and fps == motion.fps == 25.0
    assert audio["sample_rate"] == 16000 and appearance.image.shape == (160, 200, 3)


def test_frames_of_a_batch_and_of_a_film_in_memory(nodes, cast, walk, extracted):
    extract = nodes.extract_film.ExtractFilm
    appearance, motion, fps, audio = extract.execute(cast, "largest", 0, 12.5, frames=walk).args
    assert fps == motion.fps == 12.5 and audio is None and len(appearance.film) == 8
    sound = {"waveform": torch.zeros(1, 1, 800), "sample_rate": 8000}
    held = InputImpl.VideoFromComponents(SimpleNamespace(images=walk, audio=sound, frame_rate=30))
    appearance, _, fps, audio = extract.execute(cast, "largest", 0, 25.0, video=held).args
    assert fps == 30.0 and audio["waveform"].shape == (1, 1, 800) and len(appearance.film) == 8
    images, fps, _ = nodes.render_frames.RenderFrames.execute(cast, appearance, motion_of(nodes, 8, 30.0), 0).args
    assert fps == 30.0 and torch.equal(images, walk)


def test_one_film_is_needed(nodes, cast, walk):
    extract = nodes.extract_film.ExtractFilm
    for given in ({}, {"video": "a.mp4", "frames": walk}):
        with pytest.raises(Exception, match="needs one film"):
            extract.execute(cast, "largest", 0, 25.0, **given)
    assert "lowest" in extract.validate_inputs(face="lowest")
    with pytest.raises(Exception, match="gives neither"):
        extract.execute(cast, "largest", 0, 25.0, video=3)


def test_the_note_on_settings_that_do_nothing(nodes, cast, film):
    del nodes.server.said[:]
    nodes.extract_film.ExtractFilm.execute(cast, "largest", 2, 30.0, video=str(film))
    assert "face_index does nothing" in said(nodes) and "fps does nothing with a video" in said(nodes)


def test_films_are_rendered_as_frames(nodes, cast, extracted, walk):
    render = nodes.render_frames.RenderFrames
    images, fps, _ = render.execute(cast, extracted[0], motion_of(nodes, 12), 0, scope="all", film_length="loop").args
    assert images.shape == (12, 160, 200, 3) and fps == 25.0 and cast.renderer.scopes[-1] == "all"
    assert torch.equal(images[8:], images[:4]) and float((images[:8] - walk).abs().mean()) < 0.02
    # A motion at another rate is sampled at the film's.
    assert len(render.execute(cast, extracted[0], motion_of(nodes, 24, 50.0), 0).args[0]) == 12
    assert "nose" in render.validate_inputs(scope="nose") and "far" in render.validate_inputs(film_length="far")


def test_films_are_rendered_as_films(nodes, cast, extracted):
    render = nodes.render_video.RenderVideo
    sound = {"waveform": torch.zeros(1, 1, 8000), "sample_rate": 16000}
    for length, count in (("hold", 12), ("cut", 8)):
        video = render.execute(cast, extracted[0], motion_of(nodes, 12), 16, 0, audio=sound, film_length=length).args[0]
        with av.open(str(video.file)) as container:
            assert container.streams.video[0].average_rate == 25 and len(container.streams.audio) == 1
            assert sum(1 for _ in container.decode(video=0)) == count
    assert "far" in render.validate_inputs(film_length="far")


def test_the_knobs_say_that_they_do_nothing_on_a_picture(nodes, cast, portrait):
    picture = nodes.pipeline.extract_appearance(cast, portrait)
    del nodes.server.said[:]
    nodes.render_frames.RenderFrames.execute(cast, picture, motion_of(nodes, 1), 0)
    assert not said(nodes)
    nodes.render_frames.RenderFrames.execute(cast, picture, motion_of(nodes, 1), 0, scope="face", film_length="loop")
    assert "scope and film_length do nothing on a picture" in said(nodes)
    nodes.render_video.RenderVideo.execute(cast, picture, motion_of(nodes, 1), 16, 0, scope="face")
    assert "scope does nothing on a picture" in said(nodes)
