"""Motion latents to landmark displacements that suit one portrait: amplitude, lids that shut, lips that meet.

Everything here is in the head's own frame (face.geometry): units of the outer-eye distance, x right, y down, z away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...face import geometry
from . import pursing, topology
from .grid import smoothstep

CLOSED_GAP = 0.0064
"""Lip gap up to which a portrait's mouth counts as closed: the mesh reads shut lips as 0 to 0.006, and a sliver of
darkness between lips, which must not travel with either of them, as 0.01 and more."""
GAP_GAIN = 1.04
"""A drawn opening, dark between sharp edges, is read as larger than a real one of the same height: with this gain the
gap tracked on rendered frames has the requested size."""
OVERLAP = 0.018
"""How much further than the mesh's lower edge an upper lid that shuts comes down, outer-eye distances."""
SQUEEZE = 0.55
"""Skin between lip and chin is squeezed by at most this share; beyond that the lip pushes the chin before it."""
USUAL_MOUTH_WIDTH = 0.56
USUAL_EYE_WIDTH = 0.30
USUAL_EYE_OPENING = 0.075
"""Lip, eye and lid sizes of the faces that the latents were fitted on."""
QUIET = 0.02
"""Largest change of the gap between the lips in a clip that still counts as a mouth at rest, outer-eye distances."""
WIDENING = 0.85
"""Eyes that widen are measured in their opening (``USUAL_EYE_OPENING`` is a little less than the clips' own)."""
LARGE_EYE, LOWERED_FURTHER = 0.165, 0.30
"""Lid opening, outer-eye distances, from which on eyes are a drawing's, and by which share more than asked brows come
down over eyes a third larger: between a photograph's brows and lids is less of the face than between theirs."""
BLINK_LOWER = 0.12
"""How much of a shut eye's way the lower lid makes in a blink."""
FREE_GAZE = 0.70
"""Share of the largest shift of an iris up to which it goes where it is asked to."""
FARTHEST_GAZE = 0.33
"""The largest shift of an iris, eye widths: an eye that has turned by 40 degrees. Beyond, the tracker that asks reads
less and less of it as well."""
GAZE_GAIN = (1.12, 1.5)
"""A tracked shift is read smaller than the iris moves, sideways and, where lids cover it, more so up and down."""
UPPER_SHARE = 0.45
"""Of an open mouth's gap, how much the upper lip closes."""

_UNDER_NOSE = 2
_UPPER_LIP = [list(row) for row in topology.LIPS_UPPER_ROWS]
_LOWER_LIP = list(topology.LIPS_INNER_LOWER + topology.LIPS_OUTER_LOWER)


@dataclass(frozen=True)
class Spread:
    """Carries corrections along a curve of landmarks into the skin beside it.

    Attributes:
        curve: [K] landmarks of the curve.
        matrix: [478, K] a unit correction of each curve point, as felt by every landmark.
    """

    curve: list[int]
    matrix: Tensor

    @staticmethod
    def of(shape: np.ndarray, curve: tuple, side: np.ndarray, radius: float, softness: float) -> Spread:
        """``side`` [478] marks the landmarks that may move; ``radius`` is where the effect ends."""
        points = shape[list(curve), :2]
        distance = np.linalg.norm(shape[:, None, :2] - points[None], axis=-1)
        kernel = np.exp(-0.5 * (distance / softness) ** 2) + 1e-12
        matrix = kernel / kernel.sum(1, keepdims=True) * (1 - smoothstep(distance.min(1) / radius))[:, None]
        matrix[~side] = 0
        for k, landmark in enumerate(curve):
            matrix[landmark] = np.eye(len(curve))[k]
        return Spread(list(curve), torch.from_numpy(matrix.astype(np.float32)))

    def __call__(self, correction: Tensor) -> Tensor:
        """[T, K, D] at the curve to [T, 478, D]."""
        return torch.einsum("nk,tkd->tnd", self.matrix, correction)


