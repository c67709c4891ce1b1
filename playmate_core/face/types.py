"""What is known of one face in one picture."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Face:
    """One face found in a picture.

    Attributes:
        landmarks: [478, 3] MediaPipe's mesh with irises, pixels; x right, y down, z in the unit of x,
            smaller towards the camera. Pixel centres lie at integer + 0.5 (x / width in 0..1 as MediaPipe's).
        blendshapes: [52] MediaPipe's scores, 0 to 1, in ``face.blendshapes.NAMES`` order.
        box: [4] detector's box x0, y0, x1, y1, pixels.
        score: the detector's confidence, 0 to 1.
        presence: the mesh's confidence that a face is there, 0 to 1.
    """

    landmarks: Tensor
    blendshapes: Tensor
    box: Tensor
    score: float
    presence: float

    def to(self, device) -> Face:
        """The same on ``device``."""
        return Face(self.landmarks.to(device), self.blendshapes.to(device), self.box.to(device),
                    self.score, self.presence)
