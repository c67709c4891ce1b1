"""Where models and motions lie in a ComfyUI installation."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ..playmate_core.runtime.errors import PlaymateError
from .tokens import filled, without_tokens

EXAMPLES = Path(__file__).resolve().parent.parent / "workflows" / "inputs"
MOTION_SUFFIXES = (".safetensors", ".pkl")
BLENDSHAPE_SUFFIXES = (".csv", ".json")
BLENDSHAPES = "blendshapes"
"""Where Motion To Blendshapes writes inside output unless told otherwise."""
MOTIONS = "motions"
"""Folder of motions inside models/playmate, and where Save Motion writes inside output unless told otherwise."""
MODEL_FOLDERS = ("playmate", "liveportrait")
"""Ours, inside ComfyUI's folder models."""


def register_folders() -> None:
    """Adds models/playmate and models/liveportrait, where LivePortrait's users have its weights already; folders from
    extra_model_paths.yaml stay beside them."""
    for name in MODEL_FOLDERS:
        folder_paths.add_model_folder_path(name, os.path.join(folder_paths.models_dir, name))


def weight_folders() -> dict[str, list[str]]:
    """Where the catalogue of weights looks, by ComfyUI's names of the folders."""
    return {name: folder_paths.get_folder_paths(name) for name in MODEL_FOLDERS}


def motion_model_files() -> list[str]:
    """Motion models in models/playmate by their path inside it: Playmate's .safetensors and JoyVASA's .pt."""
    names = _names()
    encoders = _with_configuration(names)
    return sorted(n for n in names if n.endswith((".safetensors", ".pt")) and Path(n).parts[0] != MOTIONS
                  and str(Path(n).parent) not in encoders)


def speech_encoder_folders() -> list[str]:
    """Folders in models/playmate that hold a wav2vec2 or HuBERT in transformers' format, by their path inside it."""
    names = _names()
    weights = {str(Path(n).parent) for n in names if Path(n).name in ("model.safetensors", "pytorch_model.bin")}
    return sorted(Path(folder).as_posix() for folder in weights & _with_configuration(names))


def speech_encoder_path(name: str) -> Path:
    """Full path of one of ``speech_encoder_folders``.

    Raises:
        PlaymateError: the folder is not there.
    """
    path = folder_paths.get_full_path("playmate", f"{name}/config.json") if _inside(name) else None
    if path is None:
        raise PlaymateError(f"The speech encoder {name!r} is not in {folder_paths.get_folder_paths('playmate')[0]}; "
                            "put its folder there or choose 'auto'.")
    return Path(path).parent


def _names() -> list[str]:
    """Files in models/playmate; none if the folder was taken away meanwhile, at which ComfyUI's own list stumbles."""
    try:
        return folder_paths.get_filename_list("playmate")
    except FileNotFoundError:
        folder_paths.filename_list_cache.pop("playmate", None)
        return folder_paths.get_filename_list("playmate")


def _with_configuration(names: list[str]) -> set[str]:
    return {str(Path(n).parent) for n in names if Path(n).name == "config.json"} - {"."}


def motion_model_path(name: str) -> Path:
    """Full path of one of ``motion_model_files``.

    Raises:
        PlaymateError: the file is not there.
    """
    path = folder_paths.get_full_path("playmate", name) if _inside(name) else None
    if path is None:
        raise PlaymateError(f"The motion model {name!r} is not in {folder_paths.get_folder_paths('playmate')[0]}; "
                            "put the file there or choose 'bundled'.")
    return Path(path)


def motion_files() -> list[str]:
    """What Load Motion offers: files of input, of output/motions, of models/playmate/motions, and the examples."""
    return _listed(_motion_roots(), MOTION_SUFFIXES)


def blendshape_files() -> list[str]:
    """What Motion From Blendshapes offers: CSV and JSON files of input and of output/blendshapes."""
    return _listed(_blendshape_roots(), BLENDSHAPE_SUFFIXES)


def motion_path(name: str) -> Path:
    """The file that one of ``motion_files`` names; also files deeper in the same folders, as ComfyUI's API allows.

    Raises:
        PlaymateError: no such file, or a name that leads out of the folders.
    """
    return _path(name, _motion_roots(), MOTION_SUFFIXES, "motion")


