"""Portraits that lie, stand on their heads or are larger than a film: what is drawn, and how large."""

import importlib
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from playmate_core import pipeline
from playmate_core.face import geometry
from playmate_core.face.views import eye_angle
from playmate_core.media.pictures import check_image, read_image, smaller
from playmate_core.media.sizes import SIZE, check_size, plays_everywhere
from playmate_core.media.video_writer import write_video
from playmate_core.motion.types import Motion
from playmate_core.render.staging import prepare, stage_of
from playmate_core.runtime.errors import PlaymateError
from tests.node_helpers import node_modules


def speaking(models, frames=2):
    """A motion whose last frame opens the mouth wide."""
    wide = models.bridge.from_blendshapes(torch.nn.functional.one_hot(torch.tensor(25), 52).float())  # jawOpen
    rest = Motion.rest(frames)
    expression = rest.expression.clone()
    expression[-1] += wide
    return replace(rest, expression=expression)


def drawn(models, appearance, motion, **options):
    return torch.cat(list(pipeline.render_frames(models, appearance, motion, **options)))


def change(before, after, middle, radius):
    """Mean change of two frames [H, W, 3] within ``radius`` pixels of a place."""
    rows, columns = torch.meshgrid(*(torch.arange(n) + 0.5 for n in before.shape[:2]), indexing="ij")
    return float((after - before).abs()[torch.hypot(columns - middle[0], rows - middle[1]) < radius].mean())


@pytest.fixture(scope="module")
def people(portrait):
    """Two pictures of a kind: the sample portrait and its mirror image, darker."""
    return {"sample": portrait, "mirrored": 0.7 * portrait.flip(1)}


@pytest.fixture(scope="module")
def uprights(models, people):
    """Their appearances, and how they speak."""
    appearances = {who: pipeline.extract_appearance(models, image) for who, image in people.items()}
    return {who: (one, drawn(models, one, speaking(models))) for who, one in appearances.items()}


@pytest.mark.parametrize("who", ["sample", "mirrored"])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_face_that_lies_is_fitted_the_right_way_up(models, people, uprights, who, turns):
    """The features lie where those of the upright portrait do once it is turned, and the mouth opens there."""
    upright, frames = uprights[who]
    image = torch.rot90(people[who], turns, (0, 1)).contiguous()
    appearance = pipeline.extract_appearance(models, image)
    assert torch.equal(appearance.image, image)
    points, side = upright.face.landmarks[:, :2], image.shape[0]
    for _ in range(turns):
        points = torch.stack([points[:, 1], side - points[:, 0]], -1)
    unit = float(geometry.outer_eye_distance(upright.face.landmarks))
    assert float((appearance.face.landmarks[:, :2] - points).norm(dim=-1).max()) < 0.15 * unit
    rest, wide = drawn(models, appearance, speaking(models))
    assert rest.shape == image.shape
    eyes, mouth = (points[list(part)].mean(0) for part in (geometry.EYES[0] + geometry.EYES[1], geometry.LIPS))
    assert change(rest, wide, mouth, 0.4 * unit) > 5 * change(rest, wide, 2 * eyes - mouth, 0.4 * unit)
    # Drawn as the upright portrait is, then turned; the landmarks differ by a pixel, and with them the edges.
    frames = torch.rot90(frames, turns, (1, 2))
    assert float((wide - frames[1]).abs().mean()) < 0.7 * float((wide - rest).abs().mean())


@pytest.mark.parametrize("degrees", [35, 130, 235])
def test_angles_in_between(models, portrait, appearance, degrees):
    picture = Image.fromarray((portrait * 255).byte().numpy()).rotate(-degrees, Image.BICUBIC, fillcolor=(90, 90, 90))
    face = pipeline.extract_appearance(models, torch.from_numpy(np.array(picture)))
    own = eye_angle(appearance.face.landmarks)
    turned = torch.tensor(eye_angle(face.face.landmarks) - own).rad2deg() - degrees
    assert abs((float(turned) + 180) % 360 - 180) < 8


def test_upright_portraits_are_prepared_as_they_are(portrait, appearance):
    assert appearance.stage is None and torch.equal(appearance.image, portrait)


