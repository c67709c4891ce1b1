"""Portraits from files and from tensors of any kind."""

import io
import struct
import sys
import types

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, features

from playmate_core.media.pictures import check_image, decode_image, read_image
from playmate_core.media.signatures import format_of
from playmate_core.runtime.errors import PlaymateError

ORIENTED = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
            5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
            8: lambda a: np.rot90(a)}
"""What a viewer makes of the stored rows under each of EXIF's orientations."""


def coded(picture, kind, **options) -> bytes:
    """A picture's file as bytes; skips where this Pillow cannot write the format."""
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(*shape, seed=0):
    """[...] uint8, smooth enough for lossy formats: four flat quarters."""
    rows, columns, *rest = shape
    quarters = np.random.default_rng(seed).integers(20, 236, (2, 2, *rest), np.uint8)
    return quarters.repeat(rows // 2, 0).repeat(columns // 2, 1)


def as_bytes(image):
    return (image * 255).round().byte().numpy()


# ---- what viewers show

@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF"])
def test_colours_come_as_rgb_whatever_the_name(tmp_path, kind):
    path = tmp_path / "rød 画像.dat"
    path.write_bytes(coded(Image.new("RGB", (30, 20), (255, 0, 0)), kind))
    image = read_image(path)
    assert image.shape == (20, 30, 3) and image.dtype == torch.float32
    assert image[10, 15, 0] > 0.95 and image[10, 15, 1:].max() < 0.05


@pytest.mark.parametrize("orientation", ORIENTED)
@pytest.mark.parametrize("kind, mode", [("PNG", "RGBA"), ("PNG", "LA"), ("PNG", "P"), ("JPEG", "RGB"),
                                        ("TIFF", "RGB"), ("WEBP", "RGBA"), ("AVIF", "RGBA")])
def test_every_orientation_with_and_without_transparency(orientation, kind, mode):
    stored = noise(8, 12, 3)
    picture = Image.fromarray(stored)
    if "A" in mode:
        picture.putalpha(Image.fromarray(noise(8, 12, seed=1)))
    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind in ("JPEG", "AVIF") else {}
    wanted = ORIENTED[orientation](np.asarray(picture.convert(mode).convert("RGBA")))
    image = as_bytes(decode_image(coded(picture.convert(mode), kind, exif=exif, **options), kind))
    assert image.shape[:2] == wanted.shape[:2] and (image.shape[2] == 4) == ("A" in mode)
    error = np.abs(image.astype(int) - wanted[..., :image.shape[2]])
    middles = error[[2, 2, -2, -2], [2, -2, 2, -2]]  # away from the edges, which lossy formats soften
    assert middles.max() <= (6 if kind in ("JPEG", "AVIF") else 0)


@pytest.mark.parametrize("kind", [".png", ".tiff"])
@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 3), (6, 8, 4)])
def test_sixteen_bits_are_as_bright_as_eight(kind, shape):
    deep = np.random.default_rng(0).integers(0, 65536, shape).astype(np.uint16)
    image = decode_image(cv2.imencode(kind, deep)[1].tobytes(), kind).numpy()
    deep = deep[..., None].repeat(3, 2) if deep.ndim == 2 else deep[..., [2, 1, 0, 3][:shape[2]]]
    assert np.abs(image - deep / 65535).max() <= 1 / 255


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 3), (6, 8, 4)])
def test_floats_are_shares_of_white(shape):
    values = np.random.default_rng(0).random(shape, np.float32)
    values[0, 0] = 3.0  # brighter than white
    image = decode_image(cv2.imencode(".tiff", values)[1].tobytes(), "a.tiff").numpy()
    wanted = values[..., None].repeat(3, 2) if values.ndim == 2 else values[..., [2, 1, 0, 3][:shape[2]]]
    assert np.abs(image - wanted.clip(0, 1)).max() < 1e-5


