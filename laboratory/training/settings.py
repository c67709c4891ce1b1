"""What a training run needs to know beside the corpus: read from a JSON file, checked, stored with the run."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from playmate_core.diffusion.config import EXPRESSION_DIM, DenoiserConfig
from playmate_core.runtime.errors import PlaymateError

SAMPLING = ("audio_guidance", "emotion_guidance", "temperature")
"""Default knobs that a motion model can carry."""
DEFAULT = Path(__file__).with_name("stage1.json")
"""The settings of the bundled model's stage 1."""


@dataclass(frozen=True)
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

    batch: int = 48
    accumulate: int = 1
    steps: int = 12000
    learning_rate: float = 8e-4
    warm_up: int = 300
    decay: float = 0.999
    clip_norm: float = 1.0
    mixed_precision: str = "auto"
    validate_every: int = 1000
    save_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        self._whole("batch", "accumulate", "steps", "warm_up", "validate_every", "save_every")
        self._share("decay")
        self._number("learning_rate", "clip_norm", least=1e-12)
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or not 0 <= self.seed < 1 << 32:
            raise PlaymateError(f"Training config: seed is {self.seed!r}; it must be a whole number, 0 to 2^32 - 1.")
        self._one_of("mixed_precision", "auto", "no", "bf16", "fp16")

    def _whole(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise PlaymateError(f"Training config: {name} is {value!r}; it must be a whole number, 1 or more.")

    def _number(self, *names: str, least: float = 0.0) -> None:
        for name in names:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < math.inf:
                raise PlaymateError(f"Training config: {name} is {value!r}; it must be a number, "
                                    f"{'above 0' if least else '0 or more'}.")

    def _share(self, *names: str) -> None:
        self._number(*names)
        for name in names:
            if getattr(self, name) > 1:
                raise PlaymateError(f"Training config: {name} is {getattr(self, name)!r}; it must be 0 to 1.")

    def _one_of(self, name: str, *known: str) -> None:
        if getattr(self, name) not in known:
            raise PlaymateError(f"Training config: {name} {getattr(self, name)!r} is unknown; use "
                                f"{', '.join(known[:-1])} or {known[-1]}.")


@dataclass(frozen=True)
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

    first: float = 0.2
    short: float = 0.1
    drop_audio: float = 0.1
    drop_identity: float = 0.2
    features_noise: float = 0.0
    previous_noise: int = 50
    clean_previous: float = 0.5
    normalisation: str = "axes"
    loss: str = "velocity"
    pose_weight: float = 1.0
    source_weights: dict = field(default_factory=dict)
    storage: str = "memory"
    statistics_frames: int = 2_000_000
    unlabelled: str = "synthetic"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._whole("previous_noise", "statistics_frames")
        self._share("first", "short", "drop_audio", "drop_identity", "clean_previous")
        self._one_of("normalisation", "numbers", "axes")
        self._one_of("loss", "noise", "velocity")
        self._one_of("storage", "memory", "disk")
        self._one_of("unlabelled", "synthetic", "leave out")
        self._number("features_noise", "pose_weight")
        weights = self.source_weights
        if not isinstance(weights, dict) or not all(isinstance(v, (int, float)) and v >= 0 for v in weights.values()):
            raise PlaymateError("Training config: source_weights must be a number, 0 or more, for each source.")


@dataclass(frozen=True)
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
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise PlaymateError(f"There is no training config at {path}; copy {DEFAULT.name} and change it.") from None
    except ValueError as error:
        raise PlaymateError(f"{path} is not valid JSON ({error}); mend it or copy {DEFAULT.name}.") from None
    return settings_from(values, str(path))


def settings_from(values: dict, where: str = "The training config") -> Settings:
    """Settings from plain values; see ``load_settings``."""
    if not isinstance(values, dict) or set(values) - {"model", "training", "sampling"}:
        raise PlaymateError(f"{where} must hold model, training and sampling and nothing else.")
    for part in ("model", "training", "sampling"):
        if not isinstance(values.get(part, {}), dict):
            raise PlaymateError(f"{where}: {part} must hold names and values in braces.")
    training = values.get("training", {})
    unknown = sorted(set(training) - {f.name for f in fields(Training)})
    if unknown:
        raise PlaymateError(f"{where}: training knows no {', '.join(unknown)}; see training/settings.py.")
    for name, value in values.get("sampling", {}).items():
        if name not in SAMPLING or isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
            raise PlaymateError(f"{where}: sampling {name} is {value!r}; it may hold numbers, 0 or more, for "
                                f"{', '.join(SAMPLING)}.")
    return Settings(DenoiserConfig.from_dict(values.get("model", {})), Training(**training),
                    dict(values.get("sampling", {})))
