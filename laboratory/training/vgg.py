"""Features of torchvision's VGG19 (Simonyan and Zisserman 2015), by which pictures are compared in Eq. 4."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from playmate_core.runtime.errors import PlaymateError

TAPS = (1, 6, 11, 20, 29)
"""Layers of ``features`` whose maps are compared: relu1_1 to relu5_1. The paper does not name its layers."""
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Vgg19(nn.Module):
    """A picture as five maps of features.

    Args:
        width: 64 as published; tests use less.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        from torchvision.models import vgg

        plan = [each if each == "M" else each * width // 64 for each in vgg.cfgs["E"]]
        self.features = vgg.make_layers(plan)[:TAPS[-1] + 1]
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION)[:, None, None], persistent=False)
        self.requires_grad_(False)

    def forward(self, picture: Tensor) -> list[Tensor]:
        """[B, 3, H, W] RGB 0..1, sides of 16 or more -> five maps [B, C, h, w]."""
        x, maps = (picture - self.mean) / self.deviation, []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in TAPS:
                maps.append(x)
        return maps

    @staticmethod
    def load(path: str | Path) -> Vgg19:
        """The network with torchvision's weights, ``.pth`` or ``.safetensors``; a classifier in the file is ignored.

        Its width is the file's, so that a small one will do for trials.

        Raises:
            PlaymateError: no such file, a damaged one, or another network's.
        """
        from playmate_core.weights.tensors import load_table

        path = Path(path)
        if not path.is_file():
            raise PlaymateError(f"There are no VGG19 weights at {path}; download torchvision's vgg19 (IMAGENET1K_V1) "
                                "and give its file.")
        held = load_table(path)
        first = held.get("features.0.weight")
        if not isinstance(first, Tensor) or first.ndim != 4:
            raise PlaymateError(f"{path} does not hold torchvision's VGG19; give vgg19's own file.")
        network = Vgg19(len(first))
        wanted = network.state_dict()
        for key, value in wanted.items():
            if not isinstance(held.get(key), Tensor) or held[key].shape != value.shape:
                raise PlaymateError(f"{path} does not hold torchvision's VGG19 ({key} is not there or of another "
                                    "size); give vgg19's own file.")
        network.load_state_dict({key: held[key].float() for key in wanted})
        return network.eval()


def exact(values: Tensor) -> Tensor:
    """In float32, or in float64 if that is what they are: no loss is taken in half precision."""
    return values if values.dtype == torch.float64 else values.float()


def perceptual(seen: list[Tensor], wanted: list[Tensor]) -> Tensor:
    """[B] distance of two pictures by their features.

    Eq. 4's L2 norm, divided by the root of each map's size so that layers count alike and the picture's size does
    not; mean over the layers.
    """
    apart = [(exact(a) - exact(b)).square().flatten(1).mean(1).add(1e-12).sqrt() for a, b in
             zip(seen, wanted, strict=True)]
    return torch.stack(apart).mean(0)