def blendshape_path(name: str) -> Path:
    """The file that one of ``blendshape_files`` names; also files deeper in the same folders.

    Raises:
        PlaymateError: no such file, or a name that leads out of the folders.
    """
    return _path(name, _blendshape_roots(), BLENDSHAPE_SUFFIXES, "blendshape")


def _listed(places: list[tuple[str, str, str]], suffixes: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    for mark, root, below in places:
        folder = os.path.join(root, below)
        if os.path.isdir(folder):
            names = sorted(n for n in os.listdir(folder) if n.lower().endswith(suffixes))
            found += [f"{below}/{n}{mark}" if below else f"{n}{mark}" for n in names
                      if os.path.isfile(os.path.join(folder, n))]
    return list(dict.fromkeys(found))


def _path(name: str, places: list[tuple[str, str, str]], suffixes: tuple[str, ...], what: str) -> Path:
    roots: dict[str, list[str]] = {}
    for mark, root, _ in places:
        roots.setdefault(mark.strip() or "[input]", []).append(root)
    for mark in roots:
        if name.endswith(mark):
            wanted, name = mark, name[: -len(mark)].strip()
            break
    else:
        wanted = "[input]"
    if not _inside(name) or not name.lower().endswith(suffixes):
        raise PlaymateError(f"{name!r} is no {what} file; choose a {' or '.join(suffixes)} inside ComfyUI's input "
                            "folder.")
    for root in roots[wanted]:
        path = Path(root) / name
        if path.is_file():
            return path
    raise PlaymateError(f"The {what} file {name!r} is not in {roots[wanted][0]}; put it there and refresh the "
                        "page.")


def _motion_roots() -> list[tuple[str, str, str]]:
    """(mark after the name, folder, part of it that is listed)."""
    models = [(" [models]", os.path.join(root, MOTIONS), "") for root in folder_paths.get_folder_paths("playmate")]
    return [
        ("", folder_paths.get_input_directory(), ""),
        (" [output]", folder_paths.get_output_directory(), MOTIONS),
        *models,
        (" [example]", str(EXAMPLES), ""),
    ]


def _blendshape_roots() -> list[tuple[str, str, str]]:
    """As ``_motion_roots``."""
    return [("", folder_paths.get_input_directory(), ""),
            (" [output]", folder_paths.get_output_directory(), BLENDSHAPES)]


def _inside(name: str) -> bool:
    """Whether a relative name stays below the folder it is joined to, on any system."""
    parts = name.replace("\\", "/").split("/")
    return bool(name.strip()) and "\0" not in name and ".." not in parts and not name.startswith(("/", "\\")) \
        and ":" not in parts[0]


def output_file(prefix: str, suffix: str, hidden=None) -> tuple[Path, str]:
    """The next free file for ``prefix`` in ComfyUI's output folder, and its subfolder for the front end.

    Args:
        prefix: with ComfyUI's tokens, see ``tokens``.
        suffix: of the file, with its dot.
        hidden: the running node's hidden inputs ``prompt`` and ``extra_pnginfo``, for tokens that name a node.

    Raises:
        PlaymateError: a prefix that leads out of the output folder or has no file name.
    """
    prefix = filled(prefix, getattr(hidden, "prompt", None), getattr(hidden, "extra_pnginfo", None))
    check_prefix(prefix)
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        prefix, folder_paths.get_output_directory())
    while True:
        path = Path(folder) / f"{name}_{counter:05}_{suffix}"
        if not path.exists():
            return path, subfolder
        counter += 1


def check_prefix(prefix: str) -> None:
    """Raises PlaymateError for a filename prefix that is no relative name."""
    prefix = without_tokens(prefix)
    name = prefix.replace("\\", "/").rsplit("/", 1)[-1]
    if not _inside(prefix) or not name.strip(" .") or any(c in '<>:"|?*' or ord(c) < 32 for c in prefix):
        raise PlaymateError(f"filename_prefix is {prefix!r}; give a name inside the output folder, such as "
                            "motions/Playmate.")
