"""The latent bridge: LivePortrait's expression latents read as facial geometry, and back.

Forward it is one matrix from the 63 expression numbers to the displacement of the 478 landmarks; backward it is the
most probable latent given a displacement, under the covariance of LivePortrait's own motion templates. Both are fitted
by ``tools/fit_bridge.py``, which also prints what they reach on clips that they have not seen.
"""

from __future__ import annotations

from os import PathLike

import torch
from torch import Tensor

from ..errors import PlaymateError
from ..weights import bundled
from .geometry import LANDMARKS

KEYPOINTS = 21
LATENTS = 3 * KEYPOINTS
BLENDSHAPES = 52

EYE_DISTANCE = 0.391
"""Outer-eye distance of LivePortrait's canonical face in latent units, at scale 1: 0.383 to 0.399 on the template
clips, which hold five people. A head with scale s has s times that distance in its crop, whose edge is 2 units."""

HEAD_ORIGIN = (0.0, 0.25, 0.4)
"""Where LivePortrait's canonical origin lies in the head frame of ``face.geometry`` (outer-eye distances from the mean
of RIGID): the point that the head turns about and that the translation moves, found on the template clips."""

MIRRORED_KEYPOINTS = (0, 2, 1, 7, 10, 5, 6, 3, 8, 9, 4, 15, 12, 16, 14, 11, 13, 17, 18, 19, 20)
"""Keypoint i of a mirrored face is keypoint ``MIRRORED_KEYPOINTS[i]`` of the face with x negated. Pairs 1-2, 11-15,
13-16 and 3-7 follow from the sliders of SPEC.md appendix A; 4-10 because with it mirrored copies of the clips lower
the error on clips left out, while other pairings of 0, 4, 5, 8, 9, 10, 17 and 20 raise it."""


def mirror_expression(expression: Tensor) -> Tensor:
    """[..., 21, 3] the expression of the mirrored face."""
    swapped = expression[..., list(MIRRORED_KEYPOINTS), :].clone()
    swapped[..., 0] = -swapped[..., 0]
    return swapped


