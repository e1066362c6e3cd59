"""Which parameters of a network are compared, and whether its samples have gradients at all."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.conv import _ConvNd

from labelmend.errors import SettingsError, unknown

CHOICES = ("all", "decoder", "last")
"""What :func:`choose` knows by name."""


def check_uncoupled(network: nn.Module) -> None:
    """Refuse a network whose samples change each other, or whose buffers would change.

    With batch statistics no sample has a gradient of its own (method A2), and a pass in training
    mode would move the running averages. The trap: found by the kind of layer; a layer of your
    own that mixes samples under another name is not.

    Raises:
        SettingsError: naming the layer, with the ways out.

    >>> check_uncoupled(nn.Sequential(nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4)).eval())
    >>> check_uncoupled(nn.Sequential(nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4)))
    Traceback (most recent call last):
    labelmend.errors.SettingsError: '1' (BatchNorm1d) mixes the samples of a batch in training ...
    """
    for name, layer in network.named_modules():
        kind = type(layer).__name__
        batchwise = isinstance(layer, _BatchNorm) or ("BatchNorm" in kind and "Frozen" not in kind)
        averages = getattr(layer, "running_mean", None) is not None
        if batchwise and (layer.training or not averages):
            raise SettingsError(
                f"{name!r} ({kind}) mixes the samples of a batch "
                f"{'in training mode' if averages else 'in every mode, as it keeps no averages'}, "
                "so that no sample has a gradient of its own; call network.eval() first, or build "
                "the network with group or instance normalisation"
            )
        if isinstance(layer, _NormBase) and layer.training and averages:
            raise SettingsError(
                f"{name!r} ({kind}) changes its running averages in training mode; "
                "call network.eval() first, or build it with track_running_stats=False"
            )


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Within it a network is in evaluation mode; afterwards every layer is in its own again.

    The trap it is for: ``network.train()`` would wake layers that their owner keeps asleep.

    >>> network = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    >>> with evaluating(network):
    ...     print([layer.training for layer in network])
    [False, False]
    >>> [layer.training for layer in network]
    [True, False]
    """
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def choose(
    network: nn.Module, which: str | Sequence[str] = "all", image: Tensor | None = None
) -> dict[str, Tensor]:
    """The parameters to compare gradients in; the others are then held fixed. Frozen ones never.

    ``all``; ``last``, the last layer with a kernel or matrix; ``decoder``, every layer that runs
    after the last convolution at the smallest feature map, the head included; or a list of
    regular expressions, each to be found somewhere in a name. Measured on planted bad labels with
    the Gauss–Newton curvature, ``last`` ranks them as well as ``decoder`` and better than ``all``
    (``benchmarks/bench_label_ranking.py``); without a curvature none finds mixed mistakes.

    Args:
        network: neither it nor its modes and buffers change.
        which: one of :data:`CHOICES`, or patterns.
        image: ``(batch, channels, *space)`` that the network takes; ``last`` and ``decoder`` are
            found from one forward pass of its first sample.

    Raises:
        SettingsError: when nothing, or nothing that can be trained, is meant by ``which``.

    Trap: "smallest" counts only convolutions wider than one position, so that the pooled vector
    of a squeeze-and-excitation block is no bottleneck; a network without such convolutions or
    that never shrinks its image has no decoder to be found: give patterns.

    >>> network = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Conv1d(2, 1, 1))
    >>> list(choose(network, "last", torch.zeros(1, 1, 8)))
    ['2.weight', '2.bias']
    >>> list(choose(network, ["bias"]))
    ['0.bias', '2.bias']
    """
    trained = {n: p for n, p in network.named_parameters() if p.requires_grad}
    if not isinstance(which, str):
        names = _matching(which, list(trained))
    elif which == "all":
        names = set(trained)
    elif which in CHOICES:
        layers = _layers(network, which, image)
        names = _last(layers) if which == "last" else _decoder(layers)
    else:
        more = " Names of parameters go in a list of regular expressions"
        raise unknown("choice of parameters", which, CHOICES, more)
    chosen: dict[str, Tensor] = {n: p for n, p in trained.items() if n in names}
    if not chosen:
        raise SettingsError(
            f"no parameter that can be trained is left by the choice {which!r}: "
            f"the network has {len(trained)} of {len(list(network.parameters()))} not frozen"
        )
    return chosen


