"""What ships is what is tested: the registry's archive, what it points to, its metadata, and the wheel."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from tests.archive import FOLDER, PROJECT, ROOT
from tests.comfy_prompts import check_video, ended_well, video_of

TOP = {"__init__.py", "nodes", "playmate_core", "workflows", "web", "docs", "README.md", "CHANGELOG.md", "LICENSE",
       "pyproject.toml", "requirements.txt"}
REPOSITORY = PROJECT["project"]["urls"]["Repository"]


@pytest.fixture(scope="module")
def shipped(archive) -> dict[str, bytes]:
    """Every file of the archive, by path."""
    with zipfile.ZipFile(archive) as file:
        return {name: file.read(name) for name in file.namelist()}


def test_the_archive_holds_what_a_user_needs_and_nothing_else(shipped):
    assert {name.split("/")[0] for name in shipped} == TOP
    for folder in ("nodes", "playmate_core", "web", "workflows"):
        here = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*")
                if path.is_file() and "__pycache__" not in path.parts}
        assert here == {name for name in shipped if name.startswith(f"{folder}/")}
    assert sum(len(content) for content in shipped.values()) < 70e6


# What looks like a file of ours: a path below a folder of the repository, or a page or program by name.
POINTER = re.compile(r"(?<![\w./-])(?:(?:docs|tools|tests|laboratory|workflows|nodes|playmate_core|web)/[\w./*-]*\w"
                     r"|[\w./-]+\.(?:md|py)\b|(?:python -m )?laboratory\.[\w.]+)")
OTHERS = {"main.py"}
"""Files of other programs that texts may name."""


def there(pointer: str, shipped, beside: str = "") -> bool:
    """Whether a path, relative to the archive or to a file in it, is a file or a folder of the archive."""
    paths = [PurePosixPath(pointer), PurePosixPath(beside).parent / pointer]
    names = set()
    for path in paths:
        parts: list[str] = []
        for part in path.parts:
            parts = parts[:-1] if part == ".." else parts + [part]
        names.add("/".join(parts).rstrip("/"))
    return any(name in shipped or any(other.startswith(f"{name}/") for other in shipped) for name in names)


def dangling(text: str, shipped, beside: str = "") -> list[str]:
    """Pointers of a text to files that are not in the archive. Addresses on the web, and what a line says lies in the
    repository, are allowed."""
    text = re.sub(r"https?://[^\s)\"'>]+", "", text)
    found = []
    for paragraph in re.split(r"\n\s*\n(?!\|)", text):  # a table belongs to what stands above it
        for pointer in POINTER.findall(paragraph):
            if pointer not in OTHERS and not there(pointer, shipped, beside) and "repository" not in paragraph:
                found.append(pointer)
    return found


def sentences(source: str):
    """Every string of a program that is not a docstring: messages, tooltips, help."""
    import ast

    tree = ast.parse(source)
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield node.value


def test_the_search_for_pointers_finds_them():
    assert dangling("see docs/none.md or run laboratory/fits/bridge.py", {}) == ["docs/none.md",
                                                                                 "laboratory/fits/bridge.py"]
    assert dangling("made by python -m laboratory.training, see weights.md", {}) == ["python -m laboratory.training",
                                                                                    "weights.md"]
    assert not dangling("see https://a.b/docs/none.md and docs/some.md", {"docs/some.md": b""})
    assert not dangling("[x](../docs/some.md)", {"docs/some.md": b""}, "workflows/README.md")


def test_no_tooltip_error_or_help_points_to_a_file_that_does_not_ship(shipped):
    for name, content in shipped.items():
        if name.endswith(".py"):
            for text in sentences(content.decode()):
                assert not dangling(text, shipped), (name, text)


def test_no_page_points_to_a_file_that_does_not_ship(shipped):
    pages = [name for name in shipped if name.endswith((".md", ".txt")) and name not in ("CHANGELOG.md",)]
    assert len(pages) > 25
    for name in pages:
        text = shipped[name].decode()
        assert not dangling(text, shipped, name), name
        for target in re.findall(r"\]\(([^)#\s]+)", text):
            assert target.startswith(("http://", "https://")) or there(target, shipped, name), (name, target)
    for name in shipped:
        if name.startswith("workflows/") and name.endswith(".json"):
            notes = [value for node in json.loads(shipped[name]).get("nodes", [])
                     for value in node.get("widgets_values", []) if isinstance(value, str) and len(value) > 60]
            assert not [pointer for note in notes for pointer in dangling(note, shipped, name)], name


def test_licences_of_what_is_bundled_ship(shipped):
    weights = [name for name in shipped if name.endswith(".safetensors") and "bundled" in name]
    assert weights
    for name in weights:
        assert name.replace(".safetensors", ".LICENSE.txt") in shipped


# The registry's guide (docs.comfy.org/registry/specifications)

def test_the_registry_id_follows_the_guide():
    name = PROJECT["project"]["name"]
    assert re.fullmatch(r"[A-Za-z](?:[A-Za-z0-9]|[-_.](?![-_.]))*", name) and len(name) < 100
    assert "comfyui" not in name.lower()
    assert re.fullmatch(r"\d+\.\d+\.\d+", PROJECT["project"]["version"])


def test_comfy_cli_reads_the_metadata_without_a_warning(capsys):
    parser = pytest.importorskip("comfy_cli.registry.config_parser")
    config = parser.extract_node_configuration(str(ROOT / "pyproject.toml"))
    told = capsys.readouterr()
    assert "arning" not in told.out + told.err
    assert config.project.name == FOLDER and config.tool_comfy.publisher_id
    assert config.project.supported_comfyui_version.startswith(">=") and config.project.license.text == "Apache-2.0"
    assert config.project.supported_os == ["OS Independent"]


@pytest.mark.parametrize("key, ratio, widest", [("Icon", 1.0, 400), ("Banner", 21 / 9, 2100)])
def test_icon_and_banner_are_pictures_of_this_repository(key, ratio, widest):
    from playmate_core.media.pictures import read_image

    address = PROJECT["tool"]["comfy"][key]
    start = REPOSITORY.replace("github.com", "raw.githubusercontent.com") + "/main/"
    assert address.startswith(start)
    height, width = read_image(ROOT / address[len(start):]).shape[:2]
    assert width / height == pytest.approx(ratio, rel=0.01) and width <= widest


def test_nothing_promises_the_registry_while_the_publisher_is_a_placeholder():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    if PROJECT["tool"]["comfy"]["PublisherId"] == "placeholder-publisher":
        assert "comfy node install" not in readme and "through ComfyUI-Manager" not in readme
    else:
        assert f"comfy node install {FOLDER}" in readme


# In a real ComfyUI

@pytest.mark.comfy
def test_the_running_nodes_are_the_archives(comfy, shipped):
    folder = comfy.base / "custom_nodes" / FOLDER
    assert not folder.is_symlink()
    for name, content in shipped.items():
        assert (folder / name).read_bytes() == content, name


@pytest.mark.comfy
def test_every_module_of_the_archive_imports(comfy, shipped):
    told = comfy.get(f"/playmate_probe/imports/{FOLDER}")
    modules = {name[:-3] for name in shipped if name.endswith(".py") and not name.endswith("__main__.py")}
    assert set(told) == modules
    assert {name: error for name, error in told.items() if error} == {}


@pytest.mark.comfy
def test_every_node_has_its_help_page_over_http(comfy, shipped):
    """At the addresses that the front end asks: first in the user's language, then without one."""
    mine = [name for name, info in comfy.get("/object_info").items()
            if info["python_module"] == f"custom_nodes.{FOLDER}"]
    pages = [name for name in shipped if re.fullmatch(r"web/docs/\w+\.md", name)]
    assert len(mine) == len(pages) >= 21
    for name in mine:
        assert comfy.get(f"/extensions/{FOLDER}/docs/{name}.md") == shipped[f"web/docs/{name}.md"]


