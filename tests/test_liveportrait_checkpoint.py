"""LivePortrait's weight files: both public forms, and what is wrong with others."""

from __future__ import annotations

import pickle
import shutil
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file

from playmate_core.render.liveportrait.checkpoint import FILES, find_files, load_network, load_networks
from playmate_core.runtime.errors import PlaymateError
from tests.liveportrait_helpers import relative_error, small_weights, write_pickles, write_safetensors


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("liveportrait")
    write_safetensors(root / "safetensors")
    write_pickles(root / "pickles")
    return root


@pytest.fixture
def broken(folders, tmp_path):
    shutil.copytree(folders / "safetensors", tmp_path / "models")
    return tmp_path / "models"


def test_both_forms_load_strictly_and_alike(folders):
    wanted = small_weights()
    for form in ("safetensors", "pickles"):
        networks = load_networks(folders / form)
        for role in FILES:
            held = getattr(networks, role).state_dict()
            assert held.keys() == wanted[role].keys()
            assert all(torch.equal(held[key], wanted[role][key]) for key in held), (form, role)


def test_files_by_role(folders):
    networks = load_networks(find_files(folders / "pickles"))
    assert networks.motion.config.num_kp == 21
    with pytest.raises(PlaymateError, match="spade_generator"):
        load_networks({role: "x" for role in FILES if role != "generator"})


def test_missing_files_are_named(broken):
    (broken / "warping_module.safetensors").unlink()
    with pytest.raises(PlaymateError, match="warping_module"):
        load_networks(broken)


def test_truncated_file_is_named(broken):
    path = broken / "motion_extractor.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(PlaymateError, match="motion_extractor.*damaged"):
        load_networks(broken)


def test_swapped_files_are_named(broken):
    shutil.copy(broken / "spade_generator.safetensors", broken / "warping_module.safetensors")
    with pytest.raises(PlaymateError, match="warping_module"):
        load_networks(broken)
    with pytest.raises(PlaymateError, match="does not hold"):
        load_network("appearance", broken / "motion_extractor.safetensors")


@pytest.mark.parametrize("change", ["shape", "absent", "surplus", "nan"])
def test_foreign_tensors_are_named(broken, change):
    path = broken / "spade_generator.safetensors"
    held = load_file(str(path))
    if change == "shape":
        held["G_middle_1.conv_0.bias"] = torch.zeros(3)
    elif change == "absent":
        del held["up_0.conv_0.weight_u"]
    elif change == "surplus":
        held["up_2.bias"] = torch.zeros(3)
    else:
        held["fc.bias"][0] = float("nan")
    save_file(held, str(path))
    with pytest.raises(PlaymateError, match="spade_generator"):
        load_network("generator", path)


class Hostile:
    def __reduce__(self):
        return (print, ("ran",))


def test_hostile_pickle_does_not_run(tmp_path, capsys):
    torch.save({"detector.fc_kp.bias": Hostile()}, tmp_path / "a.pth")
    with pytest.raises(PlaymateError, match="refused because it asks for"):
        load_network("motion", tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(PlaymateError):
        load_network("motion", tmp_path / "b.pth")
    torch.save([1, 2], tmp_path / "c.pth")
    with pytest.raises(PlaymateError, match="no table"):
        load_network("motion", tmp_path / "c.pth")
    with pytest.raises(PlaymateError, match="no file"):
        load_network("motion", tmp_path / "d.pth")
    assert "ran" not in capsys.readouterr().out


def test_programs_are_refused(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth", "a") as archive:
        archive.writestr("a/constants.pkl", b"\x80\x02).")
    with pytest.raises(PlaymateError, match="TorchScript"):
        load_network("motion", tmp_path / "a.pth")


def test_entries_without_a_name_are_left_out(folders, tmp_path):
    """As a trainer's state beside the networks of S would be."""
    held = torch.load(folders / "pickles" / "retargeting_models" / "stitching_retargeting_module.pth")
    held |= {3: torch.zeros(2), "optimiser": {"state": {0: {"step": torch.zeros(2)}}, "rate": [1e-4]}}
    held["retarget_eye"] = {**held["retarget_eye"], 7: torch.zeros(1)}
    torch.save(held, tmp_path / "s.pth")
    plain = load_network("stitching", folders / "safetensors" / "stitching_retargeting_module.safetensors")
    found = load_network("stitching", tmp_path / "s.pth").state_dict()
    assert found.keys() == plain.state_dict().keys()
    assert all(torch.equal(found[key], value) for key, value in plain.state_dict().items())


def test_half_precision_prefixes_and_folded_norms_are_read(folders, tmp_path):
    weights = small_weights()["generator"]
    plain = load_network("generator", folders / "safetensors" / "spade_generator.safetensors")
    held = {"module." + key: value.clone() for key, value in weights.items()}
    for key in [key for key in held if key.endswith("weight_orig")]:
        name = key[:-len("_orig")]
        sigma = held[name + "_u"] @ held[key].flatten(1) @ held[name + "_v"]
        held[name] = held[key] / sigma
        for end in ("_orig", "_u", "_v"):
            del held[name + end]
    torch.save(held, tmp_path / "g.pth")
    x = torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    assert relative_error(load_network("generator", tmp_path / "g.pth")(x), plain(x)) < 1e-5
    save_file({key: value.half() if value.is_floating_point() else value for key, value in weights.items()},
              str(tmp_path / "h.safetensors"))
    half = load_network("generator", tmp_path / "h.safetensors")
    assert half.fc.weight.dtype == torch.float32 and relative_error(half(x), plain(x)) < 2e-2


def test_batch_counters_may_be_absent(folders, tmp_path):
    held = {key: value for key, value in small_weights()["appearance"].items() if "num_batches" not in key}
    save_file(held, str(tmp_path / "f.safetensors"))
    assert load_network("appearance", tmp_path / "f.safetensors").config.num_resblocks == 1
