"""Motion from blendshapes and back: the library, the commands, and the nodes without a server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from playmate_core.cli import main as cli
from playmate_core.face import geometry as geo
from playmate_core.face.arkit import ArkitShapes
from playmate_core.face.blendshape_files import BlendshapeTrack, read_blendshapes, write_blendshapes
from playmate_core.face.blendshape_motion import blendshapes_from_motion, expression_of, motion_from_blendshapes
from playmate_core.face.blendshape_names import NAMES, weight_vector
from playmate_core.motion.edits import rebase
from playmate_core.motion.files import load_motion, save_motion
from playmate_core.motion.sliders import edit_expression, slider_offset
from playmate_core.motion.types import Motion, Neutral
from playmate_core.runtime.errors import PlaymateError

from .node_helpers import node_modules


@pytest.fixture(scope="module")
def shapes():
    return ArkitShapes.load()


@pytest.fixture(scope="module")
def face(models):
    """Latent offsets -> the mean face's landmarks under them."""
    return lambda expression: geo.mean_face() + models.bridge.displacement(expression)


def performance(frames=50, fps=25.0):
    """A face that smiles while its jaw opens and shuts, and a head that turns."""
    phase = torch.linspace(0, 6.28, frames)
    weights = torch.zeros(frames, 52)
    for name, curve in (("mouthSmileLeft", 0.4 - 0.3 * phase.cos()), ("mouthSmileRight", 0.4 - 0.3 * phase.cos()),
                        ("jawOpen", 0.25 - 0.25 * (3 * phase).cos()), ("eyeBlinkLeft", (phase - 3).abs() < 0.3),
                        ("eyeBlinkRight", (phase - 3).abs() < 0.3), ("browInnerUp", 0.3 + 0 * phase)):
        weights[:, NAMES.index(name)] = curve.float()
    head = torch.stack([3 * phase.sin(), 10 * (phase / 2).cos(), 2 * phase.cos()], dim=1)
    return BlendshapeTrack(weights, head, fps)


# --- the library

def test_shapes_do_what_their_names_say(shapes, face):
    rest = geo.mean_face()

    def of(**weights):
        return face(expression_of(shapes, weights))

    smile = of(mouthSmileLeft=0.7, mouthSmileRight=0.7)
    assert geo.lip_width(smile) > geo.lip_width(rest) + 0.02 and (smile[[61, 291], 1] < rest[[61, 291], 1]).all()
    assert geo.lip_gap(of(jawOpen=0.6)) > geo.lip_gap(rest) + 0.05
    right, left = geo.eye_openness(of(eyeBlinkLeft=1.0)) / geo.eye_openness(rest)
    assert float(left) < float(right) - 0.1, "left is the person's own"
    assert not expression_of(shapes, {}).any() and shapes.expression(torch.zeros(2, 3, 52)).shape == (2, 3, 21, 3)


def test_a_track_becomes_motion(shapes):
    track = performance()
    motion = motion_from_blendshapes(track, shapes, head="as recorded")
    assert len(motion) == 50 and motion.fps == 25 and torch.equal(motion.rotation, track.head)
    order = [NAMES.index(name) for name in shapes.names]
    assert torch.allclose(motion.expression, shapes.expression(track.weights[:, order]), atol=1e-5)
    centred = motion_from_blendshapes(track, shapes)
    assert float(centred.rotation.median(0).values.abs().max()) < 1.0
    assert not motion_from_blendshapes(track, shapes, head="ignore").rotation.any()
    assert len(motion_from_blendshapes(track, shapes, 60.0)) == 120
    assert not motion_from_blendshapes(track, shapes, strength=0.0).expression.any()
    assert not motion_from_blendshapes(BlendshapeTrack(track.weights, None, 25.0), shapes).rotation.any()
    half = motion_from_blendshapes(track, shapes, strength=0.5).expression
    assert half.abs().mean() < 0.8 * motion.expression.abs().mean()


@pytest.mark.parametrize("given, word", [({"head": "off"}, "'off'"), ({"strength": 3.0}, "is 3"),
                                         ({"strength": float("nan")}, "is nan")])
def test_choices_that_cannot_be(shapes, given, word):
    with pytest.raises(PlaymateError, match=word):
        motion_from_blendshapes(performance(3), shapes, **given)


