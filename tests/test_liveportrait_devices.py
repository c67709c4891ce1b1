"""What devices lack that were not at hand: float64 on Apple's graphics processors."""

from __future__ import annotations

import pytest
import torch

from playmate_core.render.liveportrait.animate import Latents, animate_animal
from playmate_core.render.liveportrait.hull import hull_volume
from playmate_core.render.liveportrait.smoothing import smooth


class Apple(torch.Tensor):
    """A tensor that cannot become float64 where it lies."""

    def double(self):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")

    def cpu(self):
        return self.as_subclass(torch.Tensor)


def latents(frames: int) -> Latents:
    generator = torch.Generator().manual_seed(frames)
    return Latents(*(value.as_subclass(Apple) for value in (
        0.02 * torch.randn(frames, 21, 3, generator=generator), torch.eye(3).expand(frames, 3, 3).clone(),
        torch.full((frames, 1), 1.3), torch.zeros(frames, 3), torch.randn(frames, 21, 3, generator=generator))))


def test_nothing_of_the_keypoints_arithmetic_is_wide_on_the_device():
    points = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(TypeError, match="float64"):
        points.as_subclass(Apple).double()
    assert hull_volume(points.as_subclass(Apple)) == hull_volume(points)
    assert torch.equal(smooth(points.as_subclass(Apple)).as_subclass(torch.Tensor), smooth(points))


def test_animals_are_animated_on_such_a_device():
    source, driving = latents(1), latents(3)
    stitched = []

    class Stitching:
        def stitch(self, kp_source, kp_driving):
            stitched.append(kp_driving)
            return kp_driving

    moved = animate_animal(source, driving, stitching=Stitching())
    assert moved.shape == (3, 21, 3) and len(stitched) == 1
