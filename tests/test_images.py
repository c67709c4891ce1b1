"""Portraits from files and from tensors of any kind."""

import cv2
import numpy as np
import pytest
import torch

from playmate_core.media.pictures import check_image, read_image
from playmate_core.runtime.errors import PlaymateError


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
def test_colours_come_as_rgb(tmp_path, suffix):
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[..., 2] = 255  # OpenCV's red
    path = tmp_path / f"rød{suffix}"
    path.write_bytes(cv2.imencode(suffix, picture)[1].tobytes())
    image = read_image(path)
    assert image.shape == (20, 30, 3)
    assert image[10, 15, 0] > 0.95 and image[10, 15, 1:].max() < 0.05


def test_alpha_and_sixteen_bits_survive(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((4, 4, 4), 128, np.uint8))
    assert read_image(tmp_path / "a.png").shape == (4, 4, 4)
    cv2.imwrite(str(tmp_path / "b.png"), np.full((4, 4, 3), 32768, np.uint16))
    assert abs(float(read_image(tmp_path / "b.png").mean()) - 0.5) < 1e-3
    cv2.imwrite(str(tmp_path / "c.png"), np.full((4, 4), 200, np.uint8))
    assert read_image(tmp_path / "c.png").shape == (4, 4, 3)


def test_files_that_are_no_pictures(tmp_path):
    with pytest.raises(PlaymateError, match="does not exist"):
        read_image(tmp_path / "nothing.png")
    with pytest.raises(PlaymateError, match="does not exist"):
        read_image(tmp_path)
    for name, content in (("empty.png", b""), ("text.png", b"hello")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(PlaymateError, match="not a picture"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 1), (8, 9, 3), (8, 9, 4), (1, 8, 9, 3)])
def test_any_channel_count_becomes_rgb(shape):
    image = check_image(torch.rand(shape))
    assert image.shape == (8, 9, 3) and image.dtype == torch.float32


def test_bytes_transparency_and_nan():
    assert torch.equal(check_image(torch.full((2, 2, 3), 255, dtype=torch.uint8)), torch.ones(2, 2, 3))
    assert torch.equal(check_image(torch.zeros(2, 2, 4)), torch.ones(2, 2, 3))  # clear is white
    assert torch.isfinite(check_image(torch.full((2, 2, 3), float("nan")))).all()


@pytest.mark.parametrize("shape, message", [
    ((2, 8, 9, 3), "2 pictures"), ((0, 9, 3), "shape"), ((8, 9, 7), "7 channels"), ((5,), "shape"),
])
def test_what_is_no_picture_is_said(shape, message):
    with pytest.raises(PlaymateError, match=message):
        check_image(torch.rand(shape))
