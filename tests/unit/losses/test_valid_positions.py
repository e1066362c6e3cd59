"""The same bits wherever in a batch a sample stands."""

import pytest
import torch

from labelmend.losses.valid_positions import logistic, softmax


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("places", [1, 3, 7, 16, 61, 200])
def test_the_logistic_function_rounds_alike_wherever_a_sample_stands(dtype, places):
    torch.manual_seed(places)
    margin = 4 * torch.randn(5, 1, places, dtype=dtype)
    found = logistic(margin)
    for sample in range(5):
        assert torch.equal(found[sample], logistic(margin[sample].clone()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_the_softmax_of_two_classes(dtype):
    torch.manual_seed(0)
    logits = torch.cat([10 * torch.randn(4, 2, 500), torch.tensor([[[-300.0], [300.0]]] * 4)], 2)
    logits = logits.to(dtype)
    before = logits.clone()
    found = logistic(logits[:, 1:] - logits[:, :1])
    torch.testing.assert_close(found, softmax(logits)[:, 1:], rtol=1e-5, atol=1e-30)
    assert torch.equal(logits, before)


def test_what_is_no_number_is_none_afterwards():
    found = logistic(torch.tensor([torch.nan, torch.inf, -torch.inf]))
    assert found[0].isnan() and found[1:].tolist() == [1.0, 0.0]