def bare_tiff(bits: int, white_is_zero: bool, row: bytes, width: int) -> bytes:
    """A TIFF of one uncompressed grey row."""
    tags = [(256, width), (257, 1), (258, bits), (259, 1), (262, 0 if white_is_zero else 1), (273, 8), (277, 1),
            (278, 1), (279, len(row))]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHIHH", tag, 3, 1, v, 0) for tag, v in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(row)) + row + directory + bytes(4)


def test_twelve_bits():
    image = decode_image(bare_tiff(12, False, bytes([0x00, 0x0F, 0xFF, 0x80, 0x04, 0x00]), 4), "scan.tiff")[0, :, 0]
    assert torch.allclose(image, torch.tensor([0.0, 4095, 2048, 1024]) / 4095, atol=1e-5)


@pytest.mark.parametrize("bits, row", [(8, bytes([0, 255, 51])), (16, struct.pack("<3H", 0, 65535, 13107))])
def test_white_that_is_zero(bits, row):
    image = decode_image(bare_tiff(bits, True, row, 3), "fax.tiff")[0, :, 0]
    assert torch.allclose(image, torch.tensor([1.0, 0.0, 0.8]), atol=1e-5)


def test_thirty_two_bits():
    picture = Image.fromarray(np.array([[0, 2**30, 2**31 - 1]], np.int32))
    assert torch.allclose(decode_image(coded(picture, "TIFF"), "a.tiff")[0, :, 1],
                          torch.tensor([0.0, 0.25, 0.5]), atol=1e-5)


def wide_profile(gamma=2.2) -> bytes:
    """An RGB profile with Adobe RGB's primaries: a matrix profile, written by hand since lcms makes only sRGB."""
    def fixed(*values):
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    xyz = {b"rXYZ": (0.60974, 0.31111, 0.01947), b"gXYZ": (0.20528, 0.62567, 0.06087),
           b"bXYZ": (0.14919, 0.06322, 0.74457), b"wtpt": (0.9642, 1.0, 0.8249)}
    blocks = {name: b"XYZ \0\0\0\0" + fixed(*values) for name, values in xyz.items()}
    curve = b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(gamma * 256))
    blocks |= {name: curve for name in (b"rTRC", b"gTRC", b"bTRC")}
    blocks[b"desc"] = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"wide\0" + bytes(78)
    blocks[b"cprt"] = b"text\0\0\0\0none\0\0\0\0"
    table, body, place = b"", b"", 128 + 4 + 12 * len(blocks)
    for name, block in blocks.items():
        block += bytes(-len(block) % 4)
        table += name + struct.pack(">II", place + len(body), len(block))
        body += block
    head = struct.pack(">I4sI4s4s4s", 132 + len(table) + len(body), b"lcms", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1.0, 0.8249)
    return head.ljust(128, b"\0") + struct.pack(">I", len(blocks)) + table + body


@pytest.mark.parametrize("kind, mode", [("PNG", "RGB"), ("PNG", "RGBA"), ("TIFF", "RGB"), ("WEBP", "RGBA")])
def test_a_colour_profile_is_applied(kind, mode):
    """Against the arithmetic of colour itself: Adobe RGB's primaries to sRGB's, then sRGB's curve."""
    colour = np.array([180, 120, 100])
    picture = Image.new(mode, (8, 8), tuple(colour) + (128,) * (mode == "RGBA"))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    image = decode_image(coded(picture, kind, icc_profile=wide_profile(), **options), kind)
    to_xyz = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
    srgb = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])
    linear = np.linalg.solve(srgb, to_xyz @ (colour / 255) ** 2.2)
    wanted = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clip(1e-9) ** (1 / 2.4) - 0.055)
    assert abs(wanted[0] - colour[0] / 255) > 0.02  # a reader without profiles would be seen
    assert np.abs(image[4, 4, :3].numpy() - wanted).max() < 0.008
    if mode == "RGBA":
        assert abs(float(image[4, 4, 3]) - 128 / 255) < 1e-5


