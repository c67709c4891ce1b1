"""The renderer's networks under ComfyUI's memory manager, without a server."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch

from tests.node_helpers import node_modules


@pytest.fixture()
def pack(monkeypatch):
    asked, wrapped = [], []
    patcher = ModuleType("comfy.model_patcher")

    class ModelPatcher:
        def __init__(self, model, load_device, offload_device):
            self.model, self.load_device, self.offload_device = model, load_device, offload_device
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
    assert pack.wrapped[0].model is networks and pack.wrapped[0].load_device == torch.device("cpu")
    assert not pack.asked
    ready(123)
    (models, more), = pack.asked
    assert models == pack.wrapped and more["memory_required"] == 123


@pytest.mark.parametrize("half, brain, wanted", [(True, True, torch.float16), (False, True, torch.bfloat16),
                                                 (False, False, torch.float32)])
def test_dtype_follows_the_device(pack, half, brain, wanted):
    pack.management.should_use_fp16 = lambda device: half
    pack.management.should_use_bf16 = lambda device: brain
    assert pack.memory.drawing_dtype("cuda") is wanted
    assert pack.memory.drawing_dtype("cpu") is torch.float32
