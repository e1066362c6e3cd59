"""Settings: one TOML file in, one out; every unknown key answered with the nearest known one."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from labelmend.errors import SettingsError, unknown


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _nothing(cls, values: Any) -> Any:
        # TOML has no null: the word "none" unsets what may be unset, and is a word elsewhere.
        if not isinstance(values, Mapping):
            return values
        may_be_unset = {
            name
            for name, info in cls.model_fields.items()
            if type(None) in get_args(info.annotation)
        }
        return {key: _none(value, key in may_be_unset) for key, value in values.items()}


class InputSettings(_Section):
    """How files become tensors (the input computer of seed B)."""

    normalise: Literal["zscore", "percentile", "set", "none"] = Field(
        "zscore",
        description="per image: zero mean and unit deviation, or percentiles to 0..1; over the set",
    )
    percentiles: tuple[float, float] = (1.0, 99.0)
    denoise: Literal["none", "gaussian", "median"] = "none"
    denoise_size: float = Field(1.0, gt=0, description="deviation or radius, in positions")
    spacing: tuple[float, ...] | None = Field(
        None, description="resample every file to this distance between positions"
    )
    size: tuple[int, ...] | None = Field(
        None, description="or resample every file to this many positions"
    )
    spectrogram: bool = Field(
        False, description="recordings become frequency channels over time frames"
    )
    window: int = Field(512, gt=1, description="samples per spectrogram frame")
    hop: int = Field(128, gt=0, description="samples between spectrogram frames")
    patch: tuple[int, ...] | None = Field(
        None, description="size of a training patch; by default chosen from the data"
    )
    overlap: float = Field(
        0.5, ge=0, lt=1, description="share of a patch that neighbours share when predicting"
    )
    patches: int = Field(
        1, ge=1, description="patches of an image that make up one pass over it, for epochs"
    )
    foreground: float = Field(
        0.33, ge=0, le=1, description="share of training patches centred on something labelled"
    )
    cache_mb: int = Field(512, ge=0, description="memory per loading process for decoded files")
    workers: int = Field(0, ge=0, description="loading processes; 0 loads in the training one")
    timeout: float = Field(120.0, gt=0, description="seconds after which a loading process hangs")
    allow_bad: int = Field(0, ge=0, description="samples that may be left out for bad files")
    val_share: float = Field(
        0.2, ge=0, lt=1, description="share of the strong training groups held out for validation"
    )
    test_share: float = Field(0.0, ge=0, lt=1, description="likewise for testing")

    @model_validator(mode="after")
    def _one_grid(self) -> InputSettings:
        if self.spacing is not None and self.size is not None:
            raise ValueError("input.spacing and input.size exclude each other; keep one")
        return self


class AugmentSettings(_Section):
    """Random changes, alike for image and label."""

    flip: float | None = Field(
        None, ge=0, le=1, description="probability per space axis; 0.5, or 0 along time (1-D)"
    )
    quarter_turns: bool = Field(False, description="turn squares by 0, 90, 180 or 270 degrees")
    noise: float = Field(0.05, ge=0, description="largest deviation of added noise")
    contrast: float = Field(0.1, ge=0, lt=1, description="largest relative change of contrast")
    brightness: float = Field(0.1, ge=0, description="largest shift of all values")


class NetworkSettings(_Section):
    """Who predicts."""

    name: str = Field(
        "unet", description="a network of networks.build, or module:Class of your own"
    )
    width: int = Field(16, ge=1, description="channels of the first level")
    depth: int = Field(4, ge=1, description="levels")
    dropout: float = Field(0.0, ge=0, lt=1)
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="further keyword arguments of the network"
    )


class WeightingSettings(_Section):
    """How much each weak label counts (seed A, A2)."""

    method: Literal["gradient", "constant"] = "gradient"
    signal: Literal["both", "loss", "similarity"] = Field(
        "both", description="what speaks for a label: gradient similarity, its loss, or both"
    )
    update: Literal["plain", "normalised"] = "normalised"
    initial: float = Field(0.5, ge=0, le=1, description="weight of a weak sample before any update")
    rate: float = Field(0.1, gt=0, description="step size of the weights (beta)")
    start: int = Field(100, ge=0, description="training steps before the first weight step")
    every: int = Field(50, ge=1, description="training steps between weight steps (tau)")
    strong_samples: int = Field(16, ge=1, description="strong samples per trusted gradient")
    weak_samples: int | None = Field(
        None,
        ge=1,
        description="weak samples judged per weight step, in turn; by default as many as make "
        "weighting cost about a quarter of training",
    )


class BatchSettings(_Section):
    """What a step of training sees."""

    size: int = Field(8, ge=1, description="samples per step over all processes")
    strong_share: float | None = Field(
        0.5, ge=0, le=1, description="share of strong samples; omit to draw from all alike"
    )
    accumulate: int = Field(1, ge=1, description="parts a process divides its batch into")


class OptimiserSettings(_Section):
    """How parameters move."""

    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    warmup: int = Field(50, ge=0, description="steps to the full rate; at most a tenth of all")
    schedule: Literal["cosine", "poly", "constant"] = "cosine"
    clip: float | None = Field(12.0, gt=0, description="largest norm of a network's gradient")


class Settings(_Section):
    """Everything a training depends on besides the data.

    Unknown keys are refused with the nearest known one:

    >>> Settings.make({"batch": {"sise": 4}})
    Traceback (most recent call last):
    labelmend.errors.SettingsError: unknown setting 'batch.sise'; did you mean 'batch.size'?
    """

    seed: int = Field(0, ge=0, lt=2**31)
    steps: int | None = Field(None, ge=1, description="training steps; 2000 by default")
    epochs: float | None = Field(None, gt=0, description="or passes over the larger set of labels")
    loss: str | None = Field(None, description="by default dice_ce, or l1 for regression")
    precision: Literal["auto", "32-true", "bf16-mixed", "64-true"] = Field(
        "auto", description="auto is bf16-mixed on a GPU that has it, else 32-true"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    validate_every: int | None = Field(None, ge=1, description="steps; by default 10 times a run")
    save_every: int | None = Field(None, ge=1, description="steps; by default as validate_every")
    keep: int = Field(2, ge=1, description="latest checkpoints to keep beside the best")
    patience: int | None = Field(
        None, ge=1, description="validations without a gain after which training ends"
    )
    tensorboard: bool = Field(False, description="also write RUN/tensorboard for TensorBoard")
    input: InputSettings = InputSettings()
    augment: AugmentSettings = AugmentSettings()
    network: NetworkSettings = NetworkSettings()
    weighting: WeightingSettings = WeightingSettings()
    batch: BatchSettings = BatchSettings()
    optimiser: OptimiserSettings = OptimiserSettings()

    @model_validator(mode="after")
    def _steps_or_epochs(self) -> Settings:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("steps and epochs exclude each other; keep one")
        return self

    @classmethod
    def make(cls, *layers: Mapping[str, Any]) -> Settings:
        """Settings from nested mappings, later ones over earlier ones.

        Raises:
            SettingsError: for an unknown key or a value out of range, naming it.
        """
        merged: dict[str, Any] = {}
        for layer in layers:
            merged = _over(merged, layer)
        try:
            return cls.model_validate(merged)
        except ValidationError as error:
            raise SettingsError(_explain(error)) from None

    @classmethod
    def read(cls, path: Path) -> Settings:
        """Settings from a TOML file."""
        return cls.make(read_toml(path))

    def to_toml(self) -> str:
        """The TOML text from which :meth:`read` makes equal settings; unset ones are ``"none"``.

        >>> "strong_share" in Settings.make(preset("pooled")).to_toml()
        True
        """
        return tomli_w.dumps(_without_null(self.model_dump(mode="json")))


PRESETS: dict[str, dict[str, Any]] = {
    "weighted": {},
    "pooled": {
        "weighting": {"method": "constant", "initial": 1.0},
        "batch": {"strong_share": None},
    },
    "strong_only": {"weighting": {"method": "constant"}, "batch": {"strong_share": 1.0}},
}
"""Named starting points: the method, and the two things people would do without it."""


def preset(name: str) -> dict[str, Any]:
    """The settings of a named starting point, to lay others over.

    >>> preset("strong_only")["batch"]
    {'strong_share': 1.0}
    """
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as nested dicts.

    Raises:
        SettingsError: when it is missing or not TOML, naming file and line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"no settings file at {path}") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML in UTF-8: {error}") from None


def gather(
    preset_name: str = "weighted",
    file: Path | None = None,
    assignments: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings from everything that a person may give; the later argument wins.

    Args:
        preset_name: a named starting point.
        file: a TOML file.
        assignments: ``key.sub=value`` texts.
        options: nested settings that have options of their own.

    Raises:
        SettingsError: naming the file or the setting.

    >>> gather("pooled", assignments=["seed=4"], options={"seed": 5}).seed
    5
    """
    options, layers = options or {}, [preset(preset_name)]
    if file is not None:
        layers.append(read_toml(file))
        try:
            Settings.make(*layers)
        except SettingsError as error:
            raise SettingsError(f"{file}: {error}") from error
    if options.keys() & {"steps", "epochs"}:  # they exclude each other, and the prompt wins
        layers.append({"steps": None, "epochs": None})
    return Settings.make(*layers, from_assignments(assignments), options)


