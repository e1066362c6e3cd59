"""A run's temperature: what it is, how much better probabilities are by it, where it is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from labelmend.errors import DamagedError
from labelmend.inference.reliability import COLDEST, HOTTEST, Bin, Reliability
from labelmend.runs import write_atomically
from labelmend.runs.records import from_json, to_json
from labelmend.telling import Telling

NAME = "calibration.json"
_FORMAT = 1

Judged = Literal["test", "groups", "same"]
"""On what figures are: the test split, groups that a temperature was not fitted to, or the very
samples that it was fitted to."""


@dataclass(frozen=True, slots=True)
class Calibration(Telling):
    """A temperature for the scores of one network at one step, and what it changes.

    Attributes:
        model: ``main``, ``auxiliary`` or ``ensemble``.
        step: the training step of the parameters.
        parameters: their SHA-256; for any others this says nothing.
        temperature: what scores are divided by.
        split: the strong labels that it was fitted to.
        samples: how many of them.
        groups: how many groups they are of.
        positions: how many positions were looked at.
        seed: what chose them.
        judged: on what the figures are.
        judged_samples: how many strong labels that is.
        before: how far probabilities can be trusted as the network gives them.
        after: and by the temperature.
        spread: the lowest and highest temperature of the parts that figures are made of.
    """

    model: str
    step: int
    parameters: str
    temperature: float
    split: str
    samples: int
    groups: int
    positions: int
    seed: int
    judged: Judged
    judged_samples: int
    before: Reliability
    after: Reliability
    spread: tuple[float, float]

    @property
    def at_the_end(self) -> bool:
        """Whether the search ended where it may not go further, which means nothing was found."""
        return not 1.01 * COLDEST < self.temperature < HOTTEST / 1.01

    def to_json(self) -> dict[str, Any]:
        """Plain values; :meth:`from_json` undoes it."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Calibration:
        """From the plain values of :meth:`to_json`."""
        plain = dict(values)
        for name in ("before", "after"):
            bins = tuple(Bin(**each) for each in plain[name]["bins"])
            plain[name] = Reliability(**{**plain[name], "bins": bins})
        return cls(**plain | {"spread": tuple(plain["spread"])})

    def where(self) -> str:
        """On what the figures are, in words."""
        many = self.judged_samples
        labels = f"{many} strong label{'s' * (many != 1)}"
        if self.judged == "test":
            return f"{labels} of test, which it was not fitted to"
        if self.judged == "groups":
            return f"{labels} of {self.split}, each by the temperature of the other groups"
        return f"the {labels} that it was fitted to, which flatters: there is only one group"

    def to_text(self) -> str:
        """A few lines and one table for a person."""
        model = "" if self.model == "main" else f", model {self.model}"
        of = f"{self.samples} strong label{'s' * (self.samples != 1)} of {self.split}"
        groups = f"{self.groups} group{'s' * (self.groups != 1)}"
        lines = [
            f"temperature {self.temperature:.3f}, fitted to {of} ({groups}, "
            f"{self.positions:,} positions), step {self.step}{model}",
            f"judged on {self.where()}",
            "",
            f"{'':28}{'before':>8}{'after':>8}",
        ]
        for name, field in FIGURES.items():
            before, after = (getattr(each, field) for each in (self.before, self.after))
            lines.append(f"{name:28}{before:8.4f}{after:8.4f}")
        return "\n".join([*lines, *self.remarks()])

    def remarks(self) -> list[str]:
        """What to be wary of, a sentence each."""
        found = []
        if self.at_the_end:
            found.append(
                "the search ended at the most extreme temperature it may take: these labels do "
                "not say how sure to be; hold out harder or more of them"
            )
        if self.after.ece > self.before.ece:
            found.append("confidence is further from the share right than without a temperature")
        return found


FIGURES = {
    "expected calibration error": "ece",
    "negative log likelihood": "nll",
    "Brier score": "brier",
}
"""What the figures are called, and the field that holds them."""


def hash_parameters(network: nn.Module) -> str:
    """The SHA-256 of a network's parameters and buffers, in hexadecimal.

    >>> one = nn.Linear(2, 2)
    >>> hash_parameters(one) == hash_parameters(nn.Linear(2, 2)), len(hash_parameters(one))
    (False, 64)
    """
    digest = hashlib.sha256()
    for part in parameter_bytes(network):
        digest.update(part)
    return digest.hexdigest()


def parameter_bytes(network: nn.Module) -> Iterator[bytes]:
    """Name, type, shape and values of every parameter and buffer, in the order of their names."""
    for name, values in sorted(network.state_dict().items()):
        yield f"{name} {values.dtype} {tuple(values.shape)}".encode()
        flat = values.detach().cpu().contiguous().reshape(-1)
        yield flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def read_calibrations(run: Path) -> tuple[Calibration, ...]:
    """All that are kept in a run's folder; none where there is no file.

    Raises:
        DamagedError: when the file is not whole.
    """
    path = run / NAME
    if not path.is_file():
        return ()
    try:
        return tuple(
            Calibration.from_json(each) for each in from_json(path.read_bytes(), str(path))["kept"]
        )
    except (OSError, KeyError, TypeError, ValueError, DamagedError) as error:
        raise DamagedError(
            f"{path} cannot be read, so that nobody knows its temperatures; "
            "make it again by labelmend calibrate"
        ) from error


def keep_calibration(run: Path, calibration: Calibration) -> None:
    """Keep one in a run's folder, in place of an earlier one of the same network and step.

    What a damaged file held is lost with it.

    Raises:
        StorageError: when the disk refuses; the file is as it was.
    """
    try:
        kept = read_calibrations(run)
    except DamagedError:
        kept = ()
    same = (calibration.model, calibration.step)
    others = [each for each in kept if (each.model, each.step) != same]
    content = {"format": _FORMAT, "kept": [each.to_json() for each in (*others, calibration)]}
    write_atomically(run / NAME, to_json(content, NAME) + b"\n")


def find_calibration(
    run: Path, model: str, step: int, network: nn.Module
) -> tuple[Calibration | None, tuple[str, ...]]:
    """The calibration of exactly these parameters, if there is one, and what a person should know.

    Args:
        run: the run folder.
        model: which of its networks.
        step: the step of its parameters.
        network: which holds them.
    """
    try:
        kept = read_calibrations(run)
    except DamagedError as error:
        return None, (f"{error}; probabilities are as the network gives them",)
    mine = [each for each in kept if (each.model, each.step) == (model, step)]
    if mine and mine[0].parameters == hash_parameters(network):
        return mine[0], ()
    if not kept:
        return None, ()
    there = ", ".join(f"{each.model} of step {each.step}" for each in kept)
    changed = ", with other parameters" if mine else ""
    return None, (
        f"{run / NAME} is for {there}, and this is {model} of step {step}{changed}: probabilities "
        "are as the network gives them; labelmend calibrate makes a temperature for it",
    )
