"""The latent bridge: LivePortrait's expression latents read as facial geometry, and back.

Forward it is one matrix from the 63 expression numbers to the displacement of the 478 landmarks; backward it is the
most probable latent given a displacement, under the covariance of LivePortrait's own motion templates. Both are fitted
by ``laboratory/fits/bridge.py``, which also prints what they reach on clips that they have not seen.
"""

from __future__ import annotations

from os import PathLike

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from ..weights import bundled
from .geometry import EYELID_PAIRS, INNER_LIP_PAIRS, LANDMARKS

KEYPOINTS = 21
LATENTS = 3 * KEYPOINTS
BLENDSHAPES = 52

EYE_DISTANCE = 0.391
"""Outer-eye distance of LivePortrait's canonical face in latent units, at scale 1: 0.386 to 0.397 on the template
clips, which hold five people. A head with scale s has s times that distance in its crop, whose edge is 2 units."""

HEAD_ORIGIN = (0.0, 0.25, 0.4)
"""Where LivePortrait's canonical origin lies in the head frame of ``face.geometry`` (outer-eye distances from the mean
of RIGID): the point that the head turns about and that the translation moves, found on the template clips."""

GAP_NOISE, WIDTH_NOISE, LID_NOISE = 0.004, 0.006, 0.008
"""How far lip gap, lip width and lid opening may be missed by the inverse (standard deviations, outer-eye distances).
Tight on purpose: speech is read off them, and a prior alone would shrink them by a tenth."""

CLOSED_LIP_GAP = 0.009
"""Lip gap that the mesh measures on closed lips (``geometry.mean_face``)."""

_MIRRORED_PAIRS = ((3, 7), (4, 10), (11, 15), (13, 16))
"""Keypoints that trade places in a mirrored face. 3-7, 11-15 and 13-16 follow from the sliders of SPEC.md appendix A;
with 4-10 mirrored copies of the clips lower the error on clips left out, while other pairings raise it."""
_MIRRORED_X = (1, 2)
"""The brow slider of appendix A lifts both brows by y of opposite signs and knits them by x of opposite signs: these
two trade x only. The clips agree."""


def mirror_expression(expression: Tensor) -> Tensor:
    """[..., 21, 3] the expression of the mirrored face."""
    swapped = expression.clone()
    for a, b in _MIRRORED_PAIRS:
        swapped[..., (a, b), :] = expression[..., (b, a), :]
    a, b = _MIRRORED_X
    swapped[..., (a, b), 0] = expression[..., (b, a), 0]
    swapped[..., 0] = -swapped[..., 0]
    return swapped


def _apertures(axes: int) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
    """Differences of two landmarks that must survive the inverse: mouth and eyes shut or open, mouth narrow or wide.

    Returns:
        rows [R, 478 * axes] float64, their standard deviations [R] and the landmarks of each.
    """
    groups = [(INNER_LIP_PAIRS, 1, GAP_NOISE), (((61, 291), (78, 308)), 0, WIDTH_NOISE)]
    groups += [(lids[3:6], 1, LID_NOISE) for lids in EYELID_PAIRS]
    pairs = [(a, b) for group, _, _ in groups for a, b in group]
    rows = torch.zeros(len(pairs), LANDMARKS, axes, dtype=torch.float64)
    noise = []
    for group, axis, deviation in groups:
        for a, b in group:
            rows[len(noise), a, axis], rows[len(noise), b, axis] = -1.0, 1.0
            # The pairs of a group err together: many of them say no more than one.
            noise.append(deviation * len(group) ** 0.5)
    return rows.flatten(1), torch.tensor(noise, dtype=torch.float64), pairs


