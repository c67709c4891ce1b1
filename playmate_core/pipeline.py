"""The high-level API: what the command line and the nodes call, in the order you call it.

    models = load_models()
    appearance = extract_appearance(models, image)
    features = encode_audio(models, "voice.wav")
    motion = generate_motion(models, features, appearance, seed=7)
    for frames in render_frames(models, appearance, motion): ...

Only this module and the nodes see every part of the library.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Callable, Iterator, Mapping, Tuple, Union

import torch
from torch import Tensor

from .emotion.overlay import LAID_OVER, lay_emotion_over
from .media.grounds import filled, on_white, opaque, transparency
from .media.pictures import check_image
from .media.sizes import SIZE, check_size, plays_everywhere
from .media.sound_file import SoundFile
from .motion.features import SpeechFeatures
from .motion.types import Motion
from .render.base import Appearance, Renderer, part_of
from .render.staging import drawn_size, prepare, stage_of, turned_back
from .render.takes import draw_take, film_size, plan_take
from .runtime.acceleration import NONE, check_acceleration
from .runtime.devices import a_core_left_free, each_with_a_core_left_free, runs_on, usable_device
from .runtime.errors import PlaymateError
from .runtime.host import Host
from .runtime.progress import Progress

if TYPE_CHECKING:
    from .diffusion.base import MotionModel
    from .driving.extraction import MotionExtractor
    from .emotion.curve import EmotionCurve
    from .emotion.plan import EmotionPlan
    from .face.analyzer import FaceAnalyzer
    from .face.bridge import LatentBridge
    from .speech.base import SpeechEncoder

log = logging.getLogger(__name__)

AudioSource = Union[str, PathLike, BinaryIO, SoundFile, Tuple[Tensor, int]]
"""A file with sound (its path, a binary file object, or what ``media.sound_file.open_sound`` made of either), or
``(waveform, rate)`` with the waveform [.., C, N]."""

PACKS = ("bundled", "liveportrait", "liveportrait-animal")
"""Sets of weights: what ships with the package, and LivePortrait's downloaded networks as the renderer."""


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
                motion_model: str | PathLike | None = None,
                speech_encoder: str | PathLike | None = None,
                weights: str | PathLike | Mapping[str, str | PathLike] | None = None,
                acceleration: str = NONE, dtype: torch.dtype | None = None,
                host: Host | None = None, wrinkles: float = 1.0) -> Models:
    """Loads a pack of weights.

    Args:
        pack: one of ``PACKS``.
        device: torch device of the renderer and the networks.
        motion_model: another checkpoint in place of the bundled one: Playmate's (safetensors) or JoyVASA's (.pt with
            motion_template.pkl nearby, or safetensors).
        speech_encoder: another encoder in place of the motion model's own: a folder in transformers' format with
            wav2vec2 or HuBERT, or a file of Playmate's.
        weights: LivePortrait's files, as a folder or by role; None looks where ``python -m playmate_core weights``
            puts them. Of no effect for the bundled pack.
        acceleration: one of ``runtime.acceleration.ACCELERATIONS``, for LivePortrait's networks: slow to start,
            faster for long films. Anything but "none" also records the motion network as CUDA graphs.
        dtype: of LivePortrait's large networks; None takes float16 on CUDA and float32 elsewhere.
        host: keeps LivePortrait's networks and other large ones that do not ship with the package, see
            ``runtime.host``.
        wrinkles: how much skin creases where a movement pushes it together, 0 to 2, in the bundled pack's drawing.

    Raises:
        PlaymateError: unknown pack, device or acceleration, or weights that are missing or foreign.
    """
    _check_pack(pack)
    from .face.analyzer import FaceAnalyzer
    from .face.bridge import LatentBridge

    check_acceleration(acceleration)
    device = usable_device(device)
    bridge = LatentBridge.load()
    motion, speech = load_motion_and_speech(motion_model, speech_encoder, device, host, acceleration)
    face = FaceAnalyzer.load(device=device)
    if not runs_on(device, "the face finder", lambda: _find_no_face(face)):
        face = FaceAnalyzer.load()
    if pack == "bundled":
        from .render.landmark import LandmarkRenderer

        drawn_by: Renderer = LandmarkRenderer(bridge, device=device, tracker=face.follow, wrinkles=wrinkles)
    else:
        drawn_by = _liveportrait(pack, bridge, device, weights, acceleration=acceleration, dtype=dtype, host=host)
    return Models(face, bridge, speech, motion, drawn_by, device)


