"""Dense-prediction networks for 1-D, 2-D and 3-D, by name or by import path.

==================  ====  ===============================================================
name                dims  what it is
==================  ====  ===============================================================
``unet``            1–3   U-Net with one convolution per level and way: small and quick
``dynunet``         1–3   U-Net with two per level, strided: slower, better if trained longer
``basic_unet``      1–3   U-Net with two per level and max-pooling; always 5 levels
``segresnet``       2–3   residual encoder, light decoder
``attention_unet``  1–3   U-Net with gates on its skip connections
``module:Class``    any   an ``nn.Module`` of your own, wherever Python can import it
==================  ====  ===============================================================

All are MONAI's. They take ``(batch, in_channels, *space)`` and return ``(batch, out_channels,
*space)``, one tensor, for any size that is a multiple of :func:`size_multiple`. Layers that
normalise over the batch or over single images are replaced by group normalisation, so that no
sample can change what another one yields, and a feature map of one position still works.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.parameter import is_lazy

from labelmend.errors import SettingsError, unknown

MOST_GROUPS = 8
OWN_MULTIPLE = 16
"""What the size of an input to a network of the user's own is a multiple of, unless its class
says otherwise in an attribute ``size_multiple``."""


def build_network(
    name: str,
    dims: int,
    in_channels: int,
    out_channels: int,
    *,
    width: int = 16,
    depth: int = 4,
    dropout: float = 0.0,
    arguments: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> nn.Module:
    """A network with fresh parameters, on the CPU, in training mode.

    A network of your own, ``module:Class``, is called with ``arguments`` and with those of
    ``dims`` (or ``spatial_dims``), ``in_channels`` and ``out_channels`` that its signature
    names, or the first three if it takes any keyword; ``width``, ``depth`` and ``dropout`` are
    not passed on. Those of MONAI's that give one tensor can be had that way, too; what a network
    gives is looked at by :func:`check_output`.

    Args:
        name: one of :data:`NETWORKS`, or ``module:Class``.
        dims: number of space axes, 1 to 3.
        in_channels: channels of an image.
        out_channels: classes, background included, or channels of a continuous label.
        width: channels of the first level; each further level has twice as many.
        depth: levels; each halves the size of the one above.
        dropout: probability.
        arguments: further keyword arguments of the network; they win over the ones above.
        seed: the same seed gives the same parameters to the bit and leaves torch's generator
            alone; without one they are drawn from it.

    Raises:
        SettingsError: for a name, a path or arguments from which no network can be made.

    Trap: naming ``module:Class`` runs that module; never take the name from a file you do not
    trust.

    >>> network = build_network("unet", 2, 1, 3, width=4, seed=0)
    >>> network(torch.zeros(2, 1, 24, 16)).shape
    torch.Size([2, 3, 24, 16])
    """
    if dims not in (1, 2, 3):
        raise SettingsError(f"networks work in 1, 2 or 3 dimensions, not {dims!r}")
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        if ":" in name:
            return _own(name, _Ends(dims, in_channels, out_channels), arguments or {})
        recipe = _recipe(name, width, depth, dropout)
        return _ours(name, recipe, _Ends(dims, in_channels, out_channels), arguments or {})


def check_output(name: str, network: nn.Module, image: Tensor, out_channels: int) -> None:
    """Refuse a network that does not give one tensor of scores for every position of an image.

    Args:
        name: what the network is called, for the message.
        network: in evaluation mode, or layers that depend on it may change.
        image: ``(batch, in_channels, *space)``, of a size that the network will be given.
        out_channels: scores that are wanted for every position.

    Raises:
        SettingsError: saying what came and what was wanted.

    Source: own. The trap: only this mode is looked at; in training it may give something else.

    >>> check_output("mine", nn.Conv1d(1, 2, 3), torch.zeros(1, 1, 16), 2)
    Traceback (most recent call last):
    labelmend.errors.SettingsError: network 'mine' gave a tensor of shape (1, 2, 14) for an image \
