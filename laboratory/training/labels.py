"""What the speakers of real clips feel: from a table, or from the names of folders and files."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from playmate_core.emotion.curve import LABELS, MAX_STRENGTH
from playmate_core.runtime.errors import PlaymateError

ALIASES = {"anger": "angry", "ang": "angry", "disgust": "disgusted", "dis": "disgusted", "contemptuous": "contempt",
           "con": "contempt", "fearful": "fear", "afraid": "fear", "fea": "fear", "happiness": "happy", "joy": "happy",
           "hap": "happy", "sadness": "sad", "surprise": "surprised", "sur": "surprised", "calm": "neutral",
           "neu": "neutral"} | {label: label for label in LABELS}
"""Names that data sets use for ``LABELS``."""
LEVELS = {1: 0.5, 2: 0.75, 3: 1.0}
"""Strength of MEAD's levels of intensity; ours."""
FOLDERS = "folders"
SPLITS = ("train", "heldout")


@dataclass(frozen=True)
class Label:
    """What is said of a file; None where nothing is.

    Attributes:
        emotion: one of ``LABELS``.
        strength: 0 to 2.
        speaker: who speaks; clips of one speaker are all learned or all held out.
        split: "train" or "heldout".
    """

    emotion: str | None = None
    strength: float = 1.0
    speaker: str | None = None
    split: str | None = None

    def about(self) -> dict:
        """As entries of a clip's description."""
        found = {"speaker": self.speaker} if self.speaker else {}
        return found if self.emotion is None else found | {"emotion": self.emotion, "strength": self.strength}


class Labels:
    """Labels of the files of a folder.

    Args:
        source: None for none, "folders" for names of folders and files, or a CSV file with a header: ``file`` (path
            below the folder, name, or name without ending), ``emotion``, and as wanted ``strength``, ``speaker``,
            ``split``.

    Raises:
        PlaymateError: no such file, no such columns, an emotion, strength or split that there is not.
    """

    def __init__(self, source: str | Path | None = None) -> None:
        self.by_name = str(source) == FOLDERS
        self.rows = {} if source is None or self.by_name else _table(Path(source))

    def of(self, file: str) -> Label:
        """Of a file by its path below the folder, with forward slashes."""
        if self.by_name:
            return from_names(file)
        path = Path(file)
        return next((self.rows[key] for key in (file, path.with_suffix("").as_posix(), path.name, path.stem)
                     if key in self.rows), Label())


def _table(path: Path) -> dict[str, Label]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns, rows = reader.fieldnames or [], list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PlaymateError(f"The labels {path} cannot be read ({error}); give a CSV file in UTF-8, or the word "
                            "folders.") from None
    if "file" not in columns or not {"emotion", "speaker", "split"} & set(columns):
        raise PlaymateError(f"The labels {path} need the columns file and emotion in their first line.")
    found = {}
    for number, row in enumerate(rows, 2):
        where = f"{path}, line {number}"
        word = (row.get("emotion") or "").strip().lower()
        if word and word not in ALIASES:
            raise PlaymateError(f"{where}: the emotion {word!r} is unknown; use one of {', '.join(LABELS)}.")
        try:
            strength = float(row.get("strength") or 1.0)
        except ValueError:
            strength = -1.0
        if not 0 <= strength <= MAX_STRENGTH:
            raise PlaymateError(f"{where}: the strength is {row.get('strength')!r}; it must be 0 to "
                                f"{MAX_STRENGTH:g}.")
        split = (row.get("split") or "").strip() or None
        if split not in (None, *SPLITS):
            raise PlaymateError(f"{where}: the split is {split!r}; use train or heldout.")
        name = (row["file"] or "").strip().replace("\\", "/")
        found[name] = Label(ALIASES.get(word), strength, (row.get("speaker") or "").strip() or None, split)
    return found


def from_names(file: str) -> Label:
    """MEAD's and like layouts: ``M003/video/front/angry/level_1/001.mp4``, ``happy/clip.mp4``, ``actor_sad_02.mp4``.

    The deepest folder that is an emotion's name counts, then words of the file's name; ``level_N`` gives the strength
    by ``LEVELS``. The speaker is the first folder, unless that is the emotion.
    """
    folders = [part.lower() for part in Path(file).parts[:-1]]
    words = re.split(r"[^a-z0-9]+", Path(file).stem.lower())
    emotion = next((ALIASES[word] for word in (*reversed(folders), *words) if word in ALIASES), None)
    level = next((int(found.group(1)) for part in (*folders, Path(file).stem.lower())
                  if (found := re.search(r"level_?(\d)", part))), None)
    speaker = Path(file).parts[0] if folders and folders[0] not in ALIASES else None
    return Label(emotion, LEVELS.get(level, 1.0), speaker)
