"""Somebody who listens: eyes on the speaker, the head a little towards them, nods where they pause, lips still.

Who speaks now and who in a moment is read off how loud each voice is. Speaking and listening change over smoothly: a
listener is back in the middle of the picture by the time that the first sound comes, and turns away once the last one
has gone.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Sequence

import torch
from torch import Tensor

from .blinks import blink_curve, plan_blinks
from .curves import smoothstep
from .edits import concatenate, rebase, slice_frames
from .eyes import eye_offset, read_eyes
from .gaze import jumps, small_saccades
from .geometry import slerp_degrees
from .regions import REGION_KEYPOINTS
from .types import Motion, Neutral

HEAD_SHARE, HEAD_LIMIT = 0.3, (4.0, 7.0)
"""How much of the way to the speaker the head turns, and pitch and yaw at most, degrees: people in a picture mostly
sit as if for the camera, and a head that turns far shows what the picture does not hold."""
GAZE_LIMIT = (16.0, 9.0)
"""Degrees sideways and up or down that the eyes go beyond the head: where the white of one corner still shows."""
APART = 7.0
"""Outer-eye distances at which the speaker is taken to sit in front of the listener (some 60 cm): pictures do not tell
how far apart two people are in depth, and a gaze straight along the picture would be a profile's."""

CHANGE = 0.45
"""Seconds from speaking to listening and back."""
BLINKS = 13.0
"""Blinks a minute of somebody who only listens."""
LATENCY = (0.15, 0.30)
"""Seconds until the eyes, and then the head, go over to another speaker."""
TURN = 0.8
"""Seconds that the head takes to turn to another speaker."""

QUIET, RANGE = -50.0, 30.0
"""Decibels below full scale, and below the loudest tenth of the voice, under which nothing is said."""
PAUSE, WORD = 0.55, 0.12
"""Seconds of silence that do not yet end a turn, and of sound that do not yet begin one."""
BREATH = 0.22
"""Seconds of silence that make a pause to nod at."""

NOD = 0.65
"""Share of pauses that get a nod."""
NOD_DEPTH, NOD_LENGTH = (1.6, 3.2), (0.45, 0.7)
"""Degrees and seconds of a nod."""
BETWEEN_NODS = 1.2
"""Seconds between two nods, at least."""
STILL = 0.5
"""Seconds (standard deviation) over which lips that do not speak are averaged."""


@dataclass(frozen=True)
class Look:
    """Where somebody looks, counted from where the portrait does, degrees.

    Attributes:
        right, up: of the eyes in the head.
        pitch, yaw: of the head, in LivePortrait's signs (above 0 down, and to the picture's left).
    """

    right: float = 0.0
    up: float = 0.0
    pitch: float = 0.0
    yaw: float = 0.0


Looks = Sequence[tuple[float, Look]]
"""(seconds, look from then on) in order of time; the first holds before its time, too."""


def look_towards(across: float, down: float, yaw: float = 0.0, pitch: float = 0.0) -> Look:
    """The look at somebody else in the picture.

    Args:
        across, down: from one's own eyes to the other's, in one's own outer-eye distances.
        yaw, pitch: how the portrait's own head is turned, degrees; one that is turned to the other already needs
            less.
    """
    right = math.degrees(math.atan2(across, APART)) + yaw
    below = math.degrees(math.atan2(down, APART)) - pitch
    head = [max(-limit, min(limit, HEAD_SHARE * angle))
            for limit, angle in zip(HEAD_LIMIT, (below, -right), strict=True)]
    eyes = [max(-limit, min(limit, angle))
            for limit, angle in zip(GAZE_LIMIT, (right + head[1], head[0] - below), strict=True)]
    return Look(eyes[0], eyes[1], head[0], head[1])


def voiced(loudness: Tensor) -> Tensor:
    """[T] bool: the frames of [T] decibels (relative to full scale) in which something is heard."""
    if not len(loudness):
        return torch.zeros(0, dtype=torch.bool)
    loudest = float(torch.quantile(loudness.double(), 0.95)) if len(loudness) < 1 << 20 else float(loudness.max())
    # Of a voice that says little in a long clip the loudest twentieth is silence; then its own loudest counts.
    loudest = max(loudest, float(loudness.max()) - 12.0)
    return loudness > max(QUIET, loudest - RANGE)


