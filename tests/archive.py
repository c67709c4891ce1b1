"""The archive that the registry would deliver, packed by comfy-cli's own code: what the tests run is what ships."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDER = PROJECT["project"]["name"]
"""ComfyUI-Manager and comfy-cli unpack a pack into a folder of its registry id, which is the project's name."""

# What `comfy node pack` does, except that the file lands outside the checkout and that weights are not deflated, which
# takes seconds and changes nothing that is unpacked.
_PACK = """
import sys
import zlib
zlib.Z_DEFAULT_COMPRESSION = 0
from comfy_cli.file_utils import zip_files
from comfy_cli.registry.config_parser import extract_node_configuration
zip_files(sys.argv[1], includes=extract_node_configuration().tool_comfy.includes)
"""


class CannotPack(Exception):
    """The archive cannot be built here; the message says why."""


def build(target: Path) -> Path:
    """Packs the checkout as it is, changes that are not committed included, into the file ``target``.

    Raises:
        CannotPack: comfy-cli or git is missing, or git does not know a file that the product needs.
    """
    if importlib.util.find_spec("comfy_cli") is None:
        raise CannotPack("comfy-cli is not installed (make test installs it)")
    try:
        asked = subprocess.run(["git", "ls-files", "--others", "--exclude-standard", "playmate_core", "nodes", "web",
                                "workflows"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotPack(f"comfy-cli packs what git knows, and git does not answer here: {error}") from error
    if asked.stdout.strip():
        raise CannotPack(f"git does not know these files, so they would not ship (git add them): {asked.stdout}")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run([sys.executable, "-c", _PACK, str(target)], cwd=ROOT, capture_output=True, text=True,
                          env={**environment, "DO_NOT_TRACK": "1", "HOME": str(target.parent)})
    if done.returncode or not target.is_file():
        raise CannotPack(f"comfy-cli failed: {done.stdout[-1000:]}{done.stderr[-2000:]}")
    return target


def unpack(archive: Path, custom_nodes: Path) -> Path:
    """Unpacks it as ComfyUI-Manager does; returns the pack's folder."""
    folder = custom_nodes / FOLDER
    folder.mkdir(parents=True)
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    return folder
