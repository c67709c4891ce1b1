"""Tables of contents of weight files: what is read of them, and what is refused without being run."""

import argparse
import io
import json
import os
import pathlib
import pickle
import struct
import tarfile
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from playmate_core.runtime.errors import PlaymateError
from playmate_core.weights.catalogue import entry_of, locate
from playmate_core.weights.tensors import (
    TensorInfo,
    bundled_tensors,
    is_torch_archive,
    list_tensors,
    load_table,
    load_weights,
)
from playmate_core.weights.unpickle import read_pickle
from playmate_core.weights.unreadable import Unreadable
from tests.weights_helpers import listed, state_dict, write_network


def archive(path, data: bytes, *parts: tuple[str, bytes], compress=zipfile.ZIP_STORED):
    """A file in the layout of torch.save with ``data`` as its pickle."""
    with zipfile.ZipFile(path, "w", compress) as file:
        file.writestr("archive/data.pkl", data)
        for name, content in parts:
            file.writestr(f"archive/{name}", content)
    return path


def test_what_torch_saves_is_what_is_read(tmp_path):
    tensors = OrderedDict(a=torch.zeros(2, 3), b=torch.zeros(4, dtype=torch.float16),
                          c=torch.tensor(7), d=torch.zeros(2, dtype=torch.bool), e=torch.zeros(6, 5)[1:3].t(),
                          p=torch.nn.Parameter(torch.zeros(3, dtype=torch.bfloat16)), z=torch.zeros(0, 4))
    tensors._metadata = {"": {"version": 1}}
    path = tmp_path / "net.pth"
    torch.save({"args": argparse.Namespace(root=pathlib.PurePosixPath("/data"), steps=50), "model": tensors,
                "iter": 3, "rate": 0.5, "names": ["x", None, True]}, path)
    found = list_tensors(path)
    assert found["model.a"] == TensorInfo("F32", (2, 3)) and found["model.b"] == TensorInfo("F16", (4,))
    assert found["model.c"] == TensorInfo("I64", ()) and found["model.d"].dtype == "BOOL"
    assert found["model.e"].shape == (5, 2) and found["model.p"] == TensorInfo("BF16", (3,))
    assert found["model.z"].shape == (0, 4) and len(found) == 7


def test_a_joyvasa_checkpoint_with_a_posix_path(tmp_path):
    """As published: argparse.Namespace with a PosixPath, and tensors under their real names."""
    folder = tmp_path / "playmate" / "joyvasa"
    folder.mkdir(parents=True)
    stored = {}  # one small storage stands for all numbers: expanded tensors keep the file small
    for key, (dtype, shape) in listed("joyvasa/motion_generator").items():
        kind = torch.bool if dtype == "BOOL" else torch.float32
        stored[key.removeprefix("model.")] = torch.zeros((), dtype=kind).expand(shape)
    torch.save({"args": argparse.Namespace(data_root=pathlib.PosixPath("/data")), "model": OrderedDict(stored),
                "iter": 20000}, folder / "motion_generator_hubert_chinese.pt")
    sizes = {"exp": 63, "t": 3}
    template = {f"{part}_{name}": np.zeros(sizes.get(name, 1), np.float32) for part in ("mean", "std", "min", "max")
                for name in ("scale", "t", "exp", "pitch", "yaw", "roll")}
    (folder / "motion_template.pkl").write_bytes(pickle.dumps(template, protocol=4))
    assert set(locate("joyvasa", tmp_path)) == {"checkpoint", "template"}
    (folder / "motion_template.pkl").write_bytes(pickle.dumps({**template, "std_exp": np.zeros(3)}, protocol=4))
    with pytest.raises(PlaymateError, match=r"motion_template.pkl .* std_exp with shape \[3\] where \[63\]"):
        locate("joyvasa", tmp_path)
    (folder / "motion_template.pkl").write_bytes(pickle.dumps(os.system))
    with pytest.raises(PlaymateError, match="motion_template.pkl .* refused because it asks for"):
        locate("joyvasa", tmp_path)


def test_what_torch_would_run_or_unpack_is_refused(tmp_path):
    """torch before 2.6 hands a TorchScript archive to its interpreter whatever weights_only says (CVE-2025-32434)."""
    path = tmp_path / "a.pth"
    torch.save({"a": torch.zeros(4)}, path)
    assert torch.equal(load_weights(path)["a"], torch.zeros(4))
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("a/constants.pkl", b"\x80\x02).")
    assert "TorchScript" in refuse(path)
    with pytest.raises(Unreadable, match="TorchScript"):
        load_weights(path)
    torch.save({"a": torch.zeros(4)}, path)
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("a/data.pkl", b"\x80\x02).")
    assert "two parts" in refuse(path)
    (tmp_path / "b").write_bytes(b"b")
    with tarfile.open(path, "w") as file:
        file.add(tmp_path / "b", "../b")
    with pytest.raises(Unreadable, match="tar archive"):
        load_weights(path)


