"""The stage-1 network, its normalisation and its schedules."""

import dataclasses

import pytest
import torch

from playmate_core.diffusion.config import DenoiserConfig
from playmate_core.diffusion.denoiser import Denoiser, rotary, rotate
from playmate_core.diffusion.normalisation import POSE_FLOOR, fit_statistics, prosody
from playmate_core.diffusion.schedule import sampling_scheduler, training_scheduler
from playmate_core.runtime.errors import PlaymateError
from tests.diffusion_helpers import CONFIG, toy_clip, toy_model


def inputs(batch=2, frames=CONFIG.window, seed=0):
    g = torch.Generator().manual_seed(seed)
    length = CONFIG.previous + CONFIG.window + CONFIG.lookahead
    yes = torch.ones(batch, dtype=torch.bool)
    return dict(
        motion=torch.randn(batch, CONFIG.previous + frames, CONFIG.motion_dim, generator=g),
        audio=torch.randn(batch, length, CONFIG.features_dim + 3, generator=g),
        audio_mask=torch.ones(batch, length, dtype=torch.bool), t=torch.tensor([700, 30])[:batch],
        continued=yes, identity=torch.randn(batch, 63, generator=g), has_identity=yes, has_audio=yes)


@pytest.fixture(scope="module")
def net():
    return toy_model().denoiser


def test_predicts_noise_of_the_noisy_frames_only(net):
    assert net(**inputs()).shape == (2, CONFIG.window, CONFIG.motion_dim)


def test_every_condition_is_heard(net):
    base = net(**inputs())
    for key, value in dict(has_audio=torch.zeros(2).bool(), continued=torch.zeros(2).bool(),
                           has_identity=torch.zeros(2).bool(), t=torch.tensor([600, 90])).items():
        changed = net(**{**inputs(), key: value})
        assert (changed - base).abs().amax(dim=(1, 2)).min() > 1e-4, key
    other = inputs()
    other["audio_mask"] = other["audio_mask"].clone()
    other["audio_mask"][:, -8:] = False
    assert not torch.allclose(net(**other), base)


def test_left_out_inputs_have_no_effect(net):
    """What is replaced by a learned token must not leak through."""
    base = {**inputs(), "has_audio": torch.zeros(2).bool(), "has_identity": torch.zeros(2).bool(),
            "continued": torch.zeros(2).bool()}
    other = {**base, "audio": base["audio"] * 3, "identity": -base["identity"], "motion": base["motion"].clone()}
    other["motion"][:, :CONFIG.previous] = 7.0
    torch.testing.assert_close(net(**base), net(**other))


def test_a_masked_window_equals_a_short_one(net):
    """Training masks what sampling leaves out."""
    short = 7
    full = inputs()
    mask = torch.arange(CONFIG.previous + CONFIG.window)[None].expand(2, -1) < CONFIG.previous + short
    masked = net(**full, mask=mask)[:, :short]
    cut = net(**{**full, "motion": full["motion"][:, :CONFIG.previous + short]})
    torch.testing.assert_close(masked, cut, atol=1e-5, rtol=1e-5)


def test_a_batch_of_one_equals_a_batch_of_many(net):
    both = inputs()
    one = {k: v[:1] for k, v in both.items()}
    torch.testing.assert_close(net(**both)[:1], net(**one), atol=1e-5, rtol=1e-5)


def test_untrained_it_returns_its_input_as_noise():
    torch.manual_seed(0)
    fresh = Denoiser(CONFIG)
    x = {**inputs(), "continued": torch.zeros(2).bool()}
    kept = fresh.alphas_cumprod[x["t"]][:, None, None]
    torch.testing.assert_close(fresh(**x), (1 - kept).sqrt() * x["motion"][:, CONFIG.previous:])


def test_untrained_it_carries_the_last_frame_on():
    """The noise that an untrained network sees is that of a head going on where the last window left it."""
    torch.manual_seed(0)
    fresh, x = Denoiser(CONFIG), inputs()
    kept = fresh.alphas_cumprod[x["t"]][:, None, None]
    noisy = x["motion"][:, CONFIG.previous:]
    clean = (noisy - (1 - kept).sqrt() * fresh(**x)) / kept.sqrt()
    expected = kept.sqrt() * noisy + (1 - kept) * fresh.carry * x["motion"][:, CONFIG.previous - 1:CONFIG.previous]
    torch.testing.assert_close(clean, expected, atol=2e-3, rtol=1e-3)


def test_the_expression_hook_reaches_the_expression_head_only(net):
    x = inputs()
    seen = {}

    def hook(hidden, time):
        seen.update(hidden=hidden.shape, time=time.shape)
        return hidden + torch.linspace(-1, 1, CONFIG.width)

    base, hooked = net(**x), net(**x, hook=hook)
    assert seen["hidden"] == (2, CONFIG.previous + CONFIG.window, CONFIG.width) and seen["time"] == (2, CONFIG.width)
    assert not torch.allclose(base[..., :CONFIG.axes], hooked[..., :CONFIG.axes])
    assert torch.equal(base[..., CONFIG.axes:], hooked[..., CONFIG.axes:])


def test_one_trunk_serves_several_heads(net):
    x = inputs()
    motion, t = x["motion"], x["t"]
    speech = net.speech_tokens(x.pop("audio"), x.pop("audio_mask"), x.pop("has_audio"))
    trunk = net.trunk(x.pop("motion"), speech, x.pop("t"), **x)
    assert torch.equal(net.heads(trunk, motion, t), net(**inputs()))


