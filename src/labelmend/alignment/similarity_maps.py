"""How alike prediction and moved label are at every displacement, by what are no losses."""

from __future__ import annotations

import torch
from torch import Tensor

from labelmend.alignment.comparison import Comparison, centred
from labelmend.alignment.correlation import Field, each, inverted, outer, total

NOISE = 1000
"""A sum of squares below this many units in the last place of the whole sample's is rounding."""


def correlation(of: Comparison) -> Tensor:
    """The sum of products of prediction and label over foreground classes or channels.

    Of the probabilities, for class labels. The seed's own score (¶33, ¶39), ``(batch, *shifts)``.

    Trap: neither normalised nor divided by what is shared, it prefers the brightest place, and
    misses most often where the image's border cuts an object.

    >>> from labelmend.alignment.correlation import Frame
    >>> frame = Frame((3,), (1,), direct=True)
    >>> values = torch.tensor([[[0.0, 1, 2]]])
    >>> correlation(Comparison(values, values, None, None, frame))
    tensor([[2., 5., 2.]])
    """
    return total([(of.of_prediction(_foreground(of)), of.claimed)])


def normalised(of: Comparison) -> Tensor:
    """Zero-normalised correlation over what is shared, in [−1, 1], mean over classes or channels.

    The classes are those of the foreground that the sample's label has. Means and variances are
    those of the shared positions of every displacement. A class or channel that is constant
    there, in either, has no correlation: it counts 0.

    Source: Padfield 2012, Masked object registration in the Fourier domain. Trap: an object of
    which a corner is left in view can correlate by chance; demand enough overlap.

    >>> from labelmend.alignment.correlation import Frame
    >>> frame = Frame((4,), (1,), direct=True)
    >>> values = torch.tensor([[[0.0, 1, 0, 0]]])
    >>> normalised(Comparison(3 * values - 1, values, None, None, frame))[0, 1]
    tensor(1.)
    """
    values = centred(_foreground(of), of.known_at)
    one, squares = of.of_prediction(values), of.of_prediction(values.square())
    places = of.overlap.clamp(min=1).unsqueeze(1)
    sum_one = each(one, of.valid)
    spread = _spread(squares, each(squares, of.valid), sum_one, places)
    if of.continuous:
        label = centred(of.label, of.valid_at)
        other, squares = of.of_label(label), of.of_label(label.square())
        sum_other = each(of.known, other)
        spread_other = _spread(squares, each(of.known, squares), sum_other, places)
    else:
        other = of.claimed
        sum_other = of.count(of.known, other)
        spread_other = sum_other * (places - sum_other) / places  # whole numbers: no rounding
    covariance = each(one, other) - sum_one * sum_other / places
    scale = (spread * spread_other).sqrt()
    terms = torch.where(scale > 0, covariance / torch.where(scale > 0, scale, 1), 0)
    terms = terms.clamp(-1, 1).sum(1)
    if of.continuous:
        return terms / of.classes
    # A class that the label does not have counted 0, and must not make a perfect fit less so.
    has = (of.claimed.given.flatten(2).sum(2) > 0).sum(1).clamp(min=1)
    return terms / has.view(-1, *[1] * (terms.ndim - 1))


def phase(of: Comparison) -> Tensor:
    """Phase correlation: every frequency counts alike; in [−1, 1] where prediction is label.

    What is unknown or invalid is filled with the mean of the rest. Cross-spectra are added over
    foreground classes or channels before they are brought to one magnitude.

    Source: Kuglin and Hines 1975. Trap: on smooth, label-like images most frequencies hold
    noise, so ``normalised`` finds weak predictions more often. And padding counts: the same place
    scores otherwise in a window of another size.

    >>> from labelmend.alignment.correlation import Frame
    >>> frame = Frame((4,), (1,), direct=True)
    >>> values = torch.tensor([[[0.0, 1, 0, 0]]])
    >>> phase(Comparison(values, values, None, None, frame)).argmax(1)
    tensor([1])
    """
    one = Field(centred(_foreground(of), of.known_at), of.frame)
    other = Field(centred(of.claimed.given, of.valid_at), of.frame)
    cross = (one.spectrum * other.conjugate).sum(1, keepdim=True)
    size = cross.abs()
    axes = tuple(range(2, size.ndim))
    floor = NOISE * torch.finfo(size.dtype).eps * size.amax(axes, keepdim=True)
    kept = size > floor
    return inverted(torch.where(kept, cross / torch.where(kept, size, 1), 0), of.frame)[:, 0]