of shape (1, 1, 16), and has to give one tensor of shape (1, 2, 16): (batch, out_channels, *space)\
; correct network.arguments, or wrap it in a class of your own that does
    """
    if any(is_lazy(parameter) for parameter in network.parameters()):
        raise SettingsError(
            f"network {name!r} has lazy layers, which have no parameters before they are used; "
            "give their numbers of channels: in_channels and out_channels are passed to the class"
        )
    wanted = (len(image), out_channels, *image.shape[2:])
    seen = f"an image of shape {tuple(image.shape)}"
    right = f"one tensor of shape {wanted}: (batch, out_channels, *space)"
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            given: Any = network(image)
    except Exception as error:  # whatever a network of the user's own raises
        raise SettingsError(
            f"network {name!r} fails on {seen}, for which it has to give {right}: "
            f"{_one_line(error)}"
        ) from error
    if isinstance(given, Tensor) and tuple(given.shape) == wanted:
        return
    kind = type(given).__name__
    came = f"tensor of shape {tuple(given.shape)}" if isinstance(given, Tensor) else kind
    raise SettingsError(
        f"network {name!r} gave a {came} for {seen}, and has to give {right}; correct "
        "network.arguments, or wrap it in a class of your own that does"
    )


def size_multiple(name: str, depth: int = 4, arguments: Mapping[str, Any] | None = None) -> int:
    """What every space axis of an input must be a multiple of.

    A class of your own says it in an attribute ``size_multiple``; without one it is 16.

    Raises:
        SettingsError: as :func:`build_network`.

    >>> size_multiple("unet", depth=4), size_multiple("basic_unet", depth=5)
    (8, 16)
    """
    if ":" in name:
        return int(getattr(_imported(name), "size_multiple", OWN_MULTIPLE))
    recipe = _recipe(name, 1, depth, 0.0) | dict(arguments or {})
    if name == "basic_unet":
        return 16
    if name == "segresnet":
        return 1 << (len(recipe["blocks_down"]) - 1)
    return math.prod(int(np.max(stride)) for stride in recipe["strides"])


def couples_samples(module: nn.Module) -> str | None:
    """The first layer through which samples of a batch change each other, or None.

    That is batch normalisation, in training mode or not: a frozen one thaws with ``train()``,
    and its buffers change under a gradient that should only look. With it no sample has a
    gradient, and so no weight, of its own (method A2).

    >>> couples_samples(nn.Sequential(nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4)))
    '1 (BatchNorm1d)'
    """
    for name, layer in module.named_modules():
        kind = type(layer).__name__
        if isinstance(layer, _BatchNorm) or ("BatchNorm" in kind and "Frozen" not in kind):
            return f"{name or 'the network'} ({kind})"
    return None


def normalise_by_groups(module: nn.Module) -> None:
    """Put group normalisation in place of the batch and instance normalisation of a module.

    The layers are replaced in the module itself, at any depth, and draw no random numbers.

    Args:
        module: any; it must not itself be a layer to be replaced.

    Source: own. The trap: new layers start at factor 1 and offset 0, so what was learned or
    set in the old ones is lost; call it on fresh networks.

    >>> network = nn.Sequential(nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4))
    >>> normalise_by_groups(network)
    >>> type(network[1]).__name__, network[1].num_groups
    ('GroupNorm', 2)
    """
    for name, layer in list(module.named_children()):
        if isinstance(layer, _NormBase):
            channels = layer.num_features
            setattr(module, name, nn.GroupNorm(_groups(channels), channels))
        else:
            normalise_by_groups(layer)


class _Ends(NamedTuple):
    """What goes in and comes out."""

    dims: int
    in_channels: int
    out_channels: int


def _unet(width: int, depth: int) -> dict[str, Any]:
    # The first level keeps the full size; the bottom one is two convolutions deep.
    channels = _widths(width, depth)
    return {
        "channels": (*channels, channels[-1]),
        "strides": (1,) + (2,) * (depth - 1),
        "num_res_units": 0,
    }


def _dynunet(width: int, depth: int) -> dict[str, Any]:
    return {
        "filters": _widths(width, depth),
        "strides": (1,) + (2,) * (depth - 1),
        "kernel_size": (3,) * depth,
        "upsample_kernel_size": (2,) * (depth - 1),
    }


def _basic_unet(width: int, depth: int) -> dict[str, Any]:
    if depth != 5:
        raise SettingsError(
            f"network 'basic_unet' always has 5 levels, not {depth}; "
            "set network.depth = 5 or take 'unet' or 'dynunet'"
        )
    return {"features": (*_widths(width, depth), width)}


def _segresnet(width: int, depth: int) -> dict[str, Any]:
    return {
        "init_filters": width,
        "blocks_down": (1, *(2,) * (depth - 2), 4)[:depth],
        "blocks_up": (1,) * (depth - 1),
        "norm": ("GROUP", {"num_groups": _groups(width)}),
    }


def _attention_unet(width: int, depth: int) -> dict[str, Any]:
    return {"channels": _widths(width, depth), "strides": (2,) * (depth - 1)}


_RECIPES: dict[str, tuple[str, str, Callable[[int, int], dict[str, Any]]]] = {
    "unet": ("UNet", "dropout", _unet),
    "dynunet": ("DynUNet", "dropout", _dynunet),
    "basic_unet": ("BasicUNet", "dropout", _basic_unet),
    "segresnet": ("SegResNet", "dropout_prob", _segresnet),
    "attention_unet": ("AttentionUnet", "dropout", _attention_unet),
}

NETWORKS: tuple[str, ...] = tuple(_RECIPES)
"""The names that :func:`build_network` knows besides import paths."""


def _recipe(name: str, width: int, depth: int, dropout: float) -> dict[str, Any]:
    if name not in _RECIPES:
        raise unknown("network", name, NETWORKS, " A network of your own is named module:Class")
    if width < 1 or depth < 1:
        raise SettingsError(f"width and depth must be at least 1, not {width} and {depth}")
    _, drop, shape = _RECIPES[name]
    return shape(width, depth) | ({drop: dropout} if dropout else {})


def _ours(
    name: str, recipe: Mapping[str, Any], ends: _Ends, arguments: Mapping[str, Any]
) -> nn.Module:
    # MONAI takes seconds to import, and settings are checked without it.
    from monai.networks import nets

    given = {
        "spatial_dims": ends.dims,
        "in_channels": ends.in_channels,
        "out_channels": ends.out_channels,
        **recipe,
        **arguments,
    }
    if given.get("deep_supervision"):
        raise SettingsError(
            f"network {name!r} with deep_supervision returns several predictions; leave it out"
        )
    network: nn.Module = _made(name, getattr(nets, _RECIPES[name][0]), given)
    if not arguments.keys() & {"norm", "norm_name"}:
        normalise_by_groups(network)
    return network


def _own(name: str, ends: _Ends, arguments: Mapping[str, Any]) -> nn.Module:
    make = _imported(name)
    offered = {**ends._asdict(), "spatial_dims": ends.dims}
    taken = inspect.signature(make).parameters
    if any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        wanted = {*taken, *_Ends._fields} - ({"dims"} if "spatial_dims" in taken else set())
    else:
        wanted = {*taken}
    given = {k: v for k, v in offered.items() if k in wanted} | dict(arguments)
    network = _made(name, make, given)
    if not isinstance(network, nn.Module):
        raise SettingsError(
            f"network {name!r} must make a torch.nn.Module, not {type(network).__name__}"
        )
    return network


def _imported(name: str) -> Callable[..., Any]:
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        # Whatever a module of the user's own raises while it is imported.
        raise SettingsError(
            f"network {name!r} cannot be imported: {_one_line(error)}; "
            "is it written module:Class, and its folder on PYTHONPATH?"
        ) from error
    made: Any = getattr(module, attribute, None)
    if made is None:
        close = difflib.get_close_matches(attribute, dir(module), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise SettingsError(f"network {name!r}: {module_name!r} has no {attribute!r}{hint}")
    if not callable(made):
        raise SettingsError(f"network {name!r} must be a class, not a {type(made).__name__}")
    return cast("Callable[..., Any]", made)


def _made(name: str, make: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    try:
        return make(**given)
    except Exception as error:
        # MONAI's own complaints are of many types, and a user's class may raise any.
        listed = ", ".join(f"{key}={value!r}" for key, value in given.items())
        raise SettingsError(
            f"network {name!r} cannot be made with {listed}: {_one_line(error)}"
        ) from error


def _groups(channels: int) -> int:
    # Two channels or more to a group: one alone at the only position has nothing to vary.
    return 1 if channels % 2 else math.gcd(MOST_GROUPS, channels // 2)


def _widths(width: int, depth: int) -> tuple[int, ...]:
    return tuple(width * 2**level for level in range(depth))


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