def speaking(loudness: Tensor, fps: float) -> Tensor:
    """[T] bool: whose turn it is, from [T] decibels: without the pauses between words, nor single clicks."""
    heard = voiced(loudness).tolist()
    for begin, end in _runs(heard, False):
        if 0 < begin and end < len(heard) and (end - begin) / fps < PAUSE:
            heard[begin:end] = [True] * (end - begin)
    for begin, end in _runs(heard, True):
        if (end - begin) / fps < WORD:
            heard[begin:end] = [False] * (end - begin)
    return torch.tensor(heard, dtype=torch.bool)


def pauses(loudness: Tensor, fps: float) -> list[float]:
    """Seconds at which a voice of [T] decibels pauses for breath or for good."""
    heard = voiced(loudness).tolist()
    found = []
    for begin, end in _runs(heard, False):
        if begin > 0 and (end - begin) / fps >= BREATH:
            found.append(begin / fps)
    return found


def share_of_speech(active: Tensor, fps: float, change: float = CHANGE) -> Tensor:
    """How far somebody speaks rather than listens, frame by frame.

    Args:
        active: [T] bool from :func:`speaking`.
        fps: frames a second.
        change: seconds of a change.

    Returns:
        [T] float32, 1 in every active frame, and easing to 0 within ``change`` seconds before and after.
    """
    frames = len(active)
    reach = max(change * fps, 1.0)
    place = torch.arange(frames, dtype=torch.float64)
    share = torch.zeros(frames, dtype=torch.float64)
    for begin, end in _runs(active.tolist(), True):
        away = torch.maximum(begin - place, place - (end - 1)).clamp_min(0)
        share = torch.maximum(share, smoothstep(1 - away / reach))
    return share.float()


def who_is_heard(active: Sequence[Tensor], listener: int) -> list[tuple[int, int]]:
    """(frame, speaker) from which a listener attends to which of the others.

    Args:
        active: [T] bool of every speaker.
        listener: number of the one who listens.

    Returns:
        In order; begins with frame 0. Whoever began last is attended to until somebody else is alone.
    """
    others = [number for number in range(len(active)) if number != listener]
    if not others:
        return []
    first = {number: next(iter(_runs(active[number].tolist(), True)), (1 << 60, 0))[0] for number in others}
    now = min(others, key=lambda number: first[number])
    found = [(0, now)]
    begins = {number: {begin for begin, _ in _runs(active[number].tolist(), True)} for number in others}
    for frame in range(max((len(one) for one in active), default=0)):
        new = [number for number in others if frame in begins[number]]
        speak = [number for number in others if frame < len(active[number]) and bool(active[number][frame])]
        next_one = new[-1] if new else now if now in speak or not speak else speak[0]
        if next_one != now:
            now = next_one
            found.append((frame, now))
    return found


def listen(frames: int, fps: float, looks: Looks = (), nods: Sequence[float] = (), seed: int = 0,
           blink_rate: float = BLINKS) -> Motion:
    """Somebody who says nothing all the time.

    Args:
        frames: T.
        fps: frames a second.
        looks: at whom, over time; none is straight on.
        nods: seconds at which the speaker pauses; most get a nod, from :func:`pauses`.
        seed: same seed, same listener.
        blink_rate: blinks a minute; 0 for none.
    """
    rest = Motion.rest(frames, fps)
    if not frames:
        return rest
    pose = _listening_pose(frames, fps, looks, nods, seed)
    shut = blink_curve(plan_blinks(frames / fps, blink_rate, seed), frames, fps)[:, None].expand(-1, 2)
    return replace(rest, expression=rest.expression + eye_offset(shut, _gaze(frames, fps, looks, seed)),
                   rotation=pose[:, :3], translation=pose[:, 3:6])


