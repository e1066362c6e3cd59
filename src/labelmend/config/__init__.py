"""Settings: one TOML file in, one out; every unknown key answered with the nearest known one."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import Field, ValidationError, model_validator

from labelmend.config.alignment import AlignSettings
from labelmend.config.presets import PRESETS, preset
from labelmend.config.sections import (
    AugmentSettings,
    BatchSettings,
    DualSettings,
    InputSettings,
    MixingSettings,
    NetworkSettings,
    OptimiserSettings,
    Section,
    WeightingSettings,
    none_as_word,
)
from labelmend.config.words import explain
from labelmend.errors import SettingsError

__all__ = ["PRESETS", "Settings", "from_assignments", "gather", "preset", "read_toml"]


class Settings(Section):
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
    mixing: MixingSettings = MixingSettings()
    dual: DualSettings = DualSettings()
    align: AlignSettings = AlignSettings()
    optimiser: OptimiserSettings = OptimiserSettings()

    @model_validator(mode="after")
    def _steps_or_epochs(self) -> Settings:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("steps and epochs exclude each other; keep one")
        return self

    @model_validator(mode="after")
    def _two_models(self) -> Settings:
        if not self.dual.use:
            return self
        if not self.mixing.use:
            raise ValueError(
                "dual.use: two models teach each other by mixed images; set mixing.use = true "
                "(labelmend train --mix --dual)"
            )
        if self.mixing.target == "labels":
            raise ValueError(
                "dual.use: two models teach each other by predictions; leave out "
                "mixing.target = 'labels'"
            )
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
            raise SettingsError(explain(error, Settings)) from None

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


def _without_null(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_null(value) if isinstance(value, Mapping) else none_as_word(value, False)
        for key, value in values.items()
    }


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = _over(out[key], value) if both else value
    return out
