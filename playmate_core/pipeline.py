"""The high-level API: what the command line and the nodes call, in the order you call it.

    models = load_models()
    appearance = extract_appearance(models, image)
    features = encode_audio(models, "voice.wav")
    motion = generate_motion(models, features, appearance, seed=7)
    for frames in render_frames(models, appearance, motion): ...

Only this module and the nodes see every part of the library.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING, Callable, Iterator, Mapping, Tuple, Union

import torch
from torch import Tensor

from .acceleration import NONE, check_acceleration
from .errors import PlaymateError
from .hosting import Host
from .motion.types import Motion
from .progress import Progress
from .render.base import Appearance, Renderer
from .speech.types import SpeechFeatures

if TYPE_CHECKING:
    from .diffusion.emotion import EmotionCurve
    from .diffusion.emotion_plan import EmotionPlan
    from .diffusion.model import MotionModel
    from .face.analyzer import FaceAnalyzer
    from .face.bridge import LatentBridge
    from .speech.encoder import SpeechEncoder

log = logging.getLogger(__name__)

AudioSource = Union[str, PathLike, Tuple[Tensor, int]]
"""A sound file, or ``(waveform, rate)`` with the waveform [.., C, N]."""

RENDERERS = ("landmark",)
"""Renderers of the bundled pack."""

PACKS = ("bundled", "liveportrait", "liveportrait-animal")
"""Sets of weights: what ships with the package, and LivePortrait's downloaded networks as the renderer."""

LAID_OVER = ("The loaded motion model has no emotion head, so the emotion is laid over the generated expression, and "
             "the way of speaking does not change with it.")
"""What the user is told when emotions are drawn without stage 2."""

CLOSED_LIPS = 0.01
"""Lip gap above the resting one, in outer-eye distances, below which generated lips are taken as shut."""

MOST_OPENING = 2.0
"""How far, in multiples of the generated lip gap, an emotion that is laid over it may open the lips further."""


@dataclass(frozen=True)
class Models:
    """Everything that has weights, loaded once and shared.

    Attributes:
        face: finds faces and their landmarks.
        bridge: reads latents as facial geometry and back.
        speech: speech encoder.
        motion: speech to motion latents.
        renderer: motion to pictures.
        device: where tensors are computed.
    """

    face: FaceAnalyzer
    bridge: LatentBridge
    speech: SpeechEncoder
    motion: MotionModel
    renderer: Renderer
    device: torch.device


def load_models(pack: str = "bundled", device: str | torch.device = "cpu", *,
                renderer: str = "landmark",
                motion_model: str | PathLike | None = None,
                speech_encoder: str | PathLike | None = None,
                weights: str | PathLike | Mapping[str, str | PathLike] | None = None,
                acceleration: str = NONE, dtype: torch.dtype | None = None,
                host: Host = None) -> Models:
    """Loads a pack of weights.

    Args:
        pack: one of ``PACKS``.
        device: torch device of the renderer and the networks.
        renderer: one of ``RENDERERS``.
        motion_model: another checkpoint in place of the bundled one: Playmate's (safetensors) or JoyVASA's (.pt with
            motion_template.pkl nearby, or safetensors).
        speech_encoder: another encoder in place of the motion model's own: a folder in transformers' format with
            wav2vec2 or HuBERT, or a file of Playmate's.
        weights: LivePortrait's files, as a folder or by role; None looks where ``python -m playmate_core weights``
            puts them. Of no effect for the bundled pack.
        acceleration: one of ``acceleration.ACCELERATIONS``, for LivePortrait's networks: slow to start, faster for
            long films. Anything but "none" also records the motion network as CUDA graphs.
        dtype: of LivePortrait's large networks; None takes float16 on CUDA and float32 elsewhere.
        host: keeps LivePortrait's networks and other large ones that do not ship with the package, see ``hosting``.

    Raises:
        PlaymateError: unknown pack, renderer, device or acceleration, or weights that are missing or foreign.
    """
    if pack not in PACKS:
        raise PlaymateError(f"There is no pack of weights called {pack!r}; use one of: {', '.join(PACKS)}.")
    if renderer not in RENDERERS:
        raise PlaymateError(f"There is no renderer called {renderer!r}; use one of: {', '.join(RENDERERS)}.")
    from .face.analyzer import FaceAnalyzer
    from .face.bridge import LatentBridge
    from .motion_models import load_motion_and_speech

    check_acceleration(acceleration)
    device = usable_device(device)
    bridge = LatentBridge.load()
    motion, speech = load_motion_and_speech(motion_model, speech_encoder, device, host, acceleration)
    face = FaceAnalyzer.load(device=device)
    if pack == "bundled":
        from .render.landmark import LandmarkRenderer

        drawn_by: Renderer = LandmarkRenderer(bridge, device=device, tracker=face.follow)
    else:
        drawn_by = _liveportrait(pack, bridge, device, weights, acceleration=acceleration, dtype=dtype, host=host)
    return Models(face, bridge, speech, motion, drawn_by, device)


