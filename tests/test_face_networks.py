"""The face networks give MediaPipe's own outputs, as LiteRT computed them (laboratory.measures.face_parity --fixture).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from playmate_core.face.analyzer import NETWORKS, FaceAnalyzer, load_networks
from playmate_core.face.blendshapes import LANDMARKS, NAMES
from playmate_core.face.detector import box_overlap, weighted_suppression
from playmate_core.face.layers import Conv2dSame, one_thread
from playmate_core.runtime.errors import PlaymateError
from playmate_core.weights import BUNDLED, bundled

FIXTURE = Path(__file__).parent / "data" / "face_parity.safetensors"


@pytest.fixture(scope="module")
def reference() -> dict[str, torch.Tensor]:
    return load_file(FIXTURE)


@pytest.fixture(scope="module")
def networks():
    return {name: network.eval() for name, network in load_networks(bundled("face.safetensors")).items()}


def picture(reference, kind: str, name: str) -> torch.Tensor:
    """[1, 3, side, side] 0 to 1, as it was shown to LiteRT."""
    if name == "drawn":
        factor = reference[f"{kind}.astronaut"].shape[0] // reference["drawn"].shape[0]
        image = reference["drawn"].repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    else:
        image = reference[f"{kind}.{name}"]
    return image.permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("name", ["astronaut", "drawn"])
@pytest.mark.parametrize("kind", ["short", "full"])
def test_detectors_equal_the_originals(reference, networks, kind, name):
    values, logits = networks[f"detector_{kind}"].raw(picture(reference, kind, name) * 2 - 1)
    torch.testing.assert_close(logits[0], reference[f"{kind}.{name}.logits"], atol=2e-3, rtol=1e-4)
    anchors = reference[f"{kind}.{name}.anchors"].long()
    torch.testing.assert_close(values[0, anchors], reference[f"{kind}.{name}.values"], atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("name", ["astronaut", "drawn"])
def test_mesh_equals_the_original(reference, networks, name):
    landmarks, presence = networks["mesh"](picture(reference, "mesh", name))
    torch.testing.assert_close(landmarks[0], reference[f"mesh.{name}.landmarks"], atol=5e-3, rtol=0)
    torch.testing.assert_close(presence[0], reference[f"mesh.{name}.presence"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["astronaut", "drawn"])
def test_blendshapes_equal_the_original(reference, networks, name):
    scores = networks["blendshapes"](reference[f"mesh.{name}.landmarks"][None])[0]
    torch.testing.assert_close(scores, reference[f"blendshapes.{name}"], atol=1e-4, rtol=0)


def test_blendshapes_read_the_smile(reference, networks):
    scores = dict(zip(NAMES, networks["blendshapes"](reference["mesh.astronaut.landmarks"][None])[0].tolist(),
                      strict=True))
    assert scores["mouthSmileLeft"] > 0.6 and scores["mouthSmileRight"] > 0.6
    assert scores["mouthPucker"] < 0.2 and scores["eyeBlinkLeft"] < 0.5


def test_blendshapes_do_not_see_place_and_size(reference, networks):
    landmarks = reference["mesh.astronaut.landmarks"][None]
    torch.testing.assert_close(networks["blendshapes"](landmarks * 3.5 + 100), networks["blendshapes"](landmarks),
                               atol=1e-4, rtol=0)


def test_detector_boxes_hold_their_keypoints(reference, networks):
    boxes, keypoints, scores = networks["detector_short"](picture(reference, "short", "astronaut"))
    box, points, score = weighted_suppression(boxes[0], keypoints[0], scores[0])
    assert len(box) == 1 and score[0] > 0.8
    assert 0.33 < box[0, 0] < box[0, 2] < 0.55 and 0.13 < box[0, 1] < box[0, 3] < 0.37  # where the astronaut's face is
    eyes_and_mouth = points[0, :4]
    assert ((eyes_and_mouth > box[0, :2]) & (eyes_and_mouth < box[0, 2:])).all()
    assert eyes_and_mouth[0, 0] < eyes_and_mouth[1, 0]  # the picture's left eye first


def test_a_batch_gives_what_single_pictures_give(reference, networks):
    batch = torch.cat([picture(reference, "mesh", "astronaut"), picture(reference, "mesh", "drawn")])
    together = networks["mesh"](batch)[0]
    apart = torch.cat([networks["mesh"](item[None])[0] for item in batch])
    torch.testing.assert_close(together, apart, atol=2e-3, rtol=0)


def test_constants():
    assert len(NAMES) == len(set(NAMES)) == 52 and len(LANDMARKS) == len(set(LANDMARKS)) == 146
    assert NAMES[0] == "_neutral" and max(LANDMARKS) == 477


def test_weights_are_small_named_and_licensed():
    path = bundled("face.safetensors")
    assert path.stat().st_size < 5_000_000
    weights = load_file(path)
    assert {value.dtype for value in weights.values()} == {torch.float16}
    assert {key.split(".")[0] for key in weights} == set(NETWORKS)
    notice = (BUNDLED / "face.LICENSE.txt").read_text()
    assert "Apache License, Version 2.0" in notice and "MediaPipe" in notice


@pytest.mark.parametrize("case", ["foreign", "partial", "garbage", "missing"])
def test_wrong_weights_are_refused_with_one_sentence(tmp_path, case):
    path = tmp_path / "face.safetensors"
    if case == "foreign":
        save_file({"model.diffusion_model.weight": torch.zeros(4)}, path)
    elif case == "partial":
        weights = load_file(bundled("face.safetensors"))
        save_file({key: value for key, value in weights.items() if not key.startswith("mesh.stages.3")}, path)
    elif case == "garbage":
        path.write_bytes(b"this is not a safetensors file at all")
    with pytest.raises(PlaymateError, match="face.safetensors") as caught:
        FaceAnalyzer.load(path)
    assert "\n" not in str(caught.value)


def test_same_padding_puts_the_odd_pixel_last():
    layer = Conv2dSame(1, 1, 3, stride=2, bias=False)
    with torch.no_grad():
        layer.weight.fill_(1)
        out = layer(torch.ones(1, 1, 4, 4))
    assert out[0, 0].tolist() == [[9, 6], [6, 4]]  # TensorFlow pads such a layer below and to the right only


def test_weighted_suppression_averages_by_score():
    boxes = torch.tensor([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60], [0, 0, 10, 10.0]])
    keypoints = boxes[:, None, :2].clone()
    found, points, scores = weighted_suppression(boxes, keypoints, torch.tensor([0.9, 0.6, 0.7, 0.2]))
    torch.testing.assert_close(scores, torch.tensor([0.9, 0.7]))
    torch.testing.assert_close(found, torch.tensor([[0.4, 0, 10.4, 10], [50, 50, 60, 60]]))
    torch.testing.assert_close(points[0, 0], torch.tensor([0.4, 0]))
    nothing = weighted_suppression(boxes, keypoints, torch.zeros(4))
    assert [len(part) for part in nothing] == [0, 0, 0]


def test_overlap_of_boxes():
    boxes = torch.tensor([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 5, 5.0]])
    overlap = box_overlap(boxes, boxes)
    torch.testing.assert_close(overlap[0], torch.tensor([1, 1 / 3, 0]))
    assert overlap[2, 2] == 0


def test_the_callers_thread_count_comes_back():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(RuntimeError), one_thread(torch.device("cpu")):
            assert torch.get_num_threads() == 1
            raise RuntimeError
        assert torch.get_num_threads() == 2
        with one_thread(torch.device("cuda")):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
