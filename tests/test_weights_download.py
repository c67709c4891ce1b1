"""Downloads from a hub on this machine: continued, checked, refused."""

import errno
import hashlib
import inspect
import json
import time
from types import SimpleNamespace

import huggingface_hub
import pytest

from playmate_core.cli.main import main
from playmate_core.runtime.errors import PlaymateError
from playmate_core.weights import catalogue, entries
from playmate_core.weights import download as module
from playmate_core.weights.catalogue import entry_of, find, locate
from playmate_core.weights.download import download
from playmate_core.weights.entries import Entry, Source, WeightFile
from tests.weights_helpers import Hub, disk, write_network

needs_progress = pytest.mark.skipif("tqdm_class" not in inspect.signature(huggingface_hub.hf_hub_download).parameters,
                                    reason="this huggingface_hub shows its own progress bar")
NET = "liveportrait/appearance_feature_extractor"
STEM = "appearance_feature_extractor"


@pytest.fixture()
def hub(monkeypatch):
    import huggingface_hub.constants

    server = Hub()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)  # which it reads when it is imported
    yield server
    server.close()


@pytest.fixture()
def small(hub, tmp_path, monkeypatch):
    """A catalogue whose only entry has one real network of 3 MB and a configuration, and the hub that has them."""
    weights = write_network(tmp_path / "source", NET).read_bytes()
    config = json.dumps({"hidden_size": 768}).encode()
    files = (WeightFile("appearance", f"{STEM}.safetensors", f"nets/{STEM}.safetensors", len(weights), len(weights),
                        hashlib.sha256(weights).hexdigest(), NET),
             WeightFile("config", "config.json", "config.json", 30))
    entry = Entry("small", "Small", "a test", "liveportrait", (Source("safetensors", "org/small", files),), "MIT")
    monkeypatch.setattr(entries, "ENTRIES", (entry,))
    monkeypatch.setattr(catalogue, "ENTRIES", (entry,))
    hub.files = {f"org/small/nets/{STEM}.safetensors": weights, "org/small/config.json": config}
    return entry, f"org/small/nets/{STEM}.safetensors", weights


def test_everything_arrives_once(hub, small, tmp_path):
    _, path, weights = small
    got = download("small", tmp_path)
    assert [p.name for p in got] == [f"{STEM}.safetensors", "config.json"]
    assert got[0] == tmp_path / "liveportrait" / f"{STEM}.safetensors" and got[0].read_bytes() == weights
    assert sorted(p.name for p in (tmp_path / "liveportrait").iterdir()) == [f"{STEM}.safetensors", "config.json"]
    assert set(locate("small", tmp_path)) == {"appearance", "config"}
    asked = {name: list(ranges) for name, ranges in hub.ranges.items()}
    assert download("small", tmp_path) == got
    assert hub.ranges == asked, "what is there must not be fetched again"


@pytest.fixture()
def hasty(monkeypatch):
    """The library waits a second before it tries a broken connection again, and goes on from whole blocks of 10 MB."""
    import huggingface_hub.file_download as library

    monkeypatch.setattr(library.constants, "DOWNLOAD_CHUNK_SIZE", 100_000)
    monkeypatch.setattr(library, "time", SimpleNamespace(sleep=lambda _: None, time=time.time))


def test_a_broken_connection_is_continued(hub, small, tmp_path, hasty):
    _, path, weights = small
    hub.breaks[path] = [1_000_000, 500_000]
    download("small", tmp_path)
    assert hub.ranges[path] == [None, "bytes=1000000-", "bytes=1500000-"], "what had arrived is not asked for again"
    assert (tmp_path / "liveportrait" / f"{STEM}.safetensors").read_bytes() == weights


def test_a_download_that_breaks_off_leaves_nothing_that_looks_whole(hub, small, tmp_path, hasty):
    _, path, weights = small
    hub.breaks[path] = [700_000] + [0] * 20
    with pytest.raises(PlaymateError, match=f"download of {STEM}.* broke off .*run the same command again") as caught:
        download("small", tmp_path)
    assert "\n" not in str(caught.value)
    folder = tmp_path / "liveportrait"
    assert not list(folder.rglob("*.safetensors")) and find("small", tmp_path) == {}
    hub.breaks.clear()
    download("small", tmp_path)
    assert (folder / f"{STEM}.safetensors").read_bytes() == weights
    assert sorted(p.name for p in folder.iterdir()) == [f"{STEM}.safetensors", "config.json"]


