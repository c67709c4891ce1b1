"""LivePortrait's settings: the node, and what each does to the keypoints; small made-up networks."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from playmate_core import pipeline
from playmate_core.motion.geometry import rotation_matrix
from playmate_core.motion.sliders import edit_expression
from playmate_core.motion.types import Motion
from playmate_core.render.liveportrait.animate import EYES, LIP, REGIONS, Options
from tests.node_helpers import node_modules
from tests.render_helpers import gap_latent

PLAIN = Options(stitching=False)
SETTINGS = {"motion_mode": "relative", "animation_region": "all", "stitching": True, "driving_multiplier": 1.0,
            "normalize_lips": True, "eye_retargeting": False, "lip_retargeting": False}


@pytest.fixture(scope="module")
def renderer(small_liveportrait, models):
    return pipeline._liveportrait("liveportrait", models.bridge, torch.device("cpu"), small_liveportrait)


@pytest.fixture(scope="module")
def prepared(renderer, models, portrait):
    return pipeline.extract_appearance(replace(models, renderer=renderer), portrait).payload


@pytest.fixture(scope="module")
def motion(models):
    rest = Motion.rest(4)
    opening = torch.linspace(0, 1, 4)[:, None, None] * gap_latent(models.bridge, 0.15)
    return replace(rest, expression=opening, rotation=torch.linspace(0, 12, 4)[:, None] * torch.tensor([0.0, 1, 0]),
                   translation=torch.linspace(0, 0.1, 4)[:, None] * torch.tensor([1.0, 0, 0]))


def test_options_share_everything_else(renderer, models, portrait, motion):
    other = renderer.with_options(replace(PLAIN, multiplier=1.5))
    assert other.networks is renderer.networks and renderer.options.stitching and other.options.multiplier == 1.5
    appearance = pipeline.extract_appearance(replace(models, renderer=renderer), portrait)
    first, second = (torch.cat(list(one.render(appearance, motion))) for one in (renderer, other))
    assert first.shape == second.shape and float((first - second).abs().max()) > 0.01


def test_the_multiplier_is_a_factor_on_all(renderer, prepared, motion):
    x_s = prepared.source.keypoints()
    once, twice, none = (renderer.with_options(replace(PLAIN, multiplier=factor)).keypoints(prepared, motion) - x_s
                         for factor in (1.0, 2.0, 0.0))
    assert float(once.abs().max()) > 0.05
    assert torch.allclose(twice, 2 * once, atol=1e-5) and not none.any()


def test_regions_leave_the_others_alone(renderer, prepared, motion):
    x_s = prepared.source.keypoints()
    moved = {region: (renderer.with_options(replace(PLAIN, region=region)).keypoints(prepared, motion) - x_s)[-1]
             for region in REGIONS}
    others = [point for point in range(21) if point not in LIP]
    assert not moved["lip"][others].any() and moved["lip"][list(LIP)].any()
    assert not moved["eyes"][[point for point in range(21) if point not in EYES]].any()
    still = replace(motion, expression=torch.zeros_like(motion.expression))
    turned = renderer.with_options(PLAIN).keypoints(prepared, still) - x_s
    assert torch.allclose(moved["pose"], turned[-1], atol=1e-5) and not torch.equal(moved["all"], moved["pose"])


def test_absolute_motion_takes_the_pose_over(renderer, models, portrait, prepared, motion):
    absolute = renderer.with_options(replace(PLAIN, relative=False))
    source = prepared.source
    plain = replace(source, exp=source.exp, rotation=rotation_matrix(motion.rotation[-1:]), t=motion.translation[-1:])
    pose = absolute.with_options(replace(PLAIN, relative=False, region="pose")).keypoints(prepared, motion)
    assert torch.allclose(pose[-1:], plain.keypoints(), atol=1e-5)
    # A motion at rest looks straight ahead then, whichever way the portrait looks.
    appearance = pipeline.extract_appearance(replace(models, renderer=renderer), portrait)
    rest = next(absolute.render(appearance, Motion.rest(1)))
    assert not torch.equal(rest[0], portrait) and torch.equal(next(renderer.render(appearance, Motion.rest(1)))[0],
                                                              portrait)


def test_openings_are_read_off_the_motion(renderer, prepared, models, motion):
    """Which S's networks are told: eyes in proportion to the portrait's own, lips from shut at rest."""
    blink = edit_expression(Motion.rest(3), {"blink": -20.0}, torch.tensor([0.0, 0.35, 1.0]))
    told = renderer._with_openings(prepared.source, prepared.source, blink)
    own = prepared.source.eyes[0]
    assert torch.allclose(told.eyes[0], own, atol=1e-4)
    assert bool((0.3 * own < told.eyes[1]).all()) and bool((told.eyes[1] < 0.7 * own).all())
    assert not told.eyes[2].any()  # the lids have crossed, which is shut
    told = renderer._with_openings(prepared.source, prepared.source, motion)
    assert float(told.lip[0]) < 0.01 and bool((told.lip.diff(dim=0) > 0.02).all())


@pytest.mark.parametrize("which", ["retarget_eyes", "retarget_lips"])
def test_retargeting_sets_what_it_is_for(renderer, prepared, motion, which):
    """S is told what ``animate`` tells it; the head goes on turning."""
    retargeted = renderer.with_options(replace(PLAIN, **{which: True})).keypoints(prepared, motion)
    plain = renderer.with_options(PLAIN).keypoints(prepared, motion)
    assert float((retargeted - plain).abs().max()) > 1e-3
    assert float((retargeted[3] - retargeted[0]).abs().max()) > 0.05


# ---- the node


@pytest.fixture(scope="module")
def node():
    with node_modules("liveportrait_options") as pack:
        yield pack


def run(node, renderer, **changes):
    node.server.said.clear()
    chosen = replace(node.pipeline.Models(*[None] * 6), renderer=renderer)
    return node.liveportrait_options.LivePortraitOptions.execute(chosen, **{**SETTINGS, **changes}).args[0]


@pytest.fixture(scope="module")
def node_renderer(node, small_liveportrait, models):
    return node.pipeline._liveportrait("liveportrait", models.bridge, torch.device("cpu"), small_liveportrait)


def test_as_it_comes_the_node_changes_nothing(node, node_renderer):
    assert run(node, node_renderer).renderer.options == node_renderer.options
    assert not node.server.said
    schema = node.liveportrait_options
    assert schema.REGIONS == REGIONS


def test_the_node_hands_settings_on(node, node_renderer):
    found = run(node, node_renderer, motion_mode="absolute", animation_region="exp", stitching=False,
                driving_multiplier=1.4, normalize_lips=False, eye_retargeting=True, lip_retargeting=True)
    wanted = Options(relative=False, region="exp", stitching=False, multiplier=1.4, retarget_eyes=True,
                     retarget_lips=True)
    assert vars(found.renderer.options) == vars(wanted)
    assert vars(node_renderer.options) == vars(Options(normalise_lip=True))


def test_the_node_says_when_settings_have_no_effect(node, node_renderer):
    other = SimpleNamespace(name="landmark")
    assert run(node, other, stitching=False).renderer is other
    assert "change nothing" in node.server.said[-1][0]
    animal = node_renderer.with_options(node_renderer.options)
    animal.animal = True
    run(node, animal, driving_multiplier=2.0, stitching=False)
    assert not any(text for text, _ in node.server.said)
    run(node, animal, lip_retargeting=True)
    assert "only know stitching" in node.server.said[-1][0]
    refuse = node.liveportrait_options.LivePortraitOptions.validate_inputs
    assert "sideways" in refuse(motion_mode="sideways") and "nose" in refuse(animation_region="nose")
    assert refuse(motion_mode="absolute", animation_region="lip") is True