@pytest.mark.parametrize("form, name", [("live_link_face", "a.csv"), ("csv", "a.csv"), ("json", "a.json")])
def test_motion_to_a_file_and_back_is_the_same_face(shapes, face, tmp_path, form, name):
    motion = motion_from_blendshapes(performance(), shapes, head="as recorded")
    fps = 60.0 if form == "live_link_face" else None
    path = write_blendshapes(blendshapes_from_motion(motion, shapes, fps), tmp_path / name, form)
    again = motion_from_blendshapes(read_blendshapes(path), shapes, 25.0, "as recorded")
    assert abs(len(again) - len(motion)) <= 1
    frames = min(len(again), len(motion))
    assert (again.rotation[:frames] - motion.rotation[:frames]).abs().max() < 0.3
    wanted, found = face(motion.expression[:frames]), face(again.expression[:frames])
    moved = (wanted - geo.mean_face()).norm(dim=-1).mean()
    assert (found - wanted).norm(dim=-1).mean() < 0.15 * moved
    together = torch.stack([geo.lip_gap(wanted), geo.lip_gap(found)])
    assert float(torch.corrcoef(together)[0, 1]) > 0.98


def test_a_single_shape_comes_back_as_mainly_itself(shapes):
    for name in ("mouthSmileLeft", "browInnerUp", "mouthPucker", "eyeBlinkRight"):
        weights = torch.tensor([float(name == own) for own in shapes.names])
        found = shapes.weights(shapes.expression(weights))
        assert shapes.names[int(found.argmax())] == name and float(found.max()) > 0.5
    assert float(shapes.weights(torch.zeros(4, 21, 3)).max()) < 1e-5


def test_blendshapes_count_from_the_neutral_frame(shapes):
    motion = motion_from_blendshapes(performance(20), shapes, head="as recorded")
    elsewhere = Neutral(torch.full((21, 3), 0.01), torch.tensor([2.0, -8.0, 1.0]), torch.zeros(3), torch.ones(1) * 1.3)
    plain, moved = (blendshapes_from_motion(one, shapes) for one in (motion, rebase(motion, elsewhere)))
    assert torch.allclose(plain.weights, moved.weights, atol=2e-3)
    assert torch.allclose(plain.head, moved.head, atol=1e-2)
    assert plain.weights.min() >= 0 and plain.weights.max() <= 1


def test_a_further_change_comes_with_the_sliders(shapes):
    motion = Motion.rest(4)
    further = expression_of(shapes, {"jawOpen": 0.4})
    edited = edit_expression(motion, {"smile": 0.5}, torch.tensor([0.0, 0.5, 1.0, 1.0]), further)
    assert torch.equal(edited.expression[0], motion.expression[0])
    assert torch.allclose(edited.expression[2], slider_offset({"smile": 0.5}) + further, atol=1e-5)
    with pytest.raises(PlaymateError, match="needed"):
        edit_expression(motion, {}, 1.0, torch.zeros(63))


# --- the commands

def test_read_and_write_on_the_command_line(shapes, tmp_path, capsys):
    take, kept, again = tmp_path / "take.csv", tmp_path / "take.safetensors", tmp_path / "again.json"
    write_blendshapes(performance(fps=60.0, frames=90), take)
    assert cli.main(["blendshapes", "read", str(take), "-o", str(kept), "--fps", "30", "--strength", "0.8"]) == 0
    motion = load_motion(kept)
    assert motion.fps == 30 and len(motion) == 45 and motion.expression.any()
    assert cli.main(["blendshapes", "write", str(kept), "-o", str(again)]) == 0
    track = read_blendshapes(again)
    assert track.fps == 30 and len(track) == 45
    assert cli.main(["blendshapes", "write", str(kept), "-o", str(tmp_path / "out.csv")]) == 0
    assert read_blendshapes(tmp_path / "out.csv").fps == 60
    assert cli.main(["blendshapes", "read", str(take), "-o", str(tmp_path / "take.pkl")]) == 0
    assert load_motion(tmp_path / "take.pkl").fps == 60
    assert "motion: " in capsys.readouterr().out


