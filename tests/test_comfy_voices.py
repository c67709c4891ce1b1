"""Downloaded motion models and speech encoders in a real ComfyUI: random files of the published formats."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.comfy_prompts import ROOT, check_video, ended_well, refusals, sentence, video_of
from tests.diffusion_helpers import toy_model
from tests.joyvasa_helpers import write_checkpoint, write_encoder
from tests.test_comfy_motion import node

JOYVASA = "joyvasa/motion_generator/motion_generator_hubert_chinese.pt"
SECONDS, FRAMES = 0.8, 20
BASE = dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072, conv_dim=[512] * 7,
            num_conv_pos_embeddings=128, num_conv_pos_embedding_groups=16)
"""Sizes of wav2vec2-base, the smallest that ComfyUI's own Audio Encoder Loader knows."""

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def studio(comfy, tmp_path_factory):
    """The server with a portrait, a short voice, and models in models/playmate."""
    import wave

    inputs, voice = ROOT / "workflows" / "inputs", tmp_path_factory.mktemp("sound") / "voice_second.wav"
    with wave.open(str(inputs / "voice.wav")) as file, wave.open(str(voice), "wb") as out:
        out.setparams(file.getparams())
        out.writeframes(file.readframes(round(SECONDS * file.getframerate())))
    comfy.upload(voice)
    comfy.upload(inputs / "portrait.jpg")
    folder, core = comfy.base / "models" / "playmate", comfy.base / "models" / "audio_encoders"
    write_checkpoint(folder / "joyvasa")
    write_encoder(folder / "wav2vec2-tiny", "wav2vec2")
    write_encoder(folder / "hubert-tiny", "hubert", weights="pickle")
    write_encoder(folder / "wav2vec2-base", "wav2vec2", normalise=False, **BASE)  # as core takes the sound
    toy_model(encoder="wav2vec2-tiny", features_dim=64).save(folder / "listens_to_tiny.safetensors")
    toy_model(encoder="wav2vec2-base", features_dim=768).save(folder / "listens_to_base.safetensors")
    core.mkdir(exist_ok=True)
    os.link(folder / "wav2vec2-base" / "model.safetensors", core / "base.safetensors")
    yield comfy
    shutil.rmtree(folder)
    (core / "base.safetensors").unlink()


def speaking(motion_model, speech_encoder="auto", **sampler):
    """A prompt in which ``n`` samples a motion of the voice."""
    return {"m": node("LoadModels", device="auto", motion_model=motion_model, speech_encoder=speech_encoder),
            "w": {"class_type": "LoadAudio", "inputs": {"audio": "voice_second.wav"}},
            "e": node("AudioEncoder", models=["m", 0], audio=["w", 0]),
            "n": node("MotionSampler", models=["m", 0], speech=["e", 0], **{"seed": 1, "steps": 3, **sampler})}


def saving(prompt, *sources):
    """The prompt with Save Motion behind the nodes ``sources``."""
    return {**prompt, **{f"save {source}": node("SaveMotion", motion=[source, 0], filename_prefix=f"motions/{source}")
                         for source in sources}}


def motions(studio, prompt, *sources):
    """The motions that the nodes ``sources`` gave."""
    return saved(studio, ended_well(studio.run(saving(prompt, *sources))), *sources)


def saved(studio, outputs, *sources):
    from playmate_core.motion.files import load_motion

    entries = [outputs[f"save {source}"]["motions"][0] for source in sources]
    return [load_motion(studio.base / entry["type"] / entry["subfolder"] / entry["filename"]) for entry in entries]


def test_joyvasas_motion_feels_turns_is_edited_and_drawn(studio):
    from playmate_core.motion.sliders import slider_offset

    prompt = speaking(JOYVASA)
    prompt |= {
        "happy": node("EmotionControl", emotion="happy", strength=1.0, fade_in=0.0, fade_out=0.0),
        "felt": node("MotionSampler", models=["m", 0], speech=["e", 0], emotion=["happy", 0], seed=1, steps=3),
        "turned": node("PoseOverride", motion=["felt", 0], source="keyframes", axes="yaw", mode="replace",
                       keyframes="0 yaw=0; 0.6 yaw=12"),
        "smiling": node("ExpressionEdit", motion=["turned", 0], smile=1.0, apply="whole"),
        "i": {"class_type": "LoadImage", "inputs": {"image": "portrait.jpg"}},
        "a": node("ExtractAppearance", models=["m", 0], image=["i", 0]),
        "v": node("RenderVideo", models=["m", 0], appearance=["a", 0], motion=["smiling", 0], audio=["w", 0]),
        "f": {"class_type": "SaveVideo", "inputs": {"video": ["v", 0], "filename_prefix": "video/joyvasa",
                                                    "format": "auto", "codec": "auto"}},
    }
    outputs = ended_well(studio.run(saving(prompt, "n", "felt", "turned", "smiling")))
    check_video(video_of(studio, outputs), SECONDS)
    plain, felt, turned, smiling = saved(studio, outputs, "n", "felt", "turned", "smiling")
    assert [len(motion) for motion in (plain, felt, turned, smiling)] == [FRAMES] * 4
    assert felt.rotation.equal(plain.rotation) and (felt.expression - plain.expression).abs().max() > 0.005
    yaw = turned.rotation[:, 1] - turned.neutral.rotation[1]
    assert abs(float(yaw[0])) < 1.5 and float(yaw[-1]) == pytest.approx(12, abs=1.5)
    added = smiling.expression - turned.expression
    assert added.allclose(slider_offset({"smile": 1.0}).expand_as(added), atol=1e-5)


