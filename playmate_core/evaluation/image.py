"""What must not change while a head talks: the background, and who it is."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..face.geometry import IDENTITY, IRIS_CENTRES, OVAL, mean_face, to_head_frame
from ..runtime.errors import PlaymateError
from .tracking import FaceTrack

if TYPE_CHECKING:
    from ..face.types import Face

HEAD_SCALE = 2.0
"""The face's outline, enlarged about its middle by this, holds hair, ears and neck of most heads."""
LEAST_BACKGROUND = 0.02
"""Share of the picture below which there is no background to speak of."""

ARCFACE_POINTS = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
"""Eyes, tip of the nose and corners of the mouth in ArcFace's crop of 112 x 112 pixels (Deng et al. 2019)."""
_NOSE, _CORNERS = 4, (61, 291)


def head_region(landmarks: Tensor, height: int, width: int, scale: float = HEAD_SCALE) -> Tensor:
    """[height, width] bool: the face's outline enlarged by ``scale``.

    Args:
        landmarks: [478, 2 or 3] pixels.
    """
    import numpy as np
    from PIL import Image, ImageDraw
    from scipy.spatial import ConvexHull

    outline = landmarks[list(OVAL), :2].double().cpu().numpy()
    middle = (outline.min(0) + outline.max(0)) / 2
    larger = (outline - middle) * scale + middle
    mask = Image.new("1", (width, height))
    ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in larger[ConvexHull(larger).vertices]], 1, 1)
    return torch.from_numpy(np.array(mask))


class BackgroundChange:
    """An observer (see ``tracking.track_video``): how much changes outside the moved head.

    Every frame is compared with a reference where neither of the two shows the head.
    """

    def __init__(self, reference: Tensor | None = None, face: Face | None = None) -> None:
        """``reference`` [H, W, 3] 0..1 and its face (the portrait); by default the first frame that shows a face."""
        self.reference, self.face = reference, face
        self.changes: list[float] = []
        self.share = float("nan")
        self._region: Tensor | None = None

    def __call__(self, index: int, picture: Tensor, face: Face | None) -> None:
        picture = picture[..., :3].float().cpu()
        if self.reference is None:
            if face is None:
                return
            self.reference, self.face = picture, face
        if self._region is None:
            self.reference = self.reference[..., :3].float().cpu()
            where = self.face if self.face is not None else face
            if where is None:
                return
            self._region = head_region(where.landmarks, *self.reference.shape[:2])
        # Encoders pad odd sides by a pixel.
        height, width = (min(a, b) for a, b in zip(picture.shape[:2], self.reference.shape[:2], strict=True))
        if max(abs(a - b) for a, b in zip(picture.shape[:2], self.reference.shape[:2], strict=True)) > 1:
            raise PlaymateError(
                f"The frames are {picture.shape[1]}x{picture.shape[0]} pixels and the portrait is "
                f"{self.reference.shape[1]}x{self.reference.shape[0]}; give the picture that the video was made from.")
        if face is None:
            return
        outside = ~(self._region | head_region(face.landmarks, *self.reference.shape[:2]))[:height, :width]
        if self.share != self.share:
            self.share = float(outside.double().mean())
        if float(outside.double().mean()) < LEAST_BACKGROUND:
            return
        difference = (picture[:height, :width] - self.reference[:height, :width]).abs().mean(-1)
        self.changes.append(float(difference[outside].mean()))

    def result(self) -> dict[str, float]:
        """``mean`` and ``largest`` of the frames' mean absolute changes (of full scale 1), ``share`` of the picture
        that counts as background in the first frame, ``frames`` compared. NaN where the head fills the picture."""
        changes = torch.tensor(self.changes or [float("nan")], dtype=torch.float64)
        return {"mean": float(changes.mean()), "largest": float(changes.max()), "share": self.share,
                "frames": len(self.changes)}


