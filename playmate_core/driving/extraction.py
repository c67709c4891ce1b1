"""What a motion extractor, LivePortrait's M, tells of a driving clip: which crops it sees, and what its numbers mean.

The crop stands still through a clip, as LivePortrait's does (SPEC.md section 12): then the head's way through the
picture is in M's translation and scale, and no crop's jitter is taken for motion. Only where the face would leave
that crop, or become much larger or smaller in it, does the crop follow, slowly; its own way is then added to what M
says.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..face import geometry
from ..face.crop import Roi, as_rgb, sample
from ..motion.smoothing import gaussian_smooth
from ..motion.types import KEYPOINTS
from ..runtime.errors import PlaymateError

logger = logging.getLogger(__name__)

CROP_SCALE, CROP_SHIFT = 2.2, -0.1
"""Side of LivePortrait's driving crop over that of the face's box, and its shift towards the chin (SPEC.md 12)."""
INPUT_SIZE = 256
"""Side of the pictures that M sees."""
BATCH = 16
_CHUNK = 512  # frames that are looked at at once
MOST_GROWTH = 1.5
"""Factor of the face's mean size from which a standing crop shows it too large or too small."""
FOLLOW_SECONDS = 0.3
"""Standard deviation of the Gaussian that smooths a following crop's way: slower than nods, as fast as walks."""


class MotionExtractor(Protocol):
    """LivePortrait's M, or something that reads pictures like it."""

    def motion(self, image: Tensor) -> dict[str, Tensor]:
        """[B, 3, 256, 256] RGB 0..1 -> exp [B, 21, 3], rotation [B, 3] degrees, t [B, 3], scale [B, 1]."""
        ...


@dataclass(frozen=True)
class Readings:
    """A motion extractor's latents of the N frames of a clip that show the face; float32, on the CPU.

    Attributes:
        expression: [N, 63] latent units; the person's own looks are in them as much as the expression is.
        rotation: [N, 3] degrees pitch, yaw, roll.
        translation: [N, 2] halves of the standing crop's side from its middle, x right and y down.
        scale: [N, 1] factor of the canonical head in the standing crop.
    """

    expression: Tensor
    rotation: Tensor
    translation: Tensor
    scale: Tensor


# ---- the crop


