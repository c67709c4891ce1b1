"""Motion on disk: nothing lost, nothing foreign accepted, nothing run."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from playmate_core.motion.edits import with_neutral_lead
from playmate_core.motion.files import load_motion, save_motion, save_template
from playmate_core.motion.geometry import rotation_matrix
from playmate_core.motion.types import Neutral
from playmate_core.runtime.errors import PlaymateError
from playmate_core.weights import pickled as names
from playmate_core.weights import unpickle
from playmate_core.weights.unreadable import Unreadable

from .motion_helpers import FIELDS, random_motion

PICKLED = ("d5", "d7", "d8", "laugh", "talking", "wink")


def same(a, b):
    return a.fps == b.fps and all(
        torch.equal(getattr(a, name), getattr(b, name))
        and torch.equal(getattr(a.neutral, name), getattr(b.neutral, name)) for name in FIELDS
    )


def template(frames=4, **changes):
    content = {
        "n_frames": frames, "output_fps": 25,
        "motion": [{"scale": np.ones((1, 1), np.float32), "R": np.eye(3, dtype=np.float32)[None],
                    "exp": np.full((1, 21, 3), 0.01 * i, np.float32), "t": np.zeros((1, 3), np.float32)}
                   for i in range(frames)],
        "c_eyes_lst": [np.full((1, 2), 0.3, np.float32)] * frames, "c_lip_lst": [np.zeros((1, 1), np.float32)] * frames,
    }
    content.update(changes)
    return content


def refused(path):
    """The sentence with which ``path`` is refused."""
    with pytest.raises(PlaymateError) as caught:
        load_motion(path)
    message = str(caught.value)
    assert path.name in message and message.endswith(".") and "\n" not in message and len(message) < 260
    return message


# --- our own format

@pytest.mark.parametrize("frames, fps", [(12, 25.0), (1, 30000 / 1001), (0, 60.0)])
def test_a_motion_comes_back_bit_for_bit(tmp_path, frames, fps):
    motion = random_motion(frames, fps)
    path = save_motion(motion, tmp_path / "a.safetensors")
    assert same(load_motion(path), motion)
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_the_suffix_is_added_and_the_file_says_what_it_is(tmp_path):
    from safetensors import safe_open

    path = save_motion(random_motion(3), tmp_path / "take.1")
    assert path.name == "take.1.safetensors"
    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "playmate-motion" and metadata["fps"] == "25.0" and "degrees" in metadata["units"]


def test_another_neutral_can_be_asked_for(tmp_path):
    path = save_motion(random_motion(12), tmp_path / "a")
    assert torch.equal(load_motion(path, Neutral.rest()).neutral.scale, torch.ones(1))


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path, monkeypatch):
    path = save_motion(random_motion(12), tmp_path / "a.safetensors")
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(PlaymateError, match="No space left"):
        save_motion(random_motion(seed=1), path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["a.safetensors"]


def test_a_folder_that_is_missing_is_one_sentence(tmp_path):
    with pytest.raises(PlaymateError, match="Cannot write"):
        save_motion(random_motion(12), tmp_path / "nowhere" / "a.safetensors")


def broken(change):
    def write(path):
        save_motion(random_motion(5), path)
        tensors = load_file(str(path))
        metadata = {"format": "playmate-motion", "version": "1", "fps": "25.0"}
        change(tensors, metadata)
        save_file({name: value.contiguous() for name, value in tensors.items()}, str(path), metadata)
    return write


BROKEN = {
    "missing": (lambda t, m: t.pop("neutral.scale"), "lacks neutral.scale"),
    "format": (lambda t, m: m.pop("format"), "no Playmate motion"),
    "version": (lambda t, m: m.update(version="9"), "version"),
    "keypoints": (lambda t, m: t.update(expression=torch.zeros(5, 20, 3)), "expression has shape"),
    "scalar": (lambda t, m: t.update(expression=torch.zeros(())), "expression has shape"),
    "lengths": (lambda t, m: t.update(rotation=torch.zeros(4, 3)), "rotation has shape"),
    "neutral": (lambda t, m: t.update({"neutral.rotation": torch.zeros(1, 3)}), "neutral.rotation has shape"),
    "integers": (lambda t, m: t.update(rotation=torch.zeros(5, 3, dtype=torch.int32)), "floating point"),
    "nan": (lambda t, m: t["expression"].fill_(float("nan")), "not finite"),
    "nan_neutral": (lambda t, m: t["neutral.scale"].fill_(float("inf")), "not finite"),
    "scale": (lambda t, m: t["scale"].fill_(-1.0), "scale must be above 0"),
    "fps": (lambda t, m: m.update(fps="fast"), "frame rate"),
    "fps_nan": (lambda t, m: m.update(fps="nan"), "frame rate"),
    "fps_zero": (lambda t, m: m.update(fps="0"), "frame rate"),
    "fps_absent": (lambda t, m: m.pop("fps"), "frame rate"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_foreign_safetensors_is_refused_with_its_reason(tmp_path, case):
    change, reason = BROKEN[case]
    path = tmp_path / "foreign.safetensors"
    broken(change)(path)
    assert reason in refused(path)


def test_other_files_are_refused(tmp_path):
    path = save_motion(random_motion(12), tmp_path / "a.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:-7])
    assert "cut off" in refused(cut)
    for name, content in {"empty": b"", "text": b"hello there, this is no tensor file at all"}.items():
        other = tmp_path / f"{name}.safetensors"
        other.write_bytes(content)
        assert "not a safetensors file" in refused(other)
    assert "no such file" in refused(tmp_path / "absent.safetensors")
    video = tmp_path / "clip.mp4"
    video.write_bytes(b"")
    assert ".safetensors" in refused(video)
    folder = tmp_path / "folder.pkl"
    folder.mkdir()
    assert "no such file" in refused(folder)


# --- LivePortrait's templates

@pytest.mark.parametrize("name", PICKLED)
def test_published_templates_are_read_exactly(shared, name):
    folder = shared / "data" / "liveportrait_templates"
    if not (folder / f"{name}.pkl").is_file():
        pytest.skip("the templates are not on this machine")
    motion, truth = load_motion(folder / f"{name}.pkl"), load_file(str(folder / f"{name}.safetensors"))
    assert torch.equal(motion.expression, truth["exp"])
    assert torch.equal(motion.translation, truth["t"])
    assert torch.equal(motion.scale, truth["scale"])
    assert (rotation_matrix(motion.rotation) - truth["R"]).abs().max() < 1e-5
    from safetensors import safe_open

    with safe_open(str(folder / f"{name}.safetensors"), framework="pt") as file:
        assert motion.fps == float(file.metadata()["fps"])
    assert torch.equal(motion.neutral.expression, motion.expression[0]) and not motion.expression_offset[0].any()


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_templates_of_every_protocol_and_their_old_names(tmp_path, protocol):
    path = tmp_path / "old.pkl"
    old = template(3)
    old["motion"] = [{("R_d" if key == "R" else key): value for key, value in frame.items()} for frame in old["motion"]]
    old["c_d_eyes_lst"], old["c_d_lip_lst"] = old.pop("c_eyes_lst"), old.pop("c_lip_lst")
    old.pop("output_fps")
    path.write_bytes(pickle.dumps(old, protocol=protocol))
    motion = load_motion(path)
    assert len(motion) == 3 and motion.fps == 25 and not motion.rotation.any()
    assert motion.expression[2, 0, 0] == np.float32(0.02)


def test_other_number_formats_and_memory_orders(tmp_path):
    path = tmp_path / "odd.pkl"
    content = template(2)
    generator = np.random.default_rng(0)
    exp = np.asfortranarray(generator.standard_normal((21, 3)))
    content["motion"][1]["exp"] = exp.astype(">f8", order="F")
    content["motion"][1]["scale"] = np.array(2, np.int64).reshape(1, 1)
    path.write_bytes(pickle.dumps(content, protocol=4))
    motion = load_motion(path)
    assert np.array_equal(motion.expression[1].numpy(), exp.astype(np.float32)) and motion.scale[1] == 2


def test_a_template_of_ours_is_what_liveportrait_expects(tmp_path):
    motion = random_motion(6, 30.0)
    path = save_template(motion, tmp_path / "ours")
    assert path.name == "ours.pkl"
    plain = pickle.loads(path.read_bytes())
    assert plain["n_frames"] == 6 and plain["output_fps"] == 30 and type(plain["output_fps"]) is int
    assert len(plain["c_eyes_lst"]) == len(plain["c_lip_lst"]) == len(plain["motion"]) == 6
    shapes = {name: value.shape for name, value in plain["motion"][0].items()}
    assert shapes == {"scale": (1, 1), "R": (1, 3, 3), "exp": (1, 21, 3), "t": (1, 3)}
    assert all(value.dtype == np.float32 for frame in plain["motion"] for value in frame.values())
    assert plain["c_eyes_lst"][0].shape == (1, 2) and plain["c_lip_lst"][0].shape == (1, 1)
    protocol = next(argument for opcode, argument, _ in pickletools.genops(path.read_bytes()) if opcode.name == "PROTO")
    assert protocol == 4

    back = load_motion(path)
    assert torch.equal(back.expression, motion.expression) and torch.equal(back.scale, motion.scale)
    assert torch.equal(back.translation, motion.translation) and back.fps == 30
    assert torch.allclose(back.rotation, motion.rotation, atol=1e-4)
    lead = load_motion(save_template(with_neutral_lead(motion), tmp_path / "lead.pkl"))
    assert torch.allclose(lead.neutral.expression, motion.neutral.expression, atol=1e-5) and len(lead) == 7


def test_ratios_are_kept_and_checked(tmp_path):
    motion = random_motion(3)
    path = save_template(motion, tmp_path / "a", torch.full((3, 2), 0.2), torch.tensor([[0.0], [0.1], [0.2]]))
    plain = pickle.loads(path.read_bytes())
    assert plain["c_lip_lst"][2] == np.float32(0.2) and plain["c_eyes_lst"][1][0, 1] == np.float32(0.2)
    with pytest.raises(PlaymateError, match="eye ratios"):
        save_template(motion, tmp_path / "b", torch.zeros(2, 2))
    with pytest.raises(PlaymateError, match="no frames"):
        save_template(random_motion(0), tmp_path / "b")
    with pytest.raises(PlaymateError, match="resample"):
        save_template(random_motion(3, 29.97), tmp_path / "b")


class Evil:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def pickled(content, protocol=4):
    return pickle.dumps(content, protocol=protocol)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_an_evil_pickle_runs_nothing_and_is_named(tmp_path, protocol):
    path, trace = tmp_path / "evil.pkl", tmp_path / "trace"
    path.write_bytes(pickled(template(2, extra=Evil(os.mkdir, str(trace))), protocol))
    message = refused(path)
    assert not trace.exists()
    if protocol >= 3:
        assert f"{os.mkdir.__module__}.mkdir" in message


@pytest.mark.parametrize("content, asked", [
    (Evil(eval, "1+1"), "builtins.eval"),
    (Evil(getattr, np.ndarray, "tofile"), "builtins.getattr"),
    (torch.zeros(2), "torch"),
    (np.float32(1), "multiarray.scalar"),
    (np.zeros(2, dtype=object), "'O8'"),
    (np.zeros(2, dtype="U4"), "'U4'"),
    (np.zeros(2, dtype=[("a", "f4")]), "records"),
    (np.zeros(2, dtype="M8[s]"), "'M8'"),
    (complex(1, 2), "builtins.complex"),
    ({1, 2}, "EMPTY_SET"),
    (Evil(np.ndarray, (10**9,)), "in a way that no array or tensor needs"),
    (Evil(np.dtype, 3), "calls dtype in a way"),
])
def test_whatever_is_no_plain_array_is_named(tmp_path, content, asked):
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickled(template(2, extra=content)))
    assert asked in refused(path)


def test_the_allow_list_is_exactly_the_documented_one():
    assert names.ARRAYS == {
        ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.numeric", "_frombuffer"), ("numpy", "ndarray"), ("numpy", "dtype"),
    }
    others = {module for module, _ in names.ALLOWED - names.ARRAYS}
    assert others == {"collections", "argparse", "torch", "torch._utils", "pathlib", "pathlib._local"}
    for module, name in [("numpy", "load"), ("numpy.core.multiarray", "scalar"), ("numpy", "ndarray.tofile")]:
        text = f"c{module}\n{name}\n.".encode()
        with pytest.raises(Unreadable, match=name):
            unpickle.read_arrays(text)


def array_pickle(shape, data, code="f4"):
    """A pickled array whose shape and contents may disagree, opcode by opcode."""
    out = io.BytesIO()
    out.write(b"\x80\x04cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR")
    out.write(b"(K\x01(" + b"".join(b"\x8a\x08" + struct.pack("<q", n) for n in shape) + b"t")
    out.write(b"cnumpy\ndtype\n(X" + struct.pack("<I", len(code)) + code.encode() + b"\x89\x88tR")
    out.write(b"(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb")
    out.write(b"\x89B" + struct.pack("<I", len(data)) + data + b"tb.")
    return out.getvalue()


def test_the_hand_made_array_is_sound_when_it_should_be():
    value = unpickle.read_arrays(array_pickle((2, 2), np.arange(4, dtype="<f4").tobytes()))
    assert value.tolist() == [[0, 1], [2, 3]] and value.dtype == np.float32


@pytest.mark.parametrize("content", [
    array_pickle((2**40, 2**20), b"\0" * 16),
    array_pickle((-1, 4), b"\0" * 16),
    array_pickle((2, 2, 2), b"\0" * 16),
    array_pickle((1,) * 9 + (4,), b"\0" * 16),
    array_pickle((2, 2), b"\0" * 16, "O8"),
    b"\x80\x04]r\xff\xff\xff\x7f.",  # memo index that would make the C unpickler allocate gigabytes: harmless here
    b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # eight exabytes of bytes
    b"\x80\x04\x8e\xff\xff\xff\x7f\x00\x00\x00\x00.",
    b"\x80\x04h\x07.", b"\x80\x04.", b"\x80\x04(.", b"\x80\x04KKR.", b"\x80\x04}K\x01K\x02b.", b"\x80\x04}e.",
    b"\x80\x04\x85.", b"\x80\x04K\x01K\x02.", b"\x80\x04K\x01K\x02\x93.", b"garbage", b"", b"\x80\x04}",
    b"\x80\x04}(]K\x01u.", b"\x80\x04}])K\x01s.", b"\x80\x04)R.", b"\x80\x04]K\x01a", b"\x80\x04Kae.",
    b"\x80\x04cnumpy.core.multiarray\n_reconstruct\n)R.",
    b"\x80\x04cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x05tC\x01btR.",
    b"\x80\x04cnumpy._core.numeric\n_frombuffer\n(C\x01aK\x01K\x01K\x01tR.",
])
def test_damaged_and_absurd_pickles_end_in_one_sentence(tmp_path, content):
    path = tmp_path / "bad.pkl"
    path.write_bytes(content)
    refused(path)


def test_every_way_of_cutting_or_flipping_a_template_is_survived(tmp_path):
    good = pickled(template(1))
    path = tmp_path / "cut.pkl"
    for end in range(0, len(good), 7):
        path.write_bytes(good[:end])
        refused(path)
    generator = np.random.default_rng(0)
    for _ in range(300):
        spoilt = bytearray(good)
        for _ in range(generator.integers(1, 4)):
            spoilt[generator.integers(len(spoilt))] = generator.integers(256)
        path.write_bytes(bytes(spoilt))
        try:
            load_motion(path)
        except PlaymateError:
            pass


def test_nested_references_cost_nothing(tmp_path):
    # t = (t, t) a hundred times: as a dictionary key its hash would take for ever (2^100 steps: this test would not
    # end), as a value it must not be walked.
    bomb = b"\x80\x04}K\x01" + b"q\x00h\x00\x86" * 100
    path = tmp_path / "bomb.pkl"
    for content in (bomb + b"K\x01s.", bomb[:4] + bomb[6:] + b".", b"\x80\x04}X\x01\0\0\0a" + bomb[3:] + b"s."):
        path.write_bytes(content)
        refused(path)
    looped = b"\x80\x04]\x94h\x00a."
    assert isinstance(unpickle.read_arrays(looped), list)


def test_size_is_bounded(tmp_path, monkeypatch):
    from playmate_core.motion import files

    path = tmp_path / "long.pkl"
    path.write_bytes(pickled(template(9)))
    monkeypatch.setattr(files, "MAX_TEMPLATE_FRAMES", 8)
    assert "at most 8" in refused(path)
    monkeypatch.setattr(unpickle, "MAX_ITEMS", 50)
    assert "far longer" in refused(path)
    monkeypatch.setattr(files, "MAX_TEMPLATE_BYTES", 1000)
    assert "larger than" in refused(path)


def frame(**changes):
    content = template(2)
    content["motion"][1] = {**content["motion"][1], **changes}
    return content


@pytest.mark.parametrize("content, reason", [
    ([1, 2], "no LivePortrait template"),
    ({"motion": []}, "no LivePortrait template"),
    ({"motion": [1]}, "no LivePortrait template"),
    (template(2, n_frames=3), "holds 2 frames and says 3"),
    (template(2, n_frames="2"), "says '2'"),
    (template(2, output_fps=0), "frame rate"),
    (template(2, output_fps="x" * 500), "frame rate"),
    (template(2, output_fps=float("inf")), "frame rate"),
    (frame(exp=np.zeros((1, 20, 3), np.float32)), "frame 1 has exp"),
    (frame(t=None), "no array 't'"),
    (frame(exp=np.full((1, 21, 3), np.nan)), "not finite"),
    (frame(exp=np.full((1, 21, 3), 1e300)), "not finite"),
    (frame(R=np.zeros((1, 3, 3))), "not rotations"),
    (frame(R=-np.eye(3)[None]), "not rotations"),
    (frame(scale=np.zeros((1, 1))), "scale must be above 0"),
])
def test_a_pickle_that_is_no_template_is_refused_with_its_reason(tmp_path, content, reason):
    path = tmp_path / "foreign.pkl"
    path.write_bytes(pickled(content))
    assert reason in refused(path)