def test_joyvasas_networks_are_loaded_unloaded_and_loaded_again(studio):
    first, = motions(studio, speaking(JOYVASA, seed=11), "n")
    for network in ("MotionGenerator", "HubertModel"):
        entry, = studio.held(network)
        assert entry["patcher"] == "ModelPatcher" and entry["loaded"] == entry["bytes"] > 0
    studio.unload()
    other, = motions(studio, speaking(JOYVASA, seed=12), "n")
    assert studio.held("MotionGenerator") and not studio.held("HubertModel")  # the features were at hand still
    studio.unload()
    again, = motions(studio, speaking(JOYVASA, seed=11), "n")
    assert again.expression.equal(first.expression) and not other.expression.equal(first.expression)


def test_a_speech_encoder_is_chosen_and_must_be_the_models_own(studio):
    chosen, = motions(studio, speaking("listens_to_tiny.safetensors", "wav2vec2-tiny"), "n")
    assert len(chosen) == FRAMES and chosen.expression.std(0).max() > 1e-4
    entry, = studio.held("Wav2Vec2Model")
    assert entry["loaded"] == entry["bytes"] > 0
    # Left alone, the model finds the folder of its encoder's name by itself.
    found, = motions(studio, speaking("listens_to_tiny.safetensors"), "n")
    assert found.expression.equal(chosen.expression)
    said = sentence(studio.run(saving(speaking("listens_to_tiny.safetensors", "hubert-tiny"), "n")))
    assert "come from hubert-tiny" in said and "wav2vec2-tiny" in said
    said = refusals(studio, saving(speaking("listens_to_tiny.safetensors", "hubert-large"), "n"))
    assert "speech_encoder is 'hubert-large'" in said


def test_comfyuis_own_audio_encoder_is_heard_as_ours(studio):
    """The same weights through ComfyUI's own nodes and through ours make the same motion, to half precision."""
    ours, = motions(studio, speaking("listens_to_base.safetensors"), "n")
    prompt = speaking("listens_to_base.safetensors")
    prompt |= {"c": {"class_type": "AudioEncoderLoader", "inputs": {"audio_encoder_name": "base.safetensors"}},
               "o": {"class_type": "AudioEncoderEncode", "inputs": {"audio_encoder": ["c", 0], "audio": ["w", 0]}}}
    prompt["e"]["inputs"]["audio_encoder_output"] = ["o", 0]
    cores, = motions(studio, prompt, "n")
    quiet = speaking("listens_to_base.safetensors")
    quiet["w"] = {"class_type": "EmptyAudio", "inputs": {"duration": SECONDS, "sample_rate": 16000, "channels": 1}}
    silent, = motions(studio, quiet, "n")
    assert len(cores) == len(ours) == len(silent) == FRAMES
    away, heard = ((motion.expression - ours.expression).square().mean().sqrt() for motion in (cores, silent))
    assert heard > 1e-3 and away < 0.3 * heard  # 0.18 measured; the sound's ends are filled up differently
    # A motion model that listens to something else says so.
    prompt["m"]["inputs"]["motion_model"] = "bundled"
    assert "768 numbers a row" in sentence(studio.run(saving(prompt, "n")))


def test_the_node_outlives_its_folder(comfy):
    """ComfyUI remembers a folder that it has listed and fails when that is gone."""
    folder = comfy.base / "models" / "playmate"
    aside = folder.with_name("playmate.aside")
    comfy.get("/object_info/PlaymateLoadModels")
    folder.mkdir(exist_ok=True)
    comfy.get("/object_info/PlaymateLoadModels")
    folder.rename(aside)
    try:
        offered = comfy.get("/object_info/PlaymateLoadModels")["PlaymateLoadModels"]["input"]["required"]
        assert offered["motion_model"][1]["options"] == ["bundled"]
    finally:
        aside.rename(folder)