def driving_boxes(landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """LivePortrait's crop of every frame by itself, upright (SPEC.md section 12).

    LivePortrait's own landmarks end at the brows, so those of the forehead are left out; heads then have the scale
    that they have in its templates.

    Args:
        landmarks: [N, 478, 3] pixels.

    Returns:
        Centres [N, 2] and sides [N], pixels, float64.
    """
    if len(landmarks) > _CHUNK:  # copies of a long film's landmarks would need as much memory as they do
        parts = [driving_boxes(part) for part in landmarks.split(_CHUNK)]
        return torch.cat([centre for centre, _ in parts]), torch.cat([side for _, side in parts])
    points = landmarks[..., :2].double()
    eyes, mouth = points[:, list(geometry.IRIS_CENTRES)].mean(1), points[:, [61, 291]].mean(1)
    height = geometry.mean_face()[:, 1]
    points = points[:, height >= height[[i for brow in geometry.BROWS for i in brow]].min()]
    down = torch.nn.functional.normalize(mouth - eyes, dim=-1)
    axes = torch.stack([torch.stack([down[:, 1], -down[:, 0]], -1), down], 1)  # rows: along and across the eyes
    middle = points.mean(1)
    along = (points - middle[:, None]) @ axes.transpose(1, 2)
    low, high = along.amin(1), along.amax(1)
    side = (high - low).amax(1) * CROP_SCALE
    place = (low + high) / 2
    place[:, 1] += CROP_SHIFT * side
    return middle + (place[:, None] @ axes)[:, 0], side


def driving_crop(landmarks: Tensor) -> tuple[Tensor, float]:
    """LivePortrait's crop of a driving clip: an upright square that stands still, the mean of its frames' own.

    Args:
        landmarks: [N, 478, 3] pixels.

    Returns:
        Centre [2] and side, pixels.
    """
    centres, sides = driving_boxes(landmarks)
    return centres.mean(0), float(sides.mean())


def crops_through(landmarks: Tensor, fps: float) -> tuple[Tensor, Tensor]:
    """Where M looks in every frame: the standing crop, or one that follows the face (see the module's head).

    Args:
        landmarks: [N, 478, 3] pixels, of frames about 1 / ``fps`` seconds apart.

    Returns:
        Centres [N, 2] and sides [N], pixels.
    """
    centres, sides = driving_boxes(landmarks)
    centre, side = centres.mean(0), sides.mean()
    flat = landmarks[..., :2].double()
    outside = ((flat - centre).abs() > side / 2).any(-1).any(-1)
    growth = (sides / side).log().abs() > torch.tensor(MOST_GROWTH).log()
    if not bool((outside | growth).any()):
        return centre.expand(len(centres), 2), side.expand(len(sides))
    logger.info("The face moves too far for a crop that stands still; the crop follows it.")
    way = gaussian_smooth(torch.cat([centres, sides.log()[:, None]], 1), FOLLOW_SECONDS * fps)
    return way[:, :2], way[:, 2].exp()


# ---- the latents


def read_clip(extractor: MotionExtractor, pictures: Iterable[Tensor], landmarks: Tensor, seen: Tensor, fps: float,
              on_picture: Callable[[int], None] = lambda number: None) -> Readings:
    """M's latents of the frames that show the face.

    Args:
        extractor: see ``MotionExtractor``.
        pictures: [H, W, C] all the clip's pictures.
        landmarks: [N, 478, 3] of the frames that show the face, pixels.
        seen: [N] their numbers, increasing.
        fps: frames a second.
        on_picture: called with the number of pictures looked at.

    Raises:
        PlaymateError: fewer pictures than were seen before, or scales that no head has.
    """
    centres, sides = crops_through(landmarks, fps)
    wanted = {number: Roi(float(x), float(y), side) for number, (x, y), side in
              zip(seen.tolist(), centres, sides.tolist(), strict=True)}

    def crops() -> Iterator[Tensor]:
        for number, picture in enumerate(pictures):
            if number in wanted:
                yield sample(as_rgb(picture), wanted[number], INPUT_SIZE, "zeros")
            on_picture(number + 1)

    found = extract(extractor, crops())
    if len(found["exp"]) != len(seen):
        raise PlaymateError(f"The clip gave {len(found['exp'])} of {len(seen)} pictures when it was looked at again; "
                            "convert it to MP4 with H.264 and try again.")
    centre, side = driving_crop(landmarks)
    translation = (centres + found["t"][:, :2] * sides[:, None] / 2 - centre) / (side / 2)
    scale = found["scale"] * sides[:, None] / side
    if not bool((scale > 0).all()):
        raise PlaymateError("The motion extractor finds heads without size in the clip; its weights seem to be others: "
                            "download them again, or choose the extractor landmarks.")
    return Readings(found["exp"].flatten(1), found["rotation"], translation.float(), scale.float())


@torch.no_grad()
def extract(extractor: MotionExtractor, pictures: Iterable[Tensor]) -> dict[str, Tensor]:
    """What M tells of pictures [3, 256, 256]: exp [T, 21, 3], rotation [T, 3] degrees, t [T, 3], scale [T, 1].

    A network is given them on its own device, anything else as they are; the results are on the CPU.
    """
    device = next(extractor.parameters()).device if isinstance(extractor, torch.nn.Module) else None
    latents: dict[str, list[Tensor]] = {name: [] for name in ("exp", "rotation", "t", "scale")}
    waiting: list[Tensor] = []

    def flush() -> None:
        found = extractor.motion(torch.stack(waiting).to(device))
        for name, values in latents.items():
            values.append(found[name].float().cpu())
        waiting.clear()

    for picture in pictures:
        waiting.append(picture)
        if len(waiting) == BATCH:
            flush()
    if waiting:
        flush()
    shapes = {"exp": (KEYPOINTS, 3), "rotation": (3,), "t": (3,), "scale": (1,)}
    return {name: torch.cat(values) if values else torch.zeros(0, *shapes[name]) for name, values in latents.items()}


def neutral_latents(latents: Tensor, bridged: Tensor, bridge, calm_share: float) -> Tensor:
    """[63] M's latents of the person's neutral face.

    ``bridged`` [N, 63] is the same motion through the latent bridge, which counts from a neutral face and knows a face
    that smiles throughout: on the calmest frames the two are made to agree.

    Args:
        latents: [N, 63] as M gives them.
        bridge: ``LatentBridge``, whose measure tells how calm a frame is.
        calm_share: share of the frames that stand for the calmest; at least five of them do.
    """
    calm = bridge.mahalanobis(bridged).argsort()[:max(round(calm_share * len(bridged)), min(5, len(bridged)))]
    return latents[calm].median(0).values - bridged[calm].median(0).values
