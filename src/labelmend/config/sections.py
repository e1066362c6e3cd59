"""The sections of the settings: every key, its range, and what it is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator


def none_as_word(value: Any, may_be_unset: bool) -> Any:
    """TOML has no null: the word "none" unsets what may be unset, and is a word elsewhere.

    >>> none_as_word("none", True), none_as_word("none", False), none_as_word(None, False)
    (None, 'none', 'none')
    """
    if may_be_unset:
        return None if value == "none" else value
    return "none" if value is None else value


class Section(BaseModel):
    """Settings that belong together: read-only, and refusing keys that they do not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _nothing(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        may_be_unset = {
            name
            for name, info in cls.model_fields.items()
            if type(None) in get_args(info.annotation)
        }
        return {key: none_as_word(value, key in may_be_unset) for key, value in values.items()}


class InputSettings(Section):
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
    scale_labels: bool = Field(
        True, description="continuous labels of any range are learned alike: network and loss know "
        "each channel's mean and deviation over the training set"
    )  # fmt: skip
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
    repairs: bool = Field(
        True, description="use what people decided about labels (repairs.csv in the data folder)"
    )
    val_share: float = Field(
        0.2, ge=0, lt=1, description="share of the strong training groups held out for validation"
    )
    test_share: float = Field(0.0, ge=0, lt=1, description="likewise for testing")

    @model_validator(mode="after")
    def _one_grid(self) -> InputSettings:
        if self.spacing is not None and self.size is not None:
            raise ValueError("input.spacing and input.size exclude each other; keep one")
        return self


class AugmentSettings(Section):
    """Random changes, alike for image and label."""

    flip: float | None = Field(
        None, ge=0, le=1, description="probability per space axis; 0.5, or 0 along time (1-D)"
    )
    quarter_turns: bool = Field(False, description="turn squares by 0, 90, 180 or 270 degrees")
    noise: float = Field(0.05, ge=0, description="largest deviation of added noise")
    contrast: float = Field(0.1, ge=0, lt=1, description="largest relative change of contrast")
    brightness: float = Field(0.1, ge=0, description="largest shift of all values")


class NetworkSettings(Section):
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


MOST_OVERHEAD = 10.0
"""Weighting may take this many times the time of training."""


class WeightingSettings(Section):
    """How much each weak label counts (seed A, A2)."""

    method: Literal["gradient", "constant"] = "gradient"
    signal: Literal["both", "alike", "fit", "loss", "similarity"] = Field(
        "alike", description="what speaks for a label: how it fits the prediction, its loss, the "
        "similarity of gradients, fit and similarity beside those of all images (both), or beside "
        "those of images alike, where no strong image is like them (alike)"
    )  # fmt: skip
    update: Literal["plain", "normalised", "centred", "cosine", "adam"] | None = Field(
        None, description="how evidence moves a weight; by default plain, or normalised for "
        "similarity alone, which has no scale"
    )  # fmt: skip
    initial: float = Field(0.5, ge=0, le=2, description="weight of a weak sample before any update")
    given: str | None = Field(
        None, description="a CSV file with the columns label and weight: initial weights for all "
        "weak training labels, such as an earlier run's weights.csv"
    )  # fmt: skip
    highest: float = Field(1.0, gt=0, le=2, description="largest weight: 1, or 2")
    mean: tuple[float, float] | None = Field(
        None, description="band in which the mean of the learned weights is held"
    )
    per: Literal["sample", "class", "annotator", "group"] = Field(
        "sample", description="what has a weight of its own"
    )
    use: Literal["loss", "sampler", "both"] = Field(
        "loss", description="weights scale the loss, or how often a label is drawn; both counts "
        "them twice"
    )  # fmt: skip
    shuffled: bool = Field(
        False, description="give every weak label another one's weight: what weights are worth "
        "must be lost by this"
    )  # fmt: skip
    rate: float | None = Field(
        None, gt=0, description="step size of the weights (beta); by default such that about a "
        "third of the looks at a label can take it all the way"
    )  # fmt: skip
    start: int | None = Field(
        None, ge=0, description="training steps before the first weight step; by default 150, or "
        "a quarter of a short run"
    )  # fmt: skip
    every: int | None = Field(
        None, ge=1, description="training steps between weight steps (tau); by default as often as "
        "overhead allows for looking at many labels"
    )  # fmt: skip
    overhead: float = Field(
        0.25, gt=0, le=MOST_OVERHEAD, description="time for weighting as a share of the time for "
        "training; kept to unless every and weak_samples are both given"
    )  # fmt: skip
    weak_samples: int | None = Field(
        None, ge=1, description="weak samples judged per weight step, in turn; by default what "
        "overhead allows"
    )  # fmt: skip
    longest_wait: int | None = Field(
        None, ge=1, description="most training steps from one look at a weak label to the next"
    )
    strong_samples: int = Field(16, ge=1, description="strong samples per trusted gradient")
    held_out: float = Field(
        0.0, ge=0, lt=1, description="share of the strong groups that only the trusted gradient "
        "sees and training does not"
    )  # fmt: skip
    average: float = Field(
        0.0, ge=0, lt=1, description="share of the trusted gradient that is kept from one weight "
        "step to the next"
    )  # fmt: skip
    parameters: str | tuple[str, ...] = Field(
        "last", description="gradients of what are compared: all, decoder, last, or patterns of "
        "parameter names"
    )  # fmt: skip
    mode: Literal["exact", "central"] = Field(
        "exact", description="similarities by a forward-mode pass, or by two forward passes with "
        "a check"
    )  # fmt: skip
    curvature: Literal[
        "identity", "adam", "fisher", "gauss_newton", "hessian", "neumann"
    ] = Field("gauss_newton", description="H in the similarity g_S H^-1 g_k")  # fmt: skip
    iterations: int = Field(5, ge=1, description="of gauss_newton, hessian and neumann")
    damping: float = Field(0.01, ge=0, description="added curvature, as a share of the largest")

    @model_validator(mode="after")
    def _within(self) -> WeightingSettings:
        if self.signal in ("fit", "loss"):
            alone = f"weighting.signal = {self.signal!r} looks at no gradients"
            if self.update == "cosine":
                raise ValueError(f"{alone}, and weighting.update = 'cosine' is of them")
            if self.held_out:
                raise ValueError(f"{alone}, and weighting.held_out is for them; set it to 0")
        if self.initial > self.highest:
            raise ValueError("weighting.initial must not be above weighting.highest")
        if self.mean is not None and not 0 <= self.mean[0] <= self.mean[1] <= self.highest:
            raise ValueError(
                "weighting.mean is a band such as [0.4, 0.6] within 0 and weighting.highest"
            )
        return self


class BatchSettings(Section):
    """What a step of training sees."""

    size: int = Field(8, ge=1, description="samples per step over all processes")
    strong_share: float | None = Field(
        0.5, ge=0, le=1, description="share of strong samples; omit to draw from all alike"
    )
    accumulate: int = Field(1, ge=1, description="parts a process divides its batch into")
    ending: Literal["as_is", "strong", "better"] = Field(
        "better", description="batches stay as they are to the end; or are of strong samples only "
        "at the end; or both endings are tried from one point, and the one that is better on "
        "held-out strong labels is kept; what weak labels count decides between equals"
    )  # fmt: skip
    ending_share: float = Field(
        0.3, gt=0, lt=1, description="share of the steps that an ending takes; a second one takes "
        "as many more"
    )  # fmt: skip


class MixingSettings(Section):
    """Images cut into one another along a class (seed A, A3)."""

    use: bool = Field(False, description="train on mixed images too: labelmend train --mix")
    rate: float = Field(
        1.0, ge=0, description="lambda: how much a mixed image counts beside the others"
    )
    ramp: float = Field(
        0.0, ge=0, le=1, description="share of training over which rate rises from 0"
    )
    pairs: Literal["alike", "strong_first"] = Field(
        "alike", description="both images of a pair are drawn as a batch is made up, or a strong "
        "one first and a weak one second"
    )  # fmt: skip
    background: bool = Field(False, description="the background may be cut out, too")
    soften: float = Field(
        0.0, ge=0, description="deviation of the blended border of what is cut out, in positions"
    )
    target: Literal["labels", "predictions", "trusted"] | None = Field(
        None, description="what a mixed image is to give: the labels mixed alike, what is "
        "predicted for the images it is made of, or that but for strong labels, which are "
        "trusted; by default labels, or predictions where there are two models"
    )  # fmt: skip
    hard: bool = Field(True, description="pseudo-labels are classes, not probabilities")
    gate: float = Field(
        0.0, ge=0, lt=1, description="least probability at which a position of a pseudo-label "
        "teaches"
    )  # fmt: skip
    weigh: Literal["pair", "position"] = Field(
        "pair", description="a mixed image counts by the mean of both weights, or every position "
        "by the weight of the label it comes from"
    )  # fmt: skip
    average: float = Field(
        0.0, ge=0, lt=1, description="pseudo-labels come from an average of each network that "
        "keeps this share of itself at every step; 0 takes the networks themselves"
    )  # fmt: skip

    @model_validator(mode="after")
    def _of_predictions(self) -> MixingSettings:
        of_predictions = {"hard": not self.hard, "gate": self.gate > 0, "average": self.average > 0}
        set_here = [f"mixing.{name}" for name, is_set in of_predictions.items() if is_set]
        if self.target == "labels" and set_here:
            raise ValueError(
                f"{set_here[0]} is of pseudo-labels, and mixing.target = 'labels' has none; take "
                "mixing.target = 'predictions'"
            )
        return self


class DualSettings(Section):
    """Two models that teach each other by mixed images (seed A, A4)."""

    use: bool = Field(
        False, description="train an auxiliary network beside the main one: labelmend train --dual"
    )
    both: bool = Field(
        True, description="either network sees both images of a pair, not one of them"
    )
    judges: Literal["main", "both"] = Field(
        "main", description="whose gradients say how much a label counts: those of the main "
        "network, or the mean of both networks' findings"
    )  # fmt: skip


class OptimiserSettings(Section):
    """How parameters move."""

    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    warmup: int = Field(50, ge=0, description="steps to the full rate; at most a tenth of all")
    schedule: Literal["cosine", "poly", "constant"] = "cosine"
    clip: float | None = Field(12.0, gt=0, description="largest norm of a network's gradient")