class LatentBridge:
    """Linear maps between expression latents and landmark displacements.

    Displacements are in the head's own frame (``face.geometry.to_head_frame``): units of the outer-eye distance,
    x right, y down, z away from the camera, relative to the face at rest. Latents are offsets from the latent at rest.
    The maps have no intercept: rest goes to rest.

    Args:
        forward: [63, 1434] latent to displacement.
        covariance: [63, 63] of latents, from the templates.
        noise: [478, 3] standard deviation of the displacement that the latents leave unexplained.
        blendshapes: [52, 63] blendshape scores to latents.
        evidence: [478] weight of each landmark in the inverse.
    """

    def __init__(self, forward: Tensor, covariance: Tensor, noise: Tensor, blendshapes: Tensor,
                 evidence: Tensor) -> None:
        self.forward = forward.float()
        self.covariance = covariance.float()
        self.noise = noise.float()
        self.blendshapes = blendshapes.float()
        self.evidence = evidence.float()
        self._inverse = {axes: self._solve(self.evidence, axes) for axes in (2, 3)}
        self._whiten = torch.linalg.inv(torch.linalg.cholesky(covariance.double())).float()

    @staticmethod
    def load(path: str | PathLike | None = None) -> "LatentBridge":
        """Loads the bundled fit, or another one that ``tools/fit_bridge.py`` wrote.

        Raises:
            PlaymateError: the file is missing or holds something else.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = bundled("bridge.safetensors") if path is None else path
        wanted = {"forward": (LATENTS, 3 * LANDMARKS), "covariance": (LATENTS, LATENTS), "noise": (LANDMARKS, 3),
                  "blendshapes": (BLENDSHAPES, LATENTS), "evidence": (LANDMARKS,)}
        try:
            tensors = load_file(str(path))
        except (OSError, SafetensorError) as error:
            raise PlaymateError(f"The latent bridge {path} cannot be read ({error}); fit or download it again.") from error
        for name, shape in wanted.items():
            if name not in tensors or tuple(tensors[name].shape) != shape:
                raise PlaymateError(f"{path} is no latent bridge: its {name} is missing or has another shape than {shape}.")
        return LatentBridge(**{name: tensors[name] for name in wanted})

    @property
    def expression_std(self) -> Tensor:
        """[21, 3] standard deviation of each latent over the templates."""
        return self.covariance.diagonal().sqrt().reshape(KEYPOINTS, 3)

    def displacement(self, expression_offset: Tensor) -> Tensor:
        """How an expression moves the landmarks.

        Args:
            expression_offset: [..., 21, 3] or [..., 63] latent offsets from rest.

        Returns:
            [..., 478, 3] float32 displacement.

        Raises:
            PlaymateError: another shape.
        """
        flat = _flat(expression_offset)
        return (flat @ self.forward.to(flat.device)).reshape(*flat.shape[:-1], LANDMARKS, 3)

    def expression(self, displacement: Tensor, weights: Tensor | None = None) -> Tensor:
        """The most probable latents behind a displacement (maximum a posteriori, linear and Gaussian).

        Args:
            displacement: [..., 478, 2 or 3] landmark displacement from rest; without z the picture's plane decides.
            weights: [478] trust in each landmark (0 leaves it out), in place of the fit's own, which trusts lips and
                lids most. Given weights cost a 63 x 63 solve.

        Returns:
            [..., 21, 3] float32 latent offsets.

        Raises:
            PlaymateError: another shape.
        """
        axes = displacement.shape[-1] if displacement.ndim >= 2 else 0
        if axes not in (2, 3) or displacement.shape[-2] != LANDMARKS:
            raise PlaymateError(
                f"A landmark displacement has shape {tuple(displacement.shape)} where [..., 478, 2 or 3] is needed.")
        if weights is not None and tuple(weights.shape) != (LANDMARKS,):
            raise PlaymateError(f"Landmark weights have shape {tuple(weights.shape)} where [478] is needed.")
        inverse = self._inverse[axes] if weights is None else self._solve(weights, axes)
        flat = displacement.float().flatten(-2)
        return (flat @ inverse.to(flat.device)).unflatten(-1, (KEYPOINTS, 3))

    def _solve(self, weights: Tensor, axes: int) -> Tensor:
        """[478 * axes, 63] matrix of the posterior mean: (F W F' + C^-1)^-1 F W, W = diag(weights / noise^2)."""
        forward = self.forward.double().reshape(LATENTS, LANDMARKS, 3)[..., :axes]
        trust = weights.double().cpu()[:, None] / self.noise.double()[:, :axes] ** 2
        weighted = (forward * trust).flatten(1)
        precision = weighted @ forward.flatten(1).T + torch.linalg.inv(self.covariance.double())
        return torch.linalg.solve(precision, weighted).T.float().contiguous()

    def from_blendshapes(self, blendshapes: Tensor) -> Tensor:
        """A portrait's own expression relative to a neutral face, from its blendshape scores alone.

        Args:
            blendshapes: [..., 52] scores 0 to 1 in ``face.blendshapes.NAMES`` order.

        Returns:
            [..., 21, 3] float32 latent offsets; taking them away closes the mouth and opens the eyes.

        Raises:
            PlaymateError: another shape.
        """
        if blendshapes.ndim < 1 or blendshapes.shape[-1] != BLENDSHAPES:
            raise PlaymateError(f"Blendshapes have shape {tuple(blendshapes.shape)} where [..., {BLENDSHAPES}] is needed.")
        scores = blendshapes.float()
        return (scores @ self.blendshapes.to(scores.device)).unflatten(-1, (KEYPOINTS, 3))

    def lip_gap(self, expression_offset: Tensor) -> Tensor:
        """Change of the lip gap (outer-eye distances) by an expression, [..., 21, 3] or [..., 63] -> [...].

        A linear readout of 63 numbers for sampling and plotting: negative below the resting gap.
        """
        flat = _flat(expression_offset)
        readout = self.forward[:, 14 * 3 + 1] - self.forward[:, 13 * 3 + 1]
        return flat @ readout.to(flat.device)

    def mahalanobis(self, expression_offset: Tensor) -> Tensor:
        """Length of latents in standard deviations of the templates, root mean square over the 63 directions.

        Args:
            expression_offset: [..., 21, 3] or [..., 63].

        Returns:
            [...] about 1 for frames like the templates' own; far above 2 is an expression they do not hold.
        """
        flat = _flat(expression_offset)
        return (flat @ self._whiten.T.to(flat.device)).square().mean(dim=-1).sqrt()

    @staticmethod
    def head_shift(translation_offset: Tensor, neutral_scale: Tensor | float = 1.0) -> Tensor:
        """How far a translation moves the head in the picture.

        LivePortrait's keypoints are s (x R + e) + t in a crop of edge 2, so a change of t by EYE_DISTANCE * s moves
        the head by one of its own outer-eye distances (slope 0.9 to 1.1 on the template clips).

        Args:
            translation_offset: [..., 3] t minus the neutral frame's t, latent units.
            neutral_scale: scale of the neutral frame, [..., 1] or number; 1 for generated motion.

        Returns:
            [..., 2] x right, y down, outer-eye distances of the neutral frame. Times that distance in pixels is pixels.
        """
        return translation_offset[..., :2] / (EYE_DISTANCE * neutral_scale)

    @staticmethod
    def head_translation(shift: Tensor, neutral_scale: Tensor | float = 1.0) -> Tensor:
        """Inverse of :meth:`head_shift`: [..., 2] outer-eye distances -> [..., 3] translation offset, z = 0."""
        moved = shift * (EYE_DISTANCE * neutral_scale)
        return torch.cat([moved, torch.zeros_like(moved[..., :1])], dim=-1)


def _flat(expression: Tensor) -> Tensor:
    if expression.ndim >= 2 and tuple(expression.shape[-2:]) == (KEYPOINTS, 3):
        return expression.float().flatten(-2)
    if expression.ndim >= 1 and expression.shape[-1] == LATENTS:
        return expression.float()
    raise PlaymateError(f"An expression has shape {tuple(expression.shape)} where [..., 21, 3] or [..., 63] is needed.")