def test_profiles_of_other_colours_damaged_or_srgb_change_nothing(caplog):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    picture = Image.fromarray(noise(8, 8, 3))
    plain = decode_image(coded(picture, "PNG"), "plain")
    assert (decode_image(coded(picture, "PNG", icc_profile=srgb), "srgb") - plain).abs().max() <= 1 / 255 + 1e-6
    assert not caplog.records
    for profile in (b"rubbish" * 30, lab):
        assert torch.equal(decode_image(coded(picture, "PNG", icc_profile=profile), "other"), plain)
        assert "profile" in caplog.records[-1].message


@pytest.mark.parametrize("mode, kind", [("L", "PNG"), ("1", "PNG"), ("P", "GIF"), ("CMYK", "JPEG"), ("YCbCr", "TIFF")])
def test_every_colour_model_comes_as_rgb(mode, kind):
    picture = Image.fromarray(noise(16, 16, 3)).convert(mode)
    options = {"quality": 100} if kind == "JPEG" else {}
    image = as_bytes(decode_image(coded(picture, kind, **options), kind))
    assert image.shape == (16, 16, 3)
    assert np.abs(image[4::8, 4::8].astype(int) - np.asarray(picture.convert("RGB"))[4::8, 4::8]).max() <= 4


def test_lab_is_seen_in_its_colours():
    picture = Image.new("RGB", (8, 8), (200, 90, 60))
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    stored = ImageCms.profileToProfile(picture, srgb, lab, outputMode="LAB")
    assert np.abs(as_bytes(decode_image(coded(stored, "TIFF"), "lab"))[4, 4].astype(int) - [200, 90, 60]).max() <= 4


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_palette_with_a_clear_colour(kind):
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([0, 0, 0, 0, 200, 0])
    picture.putpixel((0, 0), 0)
    image = decode_image(coded(picture, kind, transparency=0), kind)
    assert image.shape == (4, 4, 4) and image[0, 0, 3] == 0 and image[2, 2, 3] == 1
    assert check_image(image)[0, 0].min() == 1 and abs(float(image[2, 2, 1]) - 200 / 255) < 1e-5


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_picture(kind):
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255)))
    image = decode_image(coded(first, kind, save_all=True, append_images=[second]), kind)
    assert image.shape[:2] == (8, 8) and image[4, 4, 0] > 0.9 and image[4, 4, 2] < 0.1


def test_the_files_that_users_reported(shared):
    """One portrait in three files, each of which another reader showed lying, flat or dark."""
    cases = shared / "cases"
    if not cases.is_dir():
        pytest.skip("no cases there")
    images = [check_image(read_image(cases / name)) for name in ("exif6_rgba.png", "avif10.avif", "icc_adobergb.jpg")
              if not name.endswith("avif") or features.check("avif")]
    for image in images:
        assert image.shape == (384, 384, 3)
        assert (image[60:] - images[-1][60:]).abs().mean() < 0.03  # the first has a clear corner


# ---- what cannot be read

BEGINNINGS = {"a HEIC": b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "a JPEG XL": b"\xff\x0a" + bytes(40),
              "a camera's raw": b"FUJIFILMCCD-RAW 0201", "an SVG": b"<?xml version='1.0'?>\n<svg></svg>",
              "a web page's": b"\n<!DOCTYPE html><title>404</title>", "a video": b"\0\0\0\x18ftypisom\0\0\0\0isommp42",
              "a sound": b"RIFF\0\0\0\0WAVEfmt ", "an OpenEXR": b"v/1\x01" + bytes(20), "a PDF": b"%PDF-1.7"}