def test_a_server_that_cannot_resume_begins_anew(hub, small, tmp_path, hasty):
    _, path, weights = small
    hub.breaks[path], hub.deaf = [700_000], {path}
    download("small", tmp_path)
    assert (tmp_path / "liveportrait" / f"{STEM}.safetensors").read_bytes() == weights


@needs_progress
def test_bytes_are_counted(hub, small, tmp_path, hasty):
    _, path, weights = small
    hub.breaks[path] = [1_000_000]
    seen = []
    download("small", tmp_path, progress_of=lambda name: lambda done, total: seen.append((name, done, total)))
    counted = [done for name, done, total in seen if name == f"{STEM}.safetensors" and total == len(weights)]
    assert counted == sorted(counted) and len(counted) > 3 and counted[-1] == len(weights)


@needs_progress
@pytest.mark.parametrize("signal", [KeyboardInterrupt, TimeoutError])
def test_whoever_watches_may_stop_it(hub, small, tmp_path, signal):
    def stop(done, total):
        raise signal("enough")

    with pytest.raises(signal, match="enough"):
        download("small", tmp_path, progress_of=lambda name: stop)
    assert find("small", tmp_path) == {}


def test_files_that_lie_on_another_host(hub, small, tmp_path, monkeypatch):
    """As the hub's large files do: their size and checksum are said by the redirect, and no token goes there."""
    _, path, weights = small
    hub.moved, hub.gated = {path}, {path: "hf_mine"}
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    got = download("small", tmp_path)
    assert got[0].read_bytes() == weights and not got[0].is_symlink()
    assert path in hub.tokens and f"/store/{path}" not in hub.tokens


def test_a_hub_that_wants_to_know_who_asks(hub, small, tmp_path, monkeypatch):
    _, path, _ = small
    hub.gated = {path: "hf_good"}
    for token in (None, "hf_bad"):
        monkeypatch.delenv("HF_TOKEN", raising=False)
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(PlaymateError, match="accept the terms on the page of org/small.*set HF_TOKEN") as caught:
            download("small", tmp_path)
        assert "\n" not in str(caught.value) and "hf_" not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert download("small", tmp_path)[0].is_file()
    assert "org/small/config.json" not in hub.tokens, "what is public is asked for without it"


def test_offline_is_named(hub, small, tmp_path, monkeypatch):
    from huggingface_hub.utils import OfflineModeIsEnabled

    def offline(*_, **__):
        raise OfflineModeIsEnabled("Cannot reach the hub: offline mode is enabled.")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", offline)
    with pytest.raises(PlaymateError, match="unset HF_HUB_OFFLINE"):
        download("small", tmp_path)


def test_a_full_disk_is_seen_before_the_first_byte(hub, small, tmp_path, monkeypatch):
    _, path, weights = small
    monkeypatch.setattr(module.shutil, "disk_usage", disk(free=len(weights) + 10))
    with pytest.raises(PlaymateError, match="MB free and 70 MB are needed"):
        download("small", tmp_path)
    assert path not in hub.ranges


def test_a_disk_that_fills_up_meanwhile(hub, small, tmp_path, monkeypatch):
    def full(*_, local_dir, **__):
        (local_dir / "some").write_bytes(b"x")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    with pytest.raises(PlaymateError, match="full; free 3 MB and run the same command again"):
        download("small", tmp_path)
    assert not list((tmp_path / "liveportrait").iterdir())


def test_another_size_is_refused_before_it_is_fetched(hub, small, tmp_path):
    _, path, weights = small
    hub.files[path] = weights + b"x"
    with pytest.raises(PlaymateError, match=r"offers 3,361,937 bytes where appearance_.* has 3,361,936"):
        download("small", tmp_path)
    assert path not in hub.ranges and find("small", tmp_path) == {}


def test_the_right_size_with_other_contents_is_refused(hub, small, tmp_path):
    _, path, weights = small
    hub.files[path] = weights[:-1] + b"\x01"
    with pytest.raises(PlaymateError, match="another checksum than promised and was deleted"):
        download("small", tmp_path)
    assert not list((tmp_path / "liveportrait").glob("*safetensors*"))


