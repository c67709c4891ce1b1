"""Portraits with a transparent ground: what is drawn of them, and the films that keep it."""

from dataclasses import replace

import av
import numpy as np
import pytest
import torch

from playmate_core import pipeline
from playmate_core.cli.main import main
from playmate_core.media.grounds import filled, parse_background, transparency
from playmate_core.media.pictures import check_image, smaller
from playmate_core.media.video_writer import write_video
from playmate_core.motion.files import save_motion
from playmate_core.motion.types import Motion
from playmate_core.runtime.errors import PlaymateError


def drawn(models, appearance, motion, *, batch_size=None, **options):
    return torch.cat(list(pipeline.render_frames(models, appearance, motion, batch_size, alpha=True, **options)))


def keyed(picture, hidden):
    """A picture cut out round its middle, with a soft edge, and the colour ``hidden`` where it is transparent."""
    height, width = picture.shape[:2]
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    alpha = ((0.7 - torch.hypot(x, y)) * 20).clamp(0, 1)[..., None]
    return torch.cat([torch.where(alpha > 0, picture, torch.tensor(hidden)), alpha], -1)


@pytest.fixture(scope="module")
def picture(portrait):
    return smaller(portrait, 320, 320)


@pytest.fixture(scope="module")
def turning():
    return replace(Motion.rest(3), rotation=torch.tensor([[0.0, 0.0, 0.0], [8.0, 15.0, 0.0], [0.0, -15.0, 6.0]]))


@pytest.fixture(scope="module")
def cut_out(models, picture):
    return pipeline.extract_appearance(models, keyed(picture, [0.0, 0.0, 0.0]))


@pytest.fixture(scope="module")
def frames(models, cut_out, turning):
    return drawn(models, cut_out, turning)


def test_rest_returns_alpha_bit_for_bit_and_turns_move_it(frames, picture, cut_out):
    own = keyed(picture, [0.0, 0.0, 0.0])[..., 3]
    assert frames.shape == (3, 320, 320, 4)
    assert torch.equal(frames[0, ..., 3], own) and torch.equal(cut_out.alpha, own)
    assert float((frames[1, ..., 3] - own).abs().max()) > 0.5


def test_no_halo_of_what_lay_hidden(models, picture, turning, frames):
    """What a program left under the transparent part never shows: over any ground, to 2 levels of 255."""
    green = pipeline.extract_appearance(models, keyed(picture, [0.0, 1.0, 0.0]))
    other = drawn(models, green, turning)
    over = [parse_background(colour) for colour in ("magenta", "black")]
    for background in over:
        one, two = (torch.cat(list(background.behind(iter([each])))) for each in (frames, other))
        assert float((one - two).abs().max()) * 255 <= 2
    magenta, black = (torch.cat(list(background.behind(iter([frames])))) for background in over)
    explained = (1 - frames[..., 3:]) * torch.tensor([1.0, 0.0, 1.0])
    assert float((magenta - black - explained).abs().max()) * 255 <= 2


def test_batches_and_parts_draw_the_same(models, cut_out, turning, frames):
    one = drawn(models, cut_out, turning, batch_size=1)
    assert torch.equal(one[..., 3], frames[..., 3]) and torch.allclose(one, frames, atol=1e-4)
    assert torch.allclose(drawn(models, cut_out, turning, start=1, stop=3), frames[1:], atol=1e-4)


@pytest.mark.parametrize("turns", [1, 2])
def test_turned_and_smaller_portraits(models, picture, turning, frames, turns):
    image = torch.rot90(keyed(picture, [0.0, 0.0, 0.0]), turns, (0, 1))
    appearance = pipeline.extract_appearance(models, image)
    lying = torch.rot90(drawn(models, appearance, turning), -turns, (1, 2))
    assert torch.equal(lying[0, ..., 3], frames[0, ..., 3])
    assert float((lying[..., 3] - frames[..., 3]).abs().mean()) < 0.01
    small = drawn(models, appearance, turning, size=160)
    assert small.shape[1:] == (160, 160, 4)
    assert torch.equal(small[0, ..., 3], torch.rot90(torch.rot90(
        smaller(appearance.alpha[..., None], 160, 160), turns, (0, 1)), -turns, (0, 1))[..., 0])


def test_who_does_not_ask_gets_white(models, picture, cut_out, turning):
    plain = torch.cat(list(pipeline.render_frames(models, cut_out, turning)))
    assert plain.shape[-1] == 3
    assert torch.allclose(plain[0], check_image(keyed(picture, [0.0, 0.0, 0.0])), atol=1e-4)


