"""How files are predicted, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from torch import nn

from labelmend.errors import SettingsError
from labelmend.inference.beside import Beside
from labelmend.inference.conclusions import Conclusion
from labelmend.inference.ensemble import Both, Ensemble
from labelmend.inference.flips import Flipped, HalfBits
from labelmend.inference.predictor import Predictor, load
from labelmend.inference.rules import Rule


@dataclass(frozen=True, slots=True)
class Way:
    """How files are predicted.

    Attributes:
        flips: whether mirror images are predicted too and the mean is taken.
        precision: the numbers that the network computes with.
        memory: GiB that one file may take, the network aside. Above it files are predicted strip
            by strip, and refused where that cannot be done. None: 2, and what cannot be divided
            is predicted in memory, whatever it takes.
        resume: whether labels that were finished in the same way are kept.
        beside: what is wanted beside labels.
        batch: patches of several small files that the network sees at once; 1: one file after
            the other. None: 4, and on a GPU as many as a training step had, if that is more, of
            files of one patch, as far as their scores are those of one by one to the last bit.
        level: of whole-slide images, and of TIFF files where it is given, the picture that is
            read: 0 is the largest. None: of slides the one nearest to the run's spacing.
    """

    flips: bool = False
    precision: Literal["float32", "bf16"] = "float32"
    memory: float | None = None
    resume: bool = False
    beside: Beside = field(default_factory=Beside)
    batch: int | None = None
    level: int | None = None

    def check(self) -> None:
        """Refuse numbers that make no sense.

        Raises:
            SettingsError: naming the option.
        """
        if self.memory is not None and not self.memory > 0:
            raise SettingsError(f"--memory is a number of GiB above 0, not {self.memory}")
        if self.batch is not None and self.batch < 1:
            raise SettingsError(f"--batch is at least 1 patch, not {self.batch}")
        if self.level is not None and self.level < 0:
            raise SettingsError(f"--level is 0, the largest picture, or more, not {self.level}")

    def patches(self, predictor: Predictor) -> int:
        """How many patches of small files the network sees at once."""
        if self.batch is not None:
            return self.batch
        # A processor gains nothing by more, and its caches lose: benchmarks/bench_predict.py.
        more = 0 if predictor.device.type == "cpu" else predictor.run.settings.batch.size
        return max(_USUAL, more)


_USUAL = 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a prediction.

    Attributes:
        written: the labels that were written.
        failed: one sentence for every file that could not be predicted.
        kept: the labels that were there already, of the same image by the same model.
        conclusions: one per file, where they were asked for.
        rules: the rules that were judged.
        unjudged: one sentence for every rule that asks for what is not known of a file.
        warnings: one for every way in which files lie unlike all that the network learned from.
    """

    written: list[Path]
    failed: list[str]
    kept: list[Path]
    conclusions: list[Conclusion]
    rules: tuple[Rule, ...] = ()
    unjudged: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def as_wished(predictor: Predictor, way: Way) -> Predictor:
    """The predictor with its network as the way wants it.

    Where uncertainty is asked for and the run trained two networks, both are heard.

    Raises:
        RunError: when the other network's parameters are gone.
    """

    def changed(network: nn.Module) -> nn.Module:
        network = HalfBits(network) if way.precision == "bf16" else network
        return Flipped(network, predictor.spec.task) if way.flips else network

    network = predictor.network
    if way.beside.uncertainty and predictor.run.settings.dual.use:
        main, auxiliary = (changed(each) for each in _two(predictor))
        network = Both(main, auxiliary, predictor.model)
    elif isinstance(network, Ensemble):
        network = Ensemble([changed(each) for each in network.networks], network.task)
    else:
        network = changed(network)
    return replace(predictor, network=network.eval())


def _two(predictor: Predictor) -> list[nn.Module]:
    """The main and the auxiliary network of the predictor's step."""
    if isinstance(predictor.network, Ensemble):
        return list(predictor.network.networks)
    found = load(
        predictor.run,
        checkpoint=predictor.step,
        model="ensemble",
        device=str(predictor.device),
        network=predictor.run.settings.network.name,  # named already, or it were not loaded
    )
    main, auxiliary = found.network.get_submodule("networks").children()
    if predictor.model == "auxiliary":
        return [main, predictor.network]
    return [predictor.network, auxiliary]