@pytest.mark.parametrize("kind", BEGINNINGS)
def test_a_format_is_named_whatever_the_ending_says(tmp_path, kind, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    path = tmp_path / "portrait.jpg"
    path.write_bytes(BEGINNINGS[kind])
    with pytest.raises(PlaymateError, match=kind) as caught:
        read_image(path)
    assert "portrait.jpg" in str(caught.value) and str(caught.value).count(".\n") == 0


def test_a_heic_is_read_where_a_reader_is_installed(monkeypatch):
    """The reader, pretended, is asked to join in only when there is a HEIC; then Pillow reads it."""
    from PIL import ImageFile

    class Plugin(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self):
            self._size, self._mode, self.tile = (6, 4), "RGB", []

        def load(self):
            self.im = Image.new("RGB", (6, 4), (0, 255, 0)).im

    joined = []

    def register_heif_opener():
        joined.append(True)
        Image.register_open("HEIF", Plugin, lambda start: start[4:8] == b"ftyp")

    reader = types.ModuleType("pillow_heif")
    reader.register_heif_opener = register_heif_opener
    monkeypatch.setitem(sys.modules, "pillow_heif", reader)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    try:
        decode_image(coded(Image.new("RGB", (4, 4)), "PNG"), "a.png")
        assert not joined
        image = decode_image(BEGINNINGS["a HEIC"] + bytes(40), "a.jpg")
    finally:
        Image.OPEN.pop("HEIF", None)
        Image.ID[:] = [name for name in Image.ID if name != "HEIF"]
    assert joined and image.shape == (4, 6, 3) and image[..., 1].min() == 1


def test_an_old_pillow_says_what_to_do_about_an_avif(monkeypatch):
    Image.init()
    monkeypatch.delitem(Image.OPEN, "AVIF", raising=False)
    monkeypatch.setitem(sys.modules, "pillow_avif", None)
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "AVIF"])
    with pytest.raises(PlaymateError, match="AVIF.*Pillow to 11.3"):
        decode_image(b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(40), "a.png")


def test_brands_of_the_same_container():
    assert format_of(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf") == "an AVIF"
    assert format_of(b"\0\0\0\x18ftypheix\0\0\0\0mif1heix") == "a HEIC"
    assert format_of(b"\0\0\0\x10ftypmsf1\0\0\0\0") == "a HEIC"
    assert format_of(b"\0\0\0\x18ftypcrx \0\0\0\1crx isom") == "a camera's raw"
    assert format_of(b"hello") is None and format_of(b"") is None


def test_a_raw_with_a_thumbnail_is_not_taken_for_the_thumbnail():
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    for tag, value in ((50706, b"\1\4\0\0"), (254, 1)):
        tags = ImageFileDirectory_v2()
        tags[tag] = value
        if tag == 254:
            tags[330] = 8
        with pytest.raises(PlaymateError, match="raw"):
            decode_image(coded(Image.new("RGB", (16, 12)), "TIFF", tiffinfo=tags), "photo.dng")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "AVIF", "BMP"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_a_cut_off_picture_is_said_to_be_damaged(tmp_path, kind, share):
    grain = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    options = {"compression": "tiff_lzw"} if kind == "TIFF" else {}
    data = coded(Image.fromarray(grain), kind, **options)
    path = tmp_path / "cut.png"
    path.write_bytes(data[:max(8, int(len(data) * share))])
    with pytest.raises(PlaymateError, match="cut.png.*(damaged|cannot be read)") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_pictures(tmp_path):
    for name in ("nothing.png", "."):
        with pytest.raises(PlaymateError, match="does not exist"):
            read_image(tmp_path / name)
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(PlaymateError, match="empty.png is an empty file"):
        read_image(tmp_path / "empty.png")
    (tmp_path / "text.png").write_bytes(b"hello")
    with pytest.raises(PlaymateError, match="text.png is not a picture"):
        read_image(tmp_path / "text.png")


def test_a_picture_of_too_many_pixels(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(PlaymateError, match="more pixels than can be read"):
        decode_image(coded(Image.new("L", (30, 30)), "PNG"), "vast.png")


def test_damaged_exif_leaves_the_picture_as_it_is():
    picture = Image.fromarray(noise(8, 12, 3))
    image = decode_image(coded(picture, "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f"), "a.png")
    assert np.array_equal(as_bytes(image), np.asarray(picture))


# ---- pictures in memory

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