def _sides(upper: tuple, lower: tuple) -> tuple[np.ndarray, np.ndarray]:
    """[478] masks of the landmarks above and below the middle between two curves, on the canonical face."""
    canonical = topology.canonical_vertices()
    middle = (canonical[list(upper), :2] + canonical[list(lower), :2]) / 2
    order = np.argsort(middle[:, 0])
    height = np.interp(canonical[:, 0], middle[order, 0], middle[order, 1])
    above = np.zeros(topology.LANDMARKS, bool)
    above[:topology.MESH_POINTS] = canonical[:, 1] < height
    below = ~above
    below[topology.MESH_POINTS:] = False
    ends = [upper[0], upper[-1]]
    above[list(lower)], below[list(upper)] = False, False
    above[ends], below[ends] = True, True
    return above, below


def _line(lip: Tensor) -> Tensor:
    """[T, K] of a row of landmarks: the straight line between its first and its last."""
    along = torch.linspace(0, 1, lip.shape[1], device=lip.device)
    return lip[:, :1] + (lip[:, -1:] - lip[:, :1]) * along


@dataclass(frozen=True)
class FaceShape:
    """What amplitude needs to know of one portrait.

    Attributes:
        mouth_scale: factor on lip and jaw displacement (small cartoon mouths move less).
        lip_gap: mean opening over the middle of the inner lips.
        closing: [478, 3] displacement that shuts the portrait's own mouth; zeros if it is closed.
        lips: (upper Spread, lower Spread) of the inner lips.
        lids: per eye, corner to corner in the picture's order: (upper Spread, lower Spread).
        openings: [2, 9, 3] per eye, the way along the curve that shuts it.
        eye_width: [2].
        slack: [478, 22] how much further down each point of the lower lip may move than each landmark below it;
            endless for the others.
        brows: [478] factor on what comes down above the eyes.
        rise: how far the upper lip may rise towards the nose before it would run into it.
        pursing: how its lips gather.
    """

    mouth_scale: float
    lip_gap: float
    closing: Tensor
    lips: tuple
    lids: tuple
    openings: Tensor
    eye_width: Tensor
    slack: Tensor
    brows: Tensor
    rise: float
    pursing: pursing.Pursing

    def unfolded(self, displacement: Tensor) -> Tensor:
        """[T, 478, 3] with chin and lip making room for each other: no skin is overrun."""
        out = displacement.clone()
        lips = displacement[:, _LOWER_LIP, 1]
        pushed = (lips[:, None] - self.slack).amax(-1)
        out[..., 1] = torch.maximum(out[..., 1], pushed)
        # The lip as a whole stops below the nose, all its rows alike, and its corners, which are beside it, do not. It
        # keeps its arch: what it rises above its corners shrinks everywhere by one share.
        outer = out[:, _UPPER_LIP[-1], 1]
        above = _line(outer) - outer
        too_far = (out[:, [_UNDER_NOSE], 1] - self.rise - outer)[:, 3:8].amax(1)
        share = (too_far / above[:, 3:8].amax(1).clamp_min(1e-4)).clamp(0, 0.9)[:, None]
        for row in _UPPER_LIP:
            lip = out[:, row, 1]
            out[:, row, 1] = lip + share * (_line(lip) - lip).clamp_min(0)
        # Where corners and lip rise together that is not enough.
        too_far = out[:, [_UNDER_NOSE], 1] - self.rise - out[:, _UPPER_LIP[-1], 1]
        stopped = too_far.clamp_min(0) * torch.linspace(0, torch.pi, too_far.shape[1], device=out.device).sin().sqrt()
        for row in _UPPER_LIP:
            out[:, row[1:-1], 1] += stopped[:, 1:-1]
        return out

    @property
    def mouth_open(self) -> bool:
        return self.lip_gap > CLOSED_GAP


