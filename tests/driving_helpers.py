"""Driving clips without pictures or networks: faces whose landmarks show a given motion."""

from __future__ import annotations

import torch

from playmate_core.face import geometry
from playmate_core.face.types import Face
from playmate_core.motion.geometry import rotation_matrix

from .render_helpers import gap_latent


class Actors:
    """Stands in for FaceAnalyzer: gives the faces it was made with, None for those that are None."""

    def __init__(self, faces):
        self.faces = faces

    def track(self, frames, policy, index):
        for face, _ in zip(self.faces, frames, strict=True):
            yield face


def actor(bridge, expression, rotation=(0.0, 0.0, 0.0), place=(200.0, 180.0), size=80.0, scores=None):
    """A Face whose landmarks show a latent [21, 3]."""
    shape = geometry.mean_face() + bridge.displacement(expression)
    turned = shape.double() @ rotation_matrix(torch.tensor(rotation, dtype=torch.float64))
    points = (turned * size + torch.tensor([*place, 0.0])).float()
    own = bridge.blendshapes_rest.square().clone() if scores is None else scores
    return Face(points, own, torch.tensor([0.0, 0, 1, 1]), 1.0, 1.0)


def speech(bridge, frames):
    """[T, 21, 3] a mouth that opens and shuts, starting shut."""
    swing = 0.06 * (1 - torch.cos(torch.arange(frames) * 0.5))
    return swing[:, None, None] / 0.1 * gap_latent(bridge, 0.1)


BLANK = torch.zeros(1, 1, 3)
