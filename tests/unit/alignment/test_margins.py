"""A prediction in the middle of a label's space, and back: where, with what, what is refused."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from labelmend.alignment.margins import FILLS, centre, crop, embed
from labelmend.errors import SettingsError, ShapeError


@pytest.mark.parametrize(
    ("inner", "outer", "start"),
    [(4, 4, 0), (4, 6, 1), (3, 6, 1), (4, 7, 1), (3, 7, 2), (1, 2, 0), (1, 4, 1)],
)
def test_an_odd_difference_leaves_the_larger_margin_at_the_end(inner, outer, start):
    assert centre((inner,), (outer,)).start == (start,)
    _, known = embed(torch.zeros(1, 1, inner), (outer,))
    assert known[0].tolist() == [start <= p < start + inner for p in range(outer)]


def test_axes_keep_their_order():
    prediction = torch.arange(6.0).reshape(1, 1, 1, 2, 3)
    embedded, known = embed(prediction, (2, 5, 4), 9.0)
    assert known.shape == (1, 2, 5, 4) and known.sum() == 6
    assert torch.equal(embedded[:, :, :1, 1:3, :3], prediction)
    assert (embedded[0, 0][~known[0]] == 9).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("fill", [*FILLS, 0, -2.5, float("-inf")])
def test_every_fill_is_of_its_own_channel_and_sample(fill, dtype):
    prediction = torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    embedded, known = embed(prediction, (7, 6), fill)
    assert embedded.dtype == dtype
    for k in range(3):
        for c in range(2):
            own = prediction[k, c].double().numpy()
            expected = {
                "mean": own.mean(),
                "median": np.sort(own, axis=None)[9],
                "minimum": own.min(),
            }.get(fill, fill)
            margin = embedded[k, c][~known[k]].double()
            assert (margin == margin[0]).all()
            eps = torch.finfo(dtype).eps
            assert float(margin[0]) == pytest.approx(expected, rel=2 * eps, abs=2 * eps)
            assert torch.equal(embedded[k, c][known[k]], prediction[k, c].flatten())


def test_the_mean_of_many_half_numbers_does_not_overflow():
    prediction = torch.full((1, 1, 300, 300), 2.0, dtype=torch.float16)
    assert (embed(prediction, (301, 301))[0] == 2).all()


def test_the_same_size_needs_no_margin():
    prediction = torch.randn(2, 3, 4)
    embedded, known = embed(prediction, (4,))
    assert torch.equal(embedded, prediction) and known.all()


def test_nothing_given_is_changed_or_shared():
    prediction, label = torch.ones(1, 1, 4), torch.ones(1, 4, dtype=torch.int64)
    valid = torch.ones(1, 4, dtype=torch.bool)
    embed(prediction, (4,))[0].zero_()
    for moved in crop(label, valid, (4,)):
        moved.zero_()
    assert prediction.all() and label.all() and valid.all()


def test_a_crop_holds_zero_where_not_valid():
    label = torch.tensor([[[1.0, torch.nan, 3.0, torch.inf]]])
    valid = torch.tensor([[True, False, True, True]])
    moved, known = crop(label, valid, (2,))
    assert moved.tolist() == [[[0.0, 3.0]]] and known.tolist() == [[False, True]]


@pytest.mark.parametrize("fill", FILLS)
def test_derivatives(fill):
    prediction = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: embed(x, (4, 6), fill)[0], (prediction,), check_forward_ad=True)


WRONG = {
    "smaller than the prediction": lambda: embed(torch.zeros(1, 1, 4), (3,)),
    "more axes": lambda: embed(torch.zeros(1, 1, 4), (4, 4)),
    "whole numbers": lambda: embed(torch.zeros(1, 1, 4, dtype=torch.int64), (4,)),
    "no channels": lambda: embed(torch.zeros(1, 4), (4,)),
    "larger than the label": lambda: crop(*[torch.ones(1, 4) > 0] * 2, (5,)),
    "a crop to nothing": lambda: crop(torch.ones(1, 4).long(), torch.ones(1, 4) > 0, (0,)),
    "fewer axes": lambda: crop(torch.ones(1, 4, 4).long(), torch.ones(1, 4, 4) > 0, (4,)),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_what_does_not_fit_is_refused(case):
    with pytest.raises(ShapeError):
        WRONG[case]()


def test_an_unknown_fill_is_refused():
    with pytest.raises(SettingsError, match="did you mean 'mean'"):
        embed(torch.zeros(1, 1, 4), (6,), "meen")
