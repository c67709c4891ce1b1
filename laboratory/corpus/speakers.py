"""Which real speakers are learned from, which are only measured on, and which tell nothing.

A track's speaker is named by its metadata where the file has one; the older files hold a person each. No speaker
stands on both sides.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from playmate_core.runtime.errors import PlaymateError

from .. import ROOT

HELD_OUT = (
    "latentsync_3",  # English; held out since the first model, so that its figures compare
    "retalking_5",  # English; as before
    "sadtalker_2",  # English; as before
    "mimictalk_German_20s",  # the only German, 20 s: a language that no training face speaks
    "cued_video_cued",  # the second French speaker; the first one, with 25 clips, is learned from
    "edtalk_mouth_source",  # English, another source than the three above, good time
    "pcavs_681100216",  # English, moderate picture, width r 0.75: VoxCeleb's looser manners
    "sadtalker_RD_Radio34_000",  # English speech to a public, width r 0.81
    "grid_id2_vcd_swwp2s", "grid_pwij3p",  # English, read commands: both clips of the speaker grid_s2
)
"""Tracks of nine persons that are measured on and never trained on, unless asked for."""

LEFT_OUT = (
    "edtalk_radio",  # no real person: a published generator's result
    "retalking_1",  # uneven frame times
    "lp_d12",  # sung, keeps time badly
    "latentsync_1",  # landmarks that no plausible face explains (a hand, a fast turn)
)

GRID = ("grids1_bgwh8n", "grids1_lbij6n", "grids1_lrwz5a", "grids1_pbivzp", "grids1_prwd5s", "grids1_swiu4n")
"""Of 40 clips of one man who reads 51 words: hundreds of such make a teacher worse (lip width r 0.68 to 0.62)."""

WEIGHTS = {"cued_A": 0.2, "grid": 0.4}
"""How much a frame counts in training, by the beginning of its speaker's name; 1 where not named. These read sentences
off a screen: cued_A, a quarter of all frames, blinks three times a minute and lies within the liveliness of people in
conversation in 3 of 26 figures. The teacher learns lips of them at full weight."""


def weight_of(speaker: str) -> float:
    """Of :data:`WEIGHTS`."""
    return next((weight for name, weight in WEIGHTS.items() if speaker.startswith(name)), 1.0)


def default_folders() -> tuple[Path, ...]:
    """Where the tracks lie by default: below ``$PLAYMATE_SHARED`` or ``shared`` beside the repository."""
    data = Path(os.environ.get("PLAYMATE_SHARED") or ROOT.parent / "shared") / "data"
    return data / "talking_tracks", data / "talking_tracks_more"


def list_tracks(folders: str | Path | Sequence[str | Path], left_out: Sequence[str] = LEFT_OUT) -> list[Path]:
    """The track files of the folders, sorted by name, with the few of :data:`GRID` from a folder ``grid_s1`` in them.

    Raises:
        PlaymateError: there is none, or two have one name.
    """
    folders = [folders] if isinstance(folders, (str, Path)) else list(folders)
    files = [path for folder in folders for path in Path(folder).glob("*.safetensors") if path.stem not in left_out]
    files += [path for folder in folders for path in (Path(folder) / "grid_s1").glob("*.safetensors")
              if path.stem in GRID]
    if not files:
        raise PlaymateError(f"No talking tracks (*.safetensors) in {' or '.join(map(str, folders))}; give their "
                            "folders with --tracks.")
    names = [path.stem for path in files]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PlaymateError(f"Two talking tracks are named {twice[0]}; rename one or leave a folder out of --tracks.")
    return sorted(files, key=lambda path: path.stem)


def speaker_of(path: Path) -> str:
    """Who speaks; the file's name where the file does not say."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "np") as stored:
            return (stored.metadata() or {}).get("speaker") or Path(path).stem
    except (OSError, SafetensorError) as error:
        raise PlaymateError(f"{path} is no talking track ({error}); give the folder of the tracks.") from error
