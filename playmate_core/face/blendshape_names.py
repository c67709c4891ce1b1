"""ARKit's blendshapes by name, as the many programs that know them spell them.

One shape is ``mouthSmileLeft`` to ARKit and MediaPipe, ``MouthSmileLeft`` to Unreal, ``mouthSmile_L`` to many rigs and
``mouth_smile_left`` to some. Left and right are the person's own.
"""

from __future__ import annotations

import difflib
import math
import re
from typing import Mapping

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from .blendshapes import NAMES as MEDIAPIPE

NAMES: tuple[str, ...] = (*MEDIAPIPE[1:], "tongueOut")
"""The 52: MediaPipe's order without its ``_neutral``, and the tongue, which MediaPipe does not see."""

LIVE_LINK_NAMES: tuple[str, ...] = tuple(
    """EyeBlinkLeft EyeLookDownLeft EyeLookInLeft EyeLookOutLeft EyeLookUpLeft EyeSquintLeft EyeWideLeft EyeBlinkRight
    EyeLookDownRight EyeLookInRight EyeLookOutRight EyeLookUpRight EyeSquintRight EyeWideRight JawForward JawRight
    JawLeft JawOpen MouthClose MouthFunnel MouthPucker MouthRight MouthLeft MouthSmileLeft MouthSmileRight
    MouthFrownLeft MouthFrownRight MouthDimpleLeft MouthDimpleRight MouthStretchLeft MouthStretchRight MouthRollLower
    MouthRollUpper MouthShrugLower MouthShrugUpper MouthPressLeft MouthPressRight MouthLowerDownLeft
    MouthLowerDownRight MouthUpperUpLeft MouthUpperUpRight BrowDownLeft BrowDownRight BrowInnerUp BrowOuterUpLeft
    BrowOuterUpRight CheekPuff CheekSquintLeft CheekSquintRight NoseSneerLeft NoseSneerRight TongueOut""".split())
"""The 52 as the app Live Link Face names and orders them."""

GROUPS: dict[str, tuple[str, ...]] = {
    "brows": ("browInnerUp", "browDownLeft", "browDownRight", "browOuterUpLeft", "browOuterUpRight"),
    "eyes": ("eyeBlinkLeft", "eyeBlinkRight", "eyeWideLeft", "eyeWideRight", "eyeSquintLeft", "eyeSquintRight",
             "eyeLookUpLeft", "eyeLookUpRight", "eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft",
             "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight"),
    "jaw": ("jawOpen", "jawForward", "jawLeft", "jawRight"),
    "mouth": ("mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight", "mouthClose", "mouthFunnel",
              "mouthPucker", "mouthLeft", "mouthRight", "mouthUpperUpLeft", "mouthUpperUpRight", "mouthLowerDownLeft",
              "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthStretchLeft", "mouthStretchRight",
              "mouthDimpleLeft", "mouthDimpleRight", "mouthRollUpper", "mouthRollLower", "mouthShrugUpper",
              "mouthShrugLower"),
    "cheeks and nose": ("cheekPuff", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft", "noseSneerRight"),
    "tongue": ("tongueOut",),
}
"""The 52 by the part of the face that moves, in the order in which a hand looks for them."""

HIGHEST = 1.5
"""Largest weight that is taken by hand: half more than ARKit's own 1."""

EXAMPLE = "mouthSmileLeft 0.5, jawOpen 0.2"

DIVIDED = ("browInnerUp", "cheekPuff")
"""One shape to ARKit, two to rigs that have each side for itself."""
_SIDES = {"Left": "l", "Right": "r"}


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _spellings() -> dict[str, str]:
    known = {}
    for name in NAMES:
        known[_plain(name)] = name
        for side, letter in _SIDES.items():
            if name.endswith(side):
                base = _plain(name.removesuffix(side))
                known[base + letter] = known[side.lower() + base] = name
            if name in DIVIDED:
                known[_plain(name) + side.lower()] = known[_plain(name) + letter] = name
    return known


_SPELLINGS = _spellings()
_BOTH = {_plain(name.removesuffix("Left")): (name, name.removesuffix("Left") + "Right") for name in NAMES
         if name.endswith("Left") and name not in ("jawLeft", "mouthLeft")}


def shape_name(text: str) -> str | None:
    """ARKit's name of a shape in any spelling, also behind a node's name (``face.jawOpen``); None for anything else."""
    return _SPELLINGS.get(_plain(text)) or _SPELLINGS.get(_plain(re.split(r"[.:|/]", text)[-1]))


def shape_names(text: str) -> tuple[str, ...]:
    """As :func:`shape_name`; a name without its side means both.

    Raises:
        PlaymateError: no shape is called so.
    """
    name = shape_name(text)
    if name is not None:
        return (name,)
    if _plain(text) in _BOTH:
        return _BOTH[_plain(text)]
    near = difflib.get_close_matches(_plain(text), [*_SPELLINGS, *_BOTH], 1, 0.6)
    meant = near and (_SPELLINGS.get(near[0]) or " or ".join(_BOTH[near[0]]))
    hint = f"perhaps {meant} is meant." if meant else \
        f"they are called {NAMES[0]}, {NAMES[24]} and so on, as in '{EXAMPLE}'."
    raise PlaymateError(f"There is no {text!r} among ARKit's blendshapes; {hint}")


def parse_blendshapes(text: str) -> dict[str, float]:
    """Reads ``"mouthSmileLeft 0.5, jawOpen 20%"``: shapes in any spelling, each with its weight.

    Pieces are separated by commas, semicolons or line ends, name and weight by a space, "=" or ":". A name without
    its side means both sides; what is named twice counts with its last weight.

    Args:
        text: empty for none.

    Returns:
        Weights, 0 to HIGHEST, by ARKit's names.

    Raises:
        PlaymateError: a piece that is no shape and a weight, or a weight out of range; the sentence quotes it.
    """
    found: dict[str, float] = {}
    for piece in re.split(r"[;\n,]", text):
        piece = piece.strip().strip("\ufeff")
        if not piece:
            continue
        parts = re.match(r"(.*?[^\s=:])\s*[\s=:]\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*(%?)\Z", piece, re.I)
        if parts is None:
            shape_names(re.split(r"[\s=:]+", piece)[0])
            raise PlaymateError(f"{piece!r} among the blendshapes has no weight that can be read; write it as "
                                f"in '{EXAMPLE}'.")
        names = shape_names(parts[1])
        weight = float(parts[2]) / (100 if parts[3] else 1)
        if not math.isfinite(weight) or not 0 <= weight <= HIGHEST:
            raise PlaymateError(f"The weight in {piece!r} among the blendshapes is {weight:g}; it goes from 0 to "
                                f"1, at most to {HIGHEST:g}.")
        found.update(dict.fromkeys(names, weight))
    return found


def write_weights(weights: Mapping[str, float]) -> str:
    """Weights by ARKit's names as :func:`parse_blendshapes` reads them; what is 0 is left out."""
    return ", ".join(f"{name} {round(float(weight), 4):g}" for name, weight in weights.items()
                     if round(float(weight), 4))


def weight_vector(weights: Mapping[str, float]) -> Tensor:
    """[52] float32 in the order of NAMES, by ARKit's names; what is left out is 0."""
    return torch.tensor([float(weights.get(name, 0.0)) for name in NAMES])