def _liveportrait(pack: str, bridge: LatentBridge, device: torch.device,
                  weights: str | PathLike | Mapping[str, str | PathLike] | None, **more) -> Renderer:
    from .render.liveportrait import LivePortraitRenderer, load_networks
    from .weights.catalogue import locate

    networks = load_networks(locate(pack) if weights is None else weights)
    return LivePortraitRenderer(networks, bridge, device, animal=pack == "liveportrait-animal", **more)


def usable_device(device: str | torch.device) -> torch.device:
    """``device`` as a torch device that works here; ``"auto"`` takes the first accelerator, else the CPU.

    Raises:
        PlaymateError: the name is unknown, or this machine lacks the device.
    """
    if str(device) == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise PlaymateError(f"Device {str(device)!r} cannot be used here; try --device cpu or auto.") from error
    return found


def check_image(image: Tensor) -> Tensor:
    """A picture of any channel count as [H, W, 3] float32 in 0..1.

    Args:
        image: [H, W], [H, W, C] or [1, H, W, C], C = 1, 3 or 4; float 0..1 or uint8. A transparent
            picture is laid on white, as an artist's viewer shows it.

    Raises:
        PlaymateError: an empty picture, a batch, or a channel count that is no picture's.
    """
    if image.ndim == 4:
        if image.shape[0] != 1:
            raise PlaymateError(f"The portrait holds {image.shape[0]} pictures where one is needed; pick one.")
        image = image[0]
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or 0 in image.shape:
        raise PlaymateError(f"The portrait has shape {tuple(image.shape)}; a picture [height, width, 3] is needed.")
    image = image.float() / 255.0 if image.dtype == torch.uint8 else image.float()
    image = torch.nan_to_num(image, nan=0.0, posinf=1.0, neginf=0.0).clamp(0.0, 1.0)
    channels = image.shape[-1]
    if channels in (2, 4):
        image, alpha = image[..., :-1], image[..., -1:]
        image = image * alpha + (1.0 - alpha)
    if image.shape[-1] == 1:
        image = image.expand(-1, -1, 3)
    if image.shape[-1] != 3:
        raise PlaymateError(f"The portrait has {channels} channels; grey, RGB or RGBA is needed.")
    return image.contiguous()


def extract_appearance(models: Models, image: Tensor, policy: str = "largest", index: int = 0,
                       mask: Tensor | None = None, *, box: Tensor | None = None, points: Tensor | None = None,
                       tell: Callable[[str], None] = log.warning) -> Appearance:
    """Finds the face to animate and prepares it for the renderer.

    Args:
        image: [H, W, C] or [H, W], float 0..1 or uint8.
        policy: ``"largest"``, ``"left"``, ``"right"`` or ``"index"`` (left to right) when there are several faces.
        index: which face, counted from 0, for the index policy.
        mask: [H, W]; only a face under it is taken.
        box: [4] left, top, width and height in pixels of a face that the detector does not find; nothing is detected.
        points: [5, 2] both eyes, nose and corners of the mouth in pixels (``face.manual``); goes before ``box``.
        tell: told in a sentence when the mesh sees nothing where the face was marked.

    Raises:
        PlaymateError: no picture, no face, no such face, or a mark outside the picture.
    """
    from .face.analyzer import select_face
    from .face.manual import AVERAGE, face_at_points, face_in_box

    image = check_image(image)
    if points is not None or box is not None:
        face, seen = face_in_box(models.face, image, box) if points is None else \
            face_at_points(models.face, image, points)
        if not seen:
            tell(AVERAGE)
        return models.renderer.prepare(image, face)
    faces = models.face.analyze(image[None])[0]
    face = select_face(faces, tuple(image.shape[:2]), policy=policy, index=index, mask=mask)
    return models.renderer.prepare(image, face)


def encode_audio(models: Models, audio: AudioSource, fps: float = 25.0, progress: Progress = None) -> SpeechFeatures:
    """Speech features at ``fps`` of a file or of ``(waveform [.., C, N], rate)``.

    Raises:
        PlaymateError: sound that cannot be read or holds nothing.
    """
    from .speech.reading import read_audio

    return models.speech.encode(read_audio(audio), fps=fps, progress=progress)


