"""The nodes for several people, without a server."""

import pytest
import torch

from tests.node_helpers import node_modules
from tests.test_cast import side_by_side


@pytest.fixture(scope="module")
def modules():
    with node_modules("add_to_cast", "listen", "split_speakers", "render_frames", "render_video") as modules:
        yield modules


@pytest.fixture(scope="module")
def loaded(modules):
    return modules.pipeline.load_models()


@pytest.fixture(scope="module")
def people(modules, loaded):
    """Two appearances of one picture, of the pack's own copy of the library."""
    image, *faces = side_by_side()
    own = type(loaded.face).__module__.rsplit(".", 1)[0] + ".types"
    kind = vars(__import__(own, fromlist=["Face"]))["Face"]
    return [loaded.renderer.prepare(image, kind(**vars(face))) for face in faces]


def speech(modules, *pieces, fps=25.0):
    loud = torch.cat([torch.full((frames,), level) for level, frames in pieces])
    kind = modules.pipeline.SpeechFeatures
    return kind(torch.zeros(len(loud), 1), loud, torch.zeros(len(loud)), fps, len(loud) / fps, "test")


def test_split_speakers_by_turns_and_by_channels(modules):
    node = modules.split_speakers.SplitSpeakers
    mixed = {"waveform": torch.ones(1, 1, 4000), "sample_rate": 1000}
    one, two = node.execute(mixed, "0 A; 2 B").args
    assert one["waveform"].shape == two["waveform"].shape == (1, 1, 4000) and one["sample_rate"] == 1000
    assert (one["waveform"][0, 0, :1950] == 1).all() and not one["waveform"][0, 0, 2050:].any()
    assert (two["waveform"][0, 0, 2050:] == 1).all() and not two["waveform"][0, 0, :1950].any()
    stereo = {"waveform": torch.stack([torch.ones(10), -torch.ones(10)])[None], "sample_rate": 1000}
    one, two = node.execute(stereo, " ").args
    assert (one["waveform"] == 1).all() and (two["waveform"] == -1).all()
    with pytest.raises(modules.listen.PlaymateError, match="one channel"):
        node.execute(mixed, "")


def test_mistakes_in_turns_are_found_before_anything_runs(modules):
    node = modules.split_speakers.SplitSpeakers
    assert node.validate_inputs(turns="0 1; 2 2") is True and node.validate_inputs(turns="") is True
    told = node.validate_inputs(turns="0 1; 2 three")
    assert isinstance(told, str) and '"three"' in told and "character 8" in told


def test_a_speaker_without_a_turn_is_told(modules):
    modules.server.said.clear()
    node = modules.split_speakers.SplitSpeakers
    _, two = node.execute({"waveform": torch.ones(1, 1, 1000), "sample_rate": 1000}, "0 1; 9 2").args
    assert not two["waveform"].any() and "Speaker 2 has no turn" in modules.server.said[-1][0]


def test_listen(modules, people):
    node = modules.listen.Listen
    heard = speech(modules, (-20.0, 30), (-80.0, 20))
    motion = node.execute(*people, 3, speech=heard).args[0]
    assert len(motion) == 50 and float(motion.rotation[:, 1].mean()) < -1
    back = node.execute(people[1], people[0], 3, speech=heard).args[0]
    assert float(back.rotation[:, 1].mean()) > 1
    assert len(node.execute(*people, 3, seconds=2.0, fps=30.0).args[0]) == 60
    own = node.execute(*people, 3, speech=heard, motion=motion, own_speech=speech(modules, (-80.0, 50))).args[0]
    assert len(own) == 50
    with pytest.raises(modules.listen.PlaymateError, match="how long"):
        node.execute(*people, 3)
    with pytest.raises(modules.listen.PlaymateError, match="same face"):
        node.execute(people[0], people[0], 3, seconds=1.0)


def test_a_cast_is_drawn(modules, loaded, people):
    add, render = modules.add_to_cast.AddToCast, modules.render_frames.RenderFrames
    modules.render_frames.comfy.model_management.get_free_memory = lambda device: 1e10
    listen = modules.listen.Listen
    motions = [listen.execute(one, other, 1, seconds=seconds).args[0]
               for one, other, seconds in ((*people, 0.2), (*people[::-1], 0.16))]
    cast = add.execute(people[0], motions[0]).args[0]
    images, fps, _ = render.execute(loaded, people[1], motions[1], 0, cast=cast).args
    assert images.shape == (5, 180, 260, 3) and fps == 25.0
    both = add.execute(people[1], motions[1], cast).args[0]
    again, _, _ = render.execute(loaded, people[1], motions[1], 0, cast=both).args
    assert torch.equal(images, again)
    alone, _, _ = render.execute(loaded, people[1], motions[1], 0).args
    assert torch.equal(alone[:, :, 200:], images[:4, :, 200:]) and not torch.equal(alone, images[:4])
    with pytest.raises(modules.listen.PlaymateError, match="twice"):
        add.execute(people[0], motions[0], cast)


def test_a_film_of_a_cast_is_as_long_as_its_longest(modules, loaded, people, tmp_path, monkeypatch):
    monkeypatch.setattr(modules.render_video.folder_paths, "get_temp_directory", lambda: str(tmp_path))
    rest = modules.pipeline.Motion.rest
    cast = modules.add_to_cast.AddToCast.execute(people[0], rest(8)).args[0]
    film = modules.render_video.RenderVideo.execute(loaded, people[1], rest(3), 20, 0, cast=cast).args[0]
    import av

    with av.open(film.file) as container:
        assert sum(1 for _ in container.decode(video=0)) == 8