def _check_pack(pack: str) -> None:
    if pack not in PACKS:
        raise PlaymateError(f"There is no pack of weights called {pack!r}; use one of: {', '.join(PACKS)}.")


def _liveportrait(pack: str, bridge: LatentBridge, device: torch.device,
                  weights: str | PathLike | Mapping[str, str | PathLike] | None, **more) -> Renderer:
    from .render.liveportrait import LivePortraitRenderer, load_networks
    from .weights.catalogue import locate

    networks = load_networks(locate(pack) if weights is None else weights)
    return LivePortraitRenderer(networks, bridge, device, animal=pack == "liveportrait-animal", **more)


def _find_no_face(face: FaceAnalyzer) -> None:
    """Every network of it once."""
    from .face.crop import Roi

    picture = torch.full((64, 64, 3), 0.5)
    for detector in ("short", "full"):
        face.analyze(picture, detector)
    face.read(picture, Roi(32.0, 32.0, 48.0))


def _hear_a_tone(speech: SpeechEncoder) -> SpeechFeatures:
    from .media.sound import from_waveform

    time = torch.arange(3200) / 16000
    return speech.encode(from_waveform(0.1 * torch.sin(2 * torch.pi * 200 * time)[None], 16000))


def _move_to_a_tone(motion: MotionModel, speech: SpeechEncoder) -> None:
    try:
        motion.sample(_hear_a_tone(speech), steps=1)
    except PlaymateError:
        pass  # an encoder that does not belong to the model is told of when it is used


def load_speech_encoder(path: str | PathLike | None, device: str | torch.device = "cpu",
                        host: Host | None = None) -> SpeechEncoder:
    """The bundled encoder (None), a folder in transformers' format with wav2vec2 or HuBERT, or a file of Playmate's.

    ``host`` keeps a wav2vec2 or HuBERT, see ``runtime.host``; Playmate's own are small and stay on the device.

    Raises:
        PlaymateError: nothing there, or no speech encoder.
    """
    if path is not None and Path(path).is_dir():
        from .speech.transformer_encoders import TransformersSpeechEncoder

        encoder: SpeechEncoder = TransformersSpeechEncoder.load(path, device, host=host)
        if not runs_on(device, "the speech encoder", lambda: _hear_a_tone(encoder)):
            return TransformersSpeechEncoder.load(path)
        return encoder
    from .speech.encoder import WhisperSpeechEncoder

    encoder = WhisperSpeechEncoder.load(path=path, device=device)
    return encoder if runs_on(device, "the speech encoder", lambda: _hear_a_tone(encoder)) else \
        WhisperSpeechEncoder.load(path=path)


def load_motion_and_speech(motion_model: str | PathLike | None = None, speech_encoder: str | PathLike | None = None,
                           device: str | torch.device = "cpu",
                           host: Host | None = None, acceleration: str = NONE) -> Tuple[MotionModel, SpeechEncoder]:
    """A motion model and its speech encoder.

    Args:
        motion_model: None for the bundled one, a Playmate checkpoint (.safetensors), or JoyVASA's (.pt with
            motion_template.pkl nearby, or .safetensors).
        speech_encoder: None for the one that belongs to the motion model: JoyVASA's lies in its checkpoint; others
            are looked for as a folder of the encoder's name beside the motion model or one folder up, else it is the
            bundled one. Otherwise as ``load_speech_encoder``.
        device: where they run.
        host: keeps all of them but those that ship with the package, see ``runtime.host``.
        acceleration: of Playmate's own motion models, see ``PlaymateMotionModel``; of no effect on JoyVASA's.

    Raises:
        PlaymateError: files that are missing, damaged or foreign.
    """
    from .diffusion.joyvasa.checkpoint import is_joyvasa

    if motion_model is not None and is_joyvasa(motion_model):
        return _joyvasa(motion_model, speech_encoder, device, host)
    from .diffusion.model import PlaymateMotionModel

    model = PlaymateMotionModel.load(path=motion_model, device=device, host=None if motion_model is None else host)
    own = None if motion_model is None else _beside(Path(motion_model), model.encoder)
    speech = load_speech_encoder(own if speech_encoder is None else speech_encoder, device, host)
    if not runs_on(device, "the motion model", lambda: _move_to_a_tone(model, speech)):
        model = PlaymateMotionModel.load(path=motion_model)
    model.acceleration = acceleration
    return model, speech


