"""Continuous labels are learned alike in whatever units they are stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import labelmend

from .. import made_data

SCALE, OFFSET = 256.0, 512.0
SMALL: dict[str, Any] = {
    "device": "cpu",
    "network": {"width": 4, "depth": 2},
    "batch": {"size": 4},
    "weighting": {"start": 2, "every": 4, "overhead": 9.0},
    "steps": 12,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, labelmend.Run]:
    """The same training with labels about 0, with grey levels, and with these as they are."""
    root = tmp_path_factory.mktemp("units")
    for name in ("near", "far"):
        made_data.continuous(root / name)
    for file in (root / "far/labels").rglob("*.tif"):
        tifffile.imwrite(file, tifffile.imread(file) * np.float32(SCALE) + np.float32(OFFSET))
    bare = SMALL | {"input": {"scale_labels": False}}
    return {
        "near": labelmend.fit(root / "near", root / "run-near", **SMALL),
        "far": labelmend.fit(root / "far", root / "run-far", **SMALL),
        "bare": labelmend.fit(root / "far", root / "run-bare", **bare),
    }


def predicted(run: labelmend.Run) -> np.ndarray:
    image = np.random.default_rng(5).normal(size=(20, 24)).astype(np.float32)
    return labelmend.load(run).predict(image)


def test_predictions_are_the_same_in_the_units_of_the_labels(runs) -> None:
    near, far = predicted(runs["near"]), predicted(runs["far"])
    assert np.allclose(far, near * SCALE + OFFSET, atol=SCALE * 1e-3)
    assert near.std() > 0.01


def test_so_are_losses_and_weights(runs) -> None:
    near, far = (
        [record["loss"] for record in runs[name].metrics("train")] for name in ("near", "far")
    )
    assert near == pytest.approx(far, rel=1e-3)
    for figure in ("similarity", "loss", "average"):
        near, far = (
            [row[figure] for row in runs[name].weights() if row["quality"] == "weak"]
            for name in ("near", "far")
        )
        assert near == pytest.approx(far, rel=1e-2)
        assert len(set(near)) > 2


def test_a_network_that_does_not_know_the_units_stays_far_away(runs) -> None:
    far, bare = predicted(runs["far"]), predicted(runs["bare"])
    assert abs(far.mean() - OFFSET) < SCALE
    assert abs(bare.mean()) < 50


def test_the_run_says_the_units_and_without_them_it_is_as_it_was(runs) -> None:
    scale = runs["far"].facts["label_scale"]
    assert scale["mean"][0] == pytest.approx(
        runs["near"].facts["label_scale"]["mean"][0] * SCALE + OFFSET
    )
    assert "label_scale" not in runs["bare"].facts
    kept = json.loads((Path(runs["bare"].path) / "run.json").read_text())
    assert "label_scale" not in json.dumps(kept)