@pytest.mark.comfy
def test_quick_start_runs_from_the_archive(comfy):
    """With the archive's own workflow and the sample inputs that it brings."""
    workflows = comfy.base / "custom_nodes" / FOLDER / "workflows"
    for name in ("portrait.jpg", "voice.wav"):
        comfy.upload(workflows / "inputs" / name)
    prompt = json.loads((workflows / "api" / "quick_start.json").read_text(encoding="utf-8"))
    check_video(video_of(comfy, ended_well(comfy.run(prompt))), 6.05)


# As a Python package

def test_the_wheel_holds_the_weights_and_their_licences(tmp_path):
    # Asked without importing it: that would put its own distutils in the place of one that is loaded already.
    if int(importlib.metadata.version("setuptools").split(".")[0]) < 77:
        pytest.skip("setuptools before 77 does not read a licence as an SPDX expression")
    source = tmp_path / "source"
    subprocess.run(["git", "checkout-index", "--all", f"--prefix={source}/"], cwd=ROOT, check=True)
    done = subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
                           "--no-index", "--wheel-dir", str(tmp_path), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    for path in (ROOT / "playmate_core").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert path.relative_to(ROOT).as_posix() in names
    assert not [name for name in names if name.startswith(("laboratory", "tests"))]
    for licence in (ROOT / "playmate_core" / "weights" / "bundled").glob("*.LICENSE.txt"):
        assert [name for name in names if "dist-info/licenses" in name and name.endswith(licence.name)]