def mutual_information(of: Comparison) -> Tensor:
    """How much the prediction says about the moved label, in nats, over what is shared.

    For class labels the joint distribution is that of the labelled class and a class drawn from
    the predicted probabilities; these need not be sure of anything. Continuous values fall into
    ``bins`` of one width between the least and the largest of a sample, one channel at a time;
    the mean over channels is returned.

    Source: Viola and Wells 1997; all displacements at once by correlation of indicators. Trap:
    it asks for any relation, so a prediction of the opposite is as good. With many classes or
    bins it is dear: classes² or bins² inverse transforms.

    >>> from labelmend.alignment.correlation import Frame
    >>> frame, z = Frame((2,), (0,), direct=True), torch.tensor([[[99.0, 0.0], [0.0, 99.0]]])
    >>> mutual_information(Comparison(z, torch.tensor([[0, 1]]), None, None, frame))
    tensor([[0.6931]])
    """
    if not of.continuous:
        return _information(of, of.of_prediction(of.probability[:, 1:]), of.claimed)
    maps = []
    for c in range(of.classes):
        one = of.of_prediction(_bins(of.prediction[:, c : c + 1], of.known_at, of.bins))
        other = of.of_label(_bins(of.label[:, c : c + 1], of.valid_at, of.bins))
        maps.append(_information(of, one, other))
    return torch.stack(maps).mean(0)


def _foreground(of: Comparison) -> Tensor:
    return of.prediction if of.continuous else of.likelihood


def _spread(whole: Field, squares: Tensor, sums: Tensor, places: Tensor) -> Tensor:
    """The variance times the number, 0 where it is rounding, ``(batch, channels, *shifts)``."""
    spread = squares - sums.square() / places
    most = whole.given.sum(tuple(range(2, spread.ndim)), keepdim=True)
    return torch.where(spread > NOISE * torch.finfo(spread.dtype).eps * most, spread, 0)


def _bins(values: Tensor, places: Tensor | None, bins: int) -> Tensor:
    """Indicators of all bins but the first, ``(batch, bins − 1, *space)``."""
    axes = tuple(range(2, values.ndim))
    some = torch.ones_like(values, dtype=torch.bool) if places is None else places
    least = torch.where(some, values, torch.inf).amin(axes, keepdim=True)
    most = torch.where(some, values, -torch.inf).amax(axes, keepdim=True)
    width = torch.where(most > least, (most - least) / bins, 1)
    index = torch.where(some, (values - least) / width, 0).long().clamp(0, bins - 1)
    which = torch.arange(1, bins, device=values.device).view(1, -1, *(1,) * len(axes))
    return (index == which).to(values.dtype)


def _information(of: Comparison, one: Field, other: Field) -> Tensor:
    """Mutual information of the joint table, of which the first row and column are what is left."""
    places = of.overlap.clamp(min=1)[:, None, None]
    inner = outer(one, other) / places
    rows = each(one, of.valid).unsqueeze(2) / places
    columns = of.count(of.known, other).unsqueeze(1) / places
    top, left = columns - inner.sum(1, keepdim=True), rows - inner.sum(2, keepdim=True)
    corner = 1 - rows.sum(1, keepdim=True) - top.sum(2, keepdim=True)
    table = torch.cat([torch.cat([corner, top], 2), torch.cat([left, inner], 2)], 1)
    table = table.clamp(min=0)
    sums = (table.sum(1), table.sum(2), table.flatten(1, 2))
    parts = [torch.xlogy(p, p).sum(1) for p in sums]
    found = parts[2] - parts[0] - parts[1]
    # Independence is 0 but for rounding, and rounding has a best place too.
    return torch.where(found > 64 * torch.finfo(found.dtype).eps, found, 0)