def generate_motion(models: Models, features: SpeechFeatures, appearance: Appearance | None = None, *,
                    seed: int = 0, steps: int = 10, scheduler: str = "dpmsolver++",
                    audio_guidance: float | None = None, head_motion: float = 1.0, fps: float = 25.0,
                    emotion: EmotionPlan | EmotionCurve | str | None = None, emotion_guidance: float | None = None,
                    progress: Progress = None) -> Motion:
    """Speech to motion with the diffusion model; T = round(duration * fps).

    A model without an emotion head (stage 1 alone) is told nothing of the emotion: its mean expression is laid over
    the generated one, and a warning says so.

    Args:
        appearance: whose face it is; without one an average face is assumed.
        seed: same seed, same motion, on every device.
        steps: denoising steps, 1 to 1000; 8 to 20 are useful.
        scheduler: ``"dpmsolver++"`` or ``"ddim"``.
        audio_guidance: strength of the sound's pull; None takes the model's own default.
        head_motion: 0 holds the head still, 1 is natural.
        fps: frames a second of the result.
        emotion: what is felt when: a plan, a schedule's text, or a curve at any rate; None is neutral.
        emotion_guidance: strength of the emotion's pull (w_e of PAPER.md 1.8); None takes the model's own default.
            Without an emotion head it has no effect.

    Raises:
        PlaymateError: settings out of range, features of another encoder than the model's, or an emotion that
            cannot be read.
    """
    curve = emotion_curve(emotion, features)
    laid_over = emotion_note(models, curve) is not None
    scales = {"audio_guidance": audio_guidance,
              "emotion_guidance": emotion_guidance if models.motion.has_emotion_head else None}
    with _a_core_left_free():
        motion = models.motion.sample(
            features, None if appearance is None else appearance.identity, seed=seed, steps=steps, scheduler=scheduler,
            head_motion=head_motion, fps=fps, emotion=None if laid_over else curve, progress=progress,
            **{name: scale for name, scale in scales.items() if scale is not None})
    if laid_over:
        log.warning(LAID_OVER)
        motion = lay_emotion_over(models.bridge, motion, curve)
    return motion


def emotion_curve(emotion: EmotionPlan | EmotionCurve | str | None, features: SpeechFeatures) -> EmotionCurve | None:
    """What is felt in every frame of ``features``, at their rate; None stays None.

    Raises:
        PlaymateError: a text that cannot be read, or something that is no emotion.
    """
    from .diffusion.emotion import EmotionCurve
    from .diffusion.emotion_plan import EmotionPlan

    if emotion is None:
        return None
    if isinstance(emotion, EmotionCurve):
        return emotion.resampled(len(features), features.fps)
    return EmotionPlan.of(emotion).curve(len(features), features.fps)


def emotion_note(models: Models, curve: EmotionCurve | None) -> str | None:
    """A sentence for the user if the loaded motion model cannot draw ``curve`` itself, else None."""
    if curve is None or curve.is_neutral or models.motion.has_emotion_head:
        return None
    return LAID_OVER


def lay_emotion_over(bridge: LatentBridge, motion: Motion, curve: EmotionCurve) -> Motion:
    """Emotion as an offset in latent space, for motion that was made without it.

    Lips keep shutting on p, b and m: an emotion opens them further by ``MOST_OPENING`` times the gap that the motion
    has in the frame, so not at all where they are shut. What it would open beyond is taken off along the latents'
    most probable way of opening the lips. Emotions that press the lips together are left as they are.

    Args:
        bridge: reads the lip gap off latents.
        motion: T frames at any rate.
        curve: what is felt from the motion's first frame on, at any rate; its last frame holds.

    Returns:
        Motion with the expression changed and all else as it was.
    """
    from .diffusion.emotion_offsets import emotion_expression

    offset = emotion_expression(curve.resampled(len(motion), motion.fps)).to(motion.expression)
    shown = bridge.lip_gap(motion.expression_offset)
    opening = bridge.lip_gap(offset)
    excess = (opening - MOST_OPENING * (shown - CLOSED_LIPS).clamp_min(0.0)).clamp_min(0.0)
    readout = bridge.lip_gap(torch.eye(bridge.covariance.shape[0]))
    opener = bridge.covariance @ readout
    opener = (opener / (readout @ opener)).reshape(offset.shape[1:]).to(offset)
    return replace(motion, expression=motion.expression + offset - excess[:, None, None] * opener)


def render_frames(models: Models, appearance: Appearance, motion: Motion, batch_size: int | None = None,
                  progress: Progress = None) -> Iterator[Tensor]:
    """Yields [B, H, W, 3] float32 sRGB 0..1, len(motion) frames in order.

    Raises:
        PlaymateError: the appearance was prepared by another renderer.
    """
    if appearance.renderer != models.renderer.name:
        raise PlaymateError(f"The appearance was prepared for the {appearance.renderer} renderer, but "
                            f"{models.renderer.name} is loaded; extract it again with these models.")
    return _drawn(models.renderer.render(appearance, motion, batch_size=batch_size, progress=progress))


def _drawn(batches: Iterator[Tensor]) -> Iterator[Tensor]:
    with _a_core_left_free():
        yield from batches


@contextlib.contextmanager
def _a_core_left_free():
    """One CPU thread fewer for torch meanwhile: the video encoder runs beside the renderer, and on two cores the
    small networks and warps lose more by waiting for each other than a second thread gains (``benchmarks``)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads - 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
