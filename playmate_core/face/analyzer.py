"""Pictures and video to faces: detection, landmarks and blendshapes in one place.

The order of work is MediaPipe's (face landmarker): detect, turn and scale a crop by the detector's keypoints, read
the landmarks; video reuses the last landmarks as the next crop. Three things are added. The mesh reads every face a
second time from the crop that its own first landmarks ask for, which makes the result nearly independent of the
detector. Where the detector finds nothing in the whole picture it looks again: smaller, in tiles, and turned. And
since the mesh will draw a mouth on the forehead of a face that it is shown upside down, a face is read at four
angles unless both networks agree at once on where it is upright.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from ..runtime.errors import PlaymateError
from ..weights import bundled
from .blendshapes import NAMES, Blendshapes
from .crop import Roi, as_rgb, sample
from .detector import FullRangeDetector, ShortRangeDetector, box_overlap, weighted_suppression
from .layers import one_thread
from .mesh import POINTS, SIZE, FaceMesh
from .selection import face_area, left_to_right, select_face
from .types import Face
from .views import Detection, bounds, landmark_roi, nearest, shift, tiles, to_picture, unique, upright, whole

__all__ = ["DETECTORS", "NETWORKS", "FaceAnalyzer", "load_networks", "select_face"]

DETECTORS = ("auto", "short", "full")

NETWORKS: dict[str, type[nn.Module]] = {"detector_short": ShortRangeDetector, "detector_full": FullRangeDetector,
                                        "mesh": FaceMesh, "blendshapes": Blendshapes}
"""The networks of the weights file, by the prefix of their names in it."""

_MOST = 16  # faces of a picture, the largest
_BATCH = 8  # pictures or crops that go through a network at once
_CANDIDATES = 8  # detections that the thorough search looks at more closely, best first
_CERTAIN = 0.8  # score of a detection that needs no second opinion
# Second opinion, set on 160 detections in the pictures of ComfyUI's workflow templates, half of them no faces:
_CONFIRMED = 0.44  # least mean score of six closer looks
_AGREED = 0.28  # largest mean distance between the detector's and the mesh's features, in outer-eye distances
_UPRIGHT = 0.9  # detector's score, and _TOGETHER the agreement, of a face that is certainly read the right way up:
_TOGETHER = 0.12  # on 110 faces read the wrong way up the score was 0.85 at most
_PLAIN = 0.7  # mean score less distance of closer looks at a face that needs not be tried at other angles
_LEAST = 0.25  # the same that another angle must have at least; faces read the right way up had 0.32
_BETTER = 0.05  # by how much another angle must be better
_FEATURES = ((33, 133), (362, 263), (1,), (13, 14))  # landmarks whose middles are the detector's first keypoints
_MOVED = 0.08  # a crop that would still move by this share of its side is read once more
_LOOK_AGAIN = 10  # in video without a face, every which frame is searched thoroughly
_TURN_AGAIN = 50  # and every which is turned for it, which takes longest
_JUMP = 0.3  # a followed face that moves or grows by more of its crop's side from frame to frame is looked for anew
_REACH = 0.6  # where several faces were seen, one farther than this from the lost one is another (see ``nearest``)


class Person(Protocol):
    """Knows the person whose face is followed; is shown every picture of a film in order."""

    def look(self, picture: Tensor) -> bool:
        """Takes the next picture [H, W, 3], 0 to 1; whether the film may have been cut before it."""
        ...

    def same(self, face: Face) -> bool:
        """Whether a face that was followed from the picture before into this one is still the person's."""
        ...

    def among(self, faces: Sequence[Face], last: Face) -> Face | None:
        """The person's face of those in this picture; ``last`` is where it was."""
        ...

    def accept(self, face: Face) -> None:
        """Told that a face in this picture was taken for the person's."""
        ...


