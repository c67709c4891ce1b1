"""What a training run needs to know beside the corpus: read from JSON, checked by pydantic, kept with the run."""

from __future__ import annotations

import json
from dataclasses import asdict, field
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Type, TypeVar, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict

from playmate_core.diffusion.config import EXPRESSION_DIM, DenoiserConfig
from playmate_core.runtime.errors import PlaymateError

DEFAULT = Path(__file__).with_name("stage1.json")
"""The settings of the bundled model's stage 1."""

CHECKED = ConfigDict(extra="forbid")
Whole = Annotated[int, Field(ge=1, strict=True)]
Positive = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Checked = TypeVar("Checked")


@dataclass(frozen=True, config=CHECKED)
class Optimisation:
    """Knobs of any training loop (``loop.Loop``).

    Attributes:
        batch: samples a step, over all processes together.
        accumulate: pieces in which a process works through its share of a batch; more need less memory.
        steps: length of the run; ``--minutes`` may end it sooner.
        learning_rate: peak of a warm-up and a cosine down to a hundredth (Adam, as the paper).
        warm_up: steps.
        decay: of the averaged weights, which are those that are shipped.
        clip_norm: of the gradient.
        mixed_precision: "auto" (bf16 on an accelerator, else none), "no", "bf16" or "fp16".
        validate_every, save_every: steps.
        seed: of everything drawn.
    """

    batch: Whole = 48
    accumulate: Whole = 1
    steps: Whole = 12000
    learning_rate: Positive = 8e-4
    warm_up: Whole = 300
    decay: Share = 0.999
    clip_norm: Positive = 1.0
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    validate_every: Whole = 1000
    save_every: Whole = 500
    seed: Annotated[int, Field(ge=0, lt=1 << 32, strict=True)] = 0


@dataclass(frozen=True, config=CHECKED)
class Training(Optimisation):
    """Knobs of stages 1 and 2, beside those of every loop.

    Attributes:
        first, short, drop_audio, drop_identity: chances of the sampler's special states (``dataset.Windows``).
        features_noise: deviation of noise added to the speech features, against learning speakers by heart.
        previous_noise: exclusive upper timestep of the noise on previous frames (Eq. 9).
        clean_previous: chance of a window whose previous frames have no such noise, as the sampler's have none.
        normalisation: of the expression; "numbers", each by its own mean and deviation (Eq. 5), or "axes", principal
            axes turned towards speech (ours, ``diffusion.normalisation``).
        loss: "noise", the squared error of the noise (Eq. 7), or "velocity", the same divided by abar_t and weighted
            by how much an axis moves (ours, ``stage1.noise_loss``).
        pose_weight: loss weight of the pose half of a token.
        source_weights: factor on the clips' own weights by source; 1 where not named.
        storage: "memory", or "disk" for a corpus that does not fit: it is encoded once into the run's folder and
            mapped from there by all processes of a machine.
        statistics_frames: about how many frames the statistics are taken of; those of more clips would say the same.
        unlabelled: what stage 2 does with clips that have no emotion label: "synthetic" makes them feel something
            (``corpus.emotions``), "leave out" does without them.
    """

    first: Share = 0.2
    short: Share = 0.1
    drop_audio: Share = 0.1
    drop_identity: Share = 0.2
    features_noise: Weight = 0.0
    previous_noise: Whole = 50
    clean_previous: Share = 0.5
    normalisation: Literal["numbers", "axes"] = "axes"
    loss: Literal["noise", "velocity"] = "velocity"
    pose_weight: Weight = 1.0
    source_weights: dict[str, Weight] = field(default_factory=dict)
    storage: Literal["memory", "disk"] = "memory"
    statistics_frames: Whole = 2_000_000
    unlabelled: Literal["synthetic", "leave out"] = "synthetic"


class Sampling(TypedDict, total=False):
    """Default knobs that a motion model can carry."""

    __pydantic_config__ = CHECKED  # type: ignore[misc]

    audio_guidance: Weight
    emotion_guidance: Weight
    temperature: Weight
    blinks: Weight


@plain_dataclass(frozen=True)
class Settings:
    """A whole config file: ``model`` (DenoiserConfig), ``training``, ``sampling`` (default knobs of the result)."""

    model: DenoiserConfig
    training: Training
    sampling: dict

    def __post_init__(self) -> None:
        if self.training.normalisation == "numbers" and self.model.axes != EXPRESSION_DIM:
            raise PlaymateError(f"Training config: normalisation numbers needs a model of {EXPRESSION_DIM} axes, not "
                                f"{self.model.axes}; set axes to {EXPRESSION_DIM} or normalisation to axes.")

    def to_json(self) -> str:
        return json.dumps(dict(model=asdict(self.model), training=asdict(self.training), sampling=self.sampling),
                          indent=2, sort_keys=True)


@dataclass(frozen=True, config=CHECKED)
class _File:
    model: dict[str, Any] = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    sampling: Sampling = field(default_factory=dict)  # type: ignore[assignment]


def default_settings(stage: str) -> Path:
    """Settings file of the bundled model's "stage1" or "stage2"."""
    return DEFAULT.with_name(f"{stage}.json")


def find_settings(name: str | Path) -> Path:
    """A config file by its path, or one of this folder's by its name without ending."""
    path = Path(name)
    own = DEFAULT.parent / f"{path.name}.json"
    return own if path.name == str(name) and not path.is_file() and own.is_file() else path


def load_settings(path: str | Path | None = None) -> Settings:
    """Settings from a JSON file, or the bundled model's.

    Raises:
        PlaymateError: no such file, not JSON, or a key or value that is not understood.
    """
    path = DEFAULT if path is None else Path(path)
    return settings_from(read_json(path), str(path))


def settings_from(values: dict, where: str = "The training config") -> Settings:
    """Settings from plain values; see ``load_settings``."""
    file = checked(_File, values, where)
    return Settings(DenoiserConfig.from_dict(file.model), file.training, dict(file.sampling))


def read_json(path: str | Path) -> Any:
    """What a config file holds.

    Raises:
        PlaymateError: no such file, or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError:
        raise PlaymateError(f"There is no training config at {path}; copy one of those in {DEFAULT.parent} and "
                            "change it.") from None
    except ValueError as error:
        raise PlaymateError(f"{path} is not valid JSON ({error}); mend it or copy {DEFAULT.name}.") from None


def checked(kind: Type[Checked], values: Any, where: str) -> Checked:
    """``values`` as a pydantic dataclass.

    Raises:
        PlaymateError: names the first key that is wrong, and what it may hold.
    """
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        raise PlaymateError(f"{where}: {_sentence(kind, error.errors()[0])}") from None


def _sentence(kind: type, problem: dict) -> str:
    *place, last = problem["loc"] or ("",)
    if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = sorted(_fields(kind, place))
        return f"{' '.join(map(str, place)) or 'the file'} knows no {last}; it knows {', '.join(known)}."
    name = " ".join(map(str, problem["loc"])) or "the file"
    if problem["type"].startswith(("dataclass", "dict")):
        return f"{name} must hold names and values in braces."
    asked = problem["msg"].replace("Input should be", "it must be")
    return f"{name} is {problem['input']!r:.60}; {asked[:1].lower()}{asked[1:]}."


def _fields(kind: type, place: list) -> list[str]:
    """Names that the part of ``kind`` at ``place`` knows."""
    for name in place:
        kind = get_type_hints(kind)[name]
    return [name for name in get_type_hints(kind) if not name.startswith("_")]