def _joyvasa(motion_model: str | PathLike, speech_encoder: str | PathLike | None, device: str | torch.device,
             host: Host | None) -> Tuple[MotionModel, SpeechEncoder]:
    from .diffusion.joyvasa.checkpoint import load_joyvasa
    from .diffusion.joyvasa.model import JoyVasaMotionModel
    from .speech.joyvasa import JoyVasaSpeechEncoder
    from .speech.transformer_encoders import build_network

    checkpoint = load_joyvasa(motion_model)
    model = JoyVasaMotionModel.of(checkpoint, device, host)
    if speech_encoder is not None:
        speech = load_speech_encoder(speech_encoder, device, host)
    else:
        network = build_network("hubert", checkpoint.audio_config, checkpoint.audio, Path(motion_model).name)
        speech = JoyVasaSpeechEncoder(network, model.config.n_motions, device, host)
        if not runs_on(device, "the speech encoder", lambda: _hear_a_tone(speech)):
            speech = JoyVasaSpeechEncoder(network, model.config.n_motions)
    if not runs_on(device, "the motion model", lambda: _move_to_a_tone(model, speech)):
        model = JoyVasaMotionModel.of(checkpoint)
    return model, speech


def files_beside(motion_model: str | PathLike, own_encoder: bool = True) -> list[Path]:
    """What ``load_motion_and_speech`` reads besides the motion model itself because it lies near it; no tensor is read.

    JoyVASA's motion template, or, where ``own_encoder``, the files of the speech encoder that a Playmate checkpoint
    names. Whoever keeps loaded models compares these to know when they are out of date.
    """
    from .diffusion.checkpoint import encoder_of
    from .diffusion.joyvasa.checkpoint import is_joyvasa, template_place

    path = Path(motion_model)
    if is_joyvasa(path):
        template = template_place(path)
        return [] if template is None else [template]
    encoder = encoder_of(path) if own_encoder else None
    folder = None if encoder is None else _beside(path, encoder)
    return [] if folder is None else sorted(file for file in folder.iterdir() if file.is_file())


def _beside(path: Path, encoder: str) -> Path | None:
    """The folder of a motion model's speech encoder near ``path``, if it is there."""
    if Path(encoder).name != encoder:
        return None
    places = (folder / encoder for folder in (path.parent, path.parent.parent))
    return next((place for place in places if (place / "config.json").is_file()), None)


def motion_extractor(source: Models | str, device: str | torch.device = "cpu") -> MotionExtractor | None:
    """What reads the pictures of a driving clip: LivePortrait's motion extractor; None where there is none.

    Args:
        source: loaded models, or the name of a pack of which only the motion extractor is loaded.
        device: where it runs, if it is loaded here.

    Raises:
        PlaymateError: unknown pack, or weights that are missing or foreign.
    """
    if not isinstance(source, str):
        from .render.liveportrait.extraction import motion_extractor_of

        return motion_extractor_of(source.renderer)
    _check_pack(source)
    if source == "bundled":
        return None
    from .render.liveportrait.checkpoint import load_network
    from .weights.catalogue import locate

    return load_network("motion", locate(source)["motion"]).to(usable_device(device))