@pytest.mark.parametrize("arguments, piece", [
    (["read", "{take}", "-o", "{folder}/m.mp4"], "end the name"),
    (["read", "{folder}/none.csv", "-o", "{folder}/m.pkl"], "no such file"),
    (["read", "{take}", "-o", "{folder}/m.safetensors", "--head", "off"], "head is 'off'"),
    (["write", "{motion}", "-o", "{folder}/a.csv", "--format", "fbx"], "fbx"),
    (["write", "{motion}", "-o", "{folder}/a.csv", "--fps", "29.97"], "29.97"),
])
def test_what_the_commands_refuse(tmp_path, capsys, arguments, piece):
    take = write_blendshapes(performance(5), tmp_path / "take.csv", "csv")
    motion = save_motion(Motion.rest(5), tmp_path / "rest.safetensors")
    given = [part.format(take=take, motion=motion, folder=tmp_path) for part in arguments]
    assert cli.main(["blendshapes", *given]) == 1
    assert piece in capsys.readouterr().err


# --- the nodes

@pytest.fixture
def pack(tmp_path, monkeypatch):
    """The nodes, in a ComfyUI whose input and output folders are here."""
    import sys
    from types import ModuleType

    paths = ModuleType("folder_paths")
    for name in ("input", "output", "temp"):
        (tmp_path / name).mkdir()
        setattr(paths, f"get_{name}_directory", lambda name=name: str(tmp_path / name))

    def save_path(prefix, folder):
        full = Path(folder) / prefix
        full.parent.mkdir(parents=True, exist_ok=True)
        return str(full.parent), full.name, 1, str(Path(prefix).parent), prefix

    paths.get_save_image_path = save_path
    paths.get_folder_paths = lambda name: [str(tmp_path / "models")]
    monkeypatch.setitem(sys.modules, "folder_paths", paths)
    with node_modules("motion_from_blendshapes", "motion_to_blendshapes", "expression_edit", "blendshape_sliders",
                      "folders") as modules:
        yield modules


GIVEN = {"fps": 0.0, "head": "centred", "strength": 1.0, "file_fps": 0.0}


def test_a_take_goes_through_both_nodes(pack, tmp_path):
    write_blendshapes(performance(), tmp_path / "input" / "take.csv", "csv")
    (tmp_path / "input" / "notes.md").write_text("nothing")
    assert pack.folders.blendshape_files() == ["take.csv"]
    read = pack.motion_from_blendshapes.MotionFromBlendshapes
    motion = read.execute("take.csv", **GIVEN).args[0]
    assert len(motion) == 50 and motion.fps == 25
    write = pack.motion_to_blendshapes.MotionToBlendshapes
    result = write.execute(motion, "blendshapes/talk", "live_link_face", 0.0)
    path, text = result.args
    assert Path(path) == tmp_path / "output" / "blendshapes" / "talk_00001_.csv"
    assert Path(path).read_text() == text and text.startswith("Timecode,BlendShapeCount,EyeBlinkLeft")
    assert result.ui["blendshapes"][0][0] == "talk_00001_.csv"
    assert pack.folders.blendshape_files() == ["take.csv", "blendshapes/talk_00001_.csv [output]"]
    again = read.execute("blendshapes/talk_00001_.csv [output]", **{**GIVEN, "fps": 25.0}).args[0]
    assert abs(len(again) - 50) <= 1
    assert Path(write.execute(motion, "b/x", "json", 0.0).args[0]).suffix == ".json"


def test_what_is_left_aside_is_told_on_the_node(pack, tmp_path):
    (tmp_path / "input" / "odd.csv").write_text("jawOpen,Mood\n0.1,2\n0.2,2\n")
    pack.motion_from_blendshapes.MotionFromBlendshapes.execute("odd.csv", **{**GIVEN, "head": "as recorded"})
    told = " ".join(text for text, _ in pack.server.said if text)
    assert "Mood" in told and "30 frames a second are assumed" in told
    assert "head does nothing since the file holds no head angles" in told


@pytest.mark.parametrize("name", ["../take.csv", "/etc/passwd", "take.mov", "none.csv", "x.json [output]",
                                  "x.csv [models]"])
def test_only_files_in_the_proper_folders_are_read(pack, name):
    judge = pack.motion_from_blendshapes.MotionFromBlendshapes.validate_inputs
    assert "blendshape file" in judge(file=name)


def test_inputs_are_judged_before_anything_runs(pack, tmp_path):
    (tmp_path / "input" / "take.csv").write_text("jawOpen\n0.1\n")
    judge = pack.motion_from_blendshapes.MotionFromBlendshapes
    assert judge.validate_inputs(file="take.csv", head="centred") is True
    assert "head is 'off'" in judge.validate_inputs(file="take.csv", head="off")
    before = judge.fingerprint_inputs("take.csv", fps=0.0)
    (tmp_path / "input" / "take.csv").write_text("jawOpen\n0.2\n")
    assert judge.fingerprint_inputs("take.csv", fps=0.0) != before
    judge = pack.motion_to_blendshapes.MotionToBlendshapes.validate_inputs
    assert "filename_prefix" in judge(filename_prefix="../up", format="csv")
    assert "format is 'fbx'" in judge(filename_prefix="a", format="fbx")


