"""Sums of products of two fields at every displacement in a window, without wrap-around.

Everywhere in this room a displacement ``d`` moves a label, ``moved(p) = label(p − d)``, so what
is wanted at every ``d`` from ``−w`` to ``w`` is ``Σ_p one(p) · other(p − d)``. Fields are
``(batch, channels, *space)``; maps over displacements are ``(batch, channels, *shifts)`` with
``2 w + 1`` displacements per axis, ``d = 0`` in the middle.

A :class:`Field` is transformed at most once, however many correlations it takes part in. That is
why the functions below take fields: of what a search costs, nearly all is Fourier transforms.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import EllipsisType
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from labelmend.errors import SettingsError, ShapeError

Way = Literal["auto", "fft", "direct"]
Places = tuple[EllipsisType | slice, ...]

WAYS: tuple[Way, ...] = ("auto", "fft", "direct")
"""How sums over displacements may be found."""

_FEW = 2
"""Up to so many positions are added one by one; a cumulative sum is slow to begin."""


@dataclass(frozen=True)
class Frame:
    """The space that fields live in, the displacements asked for, and how they are summed up.

    Attributes:
        space: size along every axis.
        window: the largest displacement along every axis; it may exceed the size.
        direct: a loop over displacements in place of Fourier transforms.

    >>> frame = Frame((256,), (32,), direct=False)
    >>> frame.padded, frame.reach, frame.shifts
    ((288,), (32,), (65,))
    """

    space: tuple[int, ...]
    window: tuple[int, ...]
    direct: bool

    @property
    def reach(self) -> tuple[int, ...]:
        """The largest displacement along every axis that leaves anything shared."""
        return tuple(min(w, n - 1) for n, w in zip(self.space, self.window, strict=True))

    @property
    def padded(self) -> tuple[int, ...]:
        """Sizes at which a circular correlation does not reach round: size + reach or more."""
        return tuple(fast_size(n + r) for n, r in zip(self.space, self.reach, strict=True))

    @property
    def shifts(self) -> tuple[int, ...]:
        """How many displacements there are along every axis."""
        return tuple(2 * w + 1 for w in self.window)

    def overlaps(self) -> Iterator[tuple[Places, Places]]:
        """For every displacement within reach, in order: ``p`` in the image, and ``p − d``."""
        for d in itertools.product(*(range(-r, r + 1) for r in self.reach)):
            both = list(zip(d, self.space, strict=True))
            yield (
                (..., *(slice(max(0, e), n + min(0, e)) for e, n in both)),
                (..., *(slice(max(0, -e), n + min(0, -e)) for e, n in both)),
            )

    def stack(self, values: Sequence[Tensor]) -> Tensor:
        """One tensor for every one of :meth:`overlaps`, as maps over the reach."""
        return torch.stack(list(values), -1).reshape(
            *values[0].shape, *(2 * r + 1 for r in self.reach)
        )

    def fill(self, maps: Tensor) -> Tensor:
        """Maps over the reach, with 0 at displacements beyond it."""
        more = [w - r for w, r in zip(self.window, self.reach, strict=True)]
        return pad(maps, [m for m in reversed(more) for _ in range(2)]) if any(more) else maps


def make_frame(
    space: Sequence[int], window: int | Sequence[int], *, way: Way = "auto", batch: int = 1
) -> Frame:
    """The frame of a search; ``auto`` takes the way that should be quicker.

    Args:
        space: size along every axis.
        window: the largest displacement, along every axis or for all of them.
        way: ``fft``, ``direct`` or ``auto``.
        batch: how many fields are correlated at a time; none are, whatever the way, directly.

    Raises:
        ShapeError: unless there is one whole number of 0 or more per axis, and space is not
            empty.
        SettingsError: for an unknown way.

    Trap: rounding differs between ways, and so by size with ``auto``, in the last digits.

    >>> make_frame((256, 256), 1).direct, make_frame((256, 256), 32).direct
    (True, False)
    """
    space, window = tuple(space), along_axes(window, space)
    if min(space) < 1:
        raise ShapeError(f"a space must have a position at least, unlike {space}")
    if way not in WAYS:
        raise SettingsError(f"unknown way {way!r}; use one of {', '.join(WAYS)}")
    # Libraries refuse to transform nothing.
    frame = Frame(space, window, direct=way == "direct" or not batch)
    if way != "auto":
        return frame
    return Frame(space, window, direct=_direct_is_quicker(frame, batch))


def along_axes(window: int | Sequence[int], space: Sequence[int]) -> tuple[int, ...]:
    """A window as one number per axis of a space.

    Raises:
        ShapeError: unless there is one whole number of 0 or more per axis.

    >>> along_axes(3, (64, 64))
    (3, 3)
    """
    try:
        each = tuple(window) if isinstance(window, Sequence) else (window,) * len(space)
        each = tuple(operator.index(one) for one in each)  # NumPy's whole numbers too
    except TypeError:
        each = ()
    if len(each) != len(space) or min(each, default=-1) < 0:
        raise ShapeError(
            f"window must be one whole number of 0 or more per axis of {tuple(space)}, not {window}"
        )
    return each


@dataclass(frozen=True, eq=False)
class Field:
    """Values over space whose spectrum is computed once, when first wanted.

    Attributes:
        values: ``(batch, channels, *space)`` float32 or float64; or None for 1 everywhere in the
            image, which needs no transform at all.
        frame: what they will be correlated in.

    Trap: it keeps values and spectrum in memory for as long as it lives.

    >>> frame = make_frame((4,), 1, way="fft")
    >>> Field(torch.ones(1, 1, 4), frame).spectrum.shape
    torch.Size([1, 1, 3])
    """

    values: Tensor | None
    frame: Frame

    @property
    def given(self) -> Tensor:
        """The values; a field of ones, which is summed up without any, raises ValueError."""
        if self.values is None:
            raise ValueError("a field of ones has no values and no spectrum")
        return self.values

    @cached_property
    def spectrum(self) -> Tensor:
        """The real Fourier transform of the values, padded with zeros."""
        return self._transform()

    @cached_property
    def conjugate(self) -> Tensor:
        """The conjugate of :attr:`spectrum`, which the second field of a pair is asked for."""
        return self._transform().conj_physical_()  # in its own memory, unlike ``conj``

    def _transform(self) -> Tensor:
        axes = tuple(range(-len(self.frame.space), 0))
        spectrum: Tensor = torch.fft.rfftn(self.given, s=self.frame.padded, dim=axes)
        return spectrum


def correlate(
    one: Tensor, other: Tensor, window: int | Sequence[int], *, way: Way = "auto"
) -> Tensor:
    """``Σ_p one(p) · other(p − d)`` for every displacement, ``(batch, channels, *shifts)``.

    Half precision is raised to float32 (a Fourier transform in it gives NaN), also under
    autocast; float64 stays. It can be differentiated. Source: seed B ¶33, ¶39.

    Args:
        one: ``(batch, channels, *space)``, one to three axes of space.
        other: of the same shape.
        window: the largest displacement in positions, along every axis or for all of them.
            Displacements by more than the size are allowed; nothing is shared there.
        way: ``fft``, ``direct``, or ``auto``, which takes the quicker.

    Raises:
        ShapeError: where shapes or the window do not fit.
        SettingsError: for an unknown way.

    Trap: un-normalised, it is largest where ``one`` is brightest, not where both agree.

    >>> image, label = torch.tensor([[[0.0, 0, 1, 2]]]), torch.tensor([[[0.0, 1, 2, 0]]])
    >>> correlate(image, label, 1)  # the label fits when it moves by +1
    tensor([[[0., 2., 5.]]])
    """
    if one.ndim < 3 or one.shape != other.shape:
        raise ShapeError(
            f"two fields must both be (batch, channels, *space), "
            f"not {tuple(one.shape)} and {tuple(other.shape)}"
        )
    dtype = torch.promote_types(torch.promote_types(one.dtype, other.dtype), torch.float32)
    frame = make_frame(one.shape[2:], window, way=way, batch=one.shape[0] * one.shape[1])
    with torch.autocast(one.device.type, enabled=False):
        return each(Field(one.to(dtype), frame), Field(other.to(dtype), frame))


def each(one: Field, other: Field) -> Tensor:
    """The correlation of every channel of one field with the same channel of the other.

    A field of one channel or one sample, or of ones, goes with all of the other's.

    Trap: two fields of ones give their number, float64, for they know no other type.

    >>> frame = make_frame((4,), 1)
    >>> each(Field(None, frame), Field(torch.tensor([[[1.0, 2, 3, 4]]]), frame))
    tensor([[[ 9., 10.,  6.]]])
    """
    frame = one.frame
    if one.values is None and other.values is None:
        return frame.fill(_shared_counts(frame)[None, None])
    if other.values is None:
        return frame.fill(_sums_inside(one.given, frame))
    if one.values is None:
        axes = tuple(range(-len(frame.space), 0))
        return frame.fill(_sums_inside(other.values, frame).flip(axes))
    if frame.direct:
        return frame.fill(_loop(one.values, other.values, frame))
    return inverted(one.spectrum * other.conjugate, frame)


def outer(one: Field, other: Field) -> Tensor:
    """The correlation of every channel of one field with every channel of the other.

    → ``(batch, channels of one, channels of other, *shifts)``; neither may be a field of ones.
    Trap: channels × channels inverse transforms.

    >>> frame = make_frame((4,), 1)
    >>> outer(Field(torch.ones(1, 2, 4), frame), Field(torch.ones(1, 3, 4), frame)).shape
    torch.Size([1, 2, 3, 3])
    """
    frame, rows = one.frame, range(one.given.shape[1])
    if frame.direct:
        maps = [_loop(one.given[:, i : i + 1], other.given, frame) for i in rows]
    else:
        maps = [_invert(one.spectrum[:, i : i + 1] * other.conjugate, frame) for i in rows]
    return frame.fill(torch.stack(maps, 1))


def total(pairs: Iterable[tuple[Field, Field]]) -> Tensor:
    """The sum over pairs of fields and over their channels, ``(batch, *shifts)``.

    All Fourier transforms share one inverse: the sum is taken before it.

    Trap: the channels of a pair must be as many in both, or 1.

    >>> frame = make_frame((4,), 1)
    >>> two = Field(torch.ones(1, 2, 4), frame)
    >>> total([(two, two), (two, Field(None, frame))])
    tensor([[12., 16., 12.]])
    """
    pairs = list(pairs)
    frame = pairs[0][0].frame
    maps, spectra = [], []
    for one, other in pairs:
        if frame.direct or one.values is None or other.values is None:
            maps.append(each(one, other).sum(1))
        else:
            product = one.spectrum * other.conjugate
            spectra.append(product[:, 0] if product.shape[1] == 1 else product.sum(1))
    if spectra:
        maps.append(inverted(sum(spectra[1:], spectra[0]), frame))
    return sum(maps[1:], maps[0])


def inverted(spectrum: Tensor, frame: Frame) -> Tensor:
    """The correlation whose spectrum is ``one.spectrum · other.conjugate``.

    For those who change the spectrum first. Trap: rounding is added that a direct sum has not,
    about the last digit of ``‖one‖ · ‖other‖`` at every displacement.

    >>> frame = make_frame((4,), 1, way="fft")
    >>> one = Field(torch.ones(1, 1, 4), frame)
    >>> inverted(one.spectrum * one.conjugate, frame).round()
    tensor([[[3., 4., 3.]]])
    """
    return frame.fill(_invert(spectrum, frame))


def fast_size(least: int) -> int:
    """The next number whose only prime factors are 2, 3, 5 and 7: quick to transform.

    >>> [fast_size(n) for n in (1, 11, 270, 289)]
    [1, 12, 270, 294]
    """
    size = least
    while True:
        rest = size
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 1


def _direct_is_quicker(frame: Frame, batch: int) -> bool:
    """What one pair of fields costs in microseconds.

    Fitted to 47 cases on one busy core (AVX-512, MKL): batches of 1 to 16, lines of 1,000 to
    200,000 positions, 16² to 512², 32³ to 128³. At 256² and 16 samples both cost the same at 25
    displacements. 41 were decided right; elsewhere the other way took 0.45 to 0.99 of the time.
    """
    steps, longest = math.prod(2 * r + 1 for r in frame.reach), max(frame.padded)
    places, padded = batch * math.prod(frame.space), math.prod(frame.padded)
    # One long line is a single transform that does not fit into the cache.
    rate = 3e-3 if len(frame.space) == 1 and longest > 2**14 else 9e-4
    return steps * (12 + 6e-4 * places) < 140 + rate * batch * padded * math.log2(padded)


def _invert(spectrum: Tensor, frame: Frame) -> Tensor:
    """Only what lies in the window is ever transformed along the next axis."""
    dims, sizes, reach = len(frame.space), frame.padded, frame.reach
    for axis in range(dims - 1):
        spectrum = _around_zero(torch.fft.ifft(spectrum, dim=axis - dims), axis - dims, reach[axis])
    return _around_zero(torch.fft.irfft(spectrum, n=sizes[-1], dim=-1), -1, reach[-1])


def _around_zero(values: Tensor, axis: int, reach: int) -> Tensor:
    size = values.shape[axis]
    negative = values.narrow(axis, size - reach, reach)
    return torch.cat([negative, values.narrow(axis, 0, reach + 1)], axis)


def _loop(one: Tensor, other: Tensor, frame: Frame) -> Tensor:
    axes = tuple(range(-len(frame.space), 0))
    return frame.stack([(one[a] * other[b]).sum(axes) for a, b in frame.overlaps()])


def _sums_inside(values: Tensor, frame: Frame) -> Tensor:
    """Sums over the positions ``p`` for which ``p − d`` lies in the image, axis by axis."""
    for axis, r in enumerate(frame.reach):
        at, size = axis - len(frame.space), frame.space[axis]
        if size > 2 * r:  # what is inside at every displacement needs to be added up only once
            core = values.narrow(at, r, size - 2 * r).sum(at, keepdim=True)
            parts = [values.narrow(at, 0, r), core, values.narrow(at, size - r, r)]
            values, size = torch.cat(parts, at), 2 * r + 1
        if r <= _FEW:
            values = _running_sums(values, at, r)
            continue
        upto = values.cumsum(at).narrow(at, size - r - 1, r)
        onwards = values.flip(at).cumsum(at).flip(at).narrow(at, 0, r + 1)
        values = torch.cat([upto, onwards], at)
    return values


def _running_sums(values: Tensor, at: int, r: int) -> Tensor:
    """What is inside at every displacement, as above, in a few additions."""
    parts = values.unbind(at)
    upto = list(itertools.accumulate(parts, torch.add))[len(parts) - r - 1 : -1]
    onwards = list(itertools.accumulate(parts[::-1], torch.add))[: -r - 2 : -1]
    return torch.stack([*upto, *onwards], at)


def _shared_counts(frame: Frame) -> Tensor:
    """How many positions an image shares with itself when moved, ``(*reach)``."""
    counts = torch.ones((), dtype=torch.float64)
    for size, r in zip(frame.space, frame.reach, strict=True):
        line = size - torch.arange(-r, r + 1, dtype=torch.float64).abs()
        counts = counts.unsqueeze(-1) * line
    return counts
