"""Use a trained run on an array: any size in, a label of the same size out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from labelmend.data.grid import Grid
from labelmend.data.prepare import Preparation
from labelmend.data.whole import predict_whole
from labelmend.errors import NonFiniteError, RunError, SettingsError, ShapeError, unknown
from labelmend.inference.ensemble import Ensemble
from labelmend.inference.probabilities import softmax
from labelmend.inference.temperature import Calibration, find_calibration
from labelmend.networks.build import build_network
from labelmend.networks.rescaled import rescaled
from labelmend.networks.trust import check_named
from labelmend.runs import Checkpoint, Run
from labelmend.types import DataSpec, Raster

Model = Literal["main", "auxiliary", "ensemble"]
"""Which of a run's networks predicts; the last two exist where two were trained."""


@dataclass(frozen=True, slots=True, repr=False)
class Predictor:
    """A trained network with everything that turns an image into a label.

    Get one from :func:`load`, then::

        predictor = labelmend.load("runs/first")
        label = predictor.predict(image)                    # class indices, as large as image
        names = [predictor.spec.classes[i] for i in np.unique(label)]

    Attributes:
        run: the run folder it comes from.
        step: the training step of its parameters.
        network: the network, in evaluation mode, on ``device``.
        preparation: how an image becomes the network's input.
        patch: the size of the patches that the network sees, per space axis.
        multiple: what the sides of the network's input are a multiple of.
        device: where it computes.
        notes: what a person should know, such as checkpoints that were damaged and passed over.
        model: ``main``, ``auxiliary`` or, for both networks together, ``ensemble``.
        calibration: the temperature of exactly these parameters, where ``labelmend calibrate``
            found one. Probabilities go by it; which class it is does not.
    """

    run: Run
    step: int
    network: nn.Module
    preparation: Preparation
    patch: tuple[int, ...]
    multiple: int
    device: torch.device
    notes: tuple[str, ...] = ()
    model: Model = "main"
    calibration: Calibration | None = None

    def __repr__(self) -> str:
        facts = f"step={self.step}, device={str(self.device)!r}"
        other = "" if self.model == "main" else f", model={self.model!r}"
        return f"Predictor({str(self.run.path)!r}, {facts}{other})"

    @property
    def spec(self) -> DataSpec:
        """What the data it was trained on had in common."""
        return self.run.data.spec

    def folder(self, name: str) -> Path:
        """The run's folder for what this model yields, made if need be.

        ``name`` itself for the main network and ``name-MODEL`` for the others, so that none
        replaces what another one gave.
        """
        return self.run.folder(name if self.model == "main" else f"{name}-{self.model}")

    def predict(
        self, image: np.ndarray | Tensor, *, spacing: Sequence[float] | None = None
    ) -> np.ndarray:
        """The label of an image of any size; the same image gives the same bits every time.

        Args:
            image: ``(channels, *space)``, or ``(*space)`` where images have one channel; any type
                of real numbers, in the range of values that the training images had. Not changed.
            spacing: distance between positions along every space axis; needed only where training
                resampled to a spacing and ``data.toml`` did not say it.

        Returns:
            Class indices ``(*space)`` int64; for regression ``(channels, *space)`` float32.

        Raises:
            ShapeError: when the image has other axes or channels than in training.
            NonFiniteError: for NaN or infinity in the image, or in what the network makes of it.

        The trap: class indices are not the values of label files; ``spec.values[index]`` is.
        """
        return self.decide(self.scores(self._raster(image, spacing)))

    def scores(self, raster: Raster) -> np.ndarray:
        """The network's output for an image as read, ``(scores, *space)`` float32.

        Raises:
            NonFiniteError: as :meth:`predict`.
        """
        scores, grid = self.seen(raster)
        return self.preparation.restore(scores, grid)

    def seen(self, raster: Raster) -> tuple[np.ndarray, Grid]:
        """The network's output ``(scores, *grid.size)`` float32 on the grid that it sees.

        Raises:
            NonFiniteError: as :meth:`predict`.
        """
        prepared, grid = self.preparation.image(raster)
        # What a caller computes in half precision around us must not change what comes out.
        with torch.autocast(self.device.type, enabled=False):
            scores = predict_whole(
                self.network,
                torch.from_numpy(prepared).to(self.device),
                patch=self.patch,
                overlap=self.run.settings.input.overlap,
                multiple=self.multiple,
            )
        self.check(scores)
        return scores, grid

    def check(self, scores: np.ndarray) -> None:
        """Refuse scores that are no numbers.

        Raises:
            NonFiniteError: naming the run.
        """
        if not np.isfinite(scores).all():
            raise NonFiniteError(
                f"the network of {self.run.path} ({self._origin}) yields NaN or infinity for "
                "this image; look for values far beyond those of the training images"
            )

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """Class indices ``(*space)`` int64 for scores; for regression the scores themselves.

        The largest score decides, the lower class where two are equal, whatever the temperature.
        What follows the scores of the classes, as those of a second network, is passed over.
        """
        if self.spec.task == "regression":
            return scores
        return np.asarray(scores[: len(self.spec.classes)].argmax(0))

    @property
    def outputs(self) -> int:
        """How many scores a position has: one per class, for each network that is heard."""
        return len(self.spec.classes) * int(getattr(self.network, "parts", 1))

    @property
    def temperature(self) -> float:
        """What scores are divided by before they become probabilities; 1 where nobody measured."""
        return 1.0 if self.calibration is None else self.calibration.temperature

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities ``(classes, *space)`` float32 of scores, by :attr:`temperature`.

        Raises:
            SettingsError: for regression, which has none.
        """
        if self.spec.task == "regression":
            raise SettingsError(f"{self.run.path} predicts numbers, which have no probabilities")
        return softmax(scores[: len(self.spec.classes)], self.temperature)

    @property
    def _origin(self) -> str:
        other = "" if self.model == "main" else f", model {self.model}"
        return f"step {self.step}{other}"

    def _raster(self, image: np.ndarray | Tensor, spacing: Sequence[float] | None) -> Raster:
        array = _as_array(image)
        dims, channels = self.spec.dims, self.spec.channels
        if array.ndim == dims and channels == 1:
            array = array[None]
        if array.ndim != dims + 1 or array.shape[0] != channels or 0 in array.shape:
            last = array.ndim == dims + 1 and array.shape[-1] == channels
            hint = "; channels come first: np.moveaxis(image, -1, 0)" if last else ""
            raise ShapeError(
                f"an image of shape (channels, *space) with {_count(channels, 'channel')} and "
                f"{dims} space {'axis' if dims == 1 else 'axes'} is wanted, "
                f"not {tuple(array.shape)}{hint}"
            )
        return Raster(array, self._spacing(spacing))

    def _spacing(self, given: Sequence[float] | None) -> tuple[float, ...] | None:
        if given is None:
            return self.spec.spacing
        steps = tuple(float(step) for step in np.atleast_1d(np.asarray(given)))
        if len(steps) != self.spec.dims or not all(0 < step < math.inf for step in steps):
            raise ShapeError(
                f"spacing is one distance above 0 per space axis, here {self.spec.dims}, "
                f"not {given}"
            )
        return steps


def load(
    run: Run | str | Path,
    *,
    checkpoint: Literal["last", "best"] | int = "last",
    model: Model = "main",
    device: str | torch.device = "auto",
    network: str | None = None,
) -> Predictor:
    """Load a run's network, ready to predict. Nothing of the run folder is executed.

    Where ``labelmend calibrate`` measured exactly these parameters, their temperature is taken.

    Args:
        run: the run, or its folder.
        checkpoint: ``last``, ``best`` (on held-out strong samples) or a step.
        model: of a run that trained two networks also the ``auxiliary`` one, or the ``ensemble``
            of both: the mean of their predictions.
        device: ``auto`` takes CUDA where there is one, else the CPU.
        network: where the run was trained with ``module:Class`` of your own, its name again:
            loading never imports code that you did not name.

    Raises:
        RunError: when the folder is no run, has no such checkpoint or model, or a checkpoint of
            another network.
        DamagedError: when no checkpoint is whole.
        SettingsError: when the run needs code that you did not name, the device is not there, or
            the checkpoint is neither ``last`` nor ``best`` nor a step.

    The trap: ``best`` was chosen on the held-out samples; compare methods by ``last``.
    """
    opened = run if isinstance(run, Run) else Run.open(Path(run))
    saved = opened.load(checkpoint)
    chosen = _device(device)
    built = _built(opened, saved, model, network)
    calibration, notes = find_calibration(opened.path, model, saved.step, built)
    facts = opened.facts
    return Predictor(
        opened,
        saved.step,
        built.to(chosen).eval(),
        Preparation.from_json(facts["preparation"]),
        tuple(facts["patch"]),
        facts["multiple"],
        chosen,
        (*saved.notes, *notes),
        model,
        calibration,
    )


def _built(run: Run, saved: Checkpoint, model: Model, named: str | None) -> nn.Module:
    """The network or networks that predict, with their trained parameters."""
    if model not in get_args(Model):
        raise unknown("model", model, get_args(Model))
    groups = ("main", "auxiliary") if model == "ensemble" else (model,)
    if "auxiliary" in groups and "auxiliary" not in saved.tensors:
        raise RunError(
            f"{run.path} trained one network, so there is no model {model!r}; use --model main, "
            "or train with --dual"
        )
    networks = [_network(run, named) for _ in groups]
    for network, group in zip(networks, groups, strict=True):
        _fill(network, saved.tensors.get(group, {}), f"{run.path}, step {saved.step}")
    return networks[0] if len(networks) == 1 else Ensemble(networks, run.data.spec.task)


def _network(run: Run, named: str | None) -> nn.Module:
    chosen = run.settings.network
    check_named(chosen.name, named, str(run.path))
    network = build_network(
        chosen.name,
        run.data.spec.dims,
        run.facts["in_channels"],
        run.facts["out_channels"],
        width=chosen.width,
        depth=chosen.depth,
        dropout=chosen.dropout,
        arguments=chosen.arguments,
        seed=0,  # leaves the caller's generator alone; every parameter is replaced
    )
    return rescaled(network, run.facts)


def _fill(model: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    try:
        model.load_state_dict(dict(tensors))
    except RuntimeError as error:
        first = " ".join("".join(str(error).splitlines()[1:2]).split())
        raise RunError(
            f"{where}: the checkpoint is not one of network {type(model).__name__} as it is now: "
            f"{first} Use the code that it was trained with"
        ) from error


def _device(wanted: str | torch.device) -> torch.device:
    name = str(wanted)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.partition(":")[0] not in ("cpu", "cuda", "mps"):
        raise SettingsError(f"unknown device {name!r}; take auto, cpu, cuda or mps")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise SettingsError(
            f"device {name!r} cannot be used: {reason}; take auto or cpu"
        ) from error
    return device


def _as_array(image: np.ndarray | Tensor) -> np.ndarray:
    if isinstance(image, Tensor):
        image = image.detach().cpu()
        # numpy has no such number type
        image = (image.float() if image.dtype == torch.bfloat16 else image).numpy()
    if isinstance(image, (str, PathLike, Raster)):
        raise ShapeError(
            f"an image is an array, not a {type(image).__name__}; read a file first, as "
            "np.asarray(PIL.Image.open(path)) does, and of a Raster take its array"
        )
    return np.asarray(image)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