def identity_distances(track: FaceTrack, portrait: Tensor) -> Tensor:
    """How far each frame's face shape is from the portrait's, by the landmarks of ``geometry.identity_feature``.

    Pose, place and size are taken out; expression is not, so compare with a clip of the same person speaking.

    Args:
        portrait: [478, 3] landmarks of the portrait.

    Returns:
        [T] root mean square distance of 21 landmarks, outer-eye distances; NaN without a face.
    """
    chosen = list(IDENTITY)
    own = to_head_frame(portrait[None].float().cpu(), mean_face())[0, chosen]
    shapes = to_head_frame(track.landmarks, mean_face())[:, chosen]
    return (shapes - own).square().sum(-1).mean(-1).sqrt()


def identity(track: FaceTrack, portrait: Tensor) -> dict[str, float]:
    """``mean`` of ``identity_distances``, and that of the clip's ``median`` shape: expression averages out of it."""
    distances = identity_distances(track, portrait)
    chosen = list(IDENTITY)
    own = to_head_frame(portrait[None].float().cpu(), mean_face())[0, chosen]
    median = to_head_frame(track.landmarks, mean_face())[:, chosen].nanmedian(dim=0).values
    return {"mean": float(distances[torch.isfinite(distances)].mean()),
            "median": float((median - own).square().sum(-1).mean().sqrt())}


class IdentityModel:
    """A face embedding network in ONNX (ArcFace's convention), run by OpenCV: for CSIM.

    Input [1, 3, 112, 112] RGB, (x - 127.5) / 127.5; output one vector. InsightFace's recognition files are such;
    their licence allows research only, which is why none ships with this package.
    """

    def __init__(self, path: str | PathLike) -> None:
        """Reads the network.

        Raises:
            PlaymateError: the file is missing, or no ONNX network.
        """
        self.network = read_onnx(path, "face embedding model (ArcFace, ONNX), needed for CSIM")

    def __call__(self, picture: Tensor, landmarks: Tensor) -> Tensor:
        """[D] unit vector of the face at ``landmarks`` [478, 3] in ``picture`` [H, W, 3] 0..1."""
        import cv2
        import numpy as np

        points = landmarks[[*IRIS_CENTRES, _NOSE, *_CORNERS], :2].double().cpu().numpy()
        matrix, _ = cv2.estimateAffinePartial2D(points, np.array(ARCFACE_POINTS), method=cv2.LMEDS)
        pixels = (picture[..., :3].cpu().numpy() * 255).round().clip(0, 255).astype(np.uint8)
        crop = cv2.warpAffine(pixels, matrix, (112, 112), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        self.network.setInput(cv2.dnn.blobFromImage(crop, 1 / 127.5, (112, 112), (127.5, 127.5, 127.5)))
        vector = torch.from_numpy(self.network.forward().reshape(-1)).double()
        return vector / vector.norm().clamp_min(1e-12)


class IdentitySimilarity:
    """An observer: CSIM, the mean cosine similarity of each frame's embedding with the portrait's."""

    def __init__(self, model: IdentityModel, portrait: Tensor, face: Face) -> None:
        self.model, self.own = model, model(portrait, face.landmarks)
        self.values: list[float] = []

    def __call__(self, index: int, picture: Tensor, face: Face | None) -> None:
        if face is not None:
            self.values.append(float(self.model(picture, face.landmarks) @ self.own))

    def result(self) -> float:
        """-1 to 1, NaN without a face."""
        return sum(self.values) / len(self.values) if self.values else float("nan")


def read_onnx(path: str | PathLike, what: str):
    """An OpenCV network from an ONNX file.

    Raises:
        PlaymateError: the file is missing, OpenCV is not installed or cannot read it.
    """
    path = Path(path)
    if not path.is_file():
        raise PlaymateError(f"There is no {what} at {path}; none ships with this package, so give your own file.")
    try:
        import cv2  # not required: it would bring its own numpy, or write over the OpenCV of another pack
    except ImportError:
        raise PlaymateError(f"The {what} at {path} is run by OpenCV, which is not installed here; install it by: "
                            "pip install opencv-python-headless") from None
    try:
        return cv2.dnn.readNetFromONNX(str(path))
    except cv2.error as error:
        raise PlaymateError(f"{path} is no ONNX network that OpenCV can read; give another {what}.") from error