def from_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Nested settings from ``key.sub=value`` texts; values are TOML, bare words are strings.

    >>> from_assignments(["batch.size=4", "loss=dice", "batch.strong_share=none"])
    {'batch': {'size': 4, 'strong_share': None}, 'loss': 'dice'}
    """
    nested: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise SettingsError(f"a setting is given as key=value, not {text!r}")
        *parents, leaf = key.strip().split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise SettingsError(f"{text!r}: {parent!r} was given a value of its own before")
        place[leaf] = _value(value.strip())
    return nested


def _value(text: str) -> Any:
    if text.lower() == "none":
        return None
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def _none(value: Any, may_be_unset: bool) -> Any:
    if may_be_unset:
        return None if value == "none" else value
    return "none" if value is None else value


def _without_null(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_null(value) if isinstance(value, Mapping) else _none(value, False)
        for key, value in values.items()
    }


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = _over(out[key], value) if both else value
    return out


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _known(Settings)
        if isinstance(first["input"], Mapping) and len(first["loc"]) == 1:
            known = sorted({name.partition(".")[0] for name in known if "." in name})
        return str(unknown("setting", where, known))
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    wish = _WISHES.get(first["type"], first["msg"]).format(**_limits(first), where=where)
    return f"setting {where!r} {wish}, not {first['input']!r}"


def _limits(mistake: ErrorDetails) -> dict[str, Any]:
    known = mistake.get("ctx", {})
    return {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in known.items()}


_WHOLE, _NUMBER = "wants a whole number", "wants a number"
_WISHES = {
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "bool_type": "wants true or false",
    "bool_parsing": "wants true or false",
    "string_type": "wants a word",
    "tuple_type": "wants a list, such as [64, 64]",
    "dict_type": "wants names and values, such as {{name = 1}}",
    "model_type": "is a section; give one of its settings as {where}.NAME",
    "literal_error": "is one of {expected}",
    "greater_than": "wants more than {gt}",
    "greater_than_equal": "wants at least {ge}",
    "less_than": "wants less than {lt}",
    "less_than_equal": "wants at most {le}",
}
"""What a setting wants, by what pydantic calls the mistake."""


def _known(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            keys += _known(inner, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys
