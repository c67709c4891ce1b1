"""The pairwise transfer loss: its equations, that nothing but the named networks learns, and that it does learn."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from laboratory.training.crops import Crops, write_crops
from laboratory.training.loop import STATE
from laboratory.training.transfer import Transfer, TransferRun, TransferSettings, TransferTraining, _size, keypoints
from laboratory.training.vgg import Vgg19, perceptual
from playmate_core.motion.geometry import rotation_matrix
from playmate_core.render.liveportrait.appearance import AppearanceConfig, AppearanceExtractor
from playmate_core.render.liveportrait.generator import Generator, GeneratorConfig
from playmate_core.render.liveportrait.motion_extractor import MotionExtractor, MotionExtractorConfig
from playmate_core.render.liveportrait.warping import WarpingConfig, WarpingModule
from playmate_core.runtime.errors import PlaymateError

SIDE = 32
TRAINING = TransferTraining(batch=4, steps=4, learning_rate=2e-3, warm_up=2, decay=0.5, validate_every=100,
                            save_every=2, size=SIDE, compared=SIDE, apart=2, learned=("motion", "generator"))


def networks(seed=0):
    """The renderer's networks, as small as they come, with random weights."""
    torch.manual_seed(seed)
    dense = dict(block_expansion=4, max_features=8, num_blocks=1, reshape_depth=4, compress=2)
    made = SimpleNamespace(
        appearance=AppearanceExtractor(AppearanceConfig(3, 4, 2, 16, 4, 4, 1)),
        motion=MotionExtractor(MotionExtractorConfig(3, (1, 1), (8, 16), 5)),
        warping=WarpingModule(WarpingConfig(5, 4, 16, 2, 4, True, dense)),
        generator=Generator(GeneratorConfig(2, 4, 16, 2, 4, hidden=16)))
    with torch.no_grad():
        made.motion.detector.fc_kp.weight.normal_(std=0.3)
        made.motion.detector.fc_exp.weight.normal_(std=0.1)
        made.motion.detector.fc_scale.bias.fill_(1.0)
    return made


def features(seed=0):
    torch.manual_seed(seed)
    return Vgg19(width=4)


