"""Lips against sound and phones, smoothness, background, identity and the paper's distances, on known answers."""

import math
import struct

import pytest
import torch

from playmate_core.evaluation.classifier import EmotionAccuracy, EmotionClassifier, face_crop, own_label
from playmate_core.evaluation.image import BackgroundChange, IdentityModel, IdentitySimilarity, head_region, identity
from playmate_core.evaluation.lips import compare, on_frames
from playmate_core.evaluation.motion import borders, face_shape, jitter, picture_shape, seam_velocity
from playmate_core.evaluation.paper import Fid, Fvd, Lpips, clips_of, frechet_distance
from playmate_core.evaluation.speech import closures, openness_estimate, phone_curves, read_phones
from playmate_core.evaluation.sync import SyncNet, SyncScore, load_syncnet, mfcc, sync_scores
from playmate_core.evaluation.tracking import FaceTrack
from playmate_core.face.geometry import mean_face
from playmate_core.motion.geometry import rotation_matrix
from playmate_core.runtime.errors import PlaymateError
from tests.render_helpers import drawn_face

# ---- lips


def test_curves_are_compared_with_lag_and_amplitude():
    curve = torch.sin(torch.arange(200) * 0.37) + torch.sin(torch.arange(200) * 0.11)
    found = compare(0.5 * torch.roll(curve, 2)[10:-10], curve[10:-10], 25.0)
    assert found["correlation"] > 0.99 and found["lag_ms"] == 80 and found["amplitude"] == pytest.approx(0.5, rel=0.05)
    assert found["correlation_at_0"] < 0.95


def test_a_curve_is_read_at_another_rate():
    curve = torch.arange(30.0)
    assert torch.allclose(on_frames(curve, 30.0, 25, 25.0), torch.arange(25) * 1.2, atol=1e-5)
    short = on_frames(curve, 25.0, 40, 25.0)
    assert torch.equal(short[:30], curve) and torch.isnan(short[30:]).all()
    assert torch.isnan(on_frames(curve, 30.0, 40, 25.0)[26:]).all()


def test_openness_follows_open_vowels_not_hum():
    time = torch.arange(2 * 16000) / 16000
    # A hum below 300 Hz all along, and a bright vowel-like sound in every second quarter of a second.
    open_now = ((time * 2).long() % 2).float()
    sound = 0.3 * torch.sin(2 * math.pi * 150 * time) + 0.2 * open_now * torch.sin(2 * math.pi * 2000 * time)
    estimate = openness_estimate(sound, 50, 25.0)
    wanted = open_now[(((torch.arange(50) + 0.5) / 25) * 16000).long()]
    assert float(torch.corrcoef(torch.stack([estimate, wanted]))[0, 1]) > 0.9
    assert torch.isfinite(openness_estimate(torch.zeros(10), 3, 25.0)).all()
    long = openness_estimate(sound.repeat(20), 1000, 25.0)  # pieces of 30 s join without a step
    assert (long[700:800] - long[100:200]).abs().max() < 0.02


@pytest.mark.parametrize("content", [
    "0.0 0.1 pau\n0.1 0.2 b\n0.2 0.5 aa1  # a comment\n0.5 0.6 uw\n",
    "pau 0.0 0.1\nB 0.1 0.2\nAA 0.2 0.5\nUW 0.5 0.6",
    '[["pau", 0, 0.1], ["b", 0.1, 0.2], ["aa", 0.2, 0.5], ["uw", 0.5, 0.6]]',
    '{"phones": [{"phone": "pau", "start": 0, "end": 0.1}, {"phone": "b", "start": 0.1, "end": 0.2}, '
    '{"phone": "aa", "start": 0.2, "end": 0.5}, {"phone": "uw", "start": 0.5, "end": 0.6}]}',
    '[["_", "silence", 0, 0.1], ["b", "closed", 0.1, 0.2], ["ɑ", "open", 0.2, 0.5], ["u", "round", 0.5, 0.6]]',
])
def test_phones_in_every_notation_mean_the_same(tmp_path, content):
    (tmp_path / "p").write_text(content, encoding="utf-8")
    phones = read_phones(tmp_path / "p")
    assert closures(phones) == [(0.1, 0.2)]
    gap, width = phone_curves(phones, 15, 25.0)
    assert gap[2:5].min() < 0.3 < gap[7:11].min() and int(gap.argmax()) in range(7, 12)
    assert width.argmin() >= 12