def test_opaque_portraits_are_drawn_as_ever(models, picture, turning):
    plain = pipeline.extract_appearance(models, picture)
    full = pipeline.extract_appearance(models, torch.cat([picture, torch.ones(320, 320, 1)], -1))
    assert plain.alpha is None and full.alpha is None
    asked = drawn(models, full, turning)
    assert torch.equal(asked[..., :3], torch.cat(list(pipeline.render_frames(models, plain, turning))))
    assert bool((asked[..., 3] == 1).all())


def test_a_ground_of_another_size_is_resized(models, picture):
    ground = torch.zeros(80, 80)
    ground[:, :20] = 1
    appearance = pipeline.extract_appearance(models, picture, ground=ground)
    assert appearance.alpha.shape == (320, 320)
    assert bool((appearance.alpha[:, :60] == 0).all()) and bool((appearance.alpha[:, 100:] == 1).all())
    assert transparency(picture, torch.zeros(9, 9)) is None


def test_nothing_but_ground_is_one_sentence(models, picture):
    with pytest.raises(PlaymateError, match="transparent throughout"):
        pipeline.extract_appearance(models, picture, ground=torch.ones(320, 320))


def test_hidden_colours_go_on_from_those_beside_them():
    image = torch.zeros(64, 64, 4)
    image[20:40, 20:40] = torch.tensor([0.9, 0.4, 0.2, 1.0])
    assert torch.allclose(filled(image, image[..., 3]), torch.tensor([0.9, 0.4, 0.2]).expand(64, 64, 3), atol=1e-3)


def decoded(path):
    """[T, H, W, 4] uint8."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if stream.codec_context.name == "vp9":  # FFmpeg's own decoder leaves alpha out
            decoder = av.CodecContext.create("libvpx-vp9", "r")
            found = [frame for packet in container.demux(stream)
                     for frame in decoder.decode(packet if packet.size else None)]
        else:
            found = list(container.decode(stream))
    return np.stack([frame.to_ndarray(format="rgba") for frame in found])


@pytest.mark.parametrize("ending", [".webm", ".mov"])
def test_films_keep_alpha(tmp_path, frames, ending):
    voice = (torch.sin(torch.arange(44100) * 0.05)[None] * 0.3, 44100)
    odd = frames[:, :319, :317]
    path = write_video(tmp_path / f"film{ending}", iter([odd[:2], odd[2:]]), 25, 3, audio=voice, alpha=True)
    film = decoded(path)
    assert film.shape == (3, 320, 318, 4)
    wanted = (odd * 255).round().numpy()
    alpha = np.abs(film[:, :319, :317, 3] - wanted[..., 3])
    assert alpha.mean() < 0.5 and alpha.max() < 40
    colour = np.abs(film[:, :319, :317, :3] - wanted[..., :3])[wanted[..., 3] > 250]
    assert colour.mean() < 4
    with av.open(str(path)) as container:
        assert len(container.streams.audio) == 1


def test_a_cancelled_film_leaves_nothing(tmp_path, frames):
    def stopped():
        yield frames
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "film.webm", stopped(), 25, 6, alpha=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_other_containers_say_which_can(tmp_path, frames, ending):
    with pytest.raises(PlaymateError, match=r"\.webm .* or \.mov"):
        write_video(tmp_path / f"film{ending}", iter([frames]), 25, 3, alpha=True)


def test_the_command_line_carries_it(tmp_path, picture, turning):
    from PIL import Image

    pixels = (keyed(picture, [0.0, 0.0, 0.0]) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(tmp_path / "cut.png")
    save_motion(turning, tmp_path / "motion.safetensors")
    common = ["render", str(tmp_path / "cut.png"), str(tmp_path / "motion.safetensors"), "--device", "cpu"]
    assert main([*common, "-o", str(tmp_path / "a.webm"), "--background", "transparent"]) == 0
    assert decoded(tmp_path / "a.webm")[0, 0, 0, 3] == 0
    assert main([*common, "-o", str(tmp_path / "pictures"), "--background", "#00ff00"]) == 0
    corner = np.asarray(Image.open(tmp_path / "pictures" / "00001.png"))[0, 0]
    assert corner.tolist() == [0, 255, 0]
    assert main([*common, "-o", str(tmp_path / "a.mp4"), "--background", "transparent"]) != 0
    assert main([*common, "-o", str(tmp_path / "b.mp4"), "--background", "nonsense here"]) != 0