def test_rotary_attention_depends_on_distance_only():
    torch.manual_seed(0)
    q, k = torch.randn(8), torch.randn(8)
    cos, sin = rotary(40, 8, "cpu")
    dots = [(rotate(q, cos[i], sin[i]) * rotate(k, cos[i + 3], sin[i + 3])).sum() for i in (0, 10, 36)]
    torch.testing.assert_close(dots[0], dots[1])
    torch.testing.assert_close(dots[0], dots[2])


def test_config_goes_through_json_and_refuses_nonsense():
    assert DenoiserConfig.from_json(CONFIG.to_json()) == CONFIG
    for change in (dict(width=33), dict(axes=64), dict(axes=0), dict(kernel=4), dict(dropout=1.0), dict(lookahead=-1),
                   dict(train_timesteps=5), dict(beta_schedule="odd"), dict(blocks=0), dict(window=2.5)):
        with pytest.raises(PlaymateError):
            dataclasses.replace(CONFIG, **change)
    for text in ("nonsense", "[1]", '{"hats": 3}'):
        with pytest.raises(PlaymateError):
            DenoiserConfig.from_json(text)


def test_schedules():
    alphas = training_scheduler(CONFIG).alphas_cumprod
    assert len(alphas) == 1000 and alphas[-1] < 1e-4 and (alphas.diff() < 0).all()
    for name in ("ddim", "dpmsolver++"):
        scheduler = sampling_scheduler(CONFIG, name, 8)
        assert len(scheduler.timesteps) == 8 and scheduler.timesteps[0] == 999
    for name, steps in (("euler", 8), ("ddim", 0), ("ddim", 1001), ("ddim", 2.5)):
        with pytest.raises(PlaymateError):
            sampling_scheduler(CONFIG, name, steps)


def test_samplers_find_a_known_answer():
    """With the exact noise of a single point as prediction, both samplers end at that point."""
    target = torch.tensor([1.5, -0.5, 0.0])
    alphas = training_scheduler(CONFIG).alphas_cumprod
    for name in ("ddim", "dpmsolver++"):
        scheduler = sampling_scheduler(CONFIG, name, 10)
        x = torch.randn(3, generator=torch.Generator().manual_seed(0))
        for t in scheduler.timesteps:
            eps = (x - alphas[t].sqrt() * target) / (1 - alphas[t]).sqrt()
            x = scheduler.step(eps, t, x).prev_sample
        torch.testing.assert_close(x, target, atol=2e-3, rtol=0)


class TestNormalisation:
    clips = [toy_clip(i).tensors for i in range(4)]

    def test_full_rank_loses_nothing(self):
        clips = [dict(c, expression=c["expression"] + 0.01 * torch.randn(c["expression"].shape)) for c in self.clips]
        s = fit_statistics(clips, 63)
        x = clips[0]["expression"]
        torch.testing.assert_close(s.decode_expression(s.encode_expression(x)), x, atol=1e-5, rtol=1e-4)

    def test_few_axes_have_unit_size_and_keep_the_motion(self):
        s = fit_statistics(self.clips, 6)
        units = torch.cat([s.encode_expression(c["expression"]) for c in self.clips])
        torch.testing.assert_close(units.T @ units / len(units), torch.eye(6), atol=0.02, rtol=0)
        torch.testing.assert_close(s.decode_expression(units[:120]), self.clips[0]["expression"], atol=1e-4, rtol=0)

    def test_the_first_axis_is_what_speech_explains(self):
        s = fit_statistics(self.clips, 6)
        assert s.speech_share[0] > 0.7 and (s.speech_share.diff() <= 1e-5).all()
        unit = s.encode_expression(self.clips[1]["expression"])[:, 0]
        said = self.clips[1]["features"][:, 0]
        assert torch.corrcoef(torch.stack((unit, said)))[0, 1].abs() > 0.8

    def test_weights_pull_the_mean(self):
        a = dict(self.clips[0], expression=torch.zeros(120, 63) + 0.001 * torch.randn(120, 63))
        b = dict(self.clips[1], expression=torch.ones(120, 63) + 0.001 * torch.randn(120, 63))
        assert fit_statistics([a, b], 4, [3.0, 1.0]).mean.mean() == pytest.approx(0.25, abs=0.01)

    def test_pose_is_normalised_by_the_clip_itself_with_a_floor(self):
        s = fit_statistics(self.clips, 6)
        units = s.encode_pose(self.clips[2]["pose"])
        torch.testing.assert_close(units[:, :3].std(0, unbiased=False), torch.ones(3))
        torch.testing.assert_close(units.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
        still = torch.zeros(50, 7)
        still[:, 0] = 0.01 * torch.randn(50)
        assert s.encode_pose(still).abs().max() < 0.05 / POSE_FLOOR[0]

    def test_decoded_pose_lies_around_rest(self):
        s = fit_statistics(self.clips, 6)
        assert torch.equal(s.decode_pose(torch.randn(9, 6), 0.0)[:, 6], torch.ones(9))
        assert not s.decode_pose(torch.randn(9, 6), 0.0)[:, :6].any()
        pose = s.decode_pose(torch.ones(1, 6), 2.0)[0]
        torch.testing.assert_close(pose[:3], 2 * s.pose_deviation[:3])
        assert pose[5] == 0

    def test_prosody_has_unit_size_and_survives_silence(self):
        p = prosody(torch.tensor([-80.0, -40.0, -200.0]), torch.tensor([0.0, 300.0, 0.0]))
        torch.testing.assert_close(p, torch.tensor([[-2.0, 0.0, 0.0], [0.0, 1.0, 1.0], [-2.0, 0.0, 0.0]]))
