"""Pictures of prepared clips: the fixed crop of every frame, kept as JPEG so that any two of a clip are at hand."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from playmate_core.runtime.errors import PlaymateError

FOLDER = "crops"
FORMAT = "playmate-crops-1"
QUALITY = 95
_THREADS = 4


class Unwritable(PlaymateError):
    """What was made cannot be kept; no fault of the clip that it was made of."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors inside become :class:`Unwritable`, and an unfinished ``path`` is removed."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        for part in path.parent.glob(f"{glob.escape(path.name)}.{os.getpid()}.part"):
            part.unlink(missing_ok=True)
        raise Unwritable(f"{path} cannot be written ({error}); free some space there, or mend the folder's rights, and "
                         "run the same command again to continue.") from None


def write_crops(path: Path, pictures: Iterable[Tensor], about: dict) -> int:
    """Write one clip's pictures [3, S, S] 0..1 RGB, whole or not at all; returns their number.

    Raises:
        Unwritable: the disk is full, or the folder cannot be written to.
        PlaymateError: no pictures, or one that cannot be coded.
    """
    import cv2
    from safetensors.numpy import save_file

    kept = []
    for picture in pictures:
        rows = (picture.clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        done, coded = cv2.imencode(".jpg", np.ascontiguousarray(rows[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        if not done:
            raise PlaymateError(f"A picture of {path.name} cannot be coded as JPEG.")
        kept.append(coded.reshape(-1))
    if not kept:
        raise PlaymateError(f"There are no pictures for {path.name}.")
    ends = np.cumsum([len(coded) for coded in kept]).astype(np.int64)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"jpeg": np.concatenate(kept), "ends": ends}, str(part),
                  metadata={"format": FORMAT, "about": json.dumps(about)})
        os.replace(part, path)
    return len(kept)


class Crops:
    """Pairs of frames of the same clip, for the pairwise transfer loss (PAPER.md 1.2).

    Args:
        folder: a prepared corpus with ``crops``, or that folder itself.
        split: whose clips.
        apart: least distance of the two frames, in frames, where the clip is long enough.

    Raises:
        PlaymateError: no crops there, or a file that is none.
    """

    def __init__(self, folder: str | Path, split: str = "train", apart: int = 5) -> None:
        from safetensors import SafetensorError, safe_open

        folder = Path(folder)
        folder = folder / FOLDER if (folder / FOLDER).is_dir() else folder
        self.apart, self.paths, ends = apart, [], []
        paths = sorted(folder.glob("*.safetensors"))
        if not paths:
            raise PlaymateError(f"There are no crops in {folder}; make them with python -m laboratory.training "
                                "prepare --crops.")
        for path in paths:
            try:
                with safe_open(str(path), "np") as file:
                    metadata = file.metadata() or {}
                    if metadata.get("format") != FORMAT:
                        raise PlaymateError(f"{path} holds no crops; prepare the clips again.")
                    if json.loads(metadata["about"]).get("split", "train") == split:
                        ends.append(file.get_tensor("ends"))
                        self.paths.append(path)
            except (OSError, SafetensorError) as error:
                raise PlaymateError(f"{path} cannot be read ({error}); prepare the clips again.") from None
        self.ends = ends
        self.lengths = torch.tensor([len(e) for e in ends])

    def __len__(self) -> int:
        return len(self.paths)

    def draw(self, size: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Clips (by their length) and two frames of each: [B] int64 clip, first, second."""
        clip = torch.multinomial(self.lengths.double(), size, replacement=True, generator=generator)
        length = self.lengths[clip]
        u = torch.rand(2, size, generator=generator, dtype=torch.float64)
        first = (u[0] * length).long()
        # The second lies on the ring of the clip's frames, at least ``apart`` away either way.
        apart = torch.minimum(torch.full_like(length, self.apart), (length // 2).clamp(min=1))
        step = apart + (u[1] * (length - 2 * apart + 1).clamp(min=1)).long()
        return dict(clip=clip, first=first, second=(first + step) % length)

    def take(self, drawn: dict[str, Tensor], part: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """The pictures of a ``draw``, or a part of it: two of [B, 3, S, S] 0..1."""
        wanted = [(int(c), int(f)) for name in ("first", "second")
                  for c, f in zip(drawn["clip"][part], drawn[name][part], strict=True)]
        with ThreadPoolExecutor(_THREADS) as pool:
            pictures = list(pool.map(lambda item: self.picture(*item), wanted))
        half = len(pictures) // 2
        return torch.stack(pictures[:half]), torch.stack(pictures[half:])

    def picture(self, clip: int, frame: int) -> Tensor:
        """[3, S, S] 0..1 of one frame."""
        import cv2
        from safetensors import safe_open

        ends = self.ends[clip]
        start = int(ends[frame - 1]) if frame else 0
        with safe_open(str(self.paths[clip]), "np") as file:
            coded = file.get_slice("jpeg")[start:int(ends[frame])]
        rows = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        if rows is None:
            raise PlaymateError(f"Frame {frame} of {self.paths[clip]} is damaged; prepare the clip again.")
        return torch.from_numpy(np.ascontiguousarray(rows[..., ::-1])).permute(2, 0, 1).float() / 255