@pytest.mark.parametrize("content, message", [
    (None, "cannot be read"), ("", "empty"), ("a b c", "no 'phone start end'"), ("aa 0.5 0.1", "no 'phone start end'"),
    ("[1", "valid JSON"), ('[{"phone": "a"}]', "no 'phone start end'"),
])
def test_phones_that_cannot_be_read(tmp_path, content, message):
    if content is not None:
        (tmp_path / "p").write_text(content)
    with pytest.raises(PlaymateError, match=message):
        read_phones(tmp_path / "p")
    with pytest.raises(PlaymateError, match="alphabet"):
        read_phones(tmp_path / "p", "runes")


# ---- smoothness


def test_jitter_is_the_second_difference():
    even = torch.arange(20.0)[:, None] * torch.ones(1, 6)
    assert jitter(even) == 0
    assert jitter(torch.tensor([0.0, 1.0, 0.0, 1.0])[:, None]) == pytest.approx(2, rel=1e-5)
    even[8] = float("nan")
    assert jitter(even) == 0 and math.isnan(jitter(even[:2]))


def test_seams_are_found_where_they_are():
    calm = torch.sin(torch.arange(151) * 0.3)[:, None] * torch.ones(1, 63)
    assert borders(151) == [49, 99, 149] and borders(61, 50.0) == [] and borders(251, 50.0) == [99, 199]
    assert seam_velocity(calm)["share"] == 0 and seam_velocity(calm)["worst"] < 1
    torn = calm.clone()
    torn[100:] += 1
    found = seam_velocity(torn)
    assert found["share"] == pytest.approx(1 / 3, rel=1e-5) and found["worst"] > 2 and found["borders"] == 3
    jump = calm.clone()
    jump[75:] += 1
    assert seam_velocity(jump, changes=[3.0])["change_share"] == pytest.approx(1 / 5, rel=1e-5)
    assert seam_velocity(jump, changes=[1.4])["change_share"] == 0
    assert math.isnan(seam_velocity(calm[:30])["share"])


def test_a_turning_head_moves_in_the_picture_not_in_its_own_frame():
    turn = torch.zeros(30, 3)
    turn[:, 2] = 6 * torch.sin(torch.arange(30) * 1.1)
    track = FaceTrack.of(mean_face() @ rotation_matrix(turn) * 100 + 300, torch.full((30, 52), 0.1), 25.0)
    assert jitter(face_shape(track)) < 1e-4 < 0.01 < jitter(picture_shape(track))


# ---- background and identity


def test_background_counts_only_what_lies_outside_the_head():
    image, face = drawn_face(size=40.0)
    observer = BackgroundChange(image, face)
    moved = image.clone()
    moved[head_region(face.landmarks, 256, 256)] = 0.0
    observer(0, image, face)
    observer(1, moved, face)
    observer(2, moved * 0, None)
    assert observer.result()["largest"] == 0 and observer.result()["frames"] == 2
    observer(3, (image + 0.1).float(), face)
    assert observer.result()["largest"] == pytest.approx(0.1, abs=1e-3) and 0.3 < observer.result()["share"] < 0.95
    with pytest.raises(PlaymateError, match="made from"):
        observer(4, torch.zeros(100, 100, 3), face)


def test_background_starts_at_the_first_face_and_needs_room():
    image, face = drawn_face(size=40.0)
    observer = BackgroundChange()
    observer(0, image, None)
    observer(1, image, face)
    observer(2, torch.nn.functional.pad(image, (0, 0, 0, 1)), face)  # an encoder's padding
    assert observer.result()["frames"] == 2 and observer.result()["mean"] == 0
    image, face = drawn_face(size=150.0)
    full = BackgroundChange(image, face)
    full(0, image, face)
    assert math.isnan(full.result()["mean"])


def test_identity_is_the_shape_of_the_face_in_any_pose():
    shape = mean_face()
    turn = torch.linspace(-20, 20, 10)[:, None] * torch.tensor([0.3, 1.0, 0.5])
    same = FaceTrack.of(shape @ rotation_matrix(turn) * 70 + 100, torch.zeros(10, 52) + 0.1, 25.0)
    assert identity(same, shape * 200)["mean"] < 1e-4
    other = shape * torch.tensor([1.0, 1.2, 1.0])
    assert identity(same, other)["median"] > 0.03


