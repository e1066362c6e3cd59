"""``labelmend audit`` from end to end, on every kind of data and on what a script asks for."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cyclopts
import pytest

from labelmend.audit import is_current, read_audit
from labelmend.cli.audit import audit
from labelmend.errors import RunError, SettingsError
from labelmend.runs import Run

from ..conftest import Trained
from ..made_data import KINDS

APP = cyclopts.App(result_action="return_value")
APP.command(audit)


def ask(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What ``labelmend audit ...`` prints."""
    capsys.readouterr()
    assert APP(["audit", *map(str, words)], exit_on_error=False) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_every_label_of_every_kind_is_ranked(
    kind: str, trained: Callable[[str], Trained], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = shutil.copytree(trained(kind).run, tmp_path / "run")
    run = Run.open(folder)
    text = ask(capsys, folder, "--device", "cpu")
    wanted = {sample.label for sample in run.data.samples}
    found = read_audit(folder)
    assert found is not None and {one.label for one in found.labels} == wanted
    assert is_current(found, run) and found.step == 3
    assert f"page: {folder}/audit/audit.html" in text and found.labels[0].reason in text
    with (folder / "audit/audit.csv").open(newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == [o.label for o in found.labels]
    assert (folder / "audit/audit.html").stat().st_size > 20_000


def test_json_is_one_object_with_all_labels_in_order(
    trained: Callable[[str], Trained], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = shutil.copytree(trained("gray").run, tmp_path / "run")
    found = json.loads(ask(capsys, folder, "--json"), parse_constant=pytest.fail)
    kept = read_audit(folder)
    assert kept is not None
    assert [row["label"] for row in found["labels"]] == [one.label for one in kept.labels]
    needed = {"label", "score", "weight", "displacement", "reason", "like", "disagreement"}
    assert all(needed <= set(row) for row in found["labels"])
    scores = [row["score"] for row in found["labels"]]
    assert scores == sorted(scores, reverse=True) and len(scores) == 22
    assert {part["name"] for part in found["annotators"]} == {"ann", "bob"}
    assert len(found["groups"]) == 8


def test_two_orders_of_the_same_figures(
    trained: Callable[[str], Trained], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = shutil.copytree(trained("gray").run, tmp_path / "run")
    gain = json.loads(ask(capsys, folder, "--json"))
    wrong = json.loads(ask(capsys, folder, "--json", "--order", "wrong"))
    assert (gain["order"], wrong["order"]) == ("gain", "wrong")
    likely = {row["label"]: row["wrong"] for row in gain["labels"]}
    assert {row["label"]: row["wrong"] for row in wrong["labels"]} == likely
    assert [row["label"] for row in wrong["labels"]] != [row["label"] for row in gain["labels"]]
    kept = read_audit(folder)
    assert kept is not None and kept.order == "wrong"
    assert "A score is how likely a label is wrong." in (folder / "audit/audit.html").read_text()


def test_a_budget_and_a_quality_limit_what_is_named_and_not_what_is_kept(
    trained: Callable[[str], Trained], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = shutil.copytree(trained("gray").run, tmp_path / "run")
    found = json.loads(ask(capsys, folder, "--json", "--budget", 4, "--quality", "strong"))
    assert [row["quality"] for row in found["labels"]] == ["strong"] * 4
    assert found["budget"] == 4 and 0 < found["share"] < 1
    kept = read_audit(folder)
    assert kept is not None and len(kept.labels) == 22 and kept.budget == 4
    text = ask(capsys, folder, "--budget", 4, "--quality", "weak")
    assert "the best 4 weak labels to look at hold" in text and "labels/strong" not in text
    with (folder / "audit/audit.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [row["quality"] for row in rows if row["best"] == "yes"] == ["weak"] * 4
    page = (folder / "audit/audit.html").read_text()
    assert "the best 4 weak labels to look at hold" in page
    assert page.count('class="tile"') == 4 and 'class="badge strong"' not in page
    share = re.search(r"hold (\d+) %", text)
    most = sum(float(row["score"]) for row in rows if row["best"] == "yes")
    assert share is not None
    assert int(share[1]) == round(100 * most / sum(float(row["score"]) for row in rows))


def test_a_budget_that_buys_nothing_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="1 or more labels to look at, not 0"):
        APP(["audit", str(tmp_path / "none"), "--budget", "0"], exit_on_error=False)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        APP(["audit", str(tmp_path)], exit_on_error=False)


def test_the_same_run_gives_the_same_files(
    trained: Callable[[str], Trained], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = shutil.copytree(trained("colour").run, tmp_path / "run")
    ask(capsys, folder)
    before = [(folder / f"audit/audit.{kind}").read_bytes() for kind in ("json", "csv")]
    ask(capsys, folder)
    assert before == [(folder / f"audit/audit.{kind}").read_bytes() for kind in ("json", "csv")]