def test_the_reported_file(shared, models):
    path = shared / "cases" / "sample_turned_90.png"
    if not path.is_file():
        pytest.skip("no such case there")
    appearance = pipeline.extract_appearance(models, check_image(read_image(path)))
    assert abs(abs(eye_angle(appearance.face.landmarks)) - np.pi / 2) < 0.4
    # Hair lies to the left there, so the mouth lies to the right of the eyes.
    points = appearance.face.landmarks
    assert points[list(geometry.LIPS), 0].min() > points[list(geometry.EYES[0] + geometry.EYES[1]), 0].max()


# ---- sizes

@pytest.mark.parametrize("shape, turns", [((256, 200), 0), ((150, 256), 1)])
def test_frames_are_as_large_as_asked(models, portrait, shape, turns):
    """Before and after: prepared at one size and drawn at another."""
    image = torch.rot90(portrait[:shape[0], 256 - shape[1]:], turns, (0, 1)).contiguous()
    appearance = prepare(models.renderer, image, models.face.analyze(image)[0][0], 128)
    for size, longest in ((128, 128), (0, 256), (200, 200)):
        height, width = pipeline.frame_size(appearance, size)
        assert max(height, width) == longest
        assert abs(height / width - image.shape[0] / image.shape[1]) < 0.02
        frames = drawn(models, appearance, Motion.rest(2), size=size)
        assert frames.shape == (2, height, width, 3)
        assert float((frames[0] - smaller(image, height, width)).abs().max()) < 1e-5


def test_the_portrait_is_made_smaller_once(models, portrait, appearance):
    appearance = prepare(models.renderer, portrait, appearance.face, 128)
    assert appearance.payload is None and appearance.stage.appearance.image.shape == (128, 128, 3)
    assert stage_of(models.renderer, appearance, 128) is appearance.stage
    with pytest.raises(PlaymateError, match="render_frames"):
        models.renderer.render(appearance, Motion.rest(1))


def test_features_of_a_smaller_portrait_lie_where_they_lay(models, portrait, appearance):
    face = appearance.face
    stage = prepare(models.renderer, portrait, face, 128).stage.appearance
    assert torch.allclose(stage.face.landmarks, face.landmarks / 2, atol=1e-4)
    assert torch.allclose(stage.face.box, face.box / 2, atol=1e-3)
    assert torch.allclose(stage.identity, appearance.identity, atol=1e-4)


@pytest.mark.parametrize("size", [-1, 1, 63])
def test_sizes_that_cannot_be_drawn(models, appearance, size):
    with pytest.raises(PlaymateError, match=f"size is {size}"):
        check_size(size)
    with pytest.raises(PlaymateError, match=f"size is {size}"):
        pipeline.render_frames(models, appearance, Motion.rest(1), size=size)


def test_a_word_when_it_shrinks_or_grows_beyond_players(appearance):
    assert pipeline.size_note(appearance) is None and pipeline.size_note(appearance, 0, 25.0) is None
    assert "256 x 256" in pipeline.size_note(appearance, 128) and "128 x 128" in pipeline.size_note(appearance, 128)
    phone = replace(appearance, image=torch.zeros(1, 1, 3).expand(4032, 3024, 3))
    assert "3024 x 4032" in pipeline.size_note(phone) and "1536 x 2048" in pipeline.size_note(phone, SIZE, 30.0)
    assert "more than many players" in pipeline.size_note(phone, 0, 25.0)