@dataclass(frozen=True, slots=True)
class _Layer:
    """One run of a module: its parameters, and the space of the map it gave (empty: no map)."""

    module: nn.Module
    own: dict[str, Tensor]
    space: tuple[int, ...]

    @property
    def positions(self) -> float:
        return math.prod(self.space) if self.space else math.inf


def _last(layers: list[_Layer]) -> set[str]:
    for layer in reversed(layers):
        if any(p.ndim > 1 for p in layer.own.values()):
            return set(layer.own)
    raise SettingsError("the network has no last layer with a kernel; give a list of patterns")


def _decoder(layers: list[_Layer]) -> set[str]:
    wide = [
        i
        for i, layer in enumerate(layers)
        if isinstance(layer.module, _ConvNd) and max(layer.module.kernel_size) > 1 and layer.space
    ]
    sizes = [layers[i].positions for i in wide]
    if not sizes or min(sizes) == max(sizes):
        raise SettingsError(
            "the network has no bottleneck, so no decoder can be told from an encoder; "
            "choose 'all', or give a list of patterns of parameter names"
        )
    bottom = max(i for i in wide if layers[i].positions == min(sizes))
    # What follows at the same size (normalisation, activation) belongs to the bottleneck.
    after = next(
        (i for i in range(bottom + 1, len(layers)) if layers[i].positions > min(sizes)), len(layers)
    )
    before = set().union(*(layer.own for layer in layers[:after]))
    return set().union(*(layer.own for layer in layers[after:])) - before


def _matching(patterns: Sequence[str], names: list[str]) -> set[str]:
    found: set[str] = set()
    for pattern in patterns:
        try:
            matches = {name for name in names if re.search(pattern, name)}
        except re.error as error:
            raise SettingsError(f"{pattern!r} is no regular expression: {error}") from error
        if not matches:
            near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.0)
            raise SettingsError(
                f"no parameter that can be trained has {pattern!r} in its name; "
                f"names are like {', '.join(near)}"
            )
        found |= matches
    return found


def _layers(network: nn.Module, which: str, image: Tensor | None) -> list[_Layer]:
    """The runs of all modules with parameters or without parts, in the order they finished."""
    if image is None:
        raise SettingsError(f"{which!r} is found from a forward pass: give an image of the network")
    runs: list[tuple[str, nn.Module, tuple[int, ...]]] = []
    with ExitStack() as stack:
        stack.enter_context(evaluating(network))
        for name, module in network.named_modules():

            def record(module: nn.Module, _: Any, out: Any, name: str = name) -> None:
                is_map = isinstance(out, Tensor) and out.ndim == image.ndim and len(out) == 1
                runs.append((name, module, tuple(out.shape[2:]) if is_map else ()))

            stack.callback(module.register_forward_hook(record).remove)
        with torch.no_grad():
            network(image[:1])
    own = _owned(network, {name for name, _, _ in runs})
    return [
        _Layer(module, own.get(name, {}), space)
        for name, module, space in runs
        if name in own or not list(module.children())
    ]


def _owned(network: nn.Module, ran: set[str]) -> dict[str, dict[str, Tensor]]:
    """The parameters of every module that ran, with those of its parts that did not run.

    Attention and recurrent layers use the parameters of parts that they never call.
    """
    own: dict[str, dict[str, Tensor]] = {}
    for name, value in network.named_parameters():
        module = name.rpartition(".")[0]
        while module and module not in ran:
            module = module.rpartition(".")[0]
        own.setdefault(module, {})[name] = value
    return own