def clip_of(seed, frames=12, side=64):
    """A disc that moves (its pose) and a bar in it that grows and shrinks (its expression)."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    tint = torch.rand(3, 1, 1, generator=torch.Generator().manual_seed(seed))
    for frame in range(frames):
        cx, gap = 0.4 * np.sin(0.7 * frame + seed), 0.05 + 0.2 * abs(np.sin(1.1 * frame))
        disc = torch.sigmoid(30 * (0.5 - ((x - cx) ** 2 + y**2).sqrt()))
        bar = torch.sigmoid(40 * (gap - (y - 0.2).abs())) * torch.sigmoid(40 * (0.25 - (x - cx).abs()))
        yield (tint * disc * (1 - bar)).clamp(0, 1)


def write_pictures(folder, held_out=True):
    for seed in range(4 if held_out else 3):
        split = "heldout" if seed == 3 else "train"
        write_crops(folder / "crops" / f"c{seed}.safetensors", clip_of(seed), {"split": split})
    return folder


def in_double(corpus, out, **changed):
    """A run in float64; what is equal but for rounding is equal here."""
    nets = SimpleNamespace(**{role: network.double() for role, network in vars(networks()).items()})
    training = replace(TRAINING, **{"steps": 2, "batch": 2, "mixed_precision": "no", **changed})
    return TransferRun(corpus, nets, features().double(), TransferSettings(training), out, device="cpu")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def pair(corpus):
    return Crops(corpus).take(dict(clip=torch.tensor([0, 1]), first=torch.tensor([0, 3]), second=torch.tensor([5, 9])))


class TestCrops:
    def test_frames_come_back(self, corpus):
        crops = Crops(corpus)
        assert len(crops) == 3 and crops.lengths.tolist() == [12] * 3
        for number, picture in enumerate(clip_of(1)):
            assert float((crops.picture(1, number) - picture).abs().mean()) < 0.02

    def test_pairs_lie_apart(self, corpus):
        crops = Crops(corpus, apart=3)
        drawn = crops.draw(500, torch.Generator().manual_seed(0))
        away = (drawn["second"] - drawn["first"]).abs()
        assert int(torch.minimum(away, 12 - away).min()) == 3 and drawn["second"].max() == 11
        assert len(Crops(corpus, "heldout")) == 1

    def test_mistakes(self, tmp_path):
        with pytest.raises(PlaymateError, match="no crops"):
            Crops(tmp_path)
        save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
        with pytest.raises(PlaymateError, match="holds no crops"):
            Crops(tmp_path)
        (tmp_path / "a.safetensors").write_bytes(b"no")
        with pytest.raises(PlaymateError, match="cannot be read"):
            Crops(tmp_path)
        with pytest.raises(PlaymateError, match="no pictures"):
            write_crops(tmp_path / "b.safetensors", [], {})


class TestEquations:
    def test_keypoints_of_both_transfers(self, pair):
        """Eq. 2 and 3 written out; scale and translation travel with the pose."""
        nets = networks()
        i, j = (nets.motion.motion(torch.nn.functional.avg_pool2d(p, 2)) for p in pair)
        r = rotation_matrix(j["rotation"])
        flat = torch.tensor([1.0, 1.0, 0.0])
        for shape, got in ((i, keypoints(i, j, i)), (j, keypoints(j, j, i))):
            wanted = j["scale"][:, None] * (shape["kp"] @ r + i["exp"]) + (j["t"] * flat)[:, None]
            torch.testing.assert_close(got, wanted)

    def test_a_frame_with_itself_costs_nothing(self, pair):
        loss = Transfer(networks(), features(), TRAINING)
        with torch.no_grad():
            same, other = (loss(pair[0], picture)["transfer"] for picture in pair)
        assert float(same.max()) < 1e-4 < 1e-3 < float(other.min())

    def test_the_source_frame_is_all_that_differs(self, pair):
        """With one appearance and one set of canonical points both pictures are the same."""
        nets = networks()
        nets.appearance.forward = lambda picture: torch.ones(len(picture), 4, 4, 8, 8)
        told = nets.motion.motion

        def alike(picture):
            found = told(picture)
            return found | {"kp": torch.ones_like(found["kp"]) * 0.1, "exp": torch.zeros_like(found["exp"]),
                            "rotation": torch.zeros_like(found["rotation"]), "t": torch.zeros_like(found["t"]),
                            "scale": torch.ones_like(found["scale"])}

        nets.motion.motion = alike
        with torch.no_grad():
            assert float(Transfer(nets, features(), TRAINING)(*pair)["transfer"].max()) < 1e-4

    def test_gradients_reach_what_learns(self, pair):
        nets = networks()
        loss = Transfer(nets, features(), TRAINING)
        loss.total(loss(*pair)).sum().backward()
        for role, network in loss.networks.items():
            grown = [p.grad is not None and bool(p.grad.any()) for p in network.parameters()]
            assert any(grown) == (role in TRAINING.learned), role
        assert not loss.train().networks["warping"].training

    def test_keep_measures_the_way_gone(self, pair):
        nets = networks()
        assert float(Transfer(nets, features(), TRAINING, networks().motion)(*pair)["keep"].max()) < 1e-5
        assert float(Transfer(nets, features(), TRAINING, networks(1).motion)(*pair)["keep"].min()) > 1e-3

    def test_rounding_pulls_nothing(self):
        way = torch.tensor([1e-7, 0.01, 0.5], requires_grad=True)
        _size(way).sum().backward()
        assert abs(float(way.grad[0])) < 1e-5 and 0.1 < float(way.grad[1]) < 0.5 and float(way.grad[2]) > 0.99


class TestVgg:
    def test_maps_are_those_of_torchvisions_network(self):
        from torchvision.models import vgg19
        from torchvision.models.feature_extraction import create_feature_extractor

        torch.manual_seed(0)
        theirs, ours = vgg19(weights=None).eval(), Vgg19().eval()
        held = theirs.state_dict()
        ours.load_state_dict({key: held[key] for key in ours.state_dict()})
        picture = torch.rand(1, 3, 32, 32)
        wanted = create_feature_extractor(theirs, [f"features.{n}" for n in (1, 6, 11, 20, 29)])
        with torch.no_grad():
            maps = wanted((picture - ours.mean) / ours.deviation)
            for a, b in zip(ours(picture), maps.values(), strict=True):
                torch.testing.assert_close(a, b)

    def test_loading(self, tmp_path):
        with pytest.raises(PlaymateError, match="no VGG19 weights"):
            Vgg19.load(tmp_path / "vgg19.pth")
        weights = features(3).state_dict()
        torch.save(weights | {"classifier.0.weight": torch.zeros(2)}, tmp_path / "vgg19.pth")
        assert torch.equal(Vgg19.load(tmp_path / "vgg19.pth").features[0].weight, weights["features.0.weight"])
        save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
        with pytest.raises(PlaymateError, match="does not hold torchvision's VGG19"):
            Vgg19.load(tmp_path / "other.safetensors")
        save_file({k: v for k, v in weights.items() if "28" not in k}, tmp_path / "short.safetensors")
        with pytest.raises(PlaymateError, match="features.28.weight is not there"):
            Vgg19.load(tmp_path / "short.safetensors")

    def test_distance(self):
        a = [torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 2, 2)]
        b = [torch.full((2, 3, 4, 4), 2.0), torch.full((2, 5, 2, 2), 4.0)]
        torch.testing.assert_close(perceptual(a, b), torch.tensor([3.0, 3.0]))
        assert len(features()(torch.rand(1, 3, 16, 16))) == 5


class TestRun:
    def run(self, corpus, out, resume=False, **changed):
        training = TransferTraining(**{**TRAINING.__dict__, **changed})
        return TransferRun(corpus, networks(), features(), TransferSettings(training), out, resume=resume,
                           device="cpu")

    def test_it_learns(self, corpus, tmp_path):
        run = self.run(corpus, tmp_path, steps=25, warm_up=3, save_every=100)  # and at the end
        before = run._figures(run.averaged())
        frozen = {k: v.clone() for k, v in run._plain().networks["warping"].state_dict().items()}
        reached = run.train(show=False)
        assert reached["val_reconstruction"] < 0.9 * before["val_reconstruction"]
        assert reached["val_pixels"] < 0.8 * before["val_pixels"]
        assert all(torch.equal(v, frozen[k]) for k, v in run._plain().networks["warping"].state_dict().items())
        written = load_file(tmp_path / "motion_extractor.safetensors")
        fresh = networks().motion
        fresh.load_state_dict(written)
        assert (tmp_path / "spade_generator.safetensors").is_file()
        assert not (tmp_path / "warping_module.safetensors").exists()

    def test_resuming_goes_on_exactly(self, corpus, tmp_path):
        whole = self.run(corpus, tmp_path / "a")
        whole.train(show=False)
        part = self.run(corpus, tmp_path / "b")
        for step in range(2):
            part._learn(step / 4)
            part.step += 1
        part.save()
        again = self.run(corpus, tmp_path / "b", resume=True)
        again.train(show=False)
        a, b = (torch.load(tmp_path / n / STATE, weights_only=True)["net"] for n in "ab")
        for key, value in a.items():
            assert torch.equal(value, b[key]), key

    def test_pieces_are_the_whole(self, corpus, tmp_path):
        """In float64, and the default, M alone, in float32: Adam makes more or less of its rounding, as the processor
        has it, but a piece that was forgotten would cost about half of the way."""
        for make, most in ((in_double, 1e-5), (self.run, 0.2)):
            runs = [make(corpus, tmp_path / f"{most}-{pieces}", learned=("motion",), accumulate=pieces, steps=2)
                    for pieces in (1, 2)]
            for run in runs:
                run.train(show=False)
            one, two = (run._learner().state_dict() for run in runs)
            way = sum(float((one[f"motion.{k}"] - v).abs().sum()) for k, v in networks().motion.state_dict().items())
            assert way > 0 and sum(float((one[k] - two[k]).abs().sum()) for k in one) < most * way

    def test_all_held_out(self, tmp_path):
        write_crops(tmp_path / "crops" / "c.safetensors", clip_of(0), {"split": "heldout"})
        with pytest.raises(PlaymateError, match="all held out"):
            self.run(tmp_path, tmp_path / "run")


class TestSettings:
    def test_files(self, tmp_path):
        assert TransferSettings.load().training == TransferTraining()
        path = tmp_path / "t.json"
        path.write_text(TransferSettings(TRAINING).to_json())
        assert TransferSettings.load(path).training == TRAINING
        with pytest.raises(PlaymateError, match="no training config"):
            TransferSettings.load(tmp_path / "none.json")

    @pytest.mark.parametrize("text, sentence", [
        ("{", "not valid JSON"), ("[]", "must hold names and values in braces"),
        (json.dumps(dict(training=dict(hats=1))), "training knows no hats; it knows accumulate, .*transfer"),
        (json.dumps(dict(training=dict(learned=["ears"]))),
         "training learned 0 is 'ears'; it must be 'appearance', 'motion', 'warping' or 'generator'"),
        (json.dumps(dict(training=dict(learned=[]))), "training learned .*at least 1"),
        (json.dumps(dict(training=dict(keep=-1))), "training keep is -1; it must be greater than or equal to 0")])
    def test_mistakes(self, tmp_path, text, sentence):
        (tmp_path / "t.json").write_text(text)
        with pytest.raises(PlaymateError, match=sentence):
            TransferSettings.load(tmp_path / "t.json")
