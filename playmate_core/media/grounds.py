"""What lies behind a portrait: its transparent ground, the colours under it, and what is put there instead."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from ..runtime.errors import PlaymateError
from .pictures import check_image, read_image

TRANSPARENT = "transparent"


def transparency(image: Tensor, ground: Tensor | None = None) -> Tensor | None:
    """[H, W] float32 how opaque a picture is; None where it is throughout.

    Args:
        image: as ``pictures.check_image`` takes it; 2 and 4 channels end in alpha.
        ground: [h, w] of any size, 1 where the ground is transparent.

    Raises:
        PlaymateError: a ground that is no mask.
    """
    image = image[0] if image.ndim == 4 and len(image) == 1 else image
    if image.ndim not in (2, 3) or 0 in image.shape:
        return None  # check_image says what is wrong with it
    alpha = None
    if image.ndim == 3 and image.shape[-1] in (2, 4):
        alpha = image[..., -1].float() / (255.0 if image.dtype == torch.uint8 else 1.0)
        alpha = torch.nan_to_num(alpha, nan=0.0, posinf=1.0, neginf=0.0).clamp(0.0, 1.0)
    if ground is not None:
        ground = ground[0] if ground.ndim == 3 and len(ground) == 1 else ground
        if ground.ndim != 2 or 0 in ground.shape:
            raise PlaymateError(f"The ground has shape {tuple(ground.shape)} where a mask [height, width] is needed.")
        seen = 1.0 - torch.nan_to_num(ground.detach().cpu().float(), nan=0.0).clamp(0.0, 1.0)
        if seen.shape != image.shape[:2]:
            seen = interpolate(seen[None, None], tuple(image.shape[:2]), mode="bilinear", align_corners=False,
                               antialias=True)[0, 0].clamp(0.0, 1.0)
        alpha = seen if alpha is None else alpha * seen
    return None if alpha is None or bool((alpha >= 1.0).all()) else alpha.contiguous()


def filled(image: Tensor, alpha: Tensor) -> Tensor:
    """[H, W, 3] float32 0..1: the colours of a picture; under what is wholly transparent those beside it go on.

    Whatever is looked up between pixels or averaged then never mixes with what a program left under the transparent
    part, black mostly, and no rim of it shows.
    """
    colours = check_image(image[..., :-1] if image.ndim > 2 and image.shape[-1] in (2, 4) else image)
    known = alpha > 0
    if not bool(known.any()):
        raise PlaymateError("The portrait is transparent throughout; give a picture or ground that leaves the person.")
    around = _spread((colours * alpha[..., None]).permute(2, 0, 1)[None], alpha[None, None])
    return torch.where(known[..., None], colours, around[0].permute(1, 2, 0).clamp(0.0, 1.0)).contiguous()


def _spread(weighted: Tensor, weight: Tensor) -> Tensor:
    """[1, 3, H, W] colours everywhere of ``weighted`` colours and their ``weight`` [1, 1, H, W]: each pixel takes the
    mean of the smallest neighbourhood in which there is something to take."""
    height, width = weight.shape[2:]
    here = weighted / weight.clamp_min(1e-6)
    if max(height, width) == 1:
        return here
    both = avg_pool2d(torch.cat([weighted, weight], 1), 2, ceil_mode=True)
    coarse = interpolate(_spread(both[:, :3], both[:, 3:]), (height, width), mode="bilinear", align_corners=False)
    return torch.lerp(coarse, here, (weight / 0.1).clamp(0.0, 1.0))


def on_white(frames: Tensor) -> Tensor:
    """[.., 4] straight alpha laid on white, [.., 3], as ``pictures.check_image`` does."""
    alpha = frames[..., 3:]
    return frames[..., :3] * alpha + (1.0 - alpha)


def opaque(frames: Tensor) -> Tensor:
    """[.., 3] as [.., 4]; what has four channels is returned as it is."""
    return frames if frames.shape[-1] == 4 else torch.cat([frames, torch.ones_like(frames[..., :1])], -1)


@dataclass(frozen=True)
class Background:
    """What is put behind a portrait.

    Attributes:
        transparent: nothing; frames keep their alpha.
        picture: [H, W, 3] or a colour [1, 1, 3]; None with ``transparent``.
    """

    transparent: bool = False
    picture: Tensor | None = None

    def behind(self, frames: Iterator[Tensor]) -> Iterator[Tensor]:
        """Frames [B, H, W, 4] with it behind them: [B, H, W, 3], or as they are where it is transparent."""
        if self.transparent:
            yield from frames
            return
        behind = None
        for batch in frames:
            if behind is None:
                behind = covering(self.picture, batch.shape[1], batch.shape[2]).to(batch.device)
            yield torch.lerp(behind.expand(len(batch), -1, -1, -1), batch[..., :3], batch[..., 3:])


def parse_background(text: str) -> Background:
    """A background by its name: ``transparent``, ``#rrggbb``, a colour's name, or a picture file.

    Raises:
        PlaymateError: neither of them.
    """
    text = text.strip()
    if text.lower() == TRANSPARENT:
        return Background(transparent=True)
    colour = parse_colour(text)
    if colour is not None:
        return Background(picture=colour)
    if Path(text).is_file():
        return Background(picture=check_image(read_image(text)))
    raise PlaymateError(f"The background {text!r} is neither {TRANSPARENT!r}, nor a colour such as '#00b140' or "
                        "'white', nor a picture that exists.")


def parse_colour(text: str) -> Tensor | None:
    """[1, 1, 3] of ``#rgb``, ``#rrggbb`` or a web colour's name; None for anything else."""
    from PIL import ImageColor

    text = text.strip().lower()
    if not re.fullmatch(r"#[0-9a-f]{3}|#[0-9a-f]{6}|[a-z]+", text) or text == TRANSPARENT:
        return None
    try:
        colour = ImageColor.getrgb(text)
    except ValueError:
        return None
    return torch.tensor(colour[:3], dtype=torch.float32)[None, None] / 255.0


def covering(picture: Tensor, height: int, width: int) -> Tensor:
    """[height, width, 3] of a picture [h, w, 3]: made to cover, its middle kept."""
    rows, columns = picture.shape[:2]
    if (rows, columns) == (1, 1):
        return picture.expand(height, width, 3)
    scale = max(height / rows, width / columns)
    across, down = max(width, round(columns * scale)), max(height, round(rows * scale))
    if (down, across) != (rows, columns):
        picture = interpolate(picture.permute(2, 0, 1)[None], (down, across), mode="bilinear", align_corners=False,
                              antialias=True)[0].permute(1, 2, 0).clamp(0.0, 1.0)
    top, left = (down - height) // 2, (across - width) // 2
    return picture[top:top + height, left:left + width]
