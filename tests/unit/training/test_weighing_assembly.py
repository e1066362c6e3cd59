"""Settings become the weight step: how similarities are found, and whose weights there are."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from labelmend.config import Settings
from labelmend.networks.build import build_network
from labelmend.training.assembly import weighing
from labelmend.training.bend import Bend
from labelmend.types import DataSet, DataSpec, Sample

SPEC = DataSpec("segmentation", ("a", "b"), (0, 1), None, 2, 1, "none", ".npy")
WHO = [("strong", "g0", "")] + [("weak", f"g{n // 2}", "ab"[n % 2]) for n in range(6)]
DATA = DataSet(
    "data",
    SPEC,
    tuple(
        Sample(f"images/{n}.npy", f"labels/{n}.npy", quality, "train", group, annotator=person)
        for n, (quality, group, person) in enumerate(WHO)
    ),
)
FACTS = {"in_channels": 1, "out_channels": 2, "patch": [8, 8]}


def settings(**weighting: Any) -> Settings:
    return Settings.make({"weighting": weighting})


def test_settings_reach_the_search_for_similarities() -> None:
    chosen = settings(
        mode="central",
        average=0.7,
        curvature="hessian",
        iterations=3,
        damping=0.2,
        parameters="all",
    )
    network = build_network("unet", 2, 1, 2, width=4, depth=2, seed=0)
    found = weighing.search(chosen, network, FACTS)
    assert found is not None and network.training
    assert (found.mode, found.mean.keep) == ("central", 0.7)
    assert found.bend == Bend("hessian", 3, 0.2)
    assert set(found.names) == {name for name, _ in network.named_parameters()}
    assert weighing.search(settings(signal="fit"), network, FACTS) is None


@pytest.mark.parametrize(
    ("per", "pool"),
    [("annotator", [0, 1, 2, 1, 2, 1, 2]), ("group", [0, 1, 1, 2, 2, 3, 3]), ("sample", None)],
)
def test_weights_are_shared_as_was_asked_for(per: str, pool: list[int] | None) -> None:
    found = weighing.table(settings(per=per), DATA, FACTS).pool
    if pool is None or found is None:
        assert pool is found
        return
    alike = found.unsqueeze(0) == found.unsqueeze(1)
    wanted = torch.tensor(pool)
    assert torch.equal(alike, wanted.unsqueeze(0) == wanted.unsqueeze(1))


def test_settings_reach_the_table_of_weights() -> None:
    chosen = settings(initial=0.4, highest=2.0, mean=(0.5, 1.5), per="class", shuffled=True)
    table = weighing.table(chosen, DATA, {**FACTS, "given_weights": {DATA.samples[2].id: 1.25}})
    assert (table.limits.highest, table.limits.mean) == (2.0, (0.5, 1.5))
    assert table.weight.shape == (7, 2) and table.stands_for is not None
    assert table.stands_for.tolist() != list(range(7)) and table.stands_for[0] == 0
    apart = table.weight[2, 0] - table.weight[1, 0]  # all are lifted alike into the band
    assert apart == pytest.approx(0.85)
    assert weighing.table(settings(), DATA, FACTS).stands_for is None
