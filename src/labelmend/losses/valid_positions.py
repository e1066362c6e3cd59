"""What every loss does with positions: checks of shapes, sums and means over the valid ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from labelmend.errors import ShapeError


def check_inputs(logits: Tensor, label: Tensor, valid: Tensor) -> None:
    """Refuse logits and masks that no loss takes; the shape of labels is left to the loss.

    Raises:
        ShapeError: unless logits are floating ``(batch, classes, *space)``, ``valid`` is bool
            ``(batch, *space)``, and all three lie on one device.

    >>> check_inputs(torch.zeros(1, 2, 4), torch.zeros(1, 4), torch.ones(1, 4))
    Traceback (most recent call last):
    labelmend.errors.ShapeError: valid must be bool (1, 4) to fit logits (1, 2, 4), ...
    """
    check_tensors(logits=logits, label=label, valid=valid)
    if logits.ndim < 3 or not logits.is_floating_point():
        raise ShapeError(
            f"logits must be floating (batch, classes, *space), not {type_and_shape(logits)}"
        )
    wanted = (logits.shape[0], *logits.shape[2:])
    if valid.dtype != torch.bool or tuple(valid.shape) != wanted:
        raise ShapeError(
            f"valid must be bool {wanted} to fit logits {tuple(logits.shape)}, "
            f"not {type_and_shape(valid)}"
        )
    check_device(logits, label, valid)


def check_tensors(**given: object) -> None:
    """Refuse what is no tensor, with a ShapeError that names it.

    >>> check_tensors(logits={"out": torch.zeros(1, 2, 4)})
    Traceback (most recent call last):
    labelmend.errors.ShapeError: logits must be a tensor, not a dict; of what holds several, ...
    """
    for name, value in given.items():
        if isinstance(value, Tensor):
            continue
        way = ""
        if isinstance(value, (Mapping, Sequence)):
            way = (
                "; of what holds several, hand on the one that is meant, if need be by a module "
                "around the network"
            )
        elif value is None and name == "valid":
            way = "; where all is known it is torch.ones_like(label, dtype=torch.bool)"
        elif hasattr(value, "__array__"):
            way = "; torch.as_tensor makes one of it"
        raise ShapeError(f"{name} must be a tensor, not a {type(value).__name__}{way}")


def check_device(*tensors: Tensor) -> None:
    """Refuse tensors on several devices, with a ShapeError that names these.

    >>> check_device(torch.zeros(1), torch.zeros(1, device="meta"))
    Traceback (most recent call last):
    labelmend.errors.ShapeError: logits, label and valid must be on one device, not on cpu, meta
    """
    if len({tensor.device for tensor in tensors}) > 1:
        devices = ", ".join(str(tensor.device) for tensor in tensors)
        raise ShapeError(f"logits, label and valid must be on one device, not on {devices}")


def check_classes(logits: Tensor) -> None:
    """Refuse logits of a segmentation with a single channel, with a ShapeError.

    >>> check_classes(torch.zeros(1, 2, 4))
    """
    if logits.shape[1] < 2:
        raise ShapeError(
            "a segmentation needs logits for at least 2 classes, background included, not 1; of "
            "one for a sigmoid, torch.cat([torch.zeros_like(logits), logits], 1) makes two"
        )


def at_least_single(values: Tensor) -> Tensor:
    """Half precision raised to float32; float32 and float64 as they are.

    Trap: half precision holds no whole number above 2048 exactly (bfloat16: 256), so neither sums
    over an image nor positions must ever be computed in it.

    >>> at_least_single(torch.zeros(1, dtype=torch.float16)).dtype
    torch.float32
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))


def zero_invalid(values: Tensor, valid: Tensor) -> Tensor:
    """``(batch, channels, *space)`` as float32 at least, with 0 at ignored positions.

    To be done before anything else is computed. Trap: multiplying by the mask afterwards would
    be too late, since 0 · inf is NaN, in value and gradient.

    >>> zero_invalid(torch.tensor([[[1.0, torch.inf]]]), torch.tensor([[True, False]]))
    tensor([[[1., 0.]]])
    """
    return torch.where(valid.unsqueeze(1), at_least_single(values), 0)


def softmax(logits: Tensor) -> Tensor:
    """Probabilities over axis 1, the same bits wherever in the batch a sample stands.

    >>> softmax(torch.zeros(1, 4, 1)).flatten()
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    # torch's softmax rounds by place in memory, its log_softmax does not.
    return logits.log_softmax(1).exp()


def logistic(margin: Tensor) -> Tensor:
    """1 / (1 + exp(−margin)), the same bits wherever in the batch a sample stands; no gradient.

    Of two classes it is their softmax by the difference of logits, in a third of the time. Trap:
    torch's own sigmoid rounds by place in memory.

    >>> logistic(torch.tensor([0.0, 200.0, -200.0]))
    tensor([0.5000, 1.0000, 0.0000])
    """
    return margin.detach().neg().exp_().add_(1).reciprocal_()


def space_sum(values: Tensor) -> Tensor:
    """The sum over space, ``(batch, channels, *space)`` → ``(batch, channels)``.

    >>> space_sum(torch.ones(1, 2, 3, 4))
    tensor([[12., 12.]])
    """
    return values.flatten(2).sum(2)


def valid_count(valid: Tensor, like: Tensor) -> Tensor:
    """How many positions of each sample are valid, ``(batch,)`` in the number type of ``like``.

    Trap: 1 where none is, for it is there to be divided by.

    >>> valid_count(torch.tensor([[True, True], [False, False]]), torch.zeros(1))
    tensor([2., 1.])
    """
    return valid.flatten(1).sum(1).clamp(min=1).to(like.dtype)


def valid_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of ``(batch, *space)`` over the valid positions; 0 for a sample that has none.

    >>> valid_mean(torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([[True, True, False]]))
    tensor([2.])
    """
    return torch.where(valid, values, 0).flatten(1).sum(1) / valid_count(valid, values)


def channel_mean(values: Tensor, valid: Tensor, by_class: bool) -> Tensor:
    """The :func:`valid_mean` over channels as well, or what every channel adds to it.

    Args:
        values: ``(batch, channels, *space)``.
        valid: ``(batch, *space)`` bool.
        by_class: → ``(batch, channels)``, not ``(batch,)``.

    >>> channel_mean(torch.tensor([[[1.0], [3.0]]]), torch.tensor([[True]]), by_class=True)
    tensor([[0.5000, 1.5000]])
    """
    if by_class:
        sums = space_sum(torch.where(valid.unsqueeze(1), values, 0))
        return sums / (values.shape[1] * valid_count(valid, values).unsqueeze(1))
    # Under the same name: so the channels are given back before more is asked for.
    values = values.mean(1)
    return valid_mean(values, valid)


def after_background(terms: Tensor) -> Tensor:
    """Terms of the foreground classes with a 0 for the background before them.

    >>> after_background(torch.tensor([[0.5, 0.7]]))
    tensor([[0.0000, 0.5000, 0.7000]])
    """
    return torch.nn.functional.pad(terms, (1, 0))


def type_and_shape(tensor: Tensor) -> str:
    """A tensor in the words of an error.

    >>> type_and_shape(torch.zeros(2, 3))
    'float32 (2, 3)'
    """
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
