"""Forward-mode rules of a few operations that take less time and memory than torch's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class FusedRules(TorchFunctionMode):
    """Within it convolutions, group normalisation, activations and ``cat`` follow our own rules.

    These are right for any part that moves, and for anything that carries no slope they are what
    they replace. Torch's own rules keep every product in memory of its own, turn what should
    happen in place into copies, and zero the memory that ``cat`` fills: together a tenth to a fifth
    of a whole pass. That of group normalisation fails on channels-last memory besides.

    Source: own. The trap: it knows what is called by name, such as ``functional.conv2d``; what
    a network calls otherwise follows torch's rules, which are as right.

    >>> x, moved = torch.tensor([-2.0, 3.0]), torch.tensor([1.0, 1.0])
    >>> with torch.no_grad(), forward_ad.dual_level(), FusedRules():
    ...     found = functional.leaky_relu(forward_ad.make_dual(x, moved), 0.5)
    ...     forward_ad.unpack_dual(found)
    UnpackedDualTensor(primal=tensor([-1.,  3.]), tangent=tensor([0.5000, 1.0000]))
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        options = kwargs or {}
        rule = _RULES.get(func)
        return rule(func, *args, **options) if rule else func(*args, **options)


def _parts(dual: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """A value and its slope, or None where nothing moves."""
    if dual is None:
        return None, None
    value, slope = forward_ad.unpack_dual(dual)  # type: ignore[no-untyped-call]
    return value, None if slope is None or slope._is_zerotensor() else slope


def _dual(value: Tensor, slope: Tensor) -> Tensor:
    return cast("Tensor", forward_ad.make_dual(value, slope))  # type: ignore[no-untyped-call]


def _convolution(
    func: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *rest: Any,
    **options: Any,
) -> Tensor:
    x, moved = _parts(input)
    kernel, more_kernel = _parts(weight)
    shift, more_shift = _parts(bias)
    pairs = ((x, more_kernel), (moved, kernel))
    products = [(one, other) for one, other in pairs if one is not None and other is not None]
    if not products:
        return func(input, weight, bias, *rest, **options)
    value = func(x, kernel, shift, *rest, **options)
    slope = func(*products[0], more_shift, *rest, **options)
    for product in products[1:]:
        slope += func(*product, None, *rest, **options)
    return _dual(value, slope)


def _group_norm(
    _: Callable[..., Tensor],
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_library: bool,
    **_more: bool,
) -> Tensor:
    x, moved = _parts(input)
    scale, more_scale = _parts(weight)
    shift, more_shift = _parts(bias)
    assert x is not None
    x = x.contiguous()
    n, channels, size = len(x), x.shape[1], math.prod(x.shape[2:])
    value, mean, inverse = torch.native_group_norm(
        x, scale, shift, n, channels, size, num_groups, eps
    )
    if moved is None and more_scale is None and more_shift is None:
        return value  # held fixed: nothing further down may pay for it
    # Of one channel of one sample it is linear in value and slope: a·slope + b·x + c, with
    # y = scale · z + shift, z = (x - mean) · inverse and ż = (ẋ - E[ẋ] - z E[z ẋ]) · inverse.
    in_groups = (n, num_groups, channels // num_groups)

    def of_channels(values: Tensor | None) -> Tensor | float:
        return 0.0 if values is None else values.view(1, *in_groups[1:])

    mean, inverse = mean.view(n, num_groups, 1), inverse.view(n, num_groups, 1)
    a, b, c = None, inverse * of_channels(more_scale), of_channels(more_shift)
    if moved is not None:
        moved = moved.contiguous()
        along, whole = _sums(moved, x, mean, inverse)
        along, whole = (s.view(in_groups).mean(2, keepdim=True) / size for s in (along, whole))
        a = inverse * (1.0 if scale is None else of_channels(scale))
        b, c = b - a * inverse * along, c - a * whole
    c = c - b * mean

    def of_lines(values: Tensor) -> Tensor:
        return values.expand(in_groups).reshape(-1, 1).to(x.dtype)

    lines = (n * channels, size)
    slope = torch.addcmul(of_lines(c), x.view(lines), of_lines(b))
    if moved is not None and a is not None:
        slope.addcmul_(moved.view(lines), of_lines(a))
    return _dual(value, slope.view(x.shape))


def _sums(moved: Tensor, x: Tensor, mean: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Σ z ẋ and Σ ẋ of every channel of every sample, with z = (x - mean) · inverse."""
    lines, groups = len(x) * x.shape[1], mean.numel()
    flat = (1, lines, x.numel() // max(lines, 1))
    # The gradient of scale and shift, as if all samples were channels of one: a single look.
    found = torch.ops.aten.native_group_norm_backward(
        *(moved.view(flat), x.view(flat), mean.view(1, -1), inverse.view(1, -1)),
        *(mean.new_ones(lines), 1, lines, flat[2], groups, [False, True, True]),
    )
    return found[1], found[2]


def _prelu(func: Callable[..., Tensor], input: Tensor, weight: Tensor) -> Tensor:
    x, moved = _parts(input)
    scale, more_scale = _parts(weight)
    assert x is not None and scale is not None
    # The kernel below takes a single number, which another device would have to be waited for.
    if moved is None or scale.numel() > 1 or x.device.type != "cpu":
        return func(input, weight)
    value = func(x, scale)
    # Its Jacobian is diagonal: its backward kernel is its forward one.
    slope = torch.ops.aten.leaky_relu_backward(moved, x, scale.item(), False)
    if more_scale is not None:
        slope.add_(x.clamp(max=0), alpha=more_scale.item())
    return _dual(value, slope)


def _leaky_relu(
    func: Callable[..., Tensor],
    input: Tensor,
    negative_slope: float = 0.01,
    inplace: bool = False,
) -> Tensor:
    x, moved = _parts(input)
    # The sign of what it gives tells the slope, unless it turns signs around.
    if moved is None or negative_slope < 0:
        return func(input, negative_slope, inplace)
    value = func(x, negative_slope, inplace)
    backward = torch.ops.aten.leaky_relu_backward
    return _rectified(backward, input, moved, inplace, value, negative_slope, True)


def _relu(func: Callable[..., Tensor], input: Tensor, inplace: bool = False) -> Tensor:
    x, moved = _parts(input)
    if moved is None:
        return func(input, inplace)
    backward = torch.ops.aten.threshold_backward
    return _rectified(backward, input, moved, inplace, func(x, inplace), 0)


def _rectified(
    backward: Any, input: Tensor, moved: Tensor, inplace: bool, value: Tensor, *options: Any
) -> Tensor:
    """What an activation gives: its Jacobian is diagonal, so its backward kernel is its rule."""
    if not inplace:
        return _dual(value, backward(moved, value, *options))
    # Value and slope are changed where they lie: every name of the tensor sees it.
    backward.grad_input(moved, value, *options, grad_input=moved)
    return input


def _cat(func: Callable[..., Tensor], tensors: Sequence[Tensor], *rest: Any, **more: Any) -> Tensor:
    parts = [_parts(tensor) for tensor in tensors]
    if all(slope is None for _, slope in parts) or "out" in more:
        return func(tensors, *rest, **more)
    values = [cast("Tensor", value) for value, _ in parts]
    slopes = [slope for _, slope in parts]
    filled = [torch.zeros_like(v) if s is None else s for v, s in zip(values, slopes, strict=True)]
    return _dual(func(values, *rest, **more), func(filled, *rest, **more))


_RULES: dict[Any, Callable[..., Tensor]] = {
    **{
        getattr(functional, f"{name}{dims}d"): _convolution
        for name in ("conv", "conv_transpose")
        for dims in (1, 2, 3)
    },
    **dict.fromkeys((functional.group_norm, torch.group_norm), _group_norm),
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), _cat),
    torch.prelu: _prelu,
    functional.leaky_relu: _leaky_relu,
    functional.relu: _relu,
}
