"""What the package promises about itself: metadata, layering, and that importing it is cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = sorted((ROOT / "playmate_core").rglob("*.py"))

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    tomllib = pytest.importorskip("tomli")


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_requirements_equal_the_dependencies():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    listed = [line for line in lines if line and not line.startswith("#")]
    assert sorted(listed) == sorted(project()["project"]["dependencies"])


def test_dependencies_are_lower_bounds_and_nothing_heavier():
    # huggingface_hub is there wherever transformers is, which requires it; it is named because it is imported here.
    allowed = {"torch", "torchaudio", "diffusers", "transformers", "safetensors", "numpy", "scipy", "Pillow", "av",
               "huggingface_hub"}
    for requirement in project()["project"]["dependencies"]:
        name, _, bound = requirement.partition(">=")
        assert name in allowed
        assert not set(bound) & set("<=!~,")


def test_opencv_is_needed_by_nothing_but_measures_that_say_so():
    """It is no requirement (see pyproject.toml): only measures by a network of the user's own ask for it."""
    users = {path.relative_to(ROOT).as_posix() for path in [*CORE, *(ROOT / "nodes").glob("*.py")]
             for _, module in imports(path) if module == "cv2"}
    # Pillow reads floats in one channel only.
    assert users <= {"playmate_core/evaluation/image.py", "playmate_core/media/pictures.py"}


def test_version_is_said_once():
    import playmate_core

    assert project()["project"]["version"] == playmate_core.__version__
    assert f"## {playmate_core.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_comfy_metadata_is_complete():
    comfy = project()["tool"]["comfy"]
    assert comfy["PublisherId"] and comfy["DisplayName"] == "ComfyUI-Playmate"
    urls = project()["project"]["urls"]
    assert urls["Repository"].startswith("https://")


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield 0, alias.name
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


@pytest.mark.parametrize("path", CORE, ids=lambda p: str(p.relative_to(ROOT)))
def test_core_imports_no_comfyui_and_itself_relatively(path):
    for level, module in imports(path):
        top = module.split(".")[0]
        if level == 0:
            assert top not in {"comfy", "comfy_api", "comfy_extras", "folder_paths", "nodes", "server", "execution"}
            assert top != "playmate_core", f"{path} must import its neighbours relatively"


FLOORS = (("__main__",), ("cli",), ("cast",), ("pipeline",), ("evaluation",),
          ("render", "diffusion", "driving", "speech"), ("emotion",),
          ("face",), ("motion",), ("weights",), ("media",), ("runtime",))
"""The rooms of the library, top to bottom. Each uses those below; rooms on one floor do not know each other."""
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def rooms_used(path: Path):
    """(line, room) of every import of another room, those within functions and for type checkers included."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[:len(package) - node.level + 1]
            whole = [*base, *(node.module or "").split(".")] if node.module else list(base)
            for name in [whole[1]] if len(whole) > 1 else [alias.name for alias in node.names]:
                if name in FLOOR:
                    yield node.lineno, name


def test_every_room_has_its_floor():
    there = {path.stem if path.suffix else path.name for path in (ROOT / "playmate_core").iterdir()
             if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert there - {"__init__"} == set(FLOOR)


@pytest.mark.parametrize("room", FLOOR)
def test_no_arrow_runs_up(room):
    place = ROOT / "playmate_core" / room
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
        for line, other in rooms_used(path):
            assert other == room or FLOOR[other] > FLOOR[room], \
                f"{path.relative_to(ROOT)}:{line} imports {other}, which is not below {room}"


def test_what_ships_knows_no_laboratory():
    for path in [*CORE, *sorted((ROOT / "nodes").glob("*.py")), ROOT / "__init__.py"]:
        for _, module in imports(path):
            assert "laboratory" not in module.split("."), path


def test_importing_loads_no_heavy_library():
    code = ("import sys, playmate_core, playmate_core.cli.main, playmate_core.pipeline; "
            "heavy = {'diffusers', 'transformers', 'torchaudio', 'av', 'cv2', 'accelerate', 'PIL'} & set(sys.modules); "
            "sys.exit(' '.join(sorted(heavy)) or 0)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_command_line_is_there_before_torch():
    """Its help is quick, and what it sets for torch is set in time."""
    code = "import sys, playmate_core.cli.main as m; m.build_parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_bundled_weights_stay_small_and_carry_their_licence():
    folder = ROOT / "playmate_core" / "weights" / "bundled"
    files = sorted(folder.glob("*.safetensors"))
    assert files
    assert sum(f.stat().st_size for f in files) <= 60e6
    for file in files:
        assert (folder / f"{file.stem}.LICENSE.txt").is_file(), file.name


def test_no_print_and_no_unsafe_loading_in_the_library():
    for path in CORE + sorted((ROOT / "nodes").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"print", "eval", "exec"}, path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = getattr(node.func.value, "id", "")
                assert not (owner == "pickle" and node.func.attr in {"load", "loads"}), path
                if owner == "torch" and node.func.attr == "load":  # a training run's own state, tensors only
                    safe = [k.value for k in node.keywords if k.arg == "weights_only"]
                    assert safe and getattr(safe[0], "value", None) is True, path