class Hostile:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_that_would_run_code_is_refused_by_name_and_not_run(tmp_path, protocol):
    mark = tmp_path / "ran"
    folder = tmp_path / "liveportrait" / "base_models"
    folder.mkdir(parents=True)
    data = pickle.dumps({"first.conv.weight": Hostile(mark)}, protocol=protocol)
    for net in ("appearance_feature_extractor", "motion_extractor", "warping_module", "spade_generator"):
        archive(folder / f"{net}.pth", data)
    write_network(tmp_path / "liveportrait" / "stitching_retargeting_module.safetensors",
                  "liveportrait/stitching_retargeting_module")
    with pytest.raises(PlaymateError, match=r"appearance_feature_extractor.pth .* refused .*mkdir.*weights download"):
        locate("liveportrait", tmp_path)
    assert not mark.exists()


def refuse(path) -> str:
    """Why a file is refused, by its table of contents and by its contents alike."""
    with pytest.raises(Unreadable) as listing:
        list_tensors(path)
    with pytest.raises(Unreadable) as loading:
        load_weights(path)
    assert str(listing.value) == str(loading.value) or "readable safetensors" in str(loading.value)
    return str(listing.value)


def test_other_ways_of_a_pickle_to_harm(tmp_path):
    path = tmp_path / "a.pth"
    assert "builtins.eval" in refuse(archive(path, b"cbuiltins\neval\n."))
    assert "instruction INST" in refuse(archive(path, b"(K\x01ios\nsystem\n."))
    # The C unpickler would reserve memory up to this memo index; here it is a key like any other.
    assert list_tensors(archive(path, b"\x80\x02}r" + struct.pack("<I", 2**31 - 1) + b".")) == {}
    assert "instruction EXT1" in refuse(archive(path, b"\x80\x02\x82\x01."))
    assert "damaged" in refuse(archive(path, b"\x80\x02}q"))
    assert "calls OrderedDict in" in refuse(archive(path, b"\x80\x02ccollections\nOrderedDict\n(K\x01K\x02tR."))
    # a global spelled by two strings
    asks = b"\x80\x04\x8c\x02os\x8c\x06system\x93."
    assert "os.system" in refuse(archive(path, asks))


def test_pickles_that_would_crash_or_never_end(tmp_path):
    """A key of tuples nested so deep that hashing it overflows the stack; dictionaries that share their parts."""
    path = tmp_path / "a.pth"
    assert "keys are not names" in refuse(archive(path, b"\x80\x02})" + b"\x85" * 300_000 + b"K\x01s."))
    data = b"\x80\x02}q\x00"
    for level in range(1, 6):
        under_many_names = b"".join(b"X\x02\x00\x00\x00%02dh" % i + bytes([level - 1]) for i in range(60))
        data += b"0}(" + under_many_names + b"uq" + bytes([level])
    with pytest.raises(Unreadable, match="far more entries"):
        list_tensors(archive(path, data + b"."))
    assert load_weights(path).keys() == {f"{i:02d}" for i in range(60)}


def test_archives_that_lie(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"a": torch.zeros(4)}, path)
    with zipfile.ZipFile(path) as file:
        names = {name: file.read(name) for name in file.namelist()}
    root = next(iter(names)).split("/")[0]
    part = f"{root}/data/0"

    def rewritten(compress=zipfile.ZIP_STORED, **changes):
        with zipfile.ZipFile(path, "w", compress) as file:
            for name, content in {**names, **changes.get("changes", {})}.items():
                if content is not None:
                    file.writestr(name, content)
        return path

    assert list_tensors(rewritten()) == {"a": TensorInfo("F32", (4,))}
    assert "lacks the numbers" in refuse(rewritten(changes={part: None}))
    assert "lacks the numbers" in refuse(rewritten(changes={part: b"1234"}))
    assert "compressed" in refuse(rewritten(zipfile.ZIP_DEFLATED))
    assert "not one that torch wrote" in refuse(rewritten(changes={f"{root}/data.pkl": None}))
    whole = rewritten().read_bytes()
    path.write_bytes(whole[:-30])
    assert "cut off or damaged" in refuse(path)


def test_a_tensor_that_reaches_beyond_its_storage(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"a": torch.zeros(4)}, path)
    with zipfile.ZipFile(path) as file:
        names = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in names.items():
            file.writestr(name, content.replace(b"K\x04\x85", b"K\x05\x85") if name.endswith("data.pkl") else content)
    assert "beyond its own numbers" in refuse(path)


