"""A portrait's alpha beside the networks, which draw colours only.

Alpha follows the head as a whole: the affine map that takes the moved keypoints, lips aside, back to the portrait's own
is laid over the crop, fades towards the crop's border, where the networks keep body and ground in place, and is blended
as the drawn crop is. Hair that swings by itself, or an outline that bulges with an expression, is not followed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...runtime.sampling import sample
from .animate import LIP
from .paste import Placement

FADE = 0.4
"""Share of half the crop's side over which the head's movement fades towards the border."""


@dataclass(frozen=True)
class MovedGround:
    """Alpha of one portrait, ready to be moved.

    Attributes:
        alpha: [H, W] 0 to 1.
        placement: where the drawn square goes.
        own: [K, 2] the portrait's own keypoints in the crop, -1 to 1, lips left out; float64 on the CPU.
        places: [h, w, 2] the part's pixels in the crop, -1 to 1; share: [h, w] how much of the movement they take.
        to_pixels: [2, 2] from the crop's units to pixels of the picture.
    """

    alpha: Tensor
    placement: Placement
    own: Tensor
    places: Tensor
    share: Tensor
    to_pixels: Tensor

    @staticmethod
    def of(alpha: Tensor, placement: Placement, side: int, keypoints: Tensor) -> MovedGround:
        """From alpha [H, W], a placement of crops of ``side`` pixels, and the portrait's keypoints [1, K, 3]."""
        top, left, bottom, right = placement.box
        y, x = torch.meshgrid(torch.arange(bottom - top, dtype=torch.float64),
                              torch.arange(right - left, dtype=torch.float64), indexing="ij")
        matrix = placement.matrix.double().cpu()
        crop = torch.stack([x, y], -1) @ matrix[:2, :2].T + matrix[:2, 2]
        places = (crop + 0.5) / side * 2 - 1
        t = ((1 - places.abs().amax(-1)) / FADE).clamp(0, 1)
        to_pixels = torch.linalg.inv(matrix[:2, :2]) * (side / 2)
        return MovedGround(alpha, placement, _rigid(keypoints)[0], places.float().to(alpha.device),
                           (t * t * (3 - 2 * t)).float().to(alpha.device), to_pixels.float().to(alpha.device))

    def with_alpha(self, frames: Tensor, keypoints: Tensor | None) -> Tensor:
        """Frames [B, H, W, 3] as [B, H, W, 4] with the alpha of ``keypoints`` [B, K, 3]; None: at rest."""
        out = self.alpha.expand(len(frames), -1, -1).clone()
        top, left, bottom, right = self.placement.box
        if keypoints is not None and bottom > top and right > left:
            height, width = self.alpha.shape
            maps = _affine(_rigid(keypoints), self.own).float().to(self.alpha.device)
            shift = torch.einsum("hwi,bij->bhwj", self.places, maps[:, :2]) + maps[:, None, None, 2] - self.places
            shift = (shift * self.share[..., None]) @ self.to_pixels.T
            y, x = torch.meshgrid(torch.arange(top, bottom, device=out.device),
                                  torch.arange(left, right, device=out.device), indexing="ij")
            sought = torch.stack([x, y], -1) + 0.5 + shift
            grid = sought / sought.new_tensor([width, height]) * 2 - 1
            moved = sample(self.alpha[None, None].expand(len(frames), -1, -1, -1), grid, "border")[:, 0]
            # What hardly moves stays bit for bit; looking it up would round it.
            moved = torch.where(shift.abs().amax(-1) > 1e-3, moved, out[:, top:bottom, left:right])
            out[:, top:bottom, left:right] = torch.lerp(out[:, top:bottom, left:right], moved,
                                                        self.placement.mask[0].expand_as(moved))
        return torch.cat([frames, out.clamp(0, 1)[..., None]], -1)


def _rigid(keypoints: Tensor) -> Tensor:
    """[B, K, 2] float64 on the CPU, without the lips."""
    kept = [number for number in range(keypoints.shape[1]) if number not in LIP]
    return keypoints[:, kept, :2].detach().cpu().double()


def _affine(moved: Tensor, own: Tensor) -> Tensor:
    """[B, 3, 2] least-squares maps: ``[x, y, 1] @ map`` takes moved points [B, K, 2] to ``own`` [K, 2]."""
    rows = torch.cat([moved, torch.ones_like(moved[..., :1])], -1)
    normal = rows.transpose(1, 2) @ rows + 1e-9 * torch.eye(3, dtype=rows.dtype)
    return torch.linalg.solve(normal, rows.transpose(1, 2) @ own)
