"""Networks under ComfyUI's memory manager: loaded when they are used, moved away when another model needs the room."""

from __future__ import annotations

from collections.abc import Callable

import comfy.model_management
import torch
from torch import nn


class PlaymateNetworks(nn.Sequential):
    """Networks as core's ModelPatcher sees them: it sets attributes such as ``device``, which some networks (those of
    transformers) compute and do not let be set."""


def host(device: torch.device | str) -> Callable[[nn.Module], Callable[[int], None]]:
    """For ``pipeline.load_models``: wraps networks in core's ModelPatcher.

    What it returns takes the networks and gives a function that puts them on ``device`` with so many bytes to work in.
    """
    def take_over(networks: nn.Module) -> Callable[[int], None]:
        import comfy.model_patcher

        patcher = comfy.model_patcher.ModelPatcher(
            PlaymateNetworks(networks), load_device=torch.device(device),
            offload_device=comfy.model_management.unet_offload_device())

        def ready(working_bytes: int) -> None:
            comfy.model_management.load_models_gpu([patcher], memory_required=working_bytes, force_full_load=True)
            # The manager moves leaf modules; parameters beside children come along only here. Nothing if all is there.
            networks.to(patcher.load_device)

        return ready

    return take_over


def drawing_dtype(device: torch.device | str) -> torch.dtype:
    """What ComfyUI's settings and the device allow for the renderer's large networks."""
    device = torch.device(device)
    if device.type == "cpu":
        return torch.float32
    if comfy.model_management.should_use_fp16(device):
        return torch.float16
    if comfy.model_management.should_use_bf16(device):
        return torch.bfloat16
    return torch.float32