def extract_appearance(models: Models, image: Tensor, policy: str = "largest", index: int = 0,
                       mask: Tensor | None = None, *, box: Tensor | None = None, points: Tensor | None = None,
                       size: int = SIZE, ground: Tensor | None = None,
                       notify: Callable[[str], None] = log.warning) -> Appearance:
    """Finds the face to animate and prepares it for the renderer, a face that lies set upright for it.

    Args:
        image: [H, W, C] or [H, W], float 0..1 or uint8. One with alpha keeps it.
        policy: ``"largest"``, ``"left"``, ``"right"`` or ``"index"`` (left to right) when there are several faces.
        index: which face, counted from 0, for the index policy.
        mask: [H, W]; only a face under it is taken.
        box: [4] left, top, width and height in pixels of a face that the detector does not find; nothing is detected.
        points: [5, 2] both eyes, nose and corners of the mouth in pixels (``face.manual``); goes before ``box``.
        size: longest side of the frames that will most likely be asked for; another one is prepared when it is.
        ground: [h, w] of any size, 1 where the portrait's ground is transparent, as ComfyUI's masks have it, beside
            the picture's own alpha.
        notify: given once, in sentences, what will not look right: an average face where the mesh sees nothing in the
            place that was marked, a covered mouth or covered or shut eyes.

    Raises:
        PlaymateError: no picture, no face, no such face, or a mark outside the picture.
    """
    from .face.analyzer import select_face
    from .face.cover import notes
    from .face.manual import AVERAGE, face_at_points, face_in_box

    alpha, colours = transparency(image, ground), None
    if alpha is not None:
        colours = filled(image, alpha)
        image = on_white(torch.cat([colours, alpha[..., None]], -1))
    image = check_image(image)
    if points is not None or box is not None:
        face, seen = face_in_box(models.face, image, box) if points is None else \
            face_at_points(models.face, image, points)
    else:
        faces = models.face.analyze(image[None])[0]
        face, seen = select_face(faces, tuple(image.shape[:2]), policy=policy, index=index, mask=mask), True
    said = notes(models.face, image, face) if seen else [AVERAGE]
    if said:
        notify(" ".join(said))
    return prepare(models.renderer, image, face, size, alpha, colours)


def encode_audio(models: Models, audio: AudioSource, progress: Progress = None) -> SpeechFeatures:
    """Speech features of a file or of ``(waveform [.., C, N], rate)``, 25 a second: the rate of every motion model.

    Raises:
        PlaymateError: sound that cannot be read or holds nothing.
    """
    from .media.sound import read_audio

    return models.speech.encode(read_audio(audio, stored=True), progress=progress)


