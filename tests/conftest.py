"""Fixtures that several test files share."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:  # beside other workers: one thread each, before torch counts the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "workflows" / "inputs"
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


SLOW = ("test_acceleration.py::test_compiled", "test_bad_inputs", "test_corpus_", "test_devices",
        "test_diffusion_bundled", "test_face_analyzer", "test_film_pipeline", "test_nodes_films",
        "test_film_reading.py::test_a_dubbed_film",
        "test_render_landmark",
        "test_diffusion_sampler.py::test_memory", "test_driving.py::test_template_clips_left_out",
        "test_emotions_rendered", "test_evaluation_command", "test_liveportrait_full_size",
        "test_liveportrait_stacked_planes", "test_motion_eyes.py::test_rendered", "test_pose_obedience",
        "test_render_tracked", "test_apple", "test_cover", "test_gpu_check", "test_joyvasa_parity", "test_laboratory",
        "test_liveportrait_devices", "test_long_film", "test_looks", "test_media_sync", "test_parts", "test_staging",
        "test_two_devices",
        "test_speech_encoder", "test_training_")
"""How the names of tests begin that take seconds each, or belong to the laboratory: ``make check`` leaves them out."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Marks slow tests, and begins with what takes longest, so that no worker is left with it at the end."""
    for item in items:
        if f"{item.path.name}::{item.name}".startswith(SLOW):
            item.add_marker(pytest.mark.slow)
    rank = {}
    for item in items:
        own = 0 if item.get_closest_marker("comfy") else 1 if item.get_closest_marker("slow") else 2
        rank[item.path] = min(rank.get(item.path, 2), own)
    items.sort(key=lambda item: rank[item.path])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """How ``--dist=loadfile`` shares out: a file is one piece, since its fixtures are, and all files that need the
    running ComfyUI are one, since that is started once."""
    if config.getvalue("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False  # else files go by the number of their tests
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            name = super()._split_scope(nodeid)
            file = ROOT / name
            return "comfy" if file.is_file() and "pytest.mark.comfy" in file.read_text(encoding="utf-8") else name

    return Files(config, log)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material beside the checkout; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("PLAYMATE_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("the reference material (PLAYMATE_SHARED) is not on this machine")
    return folder


@pytest.fixture(scope="session")
def models():
    """The bundled pack on the CPU."""
    from playmate_core.pipeline import load_models

    return load_models()


@pytest.fixture(scope="session")
def portrait_path() -> Path:
    return next(SAMPLES.glob("portrait.*"))


@pytest.fixture(scope="session")
def voice_path() -> Path:
    return next(SAMPLES.glob("voice.*"))


@pytest.fixture(scope="session")
def portrait(portrait_path) -> torch.Tensor:
    """[256, 256, 3] the sample portrait, small enough for quick tests."""
    from playmate_core.media.pictures import read_image

    image = read_image(portrait_path)[..., :3]
    edge = min(image.shape[:2])
    image = image[:edge, :edge].permute(2, 0, 1)[None]
    return torch.nn.functional.interpolate(image, (256, 256), mode="bilinear", antialias=True)[0].permute(1, 2, 0)


@pytest.fixture(scope="session")
def appearance(models, portrait):
    from playmate_core.pipeline import extract_appearance

    return extract_appearance(models, portrait)


@pytest.fixture(scope="session")
def archive(tmp_path_factory) -> Path:
    """The archive that the registry would deliver."""
    from tests.archive import CannotPack, build

    try:
        return build(tmp_path_factory.mktemp("archive") / "node.zip")
    except CannotPack as reason:
        if os.environ.get("PLAYMATE_REQUIRE_COMFY"):
            raise
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def comfy(tmp_path_factory, archive):
    """A running ComfyUI 0.3.75 with these nodes as the registry's archive holds them, started once. Its log is shown
    when a test fails to reach it."""
    from tests.comfy_server import ComfyServer, Unavailable, comfy_path

    try:
        path = comfy_path()
    except Unavailable as reason:
        if os.environ.get("PLAYMATE_REQUIRE_COMFY"):
            raise
        pytest.skip(str(reason))
    base = tmp_path_factory.mktemp("comfyui")
    (base / "custom_nodes").mkdir()
    shutil.copy(ROOT / "tests" / "data" / "comfy_probe.py", base / "custom_nodes")
    server = ComfyServer(path, base, archive)
    try:
        server.wait_until_up()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def studio(comfy, tmp_path_factory):
    """The server with the sample inputs in its input folder, put there as the front end does it."""
    from playmate_core.motion.edits import slice_frames
    from playmate_core.motion.files import load_motion, save_motion

    for name in ("portrait.jpg", "voice.wav", "drive_head.mp4", "drive_brows.mp4", "presenter.png", "two_people.jpg",
                 "dialogue.wav", "talk.mp4", "new_voice.wav"):
        assert comfy.upload(ROOT / "workflows" / "inputs" / name) == name
    sample = load_motion(ROOT / "workflows" / "inputs" / "look_around.safetensors")
    comfy.upload(save_motion(slice_frames(sample, 20, 24), tmp_path_factory.mktemp("motion") / "short.safetensors"))
    return comfy


@pytest.fixture(scope="session")
def small_liveportrait(tmp_path_factory) -> Path:
    """A folder with small LivePortrait networks, made up, in the real format."""
    from tests.liveportrait_helpers import small_weights, write_safetensors

    path = tmp_path_factory.mktemp("liveportrait")
    write_safetensors(path, small_weights(halvings=4))
    return path
