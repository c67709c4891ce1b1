"""Where the parts meet: what stands behind a protocol fits it, and the product runs where there is no laboratory."""

import inspect
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import get_type_hints

import pytest
import torch

from playmate_core import pipeline
from playmate_core.diffusion.base import MotionModel
from playmate_core.diffusion.joyvasa.model import JoyVasaMotionModel
from playmate_core.diffusion.model import PlaymateMotionModel
from playmate_core.driving.extraction import MotionExtractor
from playmate_core.render.base import Renderer
from playmate_core.render.landmark import LandmarkRenderer
from playmate_core.render.liveportrait import LivePortraitRenderer
from playmate_core.render.liveportrait.extraction import HostedExtractor
from playmate_core.render.liveportrait.motion_extractor import MotionExtractor as LivePortraitsExtractor
from playmate_core.runtime.errors import PlaymateError
from playmate_core.runtime.host import Host
from playmate_core.speech.base import SpeechEncoder
from playmate_core.speech.encoder import WhisperSpeechEncoder
from playmate_core.speech.joyvasa import JoyVasaSpeechEncoder
from playmate_core.speech.transformer_encoders import TransformersSpeechEncoder
from tests.diffusion_helpers import toy_model

ROOT = Path(__file__).resolve().parent.parent
FITS = {
    SpeechEncoder: (WhisperSpeechEncoder, TransformersSpeechEncoder, JoyVasaSpeechEncoder),
    MotionModel: (PlaymateMotionModel, JoyVasaMotionModel),
    Renderer: (LandmarkRenderer, LivePortraitRenderer),
    MotionExtractor: (HostedExtractor, LivePortraitsExtractor),
}


def unfit(protocol, kind) -> list[str]:
    """What a class lacks of a protocol's methods: names, parameters, their kinds and defaults."""
    wrong = []
    for name, wanted in vars(protocol).items():
        if name.startswith("_") or not inspect.isfunction(wanted):
            continue
        found = getattr(kind, name, None)
        if not inspect.isfunction(found):
            wrong.append(f"{name} is missing")
            continue
        asked, offered = inspect.signature(wanted).parameters, inspect.signature(found).parameters
        wrong += [f"{name}({key}) is {offered.get(key)} where {value} is needed" for key, value in asked.items()
                  if key not in offered or (offered[key].kind, offered[key].default) != (value.kind, value.default)]
        wrong += [f"{name}({key}) is asked for by the class alone" for key, value in offered.items()
                  if key not in asked and value.default is inspect.Parameter.empty
                  and value.kind not in (value.VAR_KEYWORD, value.VAR_POSITIONAL)]
    return wrong


@pytest.mark.parametrize("protocol, kind", [(protocol, kind) for protocol, kinds in FITS.items() for kind in kinds],
                         ids=lambda x: x.__name__)
def test_what_stands_behind_a_protocol_fits_it(protocol, kind):
    assert not unfit(protocol, kind)


def test_what_does_not_fit_is_found():
    class Loud:
        def encode(self, audio, volume, progress=None):
            ...

    class Late:
        def encode(self, audio, progress):
            ...

    assert unfit(SpeechEncoder, Loud) == ["encode(volume) is asked for by the class alone"]
    assert "progress" in unfit(SpeechEncoder, Late)[0] and unfit(SpeechEncoder, object) == ["encode is missing"]


def test_loaded_models_have_what_the_protocols_promise():
    models = pipeline.load_models()
    for part, protocol in ((models.speech, SpeechEncoder), (models.renderer, Renderer)):
        assert all(hasattr(part, name) for name in get_type_hints(protocol)), protocol
    for name, kind in (("encoder", str), ("features_dim", int), ("has_emotion_head", bool)):
        assert isinstance(getattr(models.motion, name), kind)
    assert models.motion.encoder == models.speech.name and models.motion.features_dim == models.speech.features_dim


def test_a_host_is_given_networks_and_asked_for_room_before_they_are_used():
    asked = []

    class Recorder:
        def __call__(self, network):
            asked.append(network)
            return lambda working_bytes: asked.append(working_bytes)

    assert not unfit(Host, Recorder)
    toy = toy_model()
    model = PlaymateMotionModel(toy.denoiser, toy.statistics, host=Recorder())
    assert [type(network) for network in asked] == [torch.nn.ModuleList]
    from tests.diffusion_helpers import toy_features

    next(model.stream(toy_features(20), steps=1))
    assert asked[1] > 0


def test_only_a_pack_with_a_motion_extractor_gives_one(tmp_path, monkeypatch):
    from tests.liveportrait_helpers import small_weights, write_safetensors

    write_safetensors(tmp_path, small_weights())
    monkeypatch.setattr("playmate_core.weights.catalogue.locate",
                        lambda pack: {"motion": tmp_path / "motion_extractor.safetensors"})
    assert isinstance(pipeline.motion_extractor("liveportrait"), LivePortraitsExtractor)
    assert pipeline.motion_extractor("bundled") is None
    assert pipeline.motion_extractor(SimpleNamespace(renderer=object())) is None
    with pytest.raises(PlaymateError, match="no pack of weights called 'other'"):
        pipeline.motion_extractor("other")


def test_every_module_of_the_product_imports_where_there_is_no_laboratory():
    code = """
import importlib, pkgutil, sys
class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "laboratory":
            raise ModuleNotFoundError(f"{name} is not part of what ships", name=name)
sys.meta_path.insert(0, Nowhere())
import playmate_core
names = [m.name for m in pkgutil.walk_packages(playmate_core.__path__, "playmate_core.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
try:
    import laboratory
except ModuleNotFoundError:
    print(len(names))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100
