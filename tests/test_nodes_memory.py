"""Large networks under ComfyUI's memory manager, without a server."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch

from playmate_core.media.audio import Audio
from playmate_core.pipeline import load_models, load_motion_and_speech
from tests.diffusion_helpers import toy_model
from tests.joyvasa_helpers import audio_network, write_checkpoint, write_encoder
from tests.node_helpers import node_modules


@pytest.fixture()
def pack(monkeypatch):
    asked, wrapped = [], []
    patcher = ModuleType("comfy.model_patcher")

    class ModelPatcher:
        def __init__(self, model, load_device, offload_device):
            self.model, self.load_device, self.offload_device = model, load_device, offload_device
            model.device = offload_device  # as core does
            wrapped.append(self)

    patcher.ModelPatcher = ModelPatcher
    monkeypatch.setitem(sys.modules, "comfy.model_patcher", patcher)
    with node_modules("memory") as found:
        management = sys.modules["comfy.model_management"]
        sys.modules["comfy"].model_patcher = patcher
        management.unet_offload_device = lambda: torch.device("cpu")
        management.load_models_gpu = lambda models, **more: asked.append((models, more))
        found.asked, found.wrapped, found.management = asked, wrapped, management
        yield found


def test_networks_are_loaded_when_they_are_used(pack):
    networks = torch.nn.Linear(2, 2)
    ready = pack.memory.host("cpu")(networks)
    assert list(pack.wrapped[0].model) == [networks] and pack.wrapped[0].load_device == torch.device("cpu")
    assert not pack.asked
    ready(123)
    (models, more), = pack.asked
    assert models == pack.wrapped and more["memory_required"] == 123


def test_networks_that_compute_their_device_are_taken_too(pack):
    """As transformers' do; core sets the attribute."""
    network = audio_network("wav2vec2")
    pack.memory.host("cpu")(network)(1)
    assert network in pack.wrapped[0].model.children() and len(pack.asked) == 1


class Host:
    """Keeps networks away until they are asked for.

    Attributes:
        events: class of the network and, when it is asked for, the bytes to work with.
    """

    def __init__(self):
        self.events = []

    def __call__(self, network):
        kind, home = type(network).__name__, {key: value.clone() for key, value in network.state_dict().items()}
        for value in network.state_dict().values():
            value.zero_()

        def ready(working_bytes):
            self.events.append((kind, working_bytes))
            network.load_state_dict(home)

        self.events.append((kind, None))
        return ready


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A motion model of JoyVASA's, and Playmate's own with the wav2vec2 that it listens to."""
    folder = tmp_path_factory.mktemp("models")
    write_encoder(folder / "tiny", "wav2vec2")
    toy_model(encoder="tiny", features_dim=64).save(folder / "mine.safetensors")
    return {"joyvasa": write_checkpoint(folder / "joyvasa"), "playmate": folder / "mine.safetensors"}


@pytest.mark.parametrize("kind, networks", [("joyvasa", ["MotionGenerator", "HubertModel"]),
                                            ("playmate", ["ModuleList", "Wav2Vec2Model"])])
def test_motion_models_and_encoders_are_loaded_when_they_are_used(files, kind, networks):
    host, sound = Host(), Audio(torch.randn(24000, generator=torch.Generator().manual_seed(1)) * 0.1, 1.5)
    alone = load_motion_and_speech(files[kind])
    model, encoder = load_motion_and_speech(files[kind], host=host)
    assert sorted(host.events) == sorted((name, None) for name in networks)
    host.events.clear()
    heard = encoder.encode(sound)
    assert {name for name, _ in host.events} == {networks[1]}
    assert torch.equal(heard.features, alone[1].encode(sound).features)
    assert host.events[0][1] > 4 * 16 * 20 * 640 / 5  # what the first convolution gives for a window
    host.events.clear()
    motion = model.sample(heard, steps=2)
    assert {name for name, _ in host.events} == {networks[0]}
    assert torch.equal(motion.expression, alone[0].sample(heard, steps=2).expression)


def test_what_ships_with_the_nodes_stays_where_it_is(files):
    host = Host()
    load_models(host=host)
    assert not host.events
    load_models(motion_model=files["joyvasa"], host=host)
    assert len(host.events) == 2


@pytest.mark.parametrize("half, brain, wanted", [(True, True, torch.float16), (False, True, torch.bfloat16),
                                                 (False, False, torch.float32)])
def test_dtype_follows_the_device(pack, half, brain, wanted):
    pack.management.should_use_fp16 = lambda device: half
    pack.management.should_use_bf16 = lambda device: brain
    assert pack.memory.drawing_dtype("cuda") is wanted
    assert pack.memory.drawing_dtype("cpu") is torch.float32