def read_shape(shape: np.ndarray, bridge) -> FaceShape:
    """``shape`` [478, 3]: the portrait's landmarks in its head frame."""
    upper, lower = topology.LIPS_INNER_UPPER, topology.LIPS_INNER_LOWER
    opening = shape[list(lower)] - shape[list(upper)]
    gap = float(np.linalg.norm(opening[3:8, :2], axis=1).mean())
    width = float(np.linalg.norm(shape[upper[0]] - shape[upper[-1]]))
    closing = torch.zeros(topology.LANDMARKS, 3)
    above, below = _sides(upper, lower)
    lips = (Spread.of(shape, upper, above, 0.35, 0.06), Spread.of(shape, lower, below, 0.50, 0.06))
    if gap > CLOSED_GAP:
        closing = _closing(opening, lips, bridge)
    lids, openings, widths = [], [], []
    for top, bottom in zip(topology.EYES_UPPER, topology.EYES_LOWER, strict=True):
        above, below = _sides(top, bottom)
        lids.append((Spread.of(shape, top, above, 0.20, 0.05), Spread.of(shape, bottom, below, 0.16, 0.05)))
        openings.append(_travel(shape[list(bottom)] - shape[list(top)]))
        widths.append(np.linalg.norm(shape[top[0]] - shape[top[-1]]))
    height = float(np.mean([np.linalg.norm(way[3:6], axis=-1).mean() for way in openings]))
    return FaceShape(float(np.clip((width / USUAL_MOUTH_WIDTH) ** 0.3, 0.75, 1.03)), gap, closing, lips, tuple(lids),
                     torch.from_numpy(np.stack(openings).astype(np.float32)),
                     torch.tensor(widths, dtype=torch.float32), torch.from_numpy(_slack(shape).astype(np.float32)),
                     _brow_gain(shape, _drawn(height)), float(0.5 * max(shape[0, 1] - shape[2, 1], 0.02)),
                     pursing.Pursing.of(shape))


def _drawn(height: float) -> float:
    """0..1: how far an eye of this opening is a drawing's, larger than people's."""
    return min(max(3 * (height / LARGE_EYE - 1), 0.0), 1.0)


def _brow_gain(shape: np.ndarray, large: float) -> Tensor:
    """[478] factor on downward movement, whole at the brows and fading round them; ``large`` 0 to 1."""
    brows = shape[[point for brow in geometry.BROWS for point in brow], :2]
    distance = np.linalg.norm(shape[:, None, :2] - brows[None], axis=-1).min(1)
    return torch.from_numpy((1 + LOWERED_FURTHER * large * (1 - smoothstep(distance / 0.25))).astype(np.float32))


def _travel(opening: np.ndarray) -> np.ndarray:
    """[K, 3] way to shut a lid: its opening and a little more, for edges beside the mesh's (edges.lid_edges)."""
    height = np.linalg.norm(opening, axis=1, keepdims=True)
    taper = np.sin(np.linspace(0, np.pi, len(opening)))[:, None]
    extra = OVERLAP * taper * np.minimum(height / 0.04, 1)
    return opening * (1 + extra / np.maximum(height, 1e-6))


def _slack(shape: np.ndarray) -> np.ndarray:
    _, below = _sides(topology.LIPS_INNER_UPPER, topology.LIPS_INNER_LOWER)
    # The lips' inner edge is what opens, and corners that rise leave the lip below them: neither is pushed.
    below[[*topology.LIPS_INNER_LOWER, topology.LIPS_OUTER_LOWER[0], topology.LIPS_OUTER_LOWER[-1], 61, 291]] = False
    distance = np.linalg.norm(shape[:, None, :2] - shape[None, _LOWER_LIP, :2], axis=-1)
    return np.where(below[:, None], SQUEEZE * distance, 1e6)


def _closing(opening: np.ndarray, lips: tuple, bridge) -> Tensor:
    """[478, 3] the most probable movement that shuts the mouth, made exact at the lips."""
    upper, lower = lips
    opening = torch.from_numpy(opening.astype(np.float32))
    opening[:, 2] = 0
    wanted, weights = torch.zeros(1, topology.LANDMARKS, 3), torch.full((topology.LANDMARKS,), 0.02)
    wanted[0, upper.curve] = UPPER_SHARE * opening
    wanted[0, lower.curve] = -(1 - UPPER_SHARE) * opening
    weights[upper.curve + lower.curve] = 1.0
    movement = bridge.displacement(bridge.expression(wanted, weights=weights))[0].cpu()
    left = opening + movement[lower.curve] - movement[upper.curve]
    left[:, 2] = 0
    return movement + upper(UPPER_SHARE * left[None])[0] - lower((1 - UPPER_SHARE) * left[None])[0]