@pytest.mark.parametrize("height, width", [(SIZE, SIZE), (SIZE, SIZE * 9 // 16), (SIZE * 3 // 4, SIZE)])
@pytest.mark.parametrize("fps", [24.0, 60.0, 120.0])
def test_the_default_plays_everywhere(height, width, fps):
    assert plays_everywhere(width, height, fps)


def test_what_does_not_play_everywhere():
    assert plays_everywhere(4096, 2304, 56.0) and plays_everywhere(3072, 3072, 30.0)
    assert not plays_everywhere(4096, 2304, 60.0) and not plays_everywhere(4032, 3024, 25.0)
    assert not plays_everywhere(9000, 64, 25.0)


@pytest.mark.parametrize("height, width, fps", [(SIZE, SIZE, 60.0), (1536, SIZE, 25.0)])
def test_the_stream_says_so_too(tmp_path, height, width, fps):
    """The level that the encoder wrote into the file's header (avcC, fourth byte)."""
    import av

    path = write_video(tmp_path / "a.mp4", [torch.zeros(1, height, width, 3, dtype=torch.uint8)], fps, 1)
    with av.open(str(path)) as container:
        stream = container.streams.video[0].codec_context
        if stream.name != "h264":
            pytest.skip("this PyAV writes no H.264")
        assert 10 <= stream.extradata[3] <= 52


# ---- nodes and command line

@pytest.fixture(scope="module")
def nodes():
    with node_modules("render_frames", "extract_appearance") as modules:
        sys.modules["comfy.model_management"].get_free_memory = lambda device: 1e12
        yield modules


def test_render_frames_draws_at_its_size_and_says_so(nodes, portrait):
    models = nodes.pipeline.load_models()
    extract, render = nodes.extract_appearance.ExtractAppearance, nodes.render_frames.RenderFrames
    appearance = extract.execute(models, torch.rot90(portrait[None], 1, (1, 2)), "largest", 0, 0).args[0]
    motion = pack_motion(nodes)
    assert render.execute(models, appearance, motion, 0).args[0].shape == (2, 256, 256, 3)
    assert not nodes.server.said
    assert render.execute(models, appearance, motion, 0, size=128).args[0].shape == (2, 128, 128, 3)
    assert "128 x 128" in nodes.server.said[-1][0]
    assert "size is 5" in render.validate_inputs(size=5) and render.validate_inputs(size=0) is True
    assert [i.id for i in render.define_schema().inputs][-4:] == ["size", "scope", "film_length", "cast"]


def pack_motion(nodes):
    """A motion of the pack's own class."""
    return importlib.import_module(nodes.pipeline.__name__.replace("pipeline", "motion.types")).Motion.rest(2)


def test_size_on_the_command_line(tmp_path, models, portrait, voice_path, caplog):
    import av

    from playmate_core.cli import main as cli
    from playmate_core.motion.files import save_motion

    path, motion = tmp_path / "liegt.png", save_motion(speaking(models), tmp_path / "m.safetensors")
    Image.fromarray((torch.rot90(portrait, 1, (0, 1)) * 255).byte().numpy()).save(path)
    status = cli.main(["animate", str(path), str(voice_path), "-o", str(tmp_path / "a.mp4"), "--size", "128",
                       "--from-motion", str(motion), "--device", "cpu"])
    assert status == 0 and any("128 x 128" in record.message for record in caplog.records)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (128, 128)
    assert cli.main(["animate", str(path), str(voice_path), "-o", str(tmp_path / "b.mp4"), "--size", "7"]) == 1
    assert not (tmp_path / "b.mp4").exists()


def test_liveportrait_draws_stages_too(small_liveportrait, models, portrait):
    """Small networks, made up: no likeness, but each frame in its place and size."""
    other = pipeline.load_models("liveportrait", weights=small_liveportrait)
    lying = pipeline.extract_appearance(other, torch.rot90(portrait, 1, (0, 1)).contiguous(), size=128)
    assert lying.stage.turns == 3
    assert torch.allclose(lying.stage.appearance.image, smaller(portrait, 128, 128), atol=1e-5)
    frames = drawn(other, lying, speaking(models), size=128)
    upright = torch.cat(list(other.renderer.render(lying.stage.appearance, speaking(models))))
    assert frames.shape == (2, 128, 128, 3) and torch.equal(frames, torch.rot90(upright, 1, (1, 2)))
    assert float((upright[1] - lying.stage.appearance.image).abs().max()) > 0.05


VideoPath = types.SimpleNamespace(VideoFromFile=lambda path: path)
"""Stands for ComfyUI's video of a file."""


def test_render_video_writes_at_its_size(tmp_path, portrait, monkeypatch):
    import av

    folders = types.ModuleType("folder_paths")
    folders.get_temp_directory = lambda: str(tmp_path)
    monkeypatch.setitem(sys.modules, "folder_paths", folders)
    with node_modules("render_video", "extract_appearance", latest={"InputImpl": VideoPath}) as found:
        models = found.pipeline.load_models()
        extract, render = found.extract_appearance.ExtractAppearance, found.render_video.RenderVideo
        appearance = extract.execute(models, portrait[None, :, 26:], "largest", 0, 0).args[0]
        video = render.execute(models, appearance, pack_motion(found), 20, 0, size=128).args[0]
        assert "128" in found.server.said[-1][0]
        with av.open(video) as container:
            stream = container.streams.video[0]
            assert (stream.width, stream.height) == (116, 128)
        order = [i.id for i in render.define_schema().inputs]
        assert order[-7:] == ["size", "length", "scope", "film_length", "cast", "background",
                              "background_image"], "new ones come last"
