"""Motion From Video through a motion extractor: which crops it is shown, and what becomes of what it says."""

from __future__ import annotations

import pytest
import torch

from playmate_core.driving import extraction
from playmate_core.driving import film as driving
from playmate_core.face.bridge import LatentBridge
from playmate_core.face.crop import Roi, as_rgb, sample
from playmate_core.motion.geometry import HEADPOSE_BINS
from playmate_core.render.liveportrait.motion_extractor import MotionExtractor, MotionExtractorConfig
from playmate_core.runtime.errors import PlaymateError

from .driving_helpers import Actors, actor, speech
from .liveportrait_helpers import recipe

SIDE = 48  # of the pictures, in which faces of 8 pixels an eye distance live
FRAMES = 24


@pytest.fixture(scope="module")
def bridge():
    return LatentBridge.load()


def still(bridge, count=FRAMES, **more):
    return [actor(bridge, torch.zeros(21, 3), place=(24.0, 22.0), size=8.0, **more)] * count


def numbered(count=FRAMES):
    """Pictures that are as bright as their number says."""
    return [torch.full((SIDE, SIDE, 3), number / 255.0) for number in range(count)]


class Replay:
    """A motion extractor that knows the answer for every numbered picture."""

    def __init__(self, exp=None, rotation=None, t=None, scale=None, count=FRAMES):
        given = {"exp": (exp, 21, 3), "rotation": (rotation, 3), "t": (t, 3), "scale": (scale, 1)}
        self.answers = {name: torch.full((count, *shape), 1.3 if name == "scale" else 0.0) if value is None else value
                        for name, (value, *shape) in given.items()}
        self.batches: list[list[int]] = []

    def motion(self, image):
        assert image.shape[1:] == (3, 256, 256)
        numbers = [round(float(one[:, 128, 128].mean()) * 255) for one in image]
        self.batches.append(numbers)
        return {name: value[numbers] for name, value in self.answers.items()}


def read(bridge, faces, network, pictures=None, **more):
    pictures = numbered(len(faces)) if pictures is None else pictures
    return driving.motion_from_frames(Actors(faces), bridge, pictures, 25.0, motion_extractor=network, **more)


def test_every_frame_gets_its_own_latents(bridge):
    torch.manual_seed(0)
    known = Replay(0.01 * torch.randn(FRAMES, 21, 3), 5 * torch.randn(FRAMES, 3), 0.05 * torch.randn(FRAMES, 3),
                   1.4 + 0.1 * torch.rand(FRAMES, 1))
    motion = read(bridge, still(bridge), known, neutral="first frame")
    assert known.batches == [list(range(16)), list(range(16, FRAMES))]
    truth = known.answers
    assert torch.allclose(motion.expression, truth["exp"], atol=1e-5)
    assert torch.allclose(motion.rotation, truth["rotation"], atol=1e-3)
    assert torch.allclose(motion.translation[:, :2], truth["t"][:, :2], atol=1e-5)
    assert not motion.translation[:, 2].any()  # never drawn, and zero in LivePortrait's templates
    assert torch.allclose(motion.scale, truth["scale"], atol=1e-5)
    neutral = motion.neutral
    for name in ("expression", "rotation", "translation", "scale"):
        assert torch.equal(getattr(neutral, name), getattr(motion, name)[0])


def test_frames_without_a_face_are_not_shown_and_are_bridged(bridge):
    faces = still(bridge, 8)
    faces[0] = faces[3] = faces[4] = None
    ramp = torch.arange(8.0)[:, None]
    known = Replay(0.001 * ramp[:, :, None].expand(8, 21, 3), 2 * ramp * torch.tensor([0.0, 1, 0]), count=8)
    motion = read(bridge, faces, known)
    assert known.batches == [[1, 2, 5, 6, 7]] and len(motion) == 8
    assert torch.allclose(motion.expression[1:, 5, 1], 0.001 * ramp[1:, 0], atol=1e-5)
    assert torch.allclose(motion.rotation[1:, 1], 2 * ramp[1:, 0], atol=0.05)
    assert torch.equal(motion.expression[0], motion.expression[1])


@pytest.mark.parametrize("neutral", driving.NEUTRALS)
def test_where_latents_count_from(bridge, neutral):
    """A person whose own looks are in M's latents, and who starts in the middle of a word."""
    said = speech(bridge, FRAMES).roll(-6, 0)
    looks = 0.02 * torch.randn(21, 3, generator=torch.Generator().manual_seed(1))
    faces = [actor(bridge, e, place=(24.0, 22.0), size=8.0) for e in said]
    motion = read(bridge, faces, Replay(looks + said), neutral=neutral)
    assert torch.allclose(motion.expression, looks + said, atol=1e-5)
    offset = motion.expression_offset
    if neutral == "auto":
        assert torch.allclose(motion.neutral.expression, looks, atol=2e-3)
        assert float((bridge.lip_gap(offset) - bridge.lip_gap(said)).abs().max()) < 0.02
    elif neutral == "first frame":
        assert not offset[0].any() and float(bridge.lip_gap(offset).min()) < -0.05
    else:
        assert torch.equal(motion.neutral.expression, motion.expression.flatten(1).median(0).values.reshape(21, 3))