def test_what_was_damaged_on_the_way_is_refused(hub, small, tmp_path, monkeypatch):
    """Where the catalogue knows no checksum the hub's own one is held against what arrived."""
    import dataclasses

    entry, path, weights = small
    files = tuple(dataclasses.replace(file, sha256=None, size=None) for file in entry.sources[0].files)
    monkeypatch.setattr(catalogue, "ENTRIES",
                        (dataclasses.replace(entry, sources=(Source("safetensors", "org/small", files),)),))
    hub.lie[path] = "f" * 64
    with pytest.raises(PlaymateError, match="another checksum than promised"):
        download("small", tmp_path)
    # swapped on the hub itself: sum and size are consistent, the tensors are another network's
    other = write_network(tmp_path / "other", "liveportrait/stitching_retargeting_module").read_bytes()
    hub.lie.clear()
    hub.files[path] = other
    with pytest.raises(PlaymateError, match="holds the tensors of liveportrait/stitching_retargeting_module"):
        download("small", tmp_path)
    assert not list((tmp_path / "liveportrait").glob("*safetensors*"))


def test_a_wrong_file_that_is_there_is_not_overwritten(hub, small, tmp_path):
    (tmp_path / "liveportrait").mkdir()
    there = tmp_path / "liveportrait" / f"{STEM}.safetensors"
    there.write_bytes(b"mine")
    with pytest.raises(PlaymateError, match="refused because .*; delete it and run"):
        download("small", tmp_path)
    assert there.read_bytes() == b"mine"


def test_what_the_hub_has_not_and_a_hub_that_is_not_there(hub, small, tmp_path, monkeypatch):
    _, path, _ = small
    del hub.files[path]
    with pytest.raises(PlaymateError, match=f"Cannot fetch {STEM}.safetensors from http://127.0.0.1.*by hand"):
        download("small", tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(PlaymateError, match="set HF_ENDPOINT to a mirror, or put the file into"):
        download("small", tmp_path)


def test_no_token_goes_to_a_mirror(hub, small, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "a" * 34)
    download("small", tmp_path)
    assert hub.tokens == []


def test_the_command_line_end_to_end(hub, small, tmp_path, capsys):
    _, path, weights = small
    assert main(["weights", "list", "--models", str(tmp_path)]) == 0
    assert "small  3.4 MB  MIT      no" in capsys.readouterr().out
    assert main(["weights", "verify", "small", "--models", str(tmp_path)]) == 1
    assert f"missing    small: {STEM}.safetensors" in capsys.readouterr().out
    assert main(["weights", "download", "small", "--models", str(tmp_path)]) == 0
    assert "Small: licence MIT." in capsys.readouterr().out
    assert main(["weights", "verify", "--into", str(tmp_path / "liveportrait")]) == 0
    assert f"published  {tmp_path}" in capsys.readouterr().out
    assert main(["weights", "list", "--models", str(tmp_path)]) == 0
    assert "  yes  " in capsys.readouterr().out
    there = tmp_path / "liveportrait" / f"{STEM}.safetensors"
    there.write_bytes(weights[:-7])
    for options in ([], ["--quick"]):
        assert main(["weights", "verify", "--models", str(tmp_path), *options]) == 1
        heard = capsys.readouterr()
        assert "is cut off" in heard.out and str(there) in heard.err
    there.unlink()
    assert main(["weights", "verify", "--models", str(tmp_path)]) == 1, "half an entry is reported"


@pytest.mark.parametrize("arguments,sentence", [
    (["nonsense"], "no weights called 'nonsense'"),
    (["bundled"], "ships with ComfyUI-Playmate"),
    (["joyvasa", "--form", "onnx"], "not published as 'onnx'; choose one of: pt"),
])
def test_requests_that_cannot_be_met(arguments, sentence, tmp_path, capsys):
    assert main(["weights", "download", *arguments, "--models", str(tmp_path)]) == 1
    assert sentence in capsys.readouterr().err


def test_stopping_says_that_nothing_is_lost(monkeypatch, tmp_path, capsys):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "download", stopped)
    assert main(["weights", "download", "liveportrait", "--models", str(tmp_path)]) == 1
    assert "files that are complete are kept" in capsys.readouterr().err


def test_the_real_entries_ask_for_the_real_paths(hub, tmp_path):
    """Names in the hub's repositories; nothing is there, so the first one asked for is named."""
    for name, first in (("liveportrait", f"Kijai/LivePortrait_safetensors/resolve/main/{STEM}.safetensors"),
                        ("joyvasa", f"jdh-algo/JoyVASA/resolve/{entry_of('joyvasa').sources[0].revision}/"),
                        ("hubert", "facebook/hubert-base-ls960/resolve/main/pytorch_model.bin")):
        with pytest.raises(PlaymateError, match=f"{hub.url}/{first}"):
            download(name, tmp_path)