def take_turns(spoken: Motion, share: Tensor, looks: Looks = (), nods: Sequence[float] = (), seed: int = 0,
               head: bool = True, eyes: bool = True) -> Motion:
    """A motion that speaks where ``share`` is 1 and listens where it is 0.

    While somebody listens, lips and jaw rest where the motion has them on average just there (a smile stays), its
    blinks and brows go on, and head and eyes are on the speaker.

    Args:
        spoken: T frames that a motion model made of the person's own voice.
        share: [T] from :func:`share_of_speech`.
        looks, nods, seed: as in :func:`listen`.
        head, eyes: whether they are directed; else they stay the motion's.
    """
    frames, fps, device = len(spoken), spoken.fps, spoken.expression.device
    if not frames or bool((share >= 1).all()):
        return spoken
    share = share[:frames].to(spoken.expression)
    moved = rebase(spoken, Neutral.rest().to(device))
    expression = _lips_at_rest(moved.expression, share, fps)
    rotation, translation, scale = moved.rotation, moved.translation, moved.scale
    if eyes:
        own = read_eyes(moved.expression.cpu())[1].to(device)
        change = (1 - share)[:, None] * (_gaze(frames, fps, looks, seed).to(device) - own)
        expression = expression + eye_offset(torch.zeros_like(change), change)
    if head:
        pose = _listening_pose(frames, fps, looks, nods, seed).to(device)
        rotation = slerp_degrees(pose[:, :3], rotation, share)
        translation = torch.lerp(pose[:, 3:6], translation, share[:, None])
        scale = 1 + share[:, None] * (scale - 1)
    listening = rebase(replace(moved, expression=expression, rotation=rotation, translation=translation, scale=scale),
                       spoken.neutral)
    speaks = share >= 1
    return replace(listening, **{
        name: torch.where(speaks.reshape(-1, *[1] * (value.ndim - 1)), value, getattr(listening, name))
        for name, value in (("expression", spoken.expression), ("rotation", spoken.rotation),
                            ("translation", spoken.translation), ("scale", spoken.scale))})


def listens_on(motion: Motion, frames: int, looks: Looks = (), nods: Sequence[float] = (), seed: int = 0) -> Motion:
    """A motion of at least ``frames`` frames: where it ends, its person goes on listening.

    Args:
        looks, nods: seconds from the beginning of ``motion``.
    """
    if len(motion) >= frames:
        return motion
    fade = min(max(round(CHANGE * motion.fps), 1), len(motion))
    more = listen(frames, motion.fps, looks, nods, seed).to(motion.expression.device)
    if not len(motion):
        return rebase(more, motion.neutral)
    return concatenate([motion, slice_frames(more, len(motion) - fade)], fade)


def seen_speaking(motion: Motion) -> Tensor:
    """[T] decibels of a voice that was not heard, as if it were as loud as the lips move; for who has only a motion."""
    lips = motion.expression_offset[:, list(REGION_KEYPOINTS["mouth"])].flatten(1).cpu()
    if len(lips) < 2:
        return torch.full((len(lips),), -80.0)
    speed = (lips.diff(dim=0).square().sum(1) * motion.fps**2).sqrt()
    speed = torch.cat([speed[:1], speed])
    reach = max(1, round(0.1 * motion.fps))
    padded = torch.nn.functional.pad(speed[None, None], (reach, reach), mode="replicate")
    speed = torch.nn.functional.avg_pool1d(padded, 2 * reach + 1, 1)[0, 0]
    # Speech moves the lips' latents by about 0.3 a second, what a model makes of silence by a tenth of it.
    return (20 * torch.log10((speed / 0.08).clamp_min(1e-3)) - 45.0).clamp(-80.0, 0.0)