class FaceAnalyzer:
    """Finds faces, their 478 landmarks and 52 blendshape scores.

    Networks run in float32 and, on the CPU, on one thread (see ``layers.one_thread``): about 60 ms a picture.
    """

    def __init__(self, networks: dict[str, nn.Module], device: str | torch.device = "cpu") -> None:
        """``networks`` by the names of ``NETWORKS``; ``load`` is the usual way to get them."""
        self.device = torch.device(device)
        self.networks = {name: network.to(self.device).eval() for name, network in networks.items()}

    @classmethod
    def load(cls, path: str | Path | None = None, device: str | torch.device = "cpu") -> FaceAnalyzer:
        """Networks from a file written by ``laboratory/conversions/face_models.py``; by default the bundled one.

        Raises:
            PlaymateError: the file is missing, unreadable, or holds something else.
        """
        return cls(load_networks(bundled("face.safetensors") if path is None else Path(path)), device)

    # ---- pictures

    @torch.no_grad()
    def analyze(self, images: Tensor | Sequence[Tensor], detector: str = "auto", max_faces: int = _MOST,
                min_score: float = 0.5, min_presence: float = 0.5) -> list[list[Face]]:
        """All faces of every picture.

        Args:
            images: [B, H, W, C], one [H, W, C], or a sequence of such; C is 1, 3 or 4; 0 to 1 (see ``crop.as_rgb``).
            detector: "short" or "full" for one look at the whole picture with that network; "auto" for both, and,
                while nothing is found, a padded, tiled and turned picture; doubtful finds get a second opinion, and
                faces that lie or stand on their heads are read the right way up.
            max_faces: keep the largest ones only.
            min_score: the least confidence of the detector, 0 to 1.
            min_presence: the least confidence of the mesh, 0 to 1.

        Returns:
            For every picture its faces from left to right, on the CPU; an empty list where there is none.

        Raises:
            PlaymateError: not pictures, or an unknown detector.
        """
        return self._analyze(images, detector, max_faces, min_score, min_presence, turned=True)

    def _analyze(self, images: Tensor | Sequence[Tensor], detector: str, max_faces: int, min_score: float,
                 min_presence: float, turned: bool) -> list[list[Face]]:
        """``analyze``; without ``turned``, a picture in which nothing is found is not turned to look again."""
        if detector not in DETECTORS:
            raise PlaymateError(f"'{detector}' is no face detector; use one of {', '.join(DETECTORS)}.")
        pictures = [picture for item in ([images] if isinstance(images, Tensor) else images)
                    for picture in (item if item.ndim == 4 else [item])]
        found: list[list[Face]] = []
        with one_thread(self.device):
            for start in range(0, len(pictures), _BATCH):
                batch = [self._prepare(picture) for picture in pictures[start:start + _BATCH]]
                names = ("short", "full") if detector == "auto" else (detector,)
                detections = self._look(batch, [[whole(picture)] for picture in batch], names, min_score)
                faces = self._faces(batch, detections, min_presence, confirm=detector == "auto")
                for picture, first in zip(batch, faces, strict=True):
                    if not first and detector == "auto":
                        first = self._search(picture, min_score, min_presence, turned)
                    found.append(left_to_right(sorted(first, key=face_area, reverse=True)[:max_faces]))
        return found

    def _prepare(self, picture: Tensor) -> Tensor:
        return as_rgb(picture.to(self.device))

    def _look(self, pictures: list[Tensor], views: list[list[Roi]], names: Sequence[str],
              min_score: float) -> list[list[Detection]]:
        """Detections of every picture, from all of its views and all named detectors, best first, each face once."""
        found: list[list[Detection]] = [[] for _ in pictures]
        jobs = [(index, roi) for index, rois in enumerate(views) for roi in rois]
        for name in names:
            network = self.networks[f"detector_{name}"]
            for start in range(0, len(jobs), _BATCH):
                part = jobs[start:start + _BATCH]
                batch = torch.stack([sample(pictures[index], roi, network.size, "zeros") for index, roi in part])
                outputs = network(batch.contiguous(memory_format=torch.channels_last))
                for (index, roi), *values in zip(part, *(output.cpu() for output in outputs), strict=True):
                    found[index] += to_picture(roi, *weighted_suppression(*values, threshold=min_score))
        return [unique(detections) for detections in found]

    def _search(self, picture: Tensor, min_score: float, min_presence: float, turned: bool) -> list[Face]:
        """A second, thorough look at a picture in which the first found nothing, until something is found."""
        middle = whole(picture)
        height, width = picture.shape[:2]
        tries = [[Roi(middle.x, middle.y, middle.size * 2)]]
        if max(height, width) > 192:
            tries.append(tiles(height, width, 0.6) + tiles(height, width, 0.35))
        if turned:
            # A view a try: in a view that is turned another way the same face is found too, but askew.
            views = [middle, Roi(middle.x, middle.y, middle.size * 2)]
            tries += [[replace(view, angle=turn * math.pi / 2)] for view in views for turn in (1, 3, 2)]
            if max(height, width) > 192:
                tries += [[replace(view, angle=turn * math.pi / 2) for view in tiles(height, width, 0.5)]
                          for turn in (1, 3, 2)]
        for views in tries:
            detections = self._look([picture], [views], ("short", "full"), min_score)[0][:_CANDIDATES]
            faces = self._faces([picture], [detections], min_presence, confirm=True)[0]
            if faces:
                return faces
        return []

    def _faces(self, pictures: list[Tensor], detections: list[list[Detection]], min_presence: float,
               confirm: bool) -> list[list[Face]]:
        """Landmarks for detections; those that the mesh does not believe in, and doubles, are left out.

        With ``confirm`` also those that neither had a high score nor stand a closer look, and faces that the mesh read
        lying or upside down are read the right way up.
        """
        jobs = [(index, detection) for index, many in enumerate(detections) for detection in many]
        landmarks, presence, blendshapes = self._read([pictures[index] for index, _ in jobs],
                                                      [detection.roi() for _, detection in jobs])
        found: list[list[Face]] = [[] for _ in pictures]
        for (index, detection), points, sure, scores in zip(jobs, landmarks, presence.tolist(), blendshapes,
                                                            strict=True):
            box = bounds(points)
            known = [bounds(face.landmarks) for face in found[index]]
            if sure < min_presence or (known and float(box_overlap(box[None], torch.stack(known)).max()) > 0.3):
                continue
            face = Face(points, scores, detection.box, detection.score, sure)
            if confirm:
                face = self._checked(pictures[index], face, detection, min_presence)
            if face is not None:
                found[index].append(face)
        return found

    def _checked(self, picture: Tensor, face: Face, detection: Detection, min_presence: float) -> Face | None:
        """The face the right way up; None for one that the detector doubts and closer looks do not confirm.

        The mesh's own presence tells neither: it is near 1 for wheels and round logos, and for faces upside down.
        """
        if detection.score >= _UPRIGHT and _apart(face.landmarks, [detection]) <= _TOGETHER:
            return face
        face, score, distance = self._upright(picture, face, min_presence)
        certain = detection.score >= _CERTAIN or (score >= _CONFIRMED and distance <= _AGREED)
        return face if certain else None

    def _upright(self, picture: Tensor, face: Face, min_presence: float) -> tuple[Face, float, float]:
        """The face read at the best of four angles, and what :meth:`_look_closer` says of it."""
        score, distance = self._look_closer(picture, face.landmarks)
        if score - distance >= _PLAIN:
            return face, score, distance
        roi = landmark_roi(face.landmarks)
        rois = [replace(roi, angle=roi.angle + turn * math.pi / 2) for turn in (1, 2, 3)]
        # Where the detector sees the face in that view, since a mesh that lies askew is off in place and size too.
        views = [[replace(turned, size=1.6 * turned.size)] for turned in rois]
        seen = self._look([picture] * 3, views, ("short", "full"), 0.3)
        rois = [found[0].roi() if found else turned for turned, found in zip(rois, seen, strict=True)]
        for points, sure, scores in zip(*self._read([picture] * 3, rois), strict=True):
            if float(sure) < min_presence:
                continue
            other = self._look_closer(picture, points)
            if other[0] - other[1] > max(score - distance, _LEAST) + _BETTER:
                score, distance = other
                face = replace(face, landmarks=points, blendshapes=scores, presence=float(sure))
        return face, score, distance

    def _look_closer(self, picture: Tensor, landmarks: Tensor) -> tuple[float, float]:
        """What both detectors see at three distances where the mesh drew a face, turned as it drew it.

        Returns:
            Their mean score, 0 where they see none, and how far apart their features and the mesh's lie on average, in
            outer-eye distances.
        """
        roi = landmark_roi(landmarks)
        if not roi.usable(*picture.shape[:2]):
            return 0.0, math.inf
        middle = landmarks[:, :2].mean(0)
        scores, seen = [], []
        for name in ("short", "full"):
            views = [Roi(roi.x, roi.y, roi.size * zoom, roi.angle) for zoom in (1.2, 1.6, 2.2)]
            for detections in self._look([picture] * len(views), [[view] for view in views], (name,), 0.1):
                around = [item for item in detections
                          if (item.box[:2] < middle).all() and (middle < item.box[2:]).all()]
                scores.append(around[0].score if around else 0.0)
                seen += around[:1]
        return sum(scores) / len(scores), _apart(landmarks, seen)

    # ---- video

    @torch.no_grad()
    def track(self, frames: Iterable[Tensor], detector: str = "auto", policy: str = "largest", index: int = 0,
              min_score: float = 0.5, min_presence: float = 0.5, batch_size: int = 4,
              person: Person | None = None) -> Iterator[Face | None]:
        """One face through a video. Frames are read as they are needed, ``batch_size`` at a time.

        The first frame that shows a face decides which is followed (``policy`` and ``index`` as in ``select_face``);
        when it is lost, or seems to jump, it is looked for again, nearest to where it was and as large. Detection is
        only run then. Where it was ever seen beside others, only a face near its last place is taken for it; a face
        that is always alone may come back anywhere.

        Args:
            frames: pictures [H, W, C] or batches of them [B, H, W, C], 0 to 1.
            detector, min_score, min_presence: as in ``analyze``.
            batch_size: frames that start from the same crop; each is then read again from its own.
            person: judges by more than places whether a face is still the one that is followed; for films with cuts
                and several people.

        Yields:
            For every frame, in order, its face or None. Where the face was followed, ``box`` spans its landmarks and
            ``score`` is that of the last detection.

        Raises:
            PlaymateError: as ``analyze`` and ``select_face``.
        """
        last: Face | None = None
        missing, alone = 0, True
        for batch in _batches(frames, batch_size):
            pictures = [self._prepare(picture) for picture in batch]
            followed: list[Face | None] = [None] * len(pictures)
            if last is not None and not missing:
                followed = self._follow(pictures, last, min_presence)
            for picture, face in zip(pictures, followed, strict=True):
                if person is not None and person.look(picture):
                    missing = 0  # a new shot is searched thoroughly
                if face is not None and last is not None:
                    moved = shift(landmark_roi(last.landmarks), landmark_roi(face.landmarks))
                    face = face if moved <= _JUMP and (person is None or person.same(face)) else None
                if face is None:
                    rare = missing % _LOOK_AGAIN == 0
                    name = "full" if detector == "auto" and not rare else detector
                    faces = self._analyze(picture, name, _MOST, min_score, min_presence,
                                          turned=not missing % _TURN_AGAIN)[0]
                    alone = alone and len(faces) <= 1
                    if faces and last is None:
                        face = select_face(faces, tuple(picture.shape[:2]), policy, index)
                    elif faces:
                        face = nearest(faces, last, math.inf if alone else _REACH) if person is None else \
                            person.among(faces, last)
                if face is not None and person is not None:
                    person.accept(face)
                missing = missing + 1 if face is None else 0
                last = face or last
                yield face

    @torch.no_grad()
    def follow(self, frames: Tensor, face: Face) -> Tensor:
        """Landmarks of a known face in frames that look much like the one it was found in; nothing is detected.

        Args:
            frames: [B, H, W, C], 0 to 1.
            face: where to look first.

        Returns:
            [B, 478, 3] on the CPU, NaN where the mesh sees no face.
        """
        found = self._follow([self._prepare(frame) for frame in frames], face, 0.5)
        lost = torch.full((POINTS, 3), float("nan"))
        return torch.stack([lost if one is None else one.landmarks for one in found])

    @torch.no_grad()
    def read(self, image: Tensor, roi: Roi, settle: bool = True, min_presence: float = 0.5) -> Face | None:
        """The face that somebody says lies in a square of a picture; nothing is detected.

        Args:
            image: [H, W, C], 0 to 1.
            roi: the square that the mesh sees first, half as large again as the face.
            settle: let the square follow the landmarks and try it at four angles, as everywhere else; else it is read
                once as given.
            min_presence: the least confidence of the mesh.

        Returns:
            None where the mesh sees no face.
        """
        picture = self._prepare(image)
        with one_thread(self.device):
            if settle:
                landmarks, presence, scores = self._read([picture], [roi])
            else:
                landmarks, presence = self._mesh([picture], [roi])
                scores = self.networks["blendshapes"](upright(landmarks[0])[None].to(self.device)).cpu()
            if float(presence[0]) < min_presence:
                return None
            face = Face(landmarks[0], scores[0], bounds(landmarks[0]), 1.0, float(presence[0]))
            if settle:
                face = self._upright(picture, face, min_presence)[0]
        return replace(face, box=bounds(face.landmarks))

    @torch.no_grad()
    def landmarks_in(self, image: Tensor, rois: Sequence[Roi]) -> Tensor:
        """[N, 478, 3] landmarks that the mesh draws into squares of a picture [H, W, C], each read once as given."""
        with one_thread(self.device):
            return self._mesh([self._prepare(image)] * len(rois), rois)[0]

    def _follow(self, pictures: list[Tensor], last: Face, min_presence: float) -> list[Face | None]:
        """The face in frames that come soon after ``last``; None where the mesh does not see it any more."""
        with one_thread(self.device):
            landmarks, presence, blendshapes = self._read(pictures, [landmark_roi(last.landmarks)] * len(pictures))
        return [Face(points, scores, bounds(points), last.score, sure) if sure >= min_presence else None
                for points, sure, scores in zip(landmarks, presence.tolist(), blendshapes, strict=True)]

    # ---- landmarks

    def _mesh(self, pictures: Sequence[Tensor], rois: Sequence[Roi]) -> tuple[Tensor, Tensor]:
        """One pass: landmarks [N, 478, 3] in picture pixels and presence [N], both on the CPU."""
        landmarks, presence = torch.zeros(len(rois), POINTS, 3), torch.zeros(len(rois))
        jobs = [i for i, roi in enumerate(rois) if roi.usable(*pictures[i].shape[:2])]
        for start in range(0, len(jobs), _BATCH):
            part = jobs[start:start + _BATCH]
            crops = torch.stack([sample(pictures[i], rois[i], SIZE, "border") for i in part])
            points, sure = self.networks["mesh"](crops.contiguous(memory_format=torch.channels_last))
            presence[part] = sure.cpu()
            for i, face in zip(part, points.cpu() / SIZE, strict=True):
                landmarks[i] = rois[i].to_picture(face)
        return landmarks, presence

    def _read(self, pictures: Sequence[Tensor], rois: Sequence[Roi]) -> tuple[Tensor, Tensor, Tensor]:
        """Landmarks [N, 478, 3], presence [N] and blendshapes [N, 52], from crops that settle on the faces."""
        if not rois:
            return torch.zeros(0, POINTS, 3), torch.zeros(0), torch.zeros(0, len(NAMES))
        landmarks, presence = self._mesh(pictures, rois)
        active = list(range(len(rois)))
        for _ in range(2):
            crops = {i: landmark_roi(landmarks[i]) for i in active}
            landmarks[active], presence[active] = self._mesh([pictures[i] for i in active], list(crops.values()))
            active = [i for i in active if shift(crops[i], landmark_roi(landmarks[i])) > _MOVED]
            if not active:
                break
        turned = torch.stack([upright(points) for points in landmarks]).to(self.device)
        return landmarks, presence, self.networks["blendshapes"](turned).cpu()