def generate_motion(models: Models, features: SpeechFeatures, appearance: Appearance | None = None, *,
                    seed: int = 0, steps: int = 10, scheduler: str = "dpmsolver++",
                    audio_guidance: float | None = None, head_motion: float = 1.0, fps: float = 25.0,
                    emotion: EmotionPlan | EmotionCurve | str | None = None, emotion_guidance: float | None = None,
                    progress: Progress = None) -> Motion:
    """Speech to motion with the diffusion model; T = round(duration * fps).

    A model without an emotion head (stage 1 alone) is not given the emotion: the emotion's mean expression is laid
    over the generated one, and a warning says so.

    Args:
        appearance: whose face it is; without one an average face is assumed. Its own smile or frown is taken off as
            far as an emotion is shown.
        seed: same seed, same motion, on every device.
        steps: denoising steps, 1 to 1000; 8 to 20 are useful.
        scheduler: ``"dpmsolver++"`` or ``"ddim"``.
        audio_guidance: strength of the sound's pull; None takes the model's own default.
        head_motion: 0 holds the head still, 1 is natural.
        fps: frames a second of the result.
        emotion: emotions over time: a plan, a schedule's text, or a curve at any rate; None is neutral.
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
    with a_core_left_free():
        motion = models.motion.sample(
            features, None if appearance is None else appearance.identity, seed=seed, steps=steps, scheduler=scheduler,
            head_motion=head_motion, fps=fps, emotion=None if laid_over else curve, progress=progress,
            **{name: scale for name, scale in scales.items() if scale is not None})
    if laid_over:
        log.warning(LAID_OVER)
        motion = lay_emotion_over(models.bridge, motion, curve)
    if curve is not None and appearance is not None:
        from .emotion.calm import calm_first

        motion = calm_first(motion, curve, appearance.face.blendshapes)
    return motion


def emotion_curve(emotion: EmotionPlan | EmotionCurve | str | None, features: SpeechFeatures) -> EmotionCurve | None:
    """Emotions of every frame of ``features``, at their rate; None stays None.

    Raises:
        PlaymateError: a text that cannot be read, or something that is no emotion.
    """
    from .emotion.curve import EmotionCurve
    from .emotion.plan import EmotionPlan

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


def frame_size(appearance: Appearance, size: int = SIZE) -> Tuple[int, int]:
    """(height, width) of the frames that :func:`render_frames` yields.

    Raises:
        PlaymateError: a size that cannot be drawn.
    """
    check_size(size)
    return drawn_size(appearance.image, size) if appearance.film is None else film_size(appearance.film, size)


def size_note(appearance: Appearance, size: int = SIZE, fps: float | None = None) -> str | None:
    """A sentence for the user if frames are smaller than the portrait, or too large for many players, else None.

    Args:
        size: as for :func:`render_frames`.
        fps: frames a second of a film; None when none is written.
    """
    height, width = frame_size(appearance, size)
    rows, columns = frame_size(appearance, 0)
    if fps is not None and not plays_everywhere(width, height, fps):
        return (f"A film of {width} x {height} pixels at {fps:g} frames a second is more than many players decode; "
                f"a size of {SIZE} plays everywhere.")
    if max(height, width) < max(rows, columns):
        what = "portrait" if appearance.film is None else "film"
        return (f"The {what} of {columns} x {rows} pixels is drawn at {width} x {height}; size sets the "
                f"longest side, 0 keeps the {what}'s.")
    return None


def render_frames(models: Models, appearance: Appearance, motion: Motion, batch_size: int | None = None,
                  progress: Progress = None, *, size: int = SIZE, scope: str = "mouth", film_length: str = "hold",
                  start: int = 0, stop: int | None = None, alpha: bool = False) -> Iterator[Tensor]:
    """Yields [B, H, W, 3] float32 sRGB 0..1, len(motion) frames in order.

    Args:
        size: longest side of the frames, pixels; a smaller portrait keeps its own, and so does any with 0.
        scope, film_length: on a film, what is replaced and how long it lasts (``render.film.SCOPES``,
            ``render.takes.FILM_LENGTHS``). Its frames are ``film_pipeline.film_take``'s, at the film's own times.
        start, stop: only these frames of a portrait's motion (``stop`` not included, None: to the end), drawn as they
            are when all are: what is decided for a clip as a whole is decided by the whole motion.
        alpha: yields [B, H, W, 4] with straight alpha, 1 throughout for an opaque portrait. Otherwise a transparent
            ground is white.

    Raises:
        PlaymateError: the appearance was prepared by another renderer, a size that cannot be drawn, or frames that
            the motion does not have.
    """
    if appearance.renderer != models.renderer.name:
        raise PlaymateError(f"The appearance was prepared for the {appearance.renderer} renderer, but "
                            f"{models.renderer.name} is loaded; extract it again with these models.")
    if (film := appearance.film) is not None:
        take = plan_take(film, motion.duration, film_length)
        drawn = draw_take(models.renderer, film, motion, take, scope, size=check_size(size), batch_size=batch_size,
                          progress=progress)
        return each_with_a_core_left_free(map(opaque, drawn) if alpha else drawn)
    stage = stage_of(models.renderer, appearance, size)
    batches = models.renderer.render(stage.appearance, motion, batch_size=batch_size, progress=progress,
                                     part=part_of(motion, start, stop))
    frames = turned_back(batches, stage.turns)
    if appearance.alpha is None:
        return each_with_a_core_left_free(map(opaque, frames) if alpha else frames)
    return each_with_a_core_left_free(frames if alpha else map(on_white, frames))


