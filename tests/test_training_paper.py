"""The full-scale settings are the paper's equations as printed (PAPER.md 1.3 to 1.8)."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from laboratory.training.settings import find_settings, load_settings, settings_from
from laboratory.training.stage1 import RESULT, Stage1, draw_noise, loss_weights, noise_loss
from playmate_core.diffusion.controller import EmotionController
from playmate_core.diffusion.denoiser import Denoiser
from playmate_core.diffusion.model import PlaymateMotionModel
from playmate_core.diffusion.normalisation import LEAST_VARIANCE, POSE_COLUMNS, fit_statistics
from playmate_core.runtime.errors import PlaymateError
from tests.diffusion_helpers import CONFIG, toy_clip
from tests.test_training_stage1 import toy_lips, windows

FULL = load_settings(find_settings("stage1_full"))
PAPER = dataclasses.replace(FULL.training, batch=8, steps=3, warm_up=1, validate_every=3, save_every=3,
                            storage="memory")


def clips(count=4):
    return [toy_clip(i, 60 + 20 * i, held_out=i == count - 1) for i in range(count)]


def test_expression_by_the_corpus_number_by_number():
    """Eq. 5: one mean and one deviation of every number, over all frames of all clips."""
    corpus = [clip.tensors for clip in clips()]
    statistics = fit_statistics(corpus, 63, turned=False)
    frames = torch.cat([clip["expression"] for clip in corpus]).double()
    mean, deviation = frames.mean(0), frames.std(0, unbiased=False)
    floor = LEAST_VARIANCE**0.5 * deviation.max()
    wanted = (frames - mean) / deviation.clamp(min=floor)
    torch.testing.assert_close(statistics.encode_expression(frames.float()), wanted.float(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(statistics.decode_expression(wanted.float()), frames.float(), rtol=1e-4, atol=1e-5)
    assert float((statistics.axes - statistics.axes.diag().diag()).abs().max()) == 0.0
    assert statistics.speech_share.shape == (63,) and 0 <= float(statistics.speech_share.min())


def test_a_number_that_stands_still_is_not_blown_up():
    corpus = [dict(clip.tensors) for clip in clips()]
    for clip in corpus:
        clip["expression"] = clip["expression"].clone()
        clip["expression"][:, 5] = 1e-7 * torch.randn(len(clip["expression"]))
    units = fit_statistics(corpus, 63, turned=False).encode_expression(corpus[0]["expression"])
    assert float(units[:, 5].abs().max()) < 1e-2 and float(units[:, :5].abs().max()) > 0.5


def test_pose_by_each_clip():
    """Eq. 6: the clip's own mean and deviation over time."""
    pose = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)) * torch.tensor([9, 4, 2, 1, 1, 1, 0.2]) + 3
    statistics = fit_statistics([clip.tensors for clip in clips()], 63, turned=False)
    wanted = (pose - pose.mean(0)) / pose.std(0, unbiased=False)
    torch.testing.assert_close(statistics.encode_pose(pose), wanted[:, POSE_COLUMNS])


def test_the_loss_is_the_mean_squared_error_of_the_noise():
    """Eq. 7, over the tokens that there are."""
    source, statistics = windows(short=0.5)
    batch = source.batch(64, torch.Generator().manual_seed(0))
    weights, alphas = loss_weights(statistics, PAPER), Denoiser(CONFIG).alphas_cumprod
    assert torch.equal(weights, torch.ones(CONFIG.motion_dim))
    drawn = draw_noise(tuple(batch["clean"].shape), torch.Generator().manual_seed(1), PAPER, len(alphas))

    class Silent(torch.nn.Module):
        config = CONFIG

        def forward(self, motion, *arguments, **conditions):
            return torch.zeros_like(motion[:, CONFIG.previous:]) + 0.25

    loss = noise_loss(Silent(), dict(batch), drawn, weights, PAPER, alphas)
    there = batch["mask"][:, CONFIG.previous:]
    wanted = (drawn["noise"][:, CONFIG.previous:] - 0.25).square()[there].mean()
    torch.testing.assert_close(loss, wanted)
    assert float(noise_loss(Silent(), dict(batch), drawn, weights, dataclasses.replace(PAPER, loss="velocity"),
                            alphas)) > 2 * float(loss)


def test_previous_frames_have_slight_noise_of_their_own():
    """Eq. 9 and 10: t from (0, 50) for the previous frames of every window, the denoising t for the others."""
    source, statistics = windows(first=0.0, short=0.0)
    batch = source.batch(256, torch.Generator().manual_seed(0))
    alphas, seen = Denoiser(CONFIG).alphas_cumprod, []
    drawn = draw_noise(tuple(batch["clean"].shape), torch.Generator().manual_seed(1), PAPER, len(alphas))
    assert int(drawn["slight"].max()) == 49 and int(drawn["t"].max()) > 900 and bool(drawn["noised"].all())

    class Watching(torch.nn.Module):
        config = CONFIG

        def forward(self, motion, audio, audio_mask, t, **conditions):
            seen.append((motion, t))
            return motion[:, CONFIG.previous:]

    noise_loss(Watching(), dict(batch), drawn, loss_weights(statistics, PAPER), PAPER, alphas)
    (motion, t), previous = seen[0], CONFIG.previous
    for part, steps in ((slice(None, previous), drawn["slight"]), (slice(previous, None), drawn["t"])):
        kept = alphas[steps][:, None, None]
        wanted = kept.sqrt() * batch["clean"][:, part] + (1 - kept).sqrt() * drawn["noise"][:, part]
        torch.testing.assert_close(motion[:, part], wanted)
    assert torch.equal(t, drawn["t"])
    ours = draw_noise((400, 1, 1), torch.Generator().manual_seed(1), dataclasses.replace(PAPER, clean_previous=0.5),
                      len(alphas))
    assert 0.4 < float(ours["noised"].float().mean()) < 0.6


def test_the_networks_have_the_size_that_is_told():
    count = sum(p.numel() for p in Denoiser(FULL.model).parameters())
    controller = sum(p.numel() for p in EmotionController(FULL.model.width, FULL.model.heads).parameters())
    assert round(count / 1e6) == 72 and round(controller / 1e6) == 10


def test_a_run_by_the_papers_settings_can_be_sampled(tmp_path):
    settings = dataclasses.replace(FULL, model=dataclasses.replace(CONFIG, axes=63), training=PAPER)
    run = Stage1(clips(), settings, tmp_path, device="cpu", lips=toy_lips)
    assert run.statistics.axes.shape == (63, 63) and float((run.statistics.axes.diag() > 0).float().mean()) == 1.0
    assert run.train(show=False)["val_loss"] < 1.5
    assert PlaymateMotionModel.load(tmp_path / RESULT).sampling["audio_guidance"] == 1.5


def test_what_does_not_go_together():
    with pytest.raises(PlaymateError, match="needs a model of 63 axes, not 28"):
        settings_from(dict(model=dict(axes=28), training=dict(normalisation="numbers")))
    for name in ("normalisation", "loss"):
        with pytest.raises(PlaymateError, match=f"training {name} is 'x'; it must be "):
            settings_from(dict(training={name: "x"}))
    assert settings_from(json.loads(FULL.to_json())) == FULL