def onnx_file(path, side: int, outputs: int):
    """A network in ONNX that averages 3 x side x side pictures over each of ``outputs`` // 3 horizontal bands."""
    def field(number, value):
        if isinstance(value, int):
            return varint(number << 3) + varint(value)
        data = value.encode() if isinstance(value, str) else value
        return varint(number << 3 | 2) + varint(len(data)) + data

    def varint(n):
        out = b""
        while n > 127:
            out, n = out + bytes([n & 127 | 128]), n >> 7
        return out + bytes([n])

    def tensor_type(name, shape):
        dims = b"".join(field(1, field(1, d)) for d in shape)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))

    bands = outputs // 3
    kernel = field(1, "kernel_shape") + b"".join(field(8, k) for k in (side // bands, side)) + field(20, 7)
    strides = field(1, "strides") + b"".join(field(8, k) for k in (side // bands, side)) + field(20, 7)
    pool = field(1, "x") + field(2, "p") + field(4, "AveragePool") + field(5, kernel) + field(5, strides)
    flat = field(1, "p") + field(2, "y") + field(4, "Flatten") + field(5, field(1, "axis") + field(3, 1) + field(20, 2))
    graph = (field(1, pool) + field(1, flat) + field(2, "g") + field(11, tensor_type("x", (1, 3, side, side)))
             + field(12, tensor_type("y", (1, outputs))))
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13)))
    return path


def test_csim_by_a_given_network(tmp_path):
    model = IdentityModel(onnx_file(tmp_path / "id.onnx", 112, 12))
    image, face = drawn_face(open_mouth=0.2)
    similarity = IdentitySimilarity(model, image, face)
    similarity(0, image, face)
    similarity(1, image, None)
    assert similarity.result() == pytest.approx(1, rel=1e-5)
    similarity(1, 1 - image, face)
    assert similarity.result() < 0.9
    with pytest.raises(PlaymateError, match="needed for CSIM"):
        IdentityModel(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(struct.pack("4i", 1, 2, 3, 4))
    with pytest.raises(PlaymateError, match="no ONNX network"):
        IdentityModel(tmp_path / "bad.onnx")


# ---- classifiers


def test_class_names_of_open_classifiers():
    names = ("Anger", "disgust", "Fearful", "Happiness", "sadness", "Surprise", "neutral", "bored")
    assert [own_label(name) for name in names] == [
        "angry", "disgusted", "fear", "happy", "sad", "surprised", "neutral", None]


def test_accuracy_of_a_classifier_that_sees_brightness():
    image, face = drawn_face()
    classifier = EmotionClassifier(lambda crop: torch.stack([crop.mean(), -crop.mean()]) * 9, ["happy", "sad"], 32)
    accuracy = EmotionAccuracy(classifier, "happy", stride=1)
    for picture in (image + 0.5, image + 0.4, image - 0.5):
        accuracy(0, picture, face)
    accuracy(0, image, None)
    found = accuracy.result()
    assert found["accuracy"] == pytest.approx(2 / 3, rel=1e-5) and found["verdict"] == "happy" and found["frames"] == 3
    assert found["probabilities"]["angry"] == 0
    assert math.isnan(EmotionAccuracy(classifier, "sad").result()["accuracy"])
    with pytest.raises(PlaymateError, match="facial expressions"):
        EmotionClassifier(lambda crop: crop, ["happy", None], 32)


def test_the_crop_is_the_face():
    image, face = drawn_face(size=60.0)
    crop = face_crop(image, face.landmarks, 64)
    assert crop.shape == (1, 3, 64, 64)
    red = (crop[0, 0] - crop[0, 2]) > 0.2  # skin
    assert red[16:48, 16:48].float().mean() > 0.7 > 0.5 > red[:, :6].float().mean()


def test_a_folder_of_transformers_and_a_file_of_hsemotion(tmp_path):
    from transformers import ViTConfig, ViTForImageClassification

    names = {i: name for i, name in enumerate(("anger", "happiness", "boredom"))}
    config = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=32,
                       patch_size=16, id2label=names, label2id={v: k for k, v in names.items()})
    torch.manual_seed(0)
    ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").write_text(
        '{"size": {"height": 32, "width": 32}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}')
    image, face = drawn_face()
    classifier = EmotionClassifier.load(tmp_path / "vit")
    found = classifier(image, face.landmarks)
    assert classifier.size == 32 and float(found.sum()) == pytest.approx(1, rel=1e-5) and int((found > 0).sum()) == 2
    other = EmotionClassifier.load(onnx_file(tmp_path / "h.onnx", 224, 12))
    assert float(other(image, face.landmarks).sum()) == pytest.approx(1, rel=1e-5)
    with pytest.raises(PlaymateError, match="8 classes"):
        EmotionClassifier.load(onnx_file(tmp_path / "h3.onnx", 224, 3))(image, face.landmarks)


@pytest.mark.parametrize("name, message", [("none", "no emotion classifier"), ("empty", "has no config.json"),
                                           ("bad", "cannot be loaded")])
