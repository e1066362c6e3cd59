"""The verdict from end to end: what is trained beside, what is said, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from labelmend.report import write_report
from labelmend.runs import Run
from labelmend.verdict import read_verdict

from ..command import command

OPTIONS = ("network.width=4", "network.depth=2", "batch.size=4", "device=cpu", "weighting.start=2")


@pytest.fixture(scope="module")
def judged(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Path]:
    """A data set and a run of four steps on it, with a verdict."""
    from ..conftest import write_data

    folder = tmp_path_factory.mktemp("verdict")
    data = write_data(folder / "data", strong=6, weak=6, held_out=4)
    settings = [word for each in OPTIONS for word in ("--set", each)]
    said = command("train", data, "--out", folder / "run", "--steps", 4, "--verdict", *settings)
    assert said.status == 0, said.err
    assert "weak labels" in said.out and "(difference" in said.out
    return data, folder / "run"


def test_strong_labels_alone_are_trained_beside_on_the_same_budget(
    judged: tuple[Path, Path],
) -> None:
    run = Run.open(judged[1])
    alone = Run.open(run.path / "verdict" / "strong_only-0")
    assert alone.data.samples == run.data.samples
    assert alone.steps()[-1] == run.steps()[-1] == 5  # four, and the second ending
    assert alone.settings.batch.strong_share == 1.0
    assert alone.settings.weighting.method == "constant"
    assert alone.settings.network == run.settings.network and alone.settings.seed == 0
    assert alone.metrics("train")[-1].get("loss_weak") is None


def test_the_verdict_is_kept_and_told_by_the_report(judged: tuple[Path, Path]) -> None:
    run = Run.open(judged[1])
    kept = read_verdict(run)
    assert kept is not None and (kept.split, kept.samples, kept.groups) == ("val", 4, 4)
    page = write_report(run.path).read_text()
    assert kept.said().split(":")[0] in page


def test_again_it_trains_nothing_and_says_the_same(judged: tuple[Path, Path]) -> None:
    alone = judged[1] / "verdict" / "strong_only-0"
    before = {path: path.stat().st_mtime_ns for path in alone.rglob("*.safetensors")}
    kept = read_verdict(Run.open(judged[1]))
    assert kept is not None
    said = command("verdict", judged[1], "--json")
    assert said.status == 0 and said.json() == kept.to_json()
    assert before == {path: path.stat().st_mtime_ns for path in alone.rglob("*.safetensors")}


def test_more_seeds_train_both_kinds_anew(judged: tuple[Path, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(judged[1], run)
    said = command("verdict", run, "--seeds", 2, "--json")
    assert said.status == 0 and said.json()["seeds"] == 2
    assert Run.open(run / "verdict" / "full-1").settings.seed == 1
    assert Run.open(run / "verdict" / "strong_only-1").settings.batch.strong_share == 1.0


def test_data_that_changed_is_not_compared(judged: tuple[Path, Path], tmp_path: Path) -> None:
    data, run = judged
    label = sorted((data / "labels/weak").iterdir())[0]
    before = label.read_bytes()
    try:
        np.save(label, np.roll(np.load(label), 1))
        said = command("verdict", run)
    finally:
        label.write_bytes(before)
    assert said.status == 1 and "is not what" in said.err and "was trained on any more" in said.err


def test_what_cannot_be_judged_is_refused(
    judged: tuple[Path, Path], tmp_path: Path, make_data: Callable[..., Path]
) -> None:
    said = command("verdict", judged[1], "--seeds", 0)
    assert said.status == 1 and "1 seed or more" in said.err
    alone = judged[1] / "verdict" / "strong_only-0"
    said = command("verdict", alone)
    assert said.status == 1 and "was not trained on weak labels" in said.err
    said = command("verdict", tmp_path / "none")
    assert said.status == 1


def test_several_processes_are_told_to_do_it_afterwards(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    said = command("train", data, "--out", tmp_path / "run", "--verdict")
    assert said.status == 1 and "labelmend verdict RUN" in said.err
    assert not (tmp_path / "run").exists()


def test_json_is_one_object(judged: tuple[Path, Path]) -> None:
    found = json.loads((judged[1] / "verdict.json").read_text())
    assert set(found) >= {"outcome", "difference", "low", "high", "said"}