def test_what_is_not_used_stays_at_the_neutral_frame(bridge):
    torch.manual_seed(0)
    known = Replay(0.01 * torch.randn(FRAMES, 21, 3), torch.randn(FRAMES, 3))
    pose, face = (read(bridge, still(bridge), known, use=use) for use in ("pose", "expression"))
    assert not pose.expression_offset.any() and pose.neutral.expression.any() and pose.rotation.std() > 0
    assert torch.equal(face.rotation, face.neutral.rotation.expand(FRAMES, 3)) and face.expression_offset.any()


def wandering(bridge, reach):
    """Faces that cross the picture by ``reach`` pixels and come as much nearer."""
    way = torch.linspace(0, 1, FRAMES).tolist()
    return [actor(bridge, torch.zeros(21, 3), place=(24 + reach * w, 22.0), size=8 * (1 + reach * w / 100))
            for w in way]


@pytest.mark.parametrize("reach", [4.0, 100.0])
def test_the_crop_stands_still_until_the_face_leaves_it(bridge, reach):
    faces = wandering(bridge, reach)
    landmarks = torch.stack([face.landmarks for face in faces])
    centres, sides = extraction.crops_through(landmarks, 25.0)
    centre, side = extraction.driving_crop(landmarks)
    if reach == 4.0:
        assert torch.equal(centres, centre.expand(FRAMES, 2)) and torch.equal(sides, torch.full_like(sides, side))
        return
    own, own_sides = extraction.driving_boxes(landmarks)
    assert float((centres - own).norm(dim=-1).max()) < 0.05 * side
    assert float((sides / own_sides - 1).abs().max()) < 0.05
    jumpy = landmarks + torch.randn(FRAMES, 1, 1, generator=torch.Generator().manual_seed(0))
    assert extraction.crops_through(jumpy, 25.0)[0].diff(dim=0).diff(dim=0).abs().max() < 0.5


def test_a_following_crop_adds_its_own_way(bridge):
    """M sees the head in the middle throughout; where it went in the picture is what the landmarks say."""
    faces = wandering(bridge, 100.0)
    seen = read(bridge, faces, Replay())
    known = read(bridge, faces, None, extractor="landmarks")
    moved, wanted = (m.translation[:, 0] - m.translation[0, 0] for m in (seen, known))
    assert float(wanted[-1]) > 1.5 and float((moved - wanted).abs().max()) < 0.06 * float(wanted[-1])
    grown, wanted = (m.scale[:, 0] / m.scale[0, 0] for m in (seen, known))
    assert float(wanted[-1]) > 1.8 and float((grown / wanted - 1).abs().max()) < 0.05


@pytest.mark.parametrize("reach", [4.0, 100.0])
def test_the_crop_is_where_the_face_is(bridge, reach):
    """Pictures whose red and green tell the place: what M sees in its middle is the crop's centre."""
    faces = wandering(bridge, reach)
    y, x = torch.meshgrid(torch.arange(60) + 0.5, torch.arange(200) + 0.5, indexing="ij")
    picture = torch.stack([x / 200, y / 60, torch.ones(60, 200)], -1)

    class Looker(Replay):
        def motion(self, image):
            middle = image[:, :2, 127:129, 127:129].mean((2, 3)) * torch.tensor([200.0, 60.0])
            self.batches.append(middle)
            return {name: value[:len(image)] for name, value in self.answers.items()}

    looker = Looker()
    read(bridge, faces, looker, [picture] * FRAMES)
    centres, _ = extraction.crops_through(torch.stack([face.landmarks for face in faces]), 25.0)
    assert torch.allclose(torch.cat(looker.batches), centres.float(), atol=0.05)


@pytest.fixture(scope="module")
def small_extractor():
    network = MotionExtractor(MotionExtractorConfig(depths=(1, 1, 1, 1), dims=(8, 8, 16, 16)))
    network.load_state_dict(recipe("motion", network))
    return network.eval().requires_grad_(False)