def test_classifiers_that_are_not_there(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text('{"model_type": "vit"}')
    (tmp_path / "bad" / "model.safetensors").write_bytes(b"12345678")
    with pytest.raises(PlaymateError, match=message):
        EmotionClassifier.load(tmp_path / name)


# ---- the paper's measures


def test_frechet_distance_of_known_gaussians():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(4000, 3, generator=generator)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(a, a + torch.tensor([3.0, 0.0, 4.0])) == pytest.approx(25, rel=1e-4)
    # Equal means, standard deviations 1 and 2 in three dimensions: (2 - 1)^2 each.
    centred = a - a.mean(0)
    assert frechet_distance(centred, 2 * centred) == pytest.approx(float(torch.cov(a.T).trace()), rel=1e-5)
    with pytest.raises(PlaymateError, match="at least two"):
        frechet_distance(a[:1], a)


class Mean(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float().flatten(2).mean(2)


def test_fid_and_fvd_by_given_networks(tmp_path):
    torch.jit.script(Mean()).save(str(tmp_path / "net.pt"))
    generator = torch.Generator().manual_seed(0)
    a = [torch.rand(8, 8, 3, generator=generator) for _ in range(48)]
    b = [0.5 * x for x in a]
    fid, fvd = Fid(tmp_path / "net.pt"), Fvd(tmp_path / "net.pt")
    assert fid(a, a) == pytest.approx(0, abs=1e-3) and fid(a, b) > 1000
    assert fvd(a, a) == pytest.approx(0, abs=1e-5) and fvd(a, b) > 0.1
    clips = list(clips_of(a))
    assert len(clips) == 3 and clips[0].shape == (1, 3, 16, 224, 224)
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    for kind, word in ((Fid, "FID"), (Fvd, "FVD")):
        with pytest.raises(PlaymateError, match=f"needed for {word}"):
            kind(tmp_path / "none.pt")
        with pytest.raises(PlaymateError, match="no TorchScript"):
            kind(tmp_path / "bad.pt")


def test_lpips_refuses_without_its_package_or_weights(tmp_path):
    with pytest.raises(PlaymateError, match="pip install lpips|no AlexNet weights"):
        Lpips(tmp_path / "alex.safetensors")


def test_syncnet_scores_find_the_lag():
    generator = torch.Generator().manual_seed(0)
    sounds = torch.randn(80, 16, generator=generator)
    found = sync_scores(torch.roll(sounds, -3, 0), sounds)
    assert found["offset"] == 3 and found["confidence"] > 2
    assert sync_scores(torch.randn(80, 16, generator=generator), sounds)["confidence"] < 1


def test_mfcc_of_a_tone_and_of_silence():
    time = torch.arange(16000) / 16000
    columns = mfcc(0.5 * torch.sin(2 * math.pi * 1000 * time))
    assert columns.shape == (13, 99)
    assert (columns[:, 10] - columns[:, 50]).abs().max() < 0.5 and torch.isfinite(mfcc(torch.zeros(800))).all()
    # The first coefficient is the log energy: half the amplitude is a quarter of the power.
    half = mfcc(0.25 * torch.sin(2 * math.pi * 1000 * time))
    assert float(columns[0, 50] - half[0, 50]) == pytest.approx(math.log(4), abs=1e-3)


def test_sync_by_a_given_network(tmp_path):
    from safetensors.torch import save_file

    torch.manual_seed(0)
    network = SyncNet()
    # Names as in the published weights.
    names = set(network.state_dict())
    assert {"netcnnaud.4.weight", "netcnnaud.18.weight", "netcnnlip.4.weight", "netcnnlip.18.weight",
            "netfclip.3.bias"} <= names
    save_file(network.state_dict(), str(tmp_path / "s.safetensors"))
    image, face = drawn_face()
    score = SyncScore(load_syncnet(tmp_path / "s.safetensors"), 25.0)
    for number in range(7):
        score(number, image, None if number == 2 else face)
    found = score.result(torch.randn(16000) * 0.1)
    assert math.isfinite(found["confidence"]) and found["distance"] > 0
    with pytest.raises(PlaymateError, match="25 frames"):
        SyncScore(network, 30.0)
    with pytest.raises(PlaymateError, match="too short"):
        SyncScore(network, 25.0).result(torch.zeros(16000))
    with pytest.raises(PlaymateError, match="needed for Sync-C"):
        load_syncnet(tmp_path / "none.safetensors")
    save_file({"a": torch.zeros(1)}, str(tmp_path / "a.safetensors"))
    with pytest.raises(PlaymateError, match="SyncNet's weights"):
        load_syncnet(tmp_path / "a.safetensors")