def old_form(path, tensors, *changes: tuple[bytes, bytes]):
    """What torch wrote until 2020, with some of its bytes changed."""
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    for wanted, instead in changes:
        assert wanted in data
        data = data.replace(wanted, instead)
    path.write_bytes(data)
    return path


def test_what_torch_wrote_until_2020_is_read(tmp_path):
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    tensors = OrderedDict(a=base, b=base.t()[1:], c=torch.ones(2, dtype=torch.float16), d=torch.tensor([True, False]),
                          p=torch.nn.Parameter(torch.zeros(3)), z=torch.zeros(0, 4))
    path = old_form(tmp_path / "old.pth", {"net": tensors, "step": 3, "sizes": [1, 2]})
    assert list_tensors(path)["net.b"] == TensorInfo("F32", (3, 3)) and len(list_tensors(path)) == 6
    held = load_weights(path)
    assert held["step"] == 3 and all(torch.equal(held["net"][name], value) for name, value in tensors.items())
    assert "cut off" in refuse(old_form(path, {"a": torch.arange(9.0)}, (torch.arange(9.0).numpy().tobytes()[4:], b"")))
    assert "byte order" in refuse(old_form(path, {"a": torch.zeros(4)}, (b"little_endianq\x02\x88",
                                                                         b"little_endianq\x02\x89")))
    asks = (b"ccollections\nOrderedDict\n", b"cos\nmkdir\n")
    assert "os.mkdir" in refuse(old_form(path, {"a": torch.zeros(4)}, asks))
    # Of 2017: another name of the same call, and an ordered dictionary of Python 2, its items given where it is made.
    older = old_form(path, {"a": torch.arange(4.0)}, (b"_rebuild_tensor_v2", b"_rebuild_tensor"))
    assert torch.equal(load_weights(older)["a"], torch.arange(4.0))
    data = b"\x80\x02ccollections\nOrderedDict\n]](U\x01aK\x07ea\x85R."
    assert read_pickle(data)[0] == {"a": 7}
    with pytest.raises(Unreadable, match="keys are not names"):
        read_pickle(b"\x80\x02ccollections\nOrderedDict\n])K\x07\x86a\x85R.")
    path.write_bytes(pickle.dumps({"a": Hostile(tmp_path / "ran")}))
    assert "mkdir" in refuse(path) and not (tmp_path / "ran").exists()


def test_tensors_arrive_as_torch_loads_them(tmp_path):
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    tensors = {"a": base, "b": base.t()[1:], "half": torch.ones(2, dtype=torch.bfloat16), "z": torch.zeros(0, 4),
               "more": [{"p": torch.nn.Parameter(torch.ones(3))}, "text", None, 2.5]}
    path = tmp_path / "a.pt"
    torch.save(tensors, path)
    held, wanted = load_table(path), torch.load(path, weights_only=True)
    assert all(torch.equal(held[name], wanted[name]) for name in ("a", "b", "half", "z"))
    assert held["a"].untyped_storage().data_ptr() == held["b"].untyped_storage().data_ptr()
    assert torch.equal(held["more"][0]["p"], torch.ones(3)) and held["more"][1:] == ["text", None, 2.5]
    with pytest.raises(PlaymateError, match="There is no file .*none.pt; download it"):
        load_table(tmp_path / "none.pt")
    torch.save([1], path)
    with pytest.raises(PlaymateError, match="a.pt holds no table of tensors"):
        load_table(path)


def header(path, entries, more=b"", length=None):
    text = json.dumps(entries).encode() if not isinstance(entries, bytes) else entries
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + more)
    return path


def test_safetensors_that_lie(tmp_path):
    path = tmp_path / "a.safetensors"
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    assert list_tensors(header(path, {"a": entry}, b"\0" * 8)) == {"a": TensorInfo("F32", (2,))}
    assert "cut off: it has" in refuse(header(path, {"a": entry}, b"\0" * 7))
    assert "longer than its header says" in refuse(header(path, {"a": entry}, b"\0" * 9))
    assert "not a safetensors" in refuse(header(path, {"a": entry}, length=2**60))
    assert "cut off" in refuse(header(path, {"a": entry}, length=4000))
    assert "damaged" in refuse(header(path, b"[" * 3000))
    assert "damaged" in refuse(header(path, {"a": 1}))
    assert "unknown format" in refuse(header(path, {"a": {**entry, "dtype": "C64"}}, b"\0" * 8))
    assert "does not fit its shape" in refuse(header(path, {"a": {**entry, "shape": [3]}}, b"\0" * 8))
    assert "impossible shape" in refuse(header(path, {"a": {**entry, "shape": [-2]}}, b"\0" * 8))
    assert "overlap" in refuse(header(path, {"a": entry, "b": entry}, b"\0" * 8))