def _apart(landmarks: Tensor, detections: Sequence[Detection]) -> float:
    """Mean distance between the detector's eyes, nose and mouth and the mesh's, in outer-eye distances."""
    features = torch.stack([landmarks[list(indices), :2].mean(0) for indices in _FEATURES])
    unit = float((landmarks[33, :2] - landmarks[263, :2]).norm())
    apart = [float((item.keypoints[:4] - features).norm(dim=-1).mean()) for item in detections]
    return sum(apart) / len(apart) / unit if apart and unit > 0 else math.inf


def load_networks(path: Path) -> dict[str, nn.Module]:
    """The networks with the weights of a file, float32, by the names of ``NETWORKS``.

    Raises:
        PlaymateError: the file is missing, unreadable, or holds something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise PlaymateError(f"The face weights {path} cannot be read ({error}); "
                            "use the file that ships with the package.") from error
    networks = {}
    for name, kind in NETWORKS.items():
        state = {key[len(name) + 1:]: value for key, value in weights.items() if key.startswith(f"{name}.")}
        network = kind()
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise PlaymateError(f"{path} does not hold MediaPipe's face networks ({name} does not fit); use the "
                                "file that ships with the package.") from error
        networks[name] = network.requires_grad_(False).to(memory_format=torch.channels_last)
    return networks


def _batches(frames: Iterable[Tensor], size: int) -> Iterator[list[Tensor]]:
    """Single frames [H, W, C] in lists of at most ``size``, from frames or batches of frames."""
    waiting: list[Tensor] = []
    for item in frames:
        for frame in item if item.ndim == 4 else [item]:
            waiting.append(frame)
            if len(waiting) == size:
                yield waiting
                waiting = []
    if waiting:
        yield waiting
