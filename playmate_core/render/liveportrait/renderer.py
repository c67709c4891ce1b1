"""Draws motion on a portrait with LivePortrait's networks; see render/base.py for the protocol."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import Callable, Iterator, TypeVar

import torch
from torch import Tensor, nn

from ...face.bridge import LatentBridge
from ...face.geometry import identity_feature
from ...face.ratios import eye_ratio, lip_ratio, openings
from ...face.types import Face
from ...motion.geometry import rotation_matrix
from ...motion.types import Motion
from ...runtime.acceleration import NONE, Graphed, accelerated, exact_float32, tuned
from ...runtime.devices import CPU, free_memory
from ...runtime.errors import PlaymateError
from ...runtime.progress import Progress, report
from ...runtime.sampling import check_device
from ..base import Appearance, check_request, part_of
from ..film import Film
from . import film_drawing
from .animate import LIP, Latents, Options, animate, animate_animal
from .attempts import Retry, attempt
from .checkpoint import Networks
from .crop import CROP_SIZE, Square, square_of_mesh
from .ground import MovedGround
from .memory import batch_that_fits, bytes_for, most_frames
from .paste import Placement, warp
from .source import WarpSource

log = logging.getLogger(__name__)

INPUT_SIZE = 256
"""Side of the pictures that F and M see."""

SPEAKS = 5e-3
"""Latent units by which a lip keypoint must move for a motion to count as speech: speech moves them by 0.05, and what
the bundled model makes of silence by 0.0036."""


Made = TypeVar("Made")


@dataclass(frozen=True)
class Prepared:
    """A portrait as the networks know it.

    Attributes:
        source: M's reading of it, one frame, with the opening of its eyes and lips; float32.
        warp: its feature volume and what W derives from it once.
        placement: where the drawn square goes.
        picture: [3, H, W] float32.
    """

    source: Latents
    warp: WarpSource
    placement: Placement
    picture: Tensor


@dataclass
class Stage:
    """A portrait and a motion, ready to be drawn in any batches.

    Attributes:
        picture: [3, H, W]; placement: where the drawn square goes in it.
        keypoints: [T, K, 3], or None where nothing moves.
        source: what W needs of the portrait.
        batch_size: frames at once.
        ground: the portrait's alpha, or None where it is opaque.
    """

    picture: Tensor
    placement: Placement
    keypoints: Tensor | None
    source: WarpSource
    batch_size: int
    ground: MovedGround | None = None


@dataclass
class Place:
    """Where the networks are and how they are kept; shared by every renderer of the same networks.

    Attributes:
        device: where frames are computed and returned.
        dtype: of W and G.
        resident: what a host wants to be called before the networks are used, or None.
    """

    device: torch.device
    dtype: torch.dtype
    resident: Callable[[int], None] | None = None


class LivePortraitRenderer:
    """The renderer of LivePortrait's weights.

    W and G are fused (batch and spectral norms folded, convolutions laid together) and run in ``dtype``; F, M, S and
    all arithmetic on keypoints stay float32. When the device turns out to lack an operation, a warning says so and
    everything goes on on the CPU from the frame on that could not be drawn.

    Args:
        networks: as ``checkpoint.load_networks`` gives them; taken over and changed.
        bridge: reads a portrait's own expression off its blendshapes.
        device: where frames are computed and returned.
        dtype: of W and G; None takes float16 on CUDA and float32 elsewhere.
        animal: the networks are the animals' (SPEC.md section 10.5).
        options: how motion is applied. Lips that the portrait holds open are shut first when a motion speaks.
        acceleration: of W and G, one of ``runtime.acceleration.ACCELERATIONS``. torch.compile takes a minute to start
            and pays from some hundred frames on.
        host: one who manages memory. It is given the networks and returns a function that is called with the bytes
            about to be worked with before they are used, and puts them on the device then. Without a host they are
            moved there once, here.
    """

    def __init__(self, networks: Networks, bridge: LatentBridge, device: str | torch.device = "cpu",
                 dtype: torch.dtype | None = None, *, animal: bool = False,
                 options: Options = Options(normalise_lip=True), acceleration: str = NONE,  # noqa: B008
                 host: Callable[[nn.Module], Callable[[int], None]] | None = None) -> None:
        self.name = "liveportrait-animal" if animal else "liveportrait"
        device = torch.device(device)
        self.place = Place(device, dtype or (torch.float16 if device.type == "cuda" else torch.float32))
        self.animal, self.options, self.bridge = animal, options, bridge
        check_device(device)
        # Channels last pays on NVIDIA's matrix units in half precision, and only there.
        lay_out(networks, self.dtype, device.type == "cuda" and torch.version.hip is None
                and self.dtype != torch.float32)
        self.networks = networks
        if host is None:
            networks.to(device)
        else:
            self.place.resident = host(networks)
        self.acceleration = acceleration
        self._draw = accelerated(self._warp_and_generate, acceleration, (networks.warping, networks.generator))

    @property
    def device(self) -> torch.device:
        """Where frames are computed and returned."""
        return self.place.device

    @property
    def dtype(self) -> torch.dtype:
        """Of W and G."""
        return self.place.dtype

    @property
    def side(self) -> int:
        """Pixels a side of what G draws."""
        features = INPUT_SIZE >> self.networks.appearance.config.num_down_blocks
        return features * 4 * self.networks.generator.config.upscale

    def with_options(self, options: Options) -> LivePortraitRenderer:
        """The same networks, applying motion another way; appearances that either prepared serve both."""
        other = copy.copy(self)
        other.options = options
        return other

    @torch.no_grad()
    def prepare(self, image: Tensor, face: Face) -> Appearance:
        """Crops the face and reads its features and motion.

        Args:
            image: [H, W, 3] float32 sRGB 0..1.
            face: the face to animate.

        Raises:
            PlaymateError: no picture of that shape, or a face without extent.
        """
        if image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < 2:
            raise PlaymateError(f"The portrait has shape {tuple(image.shape)} where [height, width, 3] is needed.")
        image = image.detach().float().clamp(0, 1)
        return self.on_a_device(lambda: self._prepared(image.to(self.device), face))

    def _prepared(self, image: Tensor, face: Face) -> Appearance:
        square = square_of_mesh(face.landmarks)
        picture = image.permute(2, 0, 1).contiguous()
        crop = self.crop(picture, square)
        self._make_ready(1)
        with exact_float32():
            motion = self.networks.motion.motion(crop)
            volume = self.networks.appearance(crop)
        flat = face.landmarks.to(self.device, torch.float32)
        source = Latents.of(motion, eye_ratio(flat)[None], lip_ratio(flat)[None])
        kept = self.networks.warping.source(volume.to(self.dtype), source.keypoints())
        placement = Placement.of(square.matrix(self.side), self.side, tuple(image.shape[:2]), self.device)
        return Appearance(image, face, self.bridge.from_blendshapes(face.blendshapes),
                          identity_feature(face.landmarks), self.name, Prepared(source, kept, placement, picture))

    @staticmethod
    def crop(picture: Tensor, square: Square) -> Tensor:
        """[1, 3, 256, 256] what F and M see of a picture [3, H, W]."""
        crop = warp(picture[None], torch.linalg.inv(square.matrix(CROP_SIZE)), (CROP_SIZE, CROP_SIZE))
        return torch.nn.functional.interpolate(crop, (INPUT_SIZE, INPUT_SIZE), mode="area")

    def on_a_device(self, make: Callable[[], Made]) -> Made:
        """What ``make`` gives, on the CPU where the device turns out to lack an operation."""
        made, retry = attempt(make, self.device)
        if retry is Retry.ON_THE_CPU:
            self._leave_device()
            made = make()
        return made

    def prepare_film(self, film: Film, progress: Progress = None) -> Film:
        """See ``render.film.FilmRenderer`` and ``film_drawing``."""
        return film_drawing.prepare_film(self, film, progress)

    def render_film(self, film: Film, pictures: Iterator[tuple[int, Tensor]], motion: Motion, scope: str,
                    batch_size: int | None = None, progress: Progress = None) -> Iterator[Tensor]:
        """See ``render.film.FilmRenderer`` and ``film_drawing``."""
        return film_drawing.render_film(self, film, pictures, motion, scope, batch_size, progress)

    @torch.no_grad()
    def render(self, appearance: Appearance, motion: Motion, batch_size: int | None = None,
               progress: Progress = None, part: range | None = None) -> Iterator[Tensor]:
        """Yields frame batches [B, H, W, 3] float32 0..1 on the renderer's device.

        A motion at rest throughout returns the portrait as it is, unless the motion is absolute.

        Args:
            batch_size: frames at once, at least 1; None chooses by free memory. Halved when memory runs out.
            part: the frames that are drawn, of ``render.base.part_of``; None draws all.

        Raises:
            PlaymateError: an appearance of another renderer, or a batch size below 1.
        """
        check_request(self.name, appearance, batch_size)
        return self._frames(appearance, motion, batch_size, progress, part_of(motion) if part is None else part)

    @torch.no_grad()
    def _frames(self, appearance: Appearance, motion: Motion, batch_size: int | None,
                progress: Progress, part: range) -> Iterator[Tensor]:
        total, done = len(part), 0
        report(progress, 0, total)
        if not total:
            return
        prepared: Prepared = appearance.payload
        stage = None
        try:
            while done < total:
                frames, count = None, 1
                if stage is None:
                    stage, retry = attempt(partial(self._stage, prepared, motion, part, batch_size, appearance.alpha),
                                           self.device)
                if stage is not None:
                    count = min(stage.batch_size, total - done)
                    frames, retry = attempt(partial(self._draw_frames, stage, done, count), self.device, count)
                if retry is Retry.SMALLER:
                    stage.batch_size = self.smaller(count)
                elif retry is Retry.ON_THE_CPU:
                    stage = None
                    self._leave_device()
                else:
                    if not done:
                        self._check(frames)
                    done += count
                    yield frames
                    report(progress, done, total)
        finally:
            if self.place.resident is not None:
                # A host sees the weights only, not what a graph holds for its own.
                self._let_go()

    def _stage(self, prepared: Prepared, motion: Motion, part: range, batch_size: int | None,
               alpha: Tensor | None = None) -> Stage:
        """Everything that stays the same over the frames of a motion, on the device, with the keypoints of ``part``."""
        picture, placement = prepared.picture.to(self.device), prepared.placement.to(self.device)
        total = len(part)
        keypoints = None if self.options.relative and _at_rest(motion) else \
            self.keypoints(prepared, motion)[part.start:part.stop].clone()
        if batch_size is None:
            # Asked for first: what is free is known once others have made room.
            self._make_ready(min(most_frames(self.device), total))
            batch_size = batch_that_fits(self.device, self.dtype, picture.shape[1:])
        batch_size = min(batch_size, total)
        self._make_ready(batch_size)
        ground = None if alpha is None else MovedGround.of(alpha.to(self.device), placement, self.side,
                                                           prepared.source.keypoints())
        return Stage(picture, placement, keypoints, prepared.warp.to(self.device, self.dtype), batch_size, ground)

    def _draw_frames(self, stage: Stage, start: int, count: int) -> Tensor:
        if stage.keypoints is None:
            frames = stage.picture.permute(1, 2, 0).expand(count, -1, -1, -1).clone()
            return frames if stage.ground is None else stage.ground.with_alpha(frames, None)
        keypoints = stage.keypoints[start:start + count]
        frames = stage.placement.paste(self._crops(stage.source, keypoints, stage.batch_size), stage.picture)
        return frames if stage.ground is None else stage.ground.with_alpha(frames, keypoints)

    def smaller(self, count: int) -> int:
        """How many frames to draw at once after ``count`` were too many; room is made for them."""
        self._let_go()
        count = max(1, count // 2)
        log.warning("Out of memory; going on with %d frames at once.", count)
        free_memory(self.device)
        self._make_ready(count)
        return count

    def _leave_device(self) -> None:
        """From now on the networks are on the CPU, in float32; a host is not asked any more."""
        self._let_go()
        self.place.device, self.place.dtype, self.place.resident = CPU, torch.float32, None
        self.networks.to(CPU)
        self.networks.float()

    def _let_go(self) -> None:
        if isinstance(self._draw, Graphed):
            self._draw.release()

    def _check(self, frames: Tensor) -> None:
        """That a device does half precision rightly, once a clip; some older cards give no numbers."""
        if self.dtype != torch.float32 and not bool(torch.isfinite(frames[0]).all()):
            raise PlaymateError(f"The device {self.device} computes LivePortrait's networks wrongly in half precision; "
                                "choose the device cpu, or start ComfyUI with --force-fp32.")

    def keypoints(self, prepared: Prepared, motion: Motion) -> Tensor:
        """[T, K, 3] float32 driving keypoints of a motion, offsets counted from its neutral frame."""
        networks = self.networks
        self._make_ready(1)
        motion = motion.to(self.device)
        source, neutral = prepared.source.to(self.device), motion.neutral
        driving = Latents(motion.expression, rotation_matrix(motion.rotation), motion.scale, motion.translation)
        reference = Latents(neutral.expression[None], rotation_matrix(neutral.rotation)[None], neutral.scale[None],
                            neutral.translation[None])
        if self.animal:
            return animate_animal(source, driving, reference, self.options, stitching=networks.stitching)
        if self.options.retarget_eyes or self.options.retarget_lips:
            driving = self._with_openings(driving, source, motion)
        speaks = bool((motion.expression_offset[:, list(LIP)].abs() > SPEAKS).any())
        options = replace(self.options, normalise_lip=self.options.normalise_lip and speaks)
        return animate(source, driving, reference, options, stitching=networks.stitching)

    def _with_openings(self, driving: Latents, source: Latents, motion: Motion) -> Latents:
        """The driving latents with how far they open eyes and lips, as the latent bridge reads it on a mean face.

        LivePortrait measures its driver. A motion may have none, so here eyes open in proportion to the portrait's
        own, and lips from shut at rest.
        """
        # Piece by piece: an hour of meshes would fill the memory.
        pieces = [openings(self.bridge.displacement(part)) for part in motion.expression_offset.cpu().split(1024)]
        eyes, lips = (torch.cat(each) for each in zip(*pieces, strict=True))
        return replace(driving, eyes=source.eyes * eyes.to(source.eyes), lip=lips.to(source.lip))

    def _crops(self, source: WarpSource, keypoints: Tensor, batch_size: int) -> Tensor:
        count = len(keypoints)
        if self.acceleration == NONE:
            return self._draw(*source.tensors, keypoints)
        held = source.tensors
        if count < batch_size:
            # One shape for all batches: another one would be compiled or recorded anew.
            rows = torch.arange(batch_size, device=keypoints.device).clamp_max(count - 1)
            keypoints = keypoints[rows]
            held = tuple(tensor if len(tensor) == 1 else tensor[rows] for tensor in held)
        with tuned():
            return self._draw(*held, keypoints)[:count]

    def _warp_and_generate(self, volume: Tensor, compressed: Tensor, kp_source: Tensor, heat: Tensor,
                           keypoints: Tensor) -> Tensor:
        source = WarpSource(volume, compressed, kp_source, heat)
        return self.networks.generator(self.networks.warping(source, keypoints)["out"])

    def _make_ready(self, frames: int) -> None:
        if self.place.resident is not None:
            self.place.resident(bytes_for(frames, self.dtype))


@torch.no_grad()
def lay_out(networks: Networks, dtype: torch.dtype, stacked_planes: bool) -> None:
    """Fuses W and G, in place, and puts them into ``dtype``; ``stacked_planes`` lays them out for graphics cards.

    Everything that depends on the pictures' size is worked out here: what changed in the first call would be compiled
    twice.
    """
    networks.warping.fold(stacked_planes)
    networks.generator.fold()
    networks.warping.to(dtype)
    networks.generator.to(dtype)
    if stacked_planes:
        networks.generator.to(memory_format=torch.channels_last)
        side = INPUT_SIZE >> networks.appearance.config.num_down_blocks
        networks.warping.set_size(side, side)
        networks.generator.set_size(side, side)


def _at_rest(motion: Motion) -> bool:
    neutral = motion.neutral
    return all(torch.equal(getattr(motion, name), getattr(neutral, name).expand_as(getattr(motion, name)))
               for name in ("expression", "rotation", "translation", "scale"))