@pytest.mark.parametrize("length", [0x80, 0x180, 0x4B50, 0x3C20])
def test_a_header_whose_length_looks_like_another_kind_of_file(tmp_path, length):
    """The bytes of a length may be those at which a pickle, a zip archive or a web page begins."""
    text = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})
    path = header(tmp_path / "a.safetensors", text.ljust(length).encode(), b"\0" * 8)
    assert list_tensors(path) == {"a": TensorInfo("F32", (2,))} and not is_torch_archive(path)
    assert torch.equal(load_weights(path)["a"], torch.zeros(2))


def test_files_that_are_no_weights(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(b"")
    assert refuse(path) == "is empty"
    path.write_text("<!DOCTYPE html><html>not found</html>")
    assert "web page" in refuse(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n")
    assert "Git LFS pointer" in refuse(path)
    path.write_bytes(b"\x01" * 100)
    assert "not a torch file" in refuse(path)
    assert "cannot be opened" in refuse(tmp_path / "none")
    # renamed: a safetensors file is no torch file and says so by its tensors
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(1)}, buffer)
    renamed = tmp_path / "b.safetensors"
    renamed.write_bytes(buffer.getvalue())
    assert list_tensors(renamed) == {"a": TensorInfo("F32", (1,))}


def test_a_torch_file_under_a_safetensors_name_is_refused(tmp_path):
    folder = tmp_path / "liveportrait"
    folder.mkdir()
    from playmate_core.weights.check import check_file

    entry = entry_of("liveportrait")
    torch.save(state_dict("liveportrait/appearance_feature_extractor"),
               folder / "appearance_feature_extractor.safetensors")
    with pytest.raises(PlaymateError, match="torch file under the name of a safetensors file"):
        check_file(entry, entry.sources[0].files[0], folder / "appearance_feature_extractor.safetensors")
    path = write_network(folder / "appearance_feature_extractor.pth", "liveportrait/appearance_feature_extractor")
    with pytest.raises(PlaymateError, match="not a torch file"):
        check_file(entry, entry.sources[1].files[0], path)


@pytest.mark.parametrize("form", ["archive", "old", "safetensors"])
def test_every_way_of_cutting_or_flipping_a_file_is_survived(tmp_path, form):
    from safetensors.torch import save_file

    path = tmp_path / ("a.safetensors" if form == "safetensors" else "a.pt")
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.float16)}
    if form == "safetensors":
        save_file(tensors, path)
    else:
        torch.save({"args": argparse.Namespace(root=pathlib.PurePosixPath("/x")), "model": OrderedDict(tensors)}, path,
                   _use_new_zipfile_serialization=form == "archive")
    good, random = path.read_bytes(), np.random.default_rng(0)
    for number in range(300):
        spoilt = bytearray(good[:random.integers(1, len(good))] if number % 6 == 0 else good)
        for _ in range(random.integers(0, 5)):
            spoilt[random.integers(len(spoilt))] = random.integers(256)
        path.write_bytes(bytes(spoilt))
        for read in (list_tensors, load_weights):
            try:
                read(path)
            except Unreadable:
                pass


def test_a_length_that_the_file_does_not_hold_makes_no_room(tmp_path):
    path = old_form(tmp_path / "a.pth", {"a": torch.zeros(4)})
    data = path.read_bytes()
    head = data[:data.index(b"uu.") + 3]  # what it is, and what machine wrote it; the tensors' own pickle comes next
    for size in (2**62, 2**40):
        path.write_bytes(head + b"\x80\x04\x8e" + struct.pack("<Q", size) + b".")
        assert "damaged" in refuse(path)


def test_bundled_files_are_read_with_a_sentence_for_their_user(tmp_path, monkeypatch):
    from safetensors.torch import save_file

    from playmate_core import weights

    found = bundled_tensors("face_mesh.safetensors", "face", {"vertices": (468, 3), "triangles": (-1, 3)})
    assert set(found) == {"vertices", "triangles"} and found["vertices"].shape == (468, 3)
    monkeypatch.setattr(weights, "BUNDLED", tmp_path)
    save_file({"offsets": torch.zeros(2, 3)}, tmp_path / "small.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"{")
    assert bundled_tensors("small.safetensors", "emotions", {"offsets": (2, -1)})["offsets"].shape == (2, 3)
    for name, shapes, said in (("small.safetensors", {"offsets": (8, 3)}, "holds no emotions; install"),
                               ("small.safetensors", {"offsets": (2,)}, "holds no emotions; install"),
                               ("small.safetensors", {"means": (2, 3)}, "holds no emotions; install"),
                               ("torn.safetensors", {}, "is refused because it .*; install"),
                               ("none.safetensors", {}, "is missing from .*; install")):
        with pytest.raises(PlaymateError, match=said):
            bundled_tensors(name, "emotions", shapes)