class LatentBridge:
    """Linear maps between expression latents and landmark displacements.

    Displacements are in the head's own frame (``face.geometry.to_head_frame``): units of the outer-eye distance,
    x right, y down, z away from the camera, relative to the face at rest. Latents are offsets from the latent at rest.
    The maps have no intercept: rest goes to rest.

    Args:
        forward: [63, 1434] latent to displacement.
        covariance: [63, 63] of latents, from the templates.
        noise: [478, 3] standard deviation of a landmark's displacement given the latents, for the inverse.
        blendshapes: [52, 63] square roots of blendshape scores, less those at rest, to latents.
        blendshapes_rest: [52] square roots of a neutral face's scores.
    """

    def __init__(self, forward: Tensor, covariance: Tensor, noise: Tensor, blendshapes: Tensor,
                 blendshapes_rest: Tensor) -> None:
        self.forward = forward.float()
        self.covariance = covariance.float()
        self.noise = noise.float()
        self.blendshapes = blendshapes.float()
        self.blendshapes_rest = blendshapes_rest.float()
        self._inverse = {axes: self._solve(torch.ones(LANDMARKS), axes) for axes in (2, 3)}
        self._whiten = torch.linalg.inv(torch.linalg.cholesky(covariance.double())).float()

    @staticmethod
    def load(path: str | PathLike | None = None) -> LatentBridge:
        """Loads the bundled fit, or another one that ``laboratory/fits/bridge.py`` wrote.

        Raises:
            PlaymateError: the file is missing or holds something else.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = bundled("bridge.safetensors") if path is None else path
        wanted = {"forward": (LATENTS, 3 * LANDMARKS), "covariance": (LATENTS, LATENTS), "noise": (LANDMARKS, 3),
                  "blendshapes": (BLENDSHAPES, LATENTS), "blendshapes_rest": (BLENDSHAPES,)}
        try:
            tensors = load_file(str(path))
        except (OSError, SafetensorError) as error:
            raise PlaymateError(
                f"The latent bridge {path} cannot be read ({error}); fit or download it again.") from error
        for name, shape in wanted.items():
            if name not in tensors or tuple(tensors[name].shape) != shape:
                raise PlaymateError(
                    f"{path} is no latent bridge: its {name} is missing or has another shape than {shape}.")
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
            weights: [478] factors on the trust in each landmark; 0 leaves it out. They cost a 63 x 63 solve, where
                without them the inverse is one product with a matrix that is at hand.

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
        """[478 * axes, 63] matrix of the posterior mean: (F W F' + C^-1)^-1 F W.

        W is the precision of the landmarks, diagonal, plus that of the apertures, which are known far better than
        the landmarks that make them: both lips are misplaced together.
        """
        forward = self.forward.double().cpu().unflatten(1, (LANDMARKS, 3))[..., :axes].flatten(1)
        weights = weights.double().cpu()
        precision = (weights[:, None] / self.noise.double().cpu()[:, :axes] ** 2).flatten()
        rows, deviation, pairs = _apertures(axes)
        known = torch.stack([weights[list(pair)].min() for pair in pairs]) / deviation ** 2
        weighted = forward * precision + ((forward @ rows.T) * known) @ rows
        normal = weighted @ forward.T + torch.linalg.inv(self.covariance.double().cpu())
        return torch.linalg.solve(normal, weighted).T.float().contiguous()

    @property
    def evidence(self) -> Tensor:
        """[478] the factors that :meth:`expression` uses when it is given none: ones."""
        return torch.ones(LANDMARKS)

    def from_blendshapes(self, blendshapes: Tensor, lip_gap: Tensor | float | None = None) -> Tensor:
        """A portrait's own expression relative to a neutral face.

        Scores enter by their square root: small scores move the face more than in proportion. On speakers left out
        of the fit the lip gap comes back with r 0.97 and slope 0.98.

        Args:
            blendshapes: [..., 52] scores 0 to 1 in ``face.blendshapes.NAMES`` order.
            lip_gap: [...] or number, the portrait's measured ``geometry.lip_gap``. With it the most probable further
                change is added that makes the expression's own gap equal to what was measured.

        Returns:
            [..., 21, 3] float32 latent offsets; taking them away closes the mouth and opens the eyes.

        Raises:
            PlaymateError: another shape.
        """
        if blendshapes.ndim < 1 or blendshapes.shape[-1] != BLENDSHAPES:
            raise PlaymateError(
                f"Blendshapes have shape {tuple(blendshapes.shape)} where [..., {BLENDSHAPES}] is needed.")
        scores = blendshapes.float().clamp_min(0.0).sqrt() - self.blendshapes_rest.to(blendshapes.device)
        flat = scores @ self.blendshapes.to(scores.device)
        if lip_gap is not None:
            readout = self._gap_readout().to(flat.device)
            spread = self.covariance.to(flat.device) @ readout
            wanted = torch.as_tensor(lip_gap, dtype=torch.float32, device=flat.device) - CLOSED_LIP_GAP
            missing = wanted.clamp_min(0.0) - flat @ readout
            flat = flat + missing[..., None] * (spread / (readout @ spread))
        return flat.unflatten(-1, (KEYPOINTS, 3))

    def lip_gap(self, expression_offset: Tensor) -> Tensor:
        """Change of the lip gap (outer-eye distances) by an expression, [..., 21, 3] or [..., 63] -> [...].

        A linear readout of 63 numbers for sampling and plotting: negative below the resting gap.
        """
        flat = _flat(expression_offset)
        return flat @ self._gap_readout().to(flat.device)

    def _gap_readout(self) -> Tensor:
        return self.forward[:, 14 * 3 + 1] - self.forward[:, 13 * 3 + 1]

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
        the head by one of its own outer-eye distances (slope 0.74 to 0.93, r 0.78 to 0.87, on the template clips
        whose head moves by more than a pixel; the landmarks' own pitch noise is in these).

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