# Beside ComfyUI

COMFYUI = {"torch": None, "torchvision": None, "torchaudio": None, "numpy": "1.25.0", "transformers": "4.50.3",
           "tokenizers": "0.13.3", "safetensors": "0.4.2", "pillow": None, "scipy": None, "tqdm": None, "psutil": None,
           "av": "14.2.0", "einops": None, "pyyaml": None, "huggingface-hub": None}
"""What ComfyUI 0.3.75 requires, with its lower bounds; transformers brings the last."""


def requirements() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_no_requirement_asks_for_more_than_comfyui_has():
    """pip changes what is installed only where a bound is not met: no bound may be higher than ComfyUI's own."""
    from packaging.requirements import Requirement
    from packaging.version import Version

    added = []
    for line in requirements():
        wanted = Requirement(line)
        if wanted.name.lower().replace("_", "-") not in COMFYUI:
            added.append(wanted.name)
            continue
        lowest = COMFYUI[wanted.name.lower().replace("_", "-")]
        for bound in wanted.specifier:
            assert bound.operator == ">=" and lowest is not None, f"{line}: ComfyUI may have an older one"
            assert Version(bound.version) <= Version(lowest), f"{line}: ComfyUI is content with {lowest}"
    assert added == ["diffusers"], "each more is one more that can pull others along"


def closure(names: list[str]) -> dict[str, Path]:
    """The metadata folders of distributions and all that they require, by normalised name, as installed here."""
    import importlib.metadata as metadata

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: dict[str, Path] = {}
    while names:
        name = canonicalize_name(names.pop())
        if name in found:
            continue
        try:
            here = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for another platform
        found[name] = Path(str(here.locate_file(""))) / Path(str(here._path)).name
        wanted = [Requirement(line) for line in here.requires or []]
        names += [one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


@pytest.mark.comfy
@pytest.mark.slow
def test_installing_it_beside_comfyui_changes_nothing(tmp_path):
    """pip is shown an environment that holds what ComfyUI requires, by its metadata, and asked what it would install:
    additions only."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    from tests.comfy_server import Unavailable, comfy_path

    try:
        listed = (comfy_path() / "requirements.txt").read_text(encoding="utf-8").splitlines()
    except Unavailable as reason:
        pytest.skip(str(reason))
    names = [Requirement(line).name for line in listed if line.strip() and not line.startswith("#")]
    here = closure(names)
    assert {"torch", "numpy", "transformers", "huggingface-hub"} <= set(here) and "diffusers" not in here
    venv.create(tmp_path / "venv", with_pip=False)
    python = next((tmp_path / "venv").glob("bin/python")) if os.name != "nt" else tmp_path / "venv/Scripts/python.exe"
    site = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                          capture_output=True, text=True, check=True).stdout.strip()
    for folder in here.values():
        (Path(site) / folder.name).mkdir()
        for file in ("METADATA", "WHEEL", "INSTALLER", "RECORD"):
            if (folder / file).is_file():
                shutil.copy(folder / file, Path(site) / folder.name / file)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--dry-run", "--quiet", "--report", "-",
         "--only-binary=:all:", "-r", str(ROOT / "requirements.txt")], capture_output=True, text=True)
    if done.returncode and "No matching distribution" in done.stderr and not os.environ.get("PLAYMATE_REQUIRE_COMFY"):
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout[done.stdout.index("{"):])
    added = {canonicalize_name(entry["metadata"]["name"]): entry["metadata"]["version"] for entry in report["install"]}
    assert "diffusers" in added and not set(added) & set(here), added
