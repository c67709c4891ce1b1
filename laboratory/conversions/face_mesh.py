"""Reads MediaPipe's canonical face (468 vertices, 898 triangles) out of face_landmarker.task for the landmark renderer.

    python -m laboratory.conversions.face_mesh face_landmarker.task playmate_core/weights/bundled/face_mesh.safetensors

The .task file is a zip archive that several packages ship (Apache-2.0); its member
``geometry_pipeline_metadata_landmarks.binarypb`` is a protobuf message. Its field 1 is the mesh: repeated
field 3 holds the vertex buffer (x, y, z, u, v a vertex; centimetres, y up, z towards the viewer), repeated
field 4 the triangle indices. No protobuf library is needed for that much.
"""

from __future__ import annotations

import argparse
import os
import struct
import zipfile

import numpy as np

MEMBER = "geometry_pipeline_metadata_landmarks.binarypb"


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def _fields(data: bytes):
    """(field number, value) of every field in one protobuf message; 32-bit values are read as floats."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
        elif kind == 2:
            size, at = _varint(data, at)
            value, at = data[at:at + size], at + size
        elif kind == 5:
            value, at = struct.unpack("<f", data[at:at + 4])[0], at + 4
        else:
            raise ValueError(f"unexpected wire type {kind} in {MEMBER}")
        yield tag >> 3, value


def canonical_mesh(task_path: str) -> tuple[np.ndarray, np.ndarray]:
    """vertices [468, 3] float32 in the picture's axes (x right, y down, z away), triangles [898, 3] int16."""
    with zipfile.ZipFile(task_path) as archive:
        mesh = next(value for number, value in _fields(archive.read(MEMBER)) if number == 1)
    vertices, indices = [], []
    for number, value in _fields(mesh):
        if number == 3:
            vertices.append(value)
        elif number == 4:
            indices.append(value)
    xyz = np.array(vertices, np.float32).reshape(-1, 5)[:, :3] * np.array([1, -1, -1], np.float32)
    return xyz, np.array(indices, np.int16).reshape(-1, 3)


def main() -> None:
    from safetensors.numpy import save

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task")
    parser.add_argument("out")
    args = parser.parse_args()
    vertices, triangles = canonical_mesh(args.task)
    metadata = {"source": "MediaPipe face_landmarker.task, canonical face model", "licence": "Apache-2.0"}
    temporary = args.out + ".part"
    with open(temporary, "wb") as file:
        file.write(save({"vertices": vertices, "triangles": triangles}, metadata))
    os.replace(temporary, args.out)


if __name__ == "__main__":
    main()
