"""A network as a function of its parameters, without changing it."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from labelmend.errors import SettingsError, ShapeError, unknown
from labelmend.losses import cross_entropy, l2
from labelmend.losses.valid_positions import check_tensors
from labelmend.types import Batch, Loss
from labelmend.weighting.ambient import bare
from labelmend.weighting.gradients import LossesOf, Parameters
from labelmend.weighting.products import Mode, Product, gauss_newton_product


def call_with(network: nn.Module, params: Parameters, image: Tensor) -> Tensor:
    """What the network gives for images, with other values in some of its parameters.

    The trap, and why this is not ``torch.func.functional_call`` by itself: that one leaves a
    network damaged in which a layer is reached by two names, as in MONAI's DynUNet. Its
    parameters are then plain tensors, which no optimiser moves.

    Args:
        network: unchanged; a parameter that it shares between layers is replaced in all of them.
        params: values by the names of ``network.named_parameters()``; all others stay.
        image: what the network takes.

    Raises:
        SettingsError: for a name that the network has not, or one in ``DataParallel`` or scripted.

    >>> import torch
    >>> network = nn.Linear(2, 1, bias=False)
    >>> call_with(network, {"weight": torch.ones(1, 2)}, torch.tensor([[1.0, 2.0]]))
    tensor([[3.]])
    """
    if isinstance(network, nn.DataParallel):
        raise SettingsError(
            "DataParallel copies parameters at every call; hand over the network in it, "
            "network.module, and its parameters"
        )
    if isinstance(network, torch.jit.ScriptModule):
        raise SettingsError(
            "of a scripted or traced network no parameter can be replaced; hand over the network "
            "that it was made of"
        )
    places = _places(network)
    known = dict(network.named_parameters())
    for name in params:
        if name not in known:
            raise unknown("parameter", name, known)
    values = {place: value for name, value in params.items() for place in places[known[name]]}
    logits: Tensor = functional_call(network, values, (image,), tie_weights=False)
    return logits


def losses_of(network: nn.Module, loss: Loss, batch: Batch) -> LossesOf:
    """The losses of a batch as a function of parameters: what all gradients here are taken of.

    Args:
        network: in the mode in which it is to be judged: ``network.eval()``.
        loss: one value per sample, such as :func:`labelmend.make_loss` gives.
        batch: on the network's device.

    Raises:
        SettingsError: for a loss that is not called with logits, label and valid.
        ShapeError: for a batch that is no :class:`labelmend.Batch`.

    >>> import torch
    >>> from labelmend import make_loss, mean_gradient
    >>> network, label = nn.Conv1d(1, 2, 1), torch.tensor([[0, 1, 1]])
    >>> batch = Batch(torch.ones(1, 1, 3), label, label >= 0, torch.arange(1))
    >>> of = losses_of(network, make_loss("cross_entropy"), batch)
    >>> sorted(mean_gradient(of, dict(network.named_parameters())))
    ['bias', 'weight']
    """
    check_loss(loss)
    check_batch("batch", batch)

    def of(params: Parameters) -> Tensor:
        logits = call_with(network, params, bare(batch.image))
        return loss(logits, bare(batch.label), bare(batch.valid))

    return of


def gauss_newton_of(
    network: nn.Module, params: Parameters, batch: Batch, loss: Loss | None = None
) -> Product:
    """Gauss–Newton products on a batch, of cross-entropy, or of squares for regression.

    Those are convex in what the network predicts, as any ``loss`` given here must be; Dice is not.
    Backwards twice where that can be differentiated, in forward mode where not: it keeps one graph
    of no more than the given parameters, and takes for a last layer a tenth of the time, for a
    decoder the same.

    >>> import torch
    >>> network = nn.Conv1d(1, 2, 1)
    >>> label = torch.tensor([[0, 1, 1]])
    >>> batch = Batch(torch.ones(1, 1, 3), label, label >= 0, torch.arange(1))
    >>> params = dict(network.named_parameters())
    >>> product = gauss_newton_of(network, params, batch)
    >>> sorted(product({name: torch.ones_like(p) for name, p in params.items()}))
    ['bias', 'weight']
    """
    usual = l2 if batch.label.is_floating_point() else cross_entropy
    convex = loss or usual

    def logits_of(values: Parameters) -> Tensor:
        logits = call_with(network, values, bare(batch.image))
        check_tensors(logits=logits)
        return logits

    def loss_of(logits: Tensor) -> Tensor:
        return convex(logits, bare(batch.label), bare(batch.valid))

    ways = [gauss_newton_product(logits_of, loss_of, params, way) for way in _WAYS]

    def product(direction: Mapping[str, Tensor]) -> dict[str, Tensor]:
        while len(ways) > 1:
            try:
                return ways[0](direction)
            except SettingsError:  # an operation that cannot be differentiated so
                ways.pop(0)
        return ways[0](direction)

    return product


def check_loss(loss: object) -> None:
    """Refuse a loss that cannot be called with logits, label and valid, with a SettingsError.

    >>> check_loss(nn.CrossEntropyLoss(reduction="none"))
    Traceback (most recent call last):
    labelmend.errors.SettingsError: a loss takes logits, label and valid; CrossEntropyLoss does ...
    """
    named = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    if callable(loss) and not isinstance(loss, type):
        try:
            inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss).bind(0, 0, 0)
        except ValueError:  # it does not say what it takes
            return
        except TypeError:
            pass
        else:
            return
    raise SettingsError(
        f"a loss takes logits, label and valid; {named} does not: make one of these by name, as "
        "make_loss('dice_ce'), or write a function that gives one value per sample"
    )


def check_batch(name: str, batch: object) -> None:
    """Refuse what is no :class:`labelmend.Batch`, with a ShapeError.

    >>> check_batch("weak", ())
    Traceback (most recent call last):
    labelmend.errors.ShapeError: weak must be a Batch(image, label, valid, index), not a tuple
    """
    if not isinstance(batch, Batch):
        kind = type(batch).__name__
        raise ShapeError(f"{name} must be a Batch(image, label, valid, index), not a {kind}")


_WAYS: tuple[Mode, ...] = ("reverse", "forward")


def _places(network: nn.Module) -> dict[Tensor, list[str]]:
    """Under which names each parameter is to be replaced: once in every layer that has it."""
    places: dict[Tensor, list[str]] = defaultdict(list)
    for name, parameter in _own(network):
        places[parameter].append(name)
    return places


def _own(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Every layer is asked once, whatever the number of names that lead to it."""
    for path, layer in network.named_modules():
        for name, parameter in layer.named_parameters(recurse=False, remove_duplicate=False):
            yield f"{path}.{name}" if path else name, parameter