EDIT = {"smile": 0.0, "eyebrow": 0.0, "blink": 0.0, "wink": 0.0, "pupil_x": 0.0, "pupil_y": 0.0, "aaa": 0.0,
        "eee": 0.0, "woo": 0.0, "apply": "whole", "start": 0.0, "end": 0.0, "fade": 0.2, "frame": 0}


def test_expression_edit_in_arkits_terms(pack, shapes):
    edit = pack.expression_edit.ExpressionEdit
    motion = pack.pipeline.Motion.rest(5, 25.0)
    edited = edit.execute(**{**EDIT, "smile": 0.5}, motion=motion, blendshapes="mouth_smile 0.5, jawOpen 20%").args[0]
    wanted = slider_offset({"smile": 0.5}) + expression_of(
        shapes, {"mouthSmileLeft": 0.5, "mouthSmileRight": 0.5, "jawOpen": 0.2})
    assert torch.allclose(edited.expression, wanted.expand(5, 21, 3), atol=1e-5)
    assert not edit.execute(**EDIT, motion=motion).args[0].expression.any()
    still = edit.execute(**EDIT, blendshapes="browInnerUp 1").args[0]
    assert len(still) == 1 and still.expression.any()
    one = edit.execute(**{**EDIT, "apply": "frame", "frame": 2, "fade": 0.0}, motion=motion, blendshapes="jawOpen 1")
    assert one.args[0].expression.flatten(1).any(1).tolist() == [False, False, True, False, False]
    assert edit.validate_inputs(blendshapes="jawOpen 0.5") is True and edit.validate_inputs(apply="whole") is True
    assert "'smirk'" in edit.validate_inputs(blendshapes="smirk 1", apply="whole")


def test_a_slider_for_each_shape(pack, shapes):
    sliders = pack.blendshape_sliders.BlendshapeSliders
    ids = [entry.id for entry in sliders.define_schema().inputs]
    assert sorted(ids[:52]) == sorted(NAMES) and ids[52:] == ["amount", "motion"]
    rest = dict.fromkeys(ids[:52], 0.0)
    motion = replace(pack.pipeline.Motion.rest(5, 25.0), expression=torch.full((5, 21, 3), 0.01))
    kept, words = sliders.execute(**rest, amount=1.0, motion=motion).args
    assert torch.equal(kept.expression, motion.expression) and words == ""
    given = {**rest, "mouthSmileLeft": 0.6, "jawOpen": 0.4}
    edited, words = sliders.execute(**given, amount=0.5, motion=motion).args
    wanted = expression_of(shapes, {"mouthSmileLeft": 0.3, "jawOpen": 0.2})
    assert torch.allclose(edited.expression - motion.expression, wanted.expand(5, 21, 3), atol=1e-5)
    # Expression Edit does the same with the words.
    said = pack.expression_edit.ExpressionEdit.execute(**EDIT, motion=motion, blendshapes=words).args[0]
    assert torch.allclose(said.expression, edited.expression, atol=1e-5)
    still, _ = sliders.execute(**{**rest, "browInnerUp": 1.0}, amount=1.0).args
    assert len(still) == 1 and still.expression.any()


def test_orders_of_names_do_not_matter(shapes):
    """Tracks are in one order, shapes may be kept in another."""
    backwards = SimpleNamespace(names=tuple(reversed(NAMES)),
                                expression=lambda weights: weights.new_zeros(*weights.shape[:-1], 21, 3)
                                + weights[..., backwards.names.index("jawOpen"), None, None],
                                weights=lambda offset: offset.new_tensor(
                                    [float(name == "jawOpen") for name in backwards.names]).expand(len(offset), 52))
    track = BlendshapeTrack(weight_vector({"jawOpen": 0.7})[None], None, 25.0)
    motion = motion_from_blendshapes(track, backwards)
    assert torch.allclose(motion.expression, torch.full((1, 21, 3), 0.7))
    found = blendshapes_from_motion(replace(motion, fps=25.0), backwards)
    assert found.weights[0].argmax() == NAMES.index("jawOpen")