def parting(displacement: Tensor) -> Tensor:
    """[T, 11] by how much the lips part more than in the portrait, of a clip's landmark displacement [T, 478, 3]."""
    upper, lower = list(topology.LIPS_INNER_UPPER), list(topology.LIPS_INNER_LOWER)
    return displacement[:, lower, 1] - displacement[:, upper, 1]


def mouth_moves(displacement: Tensor) -> bool:
    """Whether a clip's landmark displacement [T, 478, 3] speaks: whether its lips part or meet.

    Brows, gaze and lips that only follow a neighbour leave a portrait's parted lips as they are.
    """
    return bool(len(displacement)) and float(parting(displacement).abs().max()) > QUIET


def is_held(least: Tensor, most: Tensor) -> bool:
    """Whether lips that part by ``least`` to ``most`` [11] in the course of a clip hold one expression.

    Speech counts from shut lips, and what a portrait's own are apart must be taken out of it. Whoever asks for a smile
    that stays, of one picture or throughout, counts from the portrait as it is: its lips part further.
    """
    return float((most - least).max()) <= QUIET


def closure(displacement: Tensor, shape: FaceShape) -> Tensor:
    """[T, 2] how far each eye is shut: 0 as in the portrait, 1 shut, negative wider."""
    return _lid_shares(displacement, shape)[0]


def _lid_shares(displacement: Tensor, shape: FaceShape) -> tuple[Tensor, Tensor]:
    """(how far each eye is shut [T, 2], how much of its own opening each lower lid rises [T, 2]).

    Each lid does what the displacement says of it, so that a squint raises the lower lid; towards a shut eye the
    upper lid takes over, as it does in blinks.
    """
    shut, lower = [], []
    for eye, (top, bottom) in enumerate(zip(topology.EYES_UPPER, topology.EYES_LOWER, strict=True)):
        corners = displacement[:, [top[0], top[-1]], 1].mean(1)
        down = (displacement[:, list(top[3:6]), 1].mean(1) - corners) / USUAL_EYE_OPENING
        up = (corners - displacement[:, list(bottom[3:6]), 1].mean(1)) / USUAL_EYE_OPENING
        # An eye that is large already widens less, and narrows by less of itself.
        height = float(shape.openings[eye, 3:6].norm(dim=-1).mean())
        wider = WIDENING * min(1.0, (USUAL_EYE_OPENING * 1.4 / max(height, 1e-6)) ** 0.7)
        # A drawing's lids have as far to go as its brows, or the skin between them folds over.
        even = 0.5 - 0.38 * _drawn(height)
        narrower = min(1.0, (USUAL_EYE_OPENING * 1.14 / max(height, 1e-6)) ** even)
        share = torch.where(up > 0, up, wider * up).clamp(-0.25, 0.5)
        apart = torch.where(down > 0, narrower * down, wider * down) + share
        # Nearly shut is shut: the fit shrinks what it predicts, and a sliver of eye under a lid that rests looks
        # wrong. A lid that is only lowered goes as far as it is asked to.
        total = down + up
        total = apart + (1.12 * total - apart) * smoothstep((total - 0.25) / 0.4)
        total = total.clamp(-0.55, 1.0)
        blink = smoothstep((total - 0.45) / 0.4)
        shut.append(total)
        lower.append(share * (1 - blink) + BLINK_LOWER * total * blink)
    return torch.stack(shut, 1), torch.stack(lower, 1)


