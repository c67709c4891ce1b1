"""JoyVASA's published behaviour, number by number, on the reference fixtures."""

import json

import pytest
import torch

from playmate_core.diffusion.joyvasa import network, sampler, schedule
from playmate_core.diffusion.joyvasa.config import JoyVasaConfig
from playmate_core.diffusion.joyvasa.statistics import AveragedPose, MotionTemplate
from playmate_core.motion.geometry import rotation_matrix
from playmate_core.speech import joyvasa as speech
from playmate_core.speech.transformer_encoders import build_network

POSE = ("scale", "t", "pitch", "yaw", "roll")
CASES = ("cfg2p8_prev", "cfg2p8_prev_legacy_pe", "cfg2p8_start", "nocfg_prev", "noise_target_prev")
"""The fixture's other two, dynamic thresholds and flexibility, are knobs that nobody can reach."""
CLIPS = ("exact_two_windows", "five_windows", "one_window_with_surplus", "shorter_than_window", "thirteen_frames",
         "three_windows", "three_windows__legacy_constant")


@pytest.fixture(scope="module")
def fixture(shared):
    from safetensors import safe_open

    def load(name):
        with safe_open(str(shared / "reference" / "joyvasa" / f"parity_{name}.safetensors"), "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, json.loads(file.metadata()["spec"])
    return load


@pytest.fixture
def agree(record_property):
    """Holds the relative error (of the whole array) below 1e-4 and keeps it for the table of docs/parity.md."""
    def check(name, found, wanted):
        assert found.shape == wanted.shape, name
        error = float((found.double() - wanted.double()).norm() / wanted.double().norm().clamp(min=1e-12))
        record_property(name, f"{error:.1e}")
        assert error <= 1e-4, f"{name}: {error:.1e}"
    return check


def generator(tensors, **changes):
    made = network.MotionGenerator(JoyVasaConfig(n_motions=12, n_prev_motions=4, feature_dim=32, **changes))
    derived = ("denoising_net.TE.", "denoising_net.PE.", "denoising_net.alignment_mask", "diffusion_sched.")
    made.load_state_dict({k[3:]: v for k, v in tensors.items()
                          if k.startswith("sd.") and not k[3:].startswith(derived)})
    return made.eval().requires_grad_(False)


def pose(data, prefix):
    return torch.cat([data[f"{prefix}.{part}"] for part in POSE], 1)


def test_schedules(fixture, agree):
    data, _ = fixture("schedules")
    for name in ("cosine", "linear", "quadratic", "sigmoid"):
        made = schedule.tables(50, name)
        for part in ("betas", "alphas", "alpha_bars", "sigmas_flex", "sigmas_inflex"):
            agree(f"{name}.{part}", getattr(made, part), data[f"out.{name}.{part}"])
    agree("cosine500", schedule.tables(500).alpha_bars, data["out.cosine500.alpha_bars"])
    agree("steps", network.sinusoids(501, 32), data["out.sinusoid_501x32"])
    agree("frames", network.sinusoids(600, 256)[[0, 1, 25, 110, 599]], data["out.sinusoid_600x256_rows_0_1_25_110_599"])
    for length, width in ((110, 0), (16, 0), (16, 1)):
        wanted = data[f"out.alignment_mask_{length}_expansion{width}"]
        assert torch.equal(network.alignment_mask(length, width + 1), wanted)


@pytest.mark.parametrize("positions", ["per_frame", "legacy_constant"])
def test_denoiser(fixture, agree, positions):
    data, spec = fixture("denoiser")
    net = generator(data, positions=positions)
    inner = net.denoising_net
    motion = torch.cat((data["in.prev_motion_feat"], data["in.motion_feat"]), 1)
    memory = torch.cat((data["in.prev_audio_feat"], data["in.audio_feat"]), 1)
    layers = {}
    for index in (0, 7):
        inner.transformer.layers[index].register_forward_hook(
            lambda _, __, out, index=index: layers.__setitem__(index, out))
    out = f"out.{positions}"
    agree("target", inner(motion, memory, data["in.step"]), data[f"{out}.target"])
    agree("target_with_indicator", inner(motion, memory, data["in.step"]), data[f"{out}.target_with_indicator"])
    agree("after_pe", inner.embed_motion(motion), data[f"{out}.after_pe"])
    for index in (0, 7):
        agree(f"layer{index}", layers[index], data[f"{out}.layer{index}"])
    agree("step", inner.embed_step(data["in.step"])[:, 0], data["out.step_embedding"])
    guided = sampler.guided_generator(net, data["in.audio_feat"][0], net.start_motion_feat[0], net.start_audio_feat[0],
                                      spec["cfg"]["scale"])
    agree("guided", guided(data["in.motion_feat"][0], spec["cfg"]["step"]), data[f"{out}.cfg_guided_2p8"][0])


@pytest.mark.parametrize("case", CASES)
def test_sampling(fixture, agree, case):
    data, spec = fixture("sampling")
    told = spec["cases"][case]
    net = generator(data, positions=told["pe"], target="noise" if "target" in told else "sample")
    carried = "prev_motion_feat" in told
    motion, audio = (data["in.prev_motion_feat"], data["in.prev_audio_feat"]) if carried else (
        net.start_motion_feat, net.start_audio_feat)
    path = [data["in.x_T"][0]]
    predict = sampler.guided_generator(net, data["in.audio_feat"][0], motion[0], audio[0], told.get("cfg_scale"))
    made = schedule.ancestral(predict, path[0], lambda draw: data["in.z"][draw, 0],
                              schedule.tables(net.config.n_diff_steps), net.config.target,
                              lambda step, x: path.append(x) if step in (49, 40, 25, 10, 2, 1, 0) else None)
    whole = sampler.sample_window(net, data["in.audio_feat"][0], motion[0], audio[0], path[0],
                                  lambda draw: data["in.z"][draw, 0], sampler.Sampling(guidance=told.get("cfg_scale")))
    assert torch.equal(made, whole)
    agree("x0", made, data[f"out.{case}.x0"][0])
    agree("trajectory", torch.stack(path), data[f"out.{case}.traj"])


@pytest.mark.parametrize("clip", CLIPS)
def test_whole_clips(fixture, agree, clip):
    data, spec = fixture("multiwindow")
    told, template = spec["cases"][clip], template_of(data)
    source = told["inputs_from"]
    sound = data[f"in.{source}.audio"]
    plan = speech.plan_windows(len(sound), 12)
    assert (plan.windows, plan.padding) == (told["n_windows"], told["n_padding_frames"])
    frames = speech.cut_windows(sound, plan).reshape(plan.windows, 12, 640)
    heard = torch.tanh(4 * frames @ data["in.stub_audio_w"])
    agree("windows", heard, data[f"in.{source}.window_audio_feat"])
    latent = torch.cat(list(sampler.sample_windows(
        generator(data, positions=told["pe"]), heard, data[f"in.{source}.x_T"][0],
        lambda window: lambda draw: data[f"in.{source}.z"][window, draw, 0], sampler.Sampling())))
    agree("latent", latent, data[f"out.{clip}.latent_all_windows"])
    latent = latent[:len(latent) - plan.padding]
    agree("cut", latent, data[f"out.{clip}.latent"])
    raw = template.pose(latent)
    smoothed = torch.cat([smooth(part) for smooth in (AveragedPose(),) for part in raw.split(7)])
    agree("expression", template.expression(latent), data[f"out.{clip}.raw.exp"])
    for name, found in (("raw", raw), ("smoothed", smoothed)):
        agree(f"{name} pose", found, pose(data, f"out.{clip}.{name}"))
        agree(f"{name} R", rotation_matrix(found[:, 4:]), data[f"out.{clip}.{name}.R"])


@pytest.mark.parametrize("name, smoother", [("raw", lambda pose: pose), ("ema", AveragedPose())])
def test_motion(fixture, agree, name, smoother):
    data, _ = fixture("motion_dict")
    template = template_of(data)
    agree("expression", template.expression(data["in.latent"]), data[f"out.{name}.exp"])
    found = torch.cat([smoother(part) for part in template.pose(data["in.latent"]).split(7)])
    agree("pose", found, pose(data, f"out.{name}"))
    agree("R", rotation_matrix(found[:, 4:]), data[f"out.{name}.R"])


def test_audio(fixture, agree):
    data, spec = fixture("audio_frontend")
    prefix = "sd.audio_encoder."
    net = build_network("hubert", spec["hubert_config"],
                        {k[len(prefix):]: v for k, v in data.items() if k.startswith(prefix)}, "the fixture")
    lengths = [key for key in data if key.startswith("out.pad_len_")]
    assert lengths
    for key in lengths:
        assert speech.pad_sides(torch.zeros(1, int(key.rsplit("_", 1)[1]))).shape[1] == int(data[key][0])
    for key in ("pad_short", "pad_short2"):
        assert torch.equal(speech.pad_sides(data[f"in.{key}"]), data[f"out.{key}"])
    padded = speech.pad_sides(data["in.audio"])
    agree("edges", torch.cat((padded[:, :100], padded[:, -100:]), 1), data["out.padded_head_tail"])
    agree("convolutions", net.feature_extractor(padded)[:, :, [0, 1, 199]], data["out.conv_features_frames_0_1_199"])
    agree("hidden", net(padded).last_hidden_state, data["out.hidden_200"])
    heard = speech.window_features(net, data["in.audio"], 100)
    mapped = torch.nn.functional.linear(heard, data["sd.audio_feature_map.weight"], data["sd.audio_feature_map.bias"])
    agree("mapped", mapped, data["out.audio_feat_100"])


def test_the_published_sizes(shared):
    """Names and shapes of the public checkpoint are exactly the networks'."""
    import transformers

    manifest = json.loads((shared / "reference" / "joyvasa" / "manifest.json").read_text())
    with torch.device("meta"):
        made = {k: list(v.shape) for k, v in network.MotionGenerator(JoyVasaConfig()).state_dict().items()}
        hubert = transformers.HubertModel(transformers.HubertConfig())
    made |= {f"audio_encoder.{k}": list(v.shape) for k, v in hubert.state_dict().items()}
    names = {old: new for new, old in manifest["aliases"].items()}
    made = {names.get(k, k): v for k, v in made.items()}
    wanted = {k: v["shape"] for k, v in manifest["keys"].items()
              if k not in manifest["optional_or_derived"]}
    assert {k: v for k, v in made.items() if k != "audio_encoder.masked_spec_embed"} == wanted
    changed = JoyVasaConfig(motion_feat_dim=70, n_prev_motions=25)
    state = network.MotionGenerator(changed).state_dict()
    for key, shape in manifest["retrained_with_script_defaults"]["changed_shapes"].items():
        if key in state:
            assert list(state[key].shape) == shape


def template_of(data):
    prefix = "in.template."
    return MotionTemplate.from_arrays({k[len(prefix):]: v for k, v in data.items() if k.startswith(prefix)})
