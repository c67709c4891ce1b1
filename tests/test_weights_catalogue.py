"""The catalogue: what is known of each file, where it is looked for, and the sentence when it is not there."""

import json
from pathlib import Path

import pytest

from playmate_core.runtime.errors import PlaymateError
from playmate_core.weights import BUNDLED
from playmate_core.weights.catalogue import default_models, entry_of, find, locate, names, workflow_models
from playmate_core.weights.check import check_published, manifests
from playmate_core.weights.entries import ENTRIES, LIVEPORTRAIT
from tests.weights_helpers import listed, liveportrait, write_network, write_safetensors


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_entries_say_everything(entry):
    assert entry.role and entry.licence and entry.sources
    for source in entry.sources:
        roles = [file.role for file in source.files]
        assert len(set(roles)) == len(roles)
        assert entry.bundled or source.repository.count("/") == 1
        for file in source.files:
            assert file.manifest is None or file.manifest in manifests()
            assert entry.bundled or file.about > 0
            assert not Path(file.name).is_absolute() and ".." not in file.name
            assert file.name.endswith((".json", ".safetensors")) or file.manifest, "tensors without a list"
    assert len({frozenset(file.role for file in source.files) for source in entry.sources}) == 1


def test_every_bundled_file_is_listed():
    known = {path.name for path in find("bundled").values()}
    assert known == {path.name for path in BUNDLED.glob("*.safetensors")}
    assert set(locate("bundled")) == {file.role for file in entry_of("bundled").sources[0].files}


@pytest.mark.parametrize("role", LIVEPORTRAIT)
def test_published_sizes_follow_from_the_tensor_lists(role, tmp_path):
    """Names, shapes and formats right to the byte: that is how the hub's files are serialised."""
    net = LIVEPORTRAIT[role]
    path = write_network(tmp_path / "a.safetensors", f"liveportrait/{net.stem}")
    assert path.stat().st_size == net.size


def test_tensor_lists_are_the_references(shared):
    reference = json.loads((shared / "reference/liveportrait/manifest.json").read_text())
    for key, role in {"F": "appearance", "M": "motion", "W": "warping", "G": "generator"}.items():
        assert manifests()[f"liveportrait/{LIVEPORTRAIT[role].stem}"]["tensors"] == reference[key]
    files = reference["_public_checkpoints"]["Kijai_LivePortrait_safetensors"]["files"]
    for key, role in {"F": "appearance", "M": "motion", "W": "warping", "G": "generator", "S": "stitching"}.items():
        net = LIVEPORTRAIT[role]
        assert (f"{net.stem}.safetensors", net.size, net.sha256) == tuple(files[key].values())
    joyvasa = json.loads((shared / "reference/joyvasa/manifest.json").read_text())
    assert len(listed("joyvasa/motion_generator")) == joyvasa["total_tensors"]


def test_a_complete_set_is_found(tmp_path):
    written = liveportrait(tmp_path)
    assert locate("liveportrait", tmp_path) == written
    assert locate("liveportrait", {"liveportrait": [tmp_path / "none", tmp_path / "liveportrait"]}) == written
    assert locate("liveportrait", [tmp_path / "elsewhere", tmp_path]) == written


def test_the_original_layout_is_found_too(tmp_path):
    import torch

    from tests.weights_helpers import state_dict

    folder = tmp_path / "liveportrait"
    for role, net in LIVEPORTRAIT.items():
        if role not in ("appearance", "stitching"):
            write_network(folder / f"{net.stem}.safetensors", f"liveportrait/{net.stem}")
    (folder / "base_models").mkdir()
    (folder / "retargeting_models").mkdir()
    torch.save(state_dict("liveportrait/appearance_feature_extractor"),
               folder / "base_models" / "appearance_feature_extractor.pth")
    nested = {}
    for key, tensor in state_dict("liveportrait/stitching_retargeting_module").items():
        entry, _, rest = key.partition("_module.")
        nested.setdefault(entry, {})[f"module.{rest}"] = tensor
    torch.save({**nested, "epoch": 3}, folder / "retargeting_models" / "stitching_retargeting_module.pth")
    found = locate("liveportrait", tmp_path)
    assert found["appearance"].suffix == ".pth" and found["motion"].suffix == ".safetensors"