def gaze(displacement: Tensor, shape: FaceShape) -> Tensor:
    """[T, 2, 2] shift of each iris within its eye, outer-eye distances.

    As asked in an eye of the usual width, up to where the iris would leave it.
    """
    shifts = []
    for eye, (top, iris) in enumerate(zip(topology.EYES_UPPER, topology.IRISES, strict=True)):
        corners = displacement[:, [top[0], top[-1]]].mean(1)
        width = shape.eye_width[eye]
        shift = (displacement[:, iris[0]] - corners)[:, :2] * (width / USUAL_EYE_WIDTH)
        shift = shift * shift.new_tensor(GAZE_GAIN)
        limit = FARTHEST_GAZE * width
        length = shift.norm(dim=-1, keepdim=True)
        free = FREE_GAZE * limit
        eased = free + (limit - free) * torch.tanh((length - free) / (limit - free))
        shifts.append(torch.where(length > free, shift * (eased / length.clamp_min(1e-6)), shift))
    return torch.stack(shifts, 1)


def jaw(displacement: Tensor, shape: FaceShape) -> Tensor:
    """[T, 2] how far the lower teeth leave the upper, outer-eye distances: the chin's movement, never upward."""
    move = displacement[:, list(topology.CHIN), :2].mean(1) * shape.mouth_scale
    return torch.stack([move[:, 0], move[:, 1].clamp_min(0)], 1)


def adapt(displacement: Tensor, shape: FaceShape, shut: Tensor, close_mouth: bool) -> Tensor:
    """[T, 478, 3] raw displacement of the bridge to what this portrait's landmarks do.

    Args:
        shut: [T, 2] from :func:`closure`.
        close_mouth: take the portrait's own mouth opening out.
    """
    out = displacement.clone()
    out *= _mouth_gain(shape, out.device)[:, None]
    if bool((shape.brows > 1).any()):
        out[..., 1] += (shape.brows - 1) * out[..., 1].clamp_min(0)
    out = shape.pursing(shape.unfolded(out))
    upper, lower = shape.lips
    opening = out[:, lower.curve] - out[:, upper.curve]
    opening[..., 0::2] = 0
    out = out + upper(0.3 * (1 - GAP_GAIN) * opening) - lower(0.7 * (1 - GAP_GAIN) * opening)
    if close_mouth and shape.mouth_open:
        out = out + shape.closing
    if close_mouth:
        out = shape.pursing.rounded(out)
    raised = _lid_shares(displacement, shape)[1]
    for eye, (top, bottom) in enumerate(zip(topology.EYES_UPPER, topology.EYES_LOWER, strict=True)):
        along = torch.linspace(0, 1, len(top), device=out.device)[None, :, None]
        carried = out[:, [top[0]]] * (1 - along) + out[:, [top[-1]]] * along
        lifted = raised[:, eye, None, None]
        upper, lower = shape.lids[eye]
        rise = carried + (shut[:, eye, None, None] - lifted) * shape.openings[eye] - out[:, list(top)]
        fall = carried - lifted * shape.openings[eye] - out[:, list(bottom)]
        out = out + upper(rise) + lower(fall) - _shared(upper, lower, rise)
    return out


def _shared(upper: Spread, lower: Spread, rise: Tensor) -> Tensor:
    """The corners lie on both lids: count their correction once."""
    twice = torch.zeros(rise.shape[0], topology.LANDMARKS, rise.shape[2], device=rise.device)
    twice[:, [upper.curve[0], upper.curve[-1]]] = rise[:, [0, -1]]
    return twice


def _mouth_gain(shape: FaceShape, device) -> Tensor:
    """[478] amplitude factor: ``mouth_scale`` at the lips and jaw, one above the nose."""
    canonical = topology.canonical_vertices()
    nose, lips = canonical[2, 1], canonical[13, 1]
    low = np.ones(topology.LANDMARKS)
    low[topology.MESH_POINTS:] = 0
    low[:topology.MESH_POINTS] = smoothstep((canonical[:, 1] - nose) / (lips - nose))
    return torch.from_numpy((1 + (shape.mouth_scale - 1) * low).astype(np.float32)).to(device)