def _lips_at_rest(expression: Tensor, share: Tensor, fps: float) -> Tensor:
    """[T, 21, 3] expressions whose mouth and jaw hold still where ``share`` [T] is 0."""
    parts = list(REGION_KEYPOINTS["mouth"] + REGION_KEYPOINTS["rest"])
    quiet = (1 - share).double()
    values = expression[:, parts].double().flatten(1)
    sigma = STILL * fps
    reach = min(max(int(3 * sigma), 1), len(values))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / sigma) ** 2).to(values.device)

    def smoothed(rows: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(rows.T[:, None], (reach, reach))
        return torch.nn.functional.conv1d(padded, kernel[None, None])[:, 0].T

    # Only what is quiet counts, and that twice over: no word just before it opens the lips at rest.
    weight = quiet.square()
    total = smoothed(weight[:, None])
    held = smoothed(values * weight[:, None]) / total.clamp_min(1e-9)
    held = torch.where(total > 1e-6, held, values).reshape(len(values), len(parts), 3).to(expression)
    result = expression.clone()
    result[:, parts] = torch.lerp(held, expression[:, parts], share[:, None, None])
    return result


def _gaze(frames: int, fps: float, looks: Looks, seed: int) -> Tensor:
    """[T, 2] degrees to the right and up: the eyes jump to whoever speaks, and are a little restless."""
    gaze = 0.6 * small_saccades(frames, fps, 1.0, seed)
    if not looks:
        return gaze
    times = torch.arange(frames, dtype=torch.float64) / fps
    for column, name in enumerate(("right", "up")):
        points = [(at + (LATENCY[0] if at > 0 else 0.0), getattr(look, name)) for at, look in looks]
        gaze[:, column] += jumps(points, times).float()
    return gaze


def _listening_pose(frames: int, fps: float, looks: Looks, nods: Sequence[float], seed: int) -> Tensor:
    """[T, 6] pitch, yaw and roll in degrees, x, y and z: towards the speaker, nodding, breathing, never quite still."""
    times = torch.arange(frames, dtype=torch.float64) / fps
    draw = random.Random(f"listening {int(seed)}")
    pose = torch.zeros(frames, 6, dtype=torch.float64)
    if looks:
        for column, name in enumerate(("pitch", "yaw")):
            pose[:, column] = getattr(looks[0][1], name)
            for (_, before), (at, after) in pairwise(looks):
                step = getattr(after, name) - getattr(before, name)
                pose[:, column] += step * smoothstep((times - at - LATENCY[1]) / TURN)
    # Two slow waves an axis that do not repeat together within a minute.
    for column, size in enumerate((0.5, 0.8, 0.7)):
        for period in (draw.uniform(3.5, 5.5), draw.uniform(7.0, 11.0)):
            pose[:, column] += 0.5 * size * torch.sin(2 * math.pi * (times / period + draw.random()))
    pose[:, 2] += draw.uniform(-1.2, 1.2)
    breath = torch.sin(2 * math.pi * (times / draw.uniform(3.6, 4.6) + draw.random()))
    pose[:, 0] -= 0.2 * breath
    pose[:, 4] -= 0.0025 * breath
    pose[:, 0] += _nods(times, nods, draw)
    return pose.float()


def _nods(times: Tensor, at: Sequence[float], draw: random.Random) -> Tensor:
    """[T] degrees of pitch."""
    curve, last = torch.zeros_like(times), -BETWEEN_NODS
    for moment in sorted(at):
        # All are drawn whether they are used or not: one pause more changes no other nod's size.
        begin, depth = moment + draw.uniform(0.05, 0.3), draw.uniform(*NOD_DEPTH)
        length, wanted, twice = draw.uniform(*NOD_LENGTH), draw.random() < NOD, draw.random() < 0.3
        if not wanted or begin < last + BETWEEN_NODS:
            continue
        for repeat, size in enumerate((1.0, 0.55) if twice else (1.0,)):
            u = ((times - begin - repeat * length) / length).clamp(0, 1)
            # Down in two fifths of the time, up in the rest.
            curve = curve + depth * size * smoothstep(u / 0.4) * (1 - smoothstep((u - 0.4) / 0.6))
            last = begin + (repeat + 1) * length
    return curve


def _runs(values: Sequence[bool], wanted: bool) -> list[tuple[int, int]]:
    """(first, last + 1) of the stretches of ``wanted``."""
    found, first = [], None
    for place, value in enumerate([*values, not wanted]):
        if bool(value) == wanted and first is None:
            first = place
        elif bool(value) != wanted and first is not None:
            found.append((first, place))
            first = None
    return found