def test_a_network_is_shown_the_crop(bridge, small_extractor):
    """M's own structure, small and with made-up weights, against M called by hand."""
    pictures = torch.rand(3, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(0))
    faces = still(bridge, 3)
    motion = read(bridge, faces, small_extractor, [(pictures * 255).round().to(torch.uint8)])
    (x, y), side = extraction.driving_crop(torch.stack([face.landmarks for face in faces]))
    crops = torch.stack([sample(as_rgb((one * 255).round() / 255), Roi(float(x), float(y), side), 256, "zeros")
                         for one in pictures])
    wanted = small_extractor.motion(crops)
    assert torch.allclose(motion.expression, wanted["exp"], atol=1e-5)
    assert torch.allclose(motion.rotation, wanted["rotation"], atol=1e-4)
    assert torch.allclose(motion.scale, wanted["scale"], atol=1e-5)
    assert float(motion.expression.std(0).max()) > 0  # the pictures differ, and so does what is read


def test_angles_have_liveportraits_order_and_signs(bridge, small_extractor):
    """Heads that are sure of one bin each; LivePortrait's degrees are 3 a bin from -97.5 (SPEC.md section 8)."""
    network = MotionExtractor(small_extractor.config)
    network.load_state_dict(small_extractor.state_dict())
    for name, bin_number in (("pitch", 30), ("yaw", 38), ("roll", 35)):
        head = getattr(network.detector, f"fc_{name}")
        head.weight.data.zero_()
        head.bias.data = 100.0 * torch.nn.functional.one_hot(torch.tensor(bin_number), HEADPOSE_BINS).float()
    turned = still(bridge, 3, rotation=(-7.5, 16.5, 7.5))
    by_network = read(bridge, turned, network)
    by_landmarks = read(bridge, turned, None)
    assert torch.allclose(by_network.rotation, torch.tensor([-7.5, 16.5, 7.5]).expand(3, 3), atol=1e-3)
    assert torch.allclose(by_landmarks.rotation, by_network.rotation, atol=1.0)


def test_auto_takes_what_there_is(bridge):
    known = Replay(0.03 * torch.ones(FRAMES, 21, 3))
    assert read(bridge, still(bridge), known).expression.any()
    assert not read(bridge, still(bridge), known, extractor="landmarks").neutral.expression.any()
    assert torch.equal(read(bridge, still(bridge), None).expression,
                       read(bridge, still(bridge), None, extractor="landmarks").expression)


def test_progress_counts_both_looks_and_cancels(bridge):
    told = []
    read(bridge, still(bridge, 4), Replay(), total=4, progress=lambda *at: told.append(at))
    assert told == [(number, 8) for number in range(1, 9)]

    def cancel(done, total):
        if done > 5:
            raise InterruptedError
    with pytest.raises(InterruptedError):
        read(bridge, still(bridge, 4), Replay(), progress=cancel)


def test_what_cannot_be_done_is_said(bridge):
    with pytest.raises(PlaymateError, match="no motion extractor; load the pack liveportrait"):
        read(bridge, still(bridge), None, extractor="motion extractor")
    with pytest.raises(PlaymateError, match="looks at a clip twice"):
        read(bridge, still(bridge), Replay(), iter(numbered()))
    with pytest.raises(PlaymateError, match="heads without size"):
        read(bridge, still(bridge), Replay(scale=torch.zeros(FRAMES, 1)))

    class Damaged(list):
        """A file that ends earlier when it is read again."""

        looks = 0

        def __iter__(self):
            for number, picture in enumerate(super().__iter__()):
                if self.looks and number == 3:
                    return
                yield picture
            self.looks += 1

    with pytest.raises(PlaymateError, match="gave 3 of 5 pictures"):
        read(bridge, still(bridge, 5), Replay(), Damaged(numbered(5)))


def test_latents_that_m_gave_of_a_real_clip(models, shared):
    """LivePortrait's published latents of its own clip, replayed: they agree with the landmarks, and on the neutral."""
    from safetensors.torch import load_file

    from playmate_core.media.video_reader import open_video
    from playmate_core.motion.geometry import euler_degrees

    folder, every = shared / "data" / "liveportrait_templates", 12
    stored = load_file(str(folder / "d5.safetensors"))
    pictures = [picture for number, (_, picture) in enumerate(open_video(folder / "d5.mp4")) if number % every == 0]
    held = {"exp": stored["exp"][::every], "rotation": euler_degrees(stored["R"][::every]),
            "t": stored["t"][::every], "scale": stored["scale"][::every]}

    class Published:
        def motion(self, image):
            return {name: value[:len(image)] for name, value in held.items()}

    assert len(pictures) == len(held["exp"]) <= extraction.BATCH
    seen, known = (driving.motion_from_frames(models.face, models.bridge, pictures, 30 / every, motion_extractor=one)
                   for one in (Published(), None))
    gap, wanted = (models.bridge.lip_gap(motion.expression_offset) for motion in (seen, known))
    assert float((gap - wanted).abs().mean()) < 0.03 and abs(float(gap.min())) < 0.02 < float(gap.max()) - 0.1
    assert float((seen.rotation - known.rotation).abs().mean(0).max()) < 3.0
    assert float((seen.expression_offset - known.expression_offset).square().mean().sqrt()) < 0.004
