"""Several networks as one: means of probabilities, never of scores, whatever their size."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from labelmend.inference.ensemble import Ensemble


class Fixed(nn.Module):
    """The same scores everywhere."""

    def __init__(self, scores: Sequence[float]) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.tensor(scores))

    def forward(self, image: Tensor) -> Tensor:
        size = image.shape[2:]
        return self.scores.reshape(1, -1, *(1 for _ in size)).expand(len(image), -1, *size)


@pytest.mark.parametrize("size", [(5,), (4, 3), (2, 3, 4)])
@pytest.mark.parametrize("many", [1, 2, 3])
def test_probabilities_are_averaged_in_one_two_and_three_dimensions(
    size: tuple[int, ...], many: int
) -> None:
    networks = [Fixed(torch.randn(3).tolist()) for _ in range(many)]
    image = torch.zeros(2, 1, *size)
    scores = Ensemble(networks, "segmentation")(image)
    wanted = sum(network(image).softmax(1) for network in networks) / many
    assert scores.shape == (2, 3, *size)
    torch.testing.assert_close(scores.softmax(1), wanted)
    torch.testing.assert_close(scores.exp(), wanted)
    assert torch.equal(scores.argmax(1), wanted.argmax(1))


def test_a_loud_network_does_not_have_its_way() -> None:
    networks = [Fixed([30.0, 0.0]), Fixed([0.0, 4.0]), Fixed([0.0, 4.0])]
    assert sum(network.scores for network in networks).argmax().item() == 0
    scores = Ensemble(networks, "segmentation")(torch.zeros(1, 1, 1))
    assert scores.argmax(1).item() == 1


@pytest.mark.parametrize("far", [200.0, 1e4])
def test_the_improbable_stays_finite(far: float) -> None:
    scores = Ensemble([Fixed([0.0, far]), Fixed([0.0, far])], "segmentation")(torch.zeros(1, 1, 1))
    assert torch.isfinite(scores).all()
    assert scores[0, 0].item() == pytest.approx(-far)


def test_outputs_of_regression_are_averaged_themselves() -> None:
    networks = [Fixed([1.0, -4.0]), Fixed([3.0, 6.0])]
    found = Ensemble(networks, "regression")(torch.zeros(1, 1, 2))
    assert torch.equal(found, torch.tensor([[[2.0, 2.0], [1.0, 1.0]]]))


@pytest.mark.parametrize("task", ["segmentation", "regression"])
def test_what_is_no_number_is_not_hidden(task: str) -> None:
    networks = [Fixed([0.0, float("nan")]), Fixed([0.0, 1.0])]
    found = Ensemble(networks, task)(torch.zeros(1, 1, 1))  # type: ignore[arg-type]
    assert torch.isnan(found).any()


def test_all_networks_go_along() -> None:
    both = Ensemble([nn.Dropout(), nn.Conv1d(1, 2, 1)], "segmentation")
    assert not any(part.training for part in both.eval().modules())
    assert len(list(both.parameters())) == 2
    assert {p.dtype for p in both.double().parameters()} == {torch.float64}