def test_animals_take_the_human_stitching(tmp_path):
    stitching = liveportrait(tmp_path)["stitching"]
    with pytest.raises(PlaymateError) as error:
        locate("liveportrait-animal", tmp_path)
    assert str(tmp_path / "liveportrait" / "animal") in str(error.value)
    assert "stitching" not in str(error.value)
    animal = liveportrait(tmp_path, "liveportrait/animal")
    assert locate("liveportrait-animal", tmp_path) == {**animal, "stitching": stitching}


def test_missing_files_end_in_one_sentence(tmp_path):
    liveportrait(tmp_path)["generator"].unlink()
    with pytest.raises(PlaymateError) as error:
        locate("liveportrait", tmp_path)
    text = str(error.value)
    assert "spade_generator.safetensors into " + str(tmp_path / "liveportrait") in text
    assert "python -m playmate_core weights download liveportrait --into " in text
    assert "warping" not in text and "222 MB" in text and "\n" not in text


def test_the_command_needs_no_folder_where_the_default_is_meant(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAYMATE_MODELS", str(tmp_path))
    assert default_models() == tmp_path
    with pytest.raises(PlaymateError) as error:
        locate("joyvasa")
    assert str(error.value).endswith("weights download joyvasa")


def test_the_default_folder_is_that_of_the_comfyui_around(tmp_path, monkeypatch):
    from playmate_core.weights import catalogue

    package = tmp_path / "ComfyUI" / "custom_nodes" / "ComfyUI-Playmate"
    (tmp_path / "ComfyUI" / "models").mkdir(parents=True)
    monkeypatch.delenv("PLAYMATE_MODELS", raising=False)
    monkeypatch.setattr(catalogue, "REPOSITORY", package)
    assert default_models() == tmp_path / "ComfyUI" / "models"
    monkeypatch.setattr(catalogue, "REPOSITORY", tmp_path / "somewhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_models() == tmp_path / "cache" / "playmate" / "models"


def test_unknown_names_list_the_known_ones():
    with pytest.raises(PlaymateError, match="liveportrait-animal"):
        locate("liveportait")
    assert len(set(names())) == len(names())


def test_swapped_networks_are_named(tmp_path):
    written = liveportrait(tmp_path)
    written["warping"].replace(tmp_path / "kept")
    written["generator"].replace(written["warping"])
    (tmp_path / "kept").replace(written["generator"])
    with pytest.raises(PlaymateError) as error:
        locate("liveportrait", tmp_path)
    assert "warping_module.safetensors" in str(error.value)
    assert "holds the tensors of liveportrait/spade_generator" in str(error.value)


def test_a_cut_off_file_is_named(tmp_path):
    written = liveportrait(tmp_path)
    with open(written["motion"], "r+b") as file:
        file.truncate(written["motion"].stat().st_size - 5)
    with pytest.raises(PlaymateError, match="motion_extractor.safetensors .* is cut off: it has .* of .* bytes"):
        locate("liveportrait", tmp_path)
    assert locate("liveportrait", tmp_path, check=False) == written


def test_a_changed_shape_and_a_foreign_tensor_are_named(tmp_path):
    path = liveportrait(tmp_path)["appearance"]
    tensors = listed("liveportrait/appearance_feature_extractor")
    write_safetensors(path, {**tensors, "second.weight": ("F32", [512, 128, 1, 1])})
    with pytest.raises(PlaymateError, match=r"second.weight with shape \[512, 128, 1, 1\] where \[512, 256, 1, 1\]"):
        locate("liveportrait", tmp_path)
    write_safetensors(path, {**tensors, "third.weight": ("F32", [3])})
    with pytest.raises(PlaymateError, match="third.weight, which does not belong there"):
        locate("liveportrait", tmp_path)
    write_safetensors(path, {key: value for key, value in tensors.items() if key != "second.bias"})
    with pytest.raises(PlaymateError, match="lacks the tensor second.bias"):
        locate("liveportrait", tmp_path)


def test_half_precision_and_left_out_counters_are_welcome(tmp_path):
    path = liveportrait(tmp_path)["appearance"]
    halved = {key: ("F16", shape) for key, (kind, shape) in listed("liveportrait/appearance_feature_extractor").items()
              if kind == "F32"}
    write_safetensors(path, {f"module.{key}": value for key, value in halved.items()})
    assert locate("liveportrait", tmp_path)["appearance"] == path


def test_a_generator_without_spectral_norm_is_welcome(tmp_path):
    path = liveportrait(tmp_path)["generator"]
    folded = {key.removesuffix("_orig"): value for key, value in listed("liveportrait/spade_generator").items()
              if not key.endswith((".weight_u", ".weight_v"))}
    write_safetensors(path, folded)
    assert locate("liveportrait", tmp_path)["generator"] == path


@pytest.mark.parametrize("name,manifest", [("hubert", "hubert-base"), ("wav2vec2", "wav2vec2-base"),
                                           ("chinese-hubert", "hubert-base"), ("chinese-wav2vec2", "wav2vec2-base")])
def test_speech_encoders_in_the_forms_that_transformers_wrote(name, manifest, tmp_path):
    """Old files call weight norm's parts weight_g and weight_v, and fine-tuned ones carry a prefix and a head."""
    folder = tmp_path / entry_of(name).folder
    old = {}
    for key, value in listed(manifest).items():
        key = key.replace("parametrizations.weight.original0", "weight_g")
        old["wav2vec2." + key.replace("parametrizations.weight.original1", "weight_v")] = value
    write_safetensors(folder / "model.safetensors", {**old, "lm_head.weight": ("F32", [32, 768])})
    (folder / "config.json").write_text(json.dumps({"hidden_size": 768}))
    with pytest.raises(PlaymateError, match="put preprocessor_config.json into "):
        locate(name, tmp_path)
    (folder / "preprocessor_config.json").write_text("{}")
    assert {path.parent for path in locate(name, tmp_path).values()} == {folder}
    (folder / "config.json").write_text(json.dumps({"hidden_size": 1024}))
    with pytest.raises(PlaymateError, match="width 1024, not 768"):
        locate(name, tmp_path)


def test_full_check_knows_files_by_their_sums(tmp_path, monkeypatch):
    import dataclasses

    from playmate_core.weights import check

    path = write_network(tmp_path / "appearance_feature_extractor.safetensors",
                         "liveportrait/appearance_feature_extractor")
    human, animal = entry_of("liveportrait"), entry_of("liveportrait-animal")
    file = human.sources[0].files[0]
    assert check_published(human, file, path) == "changed"
    seen = []
    known = dataclasses.replace(file, sha256=check.hash_file(path, lambda done, total: seen.append((done, total))))
    assert seen[-1] == (path.stat().st_size,) * 2
    assert check_published(human, known, path) == "published"
    monkeypatch.setattr(check, "_known", lambda: {known.sha256: ("liveportrait", "appearance")})
    with pytest.raises(PlaymateError, match="holds liveportrait's appearance, another file than its place promises"):
        check_published(animal, animal.sources[0].files[0], path)


@pytest.mark.parametrize("name", ["liveportrait", "liveportrait-animal"])
def test_workflow_entries_can_be_offered(name):
    """ComfyUI's dialog offers only .safetensors from the hub, and compares names with its list of the folder."""
    for model in workflow_models(name):
        assert model["directory"] == "liveportrait"
        assert model["name"].endswith(".safetensors")
        assert model["url"].startswith("https://huggingface.co/Kijai/LivePortrait_safetensors/resolve/main/")
        assert set(model) in ({"name", "url", "directory"}, {"name", "url", "directory", "hash", "hash_type"})
