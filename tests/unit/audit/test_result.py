"""What an audit says of itself, and what comes back from the disk."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labelmend.audit import Audit, Ranked, is_current, read_audit
from labelmend.audit.result import RECORD, digest, sum_up
from labelmend.audit.store import describe
from labelmend.errors import DamagedError, RunError, SettingsError
from labelmend.runs import Checkpoint, Run

from ..inference import test_fix as made


def ranked(name: str, score: float, **known: Any) -> Ranked:
    about: dict[str, Any] = {"annotator": "ann", "group": "g", "split": "train", "quality": "weak"}
    figures: dict[str, Any] = {"weight": 0.5, "displacement": (1.0, -2.0), "confidence": 0.9}
    more: dict[str, Any] = {"disagreement": 0.25, "reason": "why", "like": ""}
    given = {**about, **figures, **more, **known}
    return Ranked(label=name, image=f"images/{name}", score=score, wrong=score, **given)


LABELS = (
    ranked("labels/weak/a, b.png", 0.6),
    ranked("labels/weak/c\udcff.png", 0.3, displacement=None, confidence=None, annotator="bob"),
    ranked(
        "labels/strong/d.png", 0.1, quality="strong", weight=None, disagreement=None, annotator=""
    ),
)


def of(run: Run, **more: Any) -> Audit:
    parts = sum_up(LABELS, "annotator"), sum_up(LABELS, "group")
    return Audit(str(run.path), 3, "main", LABELS, *parts, describe(run.data), **more)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made.make_data(tmp_path)
    return made.make_predictor(tmp_path, made.Bright()).run


# --- what it says ---------------------------------------------------------------------------------


def test_a_budget_holds_a_share_of_all_scores(run: Run) -> None:
    audit = of(run)
    assert [round(audit.share(n), 9) for n in range(5)] == [0.0, 0.6, 0.9, 1.0, 1.0]
    assert audit.best == LABELS and audit.within(2).best == LABELS[:2]
    assert (
        "the best 2 labels to look at hold 90 % of the expected gain" in audit.within(2).to_text()
    )
    assert audit.within(1).to_json()["share"] == 0.6
    for budget in (0, -1):
        with pytest.raises(SettingsError, match=f"1 or more labels to look at, not {budget}"):
            audit.within(budget)


def test_what_scores_add_up_to_hangs_on_the_order(run: Run) -> None:
    audit = of(run, order="wrong")
    assert "labels to look at hold 100 % of what is thought wrong" in audit.within(3).to_text()
    assert audit.to_json()["order"] == "wrong"


def test_json_has_every_label_in_order_and_no_nan(run: Run) -> None:
    found = json.loads(json.dumps(of(run).to_json(), allow_nan=False))
    assert [row["label"] for row in found["labels"]] == [one.label for one in LABELS]
    assert found["labels"][0]["displacement"] == [1.0, -2.0]
    assert found["labels"][1]["displacement"] is None and found["labels"][2]["weight"] is None
    assert {"label", "score", "weight", "displacement", "reason"} <= set(found["labels"][0])
    assert [part["name"] for part in found["annotators"]] == ["ann", "bob"]
    assert len(of(run).within(2).to_json()["labels"]) == 2


def test_one_quality_alone_is_named_and_its_share_is_that_of_all(run: Run) -> None:
    audit = of(run)
    assert audit.only("all") == audit
    strong, weak = audit.only("strong").within(1), audit.only("weak").within(1)
    assert (strong.named, strong.best) == (LABELS[2:], LABELS[2:])
    assert (weak.named, weak.best) == (LABELS[:2], LABELS[:1])
    assert (round(strong.share(1), 9), round(weak.share(2), 9)) == (0.1, 0.9)
    assert "the best 1 strong label to look at hold 10 % of the expected gain" in strong.to_text()
    assert [row["label"] for row in strong.to_json()["labels"]] == ["labels/strong/d.png"]
    assert (strong.to_json()["share"], strong.to_json()["total"]) == (0.1, 1)
    rows = list(csv.DictReader(io.StringIO(strong.to_csv())))
    assert [row["best"] for row in rows] == ["no", "no", "yes"]
    nobody = replace(audit, labels=LABELS[:2]).only("strong")
    assert nobody.to_text().splitlines()[1] == "there is no label of that quality"


def test_the_table_can_be_read_again(run: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(of(run).within(1).to_csv())))
    assert [row["label"] for row in rows] == [one.label for one in LABELS]
    assert [row["best"] for row in rows] == ["yes", "no", "no"]
    assert [row["place"] for row in rows] == ["1", "2", "3"]
    assert (rows[0]["displacement_0"], rows[0]["displacement_1"]) == ("1.0", "-2.0")
    assert rows[1]["displacement_0"] == "" and rows[2]["disagreement"] == ""
    assert "best" not in of(run).to_csv().splitlines()[0]


def test_sums_of_annotators() -> None:
    labels = [ranked(f"x{n}", 0.5, annotator="ab"[n % 2], weight=n / 10) for n in range(20)]
    parts = {part.name: part for part in sum_up(labels, "annotator")}
    assert (parts["a"].labels, parts["b"].labels) == (10, 10)
    assert parts["a"].weight == pytest.approx(0.9) and parts["a"].disagreement == 0.25
    # The first tenth of 20 are 2 labels, one by each.
    assert (parts["a"].first, parts["b"].first) == (0.1, 0.1)
    assert sum_up([replace(labels[0], weight=None)], "annotator")[0].weight is None


def test_lines_have_place_score_weight_and_reason(run: Run) -> None:
    lines = of(run).to_text().splitlines()
    assert lines[0] == "3 labels: 2 weak, 1 strong; step 3"
    assert lines[4] == "   1 0.600    0.50  labels/weak/a, b.png: why"
    assert lines[6] == "   3 0.100       –  labels/strong/d.png: why"


def test_a_begun_tenth_counts_and_the_most_doubtful_come_first() -> None:
    known = {"ann": 0.2, "bob": 0.6, "cat": 0.6, "dan": None}
    rest = [ranked(f"{who}{n}", 0.1, annotator=who, disagreement=known[who])
            for n in range(3) for who in known]  # fmt: skip
    labels = [ranked(f"x{n}", 0.9, annotator="eve", disagreement=0.0) for n in range(3)] + rest
    parts = sum_up(labels, "annotator")
    assert [part.name for part in parts] == ["eve", "bob", "cat", "ann", "dan"]
    assert parts[0].first == pytest.approx(2 / 3)  # of 15 labels the first tenth is 2


def test_text_names_few_and_tables_only_what_tells(run: Run) -> None:
    labels = tuple(ranked(f"x{n:02}", 1 / (n + 1), annotator="ab"[n % 2]) for n in range(40))
    audit = replace(
        of(run),
        labels=labels,
        annotators=sum_up(labels, "annotator"),
        groups=sum_up(labels, "group"),
    )
    text = audit.to_text()
    assert "x09: why" in text and "x10: why" not in text
    assert "x29: why" in audit.within(30).to_text()
    assert "annotator  labels" in text and "\ngroup" not in text


def test_tables_have_their_columns_and_an_end(run: Run) -> None:
    labels = [
        ranked(f"x{n:02}", 0.5, annotator=f"a{n // 3:02}", group=f"g{n}", weight=0.25,
               disagreement=0.75) for n in range(36)
    ]  # fmt: skip
    audit = replace(of(run), annotators=sum_up(labels, "annotator"), groups=sum_up(labels, "group"))
    table = audit.to_text().split("\nannotator")[1].splitlines()
    assert table[1].split() == ["a00", "3", "0.25", "0.75", "100", "%"]
    assert [line.split()[0] for line in table[2:-1]] == [f"a{n:02}" for n in range(1, 10)]
    assert table[-1] == "… and 2 more"  # and no groups, for they are of one label each


# --- on disk --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["label", "image", "label_sha256", "image_sha256"])
def test_labels_are_others_where_a_name_or_a_content_is(name: str, run: Run) -> None:
    first, *rest = run.data.samples
    other = replace(run.data, samples=(replace(first, **{name: "x"}), *rest))
    assert describe(other) != describe(run.data)


@pytest.mark.parametrize("budget", [None, 2])
def test_what_was_written_comes_back_equal(run: Run, budget: int | None) -> None:
    assert read_audit(run) is None
    audit = of(run, budget=budget, notes=("one",)).only("weak" if budget else "all")
    folder = audit.write()
    assert folder == run.path / "audit"
    assert sorted(path.name for path in folder.iterdir()) == ["audit.csv", "audit.json"]
    assert read_audit(run) == read_audit(run.path) == read_audit(str(run.path)) == audit


def test_another_model_has_a_folder_of_its_own(run: Run) -> None:
    other = replace(of(run), model="ensemble")
    assert other.write().name == "audit-ensemble"
    assert read_audit(run) is None and read_audit(run, "ensemble") == other


def test_a_run_that_was_moved_keeps_its_audit(run: Run) -> None:
    of(run).write()
    there = run.path.with_name("elsewhere")
    run.path.rename(there)
    assert read_audit(there) == replace(of(run), run=str(there))


def test_an_audit_is_read_again_in_its_order(run: Run) -> None:
    of(run, order="wrong").write()
    assert read_audit(run) == of(run, order="wrong")


def test_a_record_that_names_no_quality_is_of_all(run: Run) -> None:
    path = of(run).write() / RECORD
    record = json.loads(path.read_bytes())
    assert (record.pop("quality"), len(record["labels"])) == ("all", 3)
    record.pop("sum")
    path.write_text(json.dumps({**record, "sum": digest(record)}))
    assert read_audit(run) == of(run)


def break_record(path: Path, how: str) -> None:
    record = json.loads(path.read_bytes())
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-40])
        return
    if how == "digit":
        record["labels"][0]["score"] = 0.61
    elif how == "bytes":
        path.write_bytes(b"\xff\x00 no text")
        return
    else:
        {
            "list": lambda: record.update(labels={}),
            "missing": lambda: record["labels"][0].pop("reason"),
            "extra": lambda: record["labels"][0].update(more=1),
            "text": lambda: record["labels"][0].update(label=7),
            "number": lambda: record["labels"][0].update(score="high"),
            "format": lambda: record.update(format="of another tool"),
            "order": lambda: record.update(order="size"),
            "quality": lambda: record.update(quality="good"),
            "place": lambda: record["labels"][0].update(displacement=[True]),
        }[how]()
        record.pop("sum")
        record["sum"] = digest(record)
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    "how",
    [
        "cut",
        "digit",
        "bytes",
        "list",
        "missing",
        "extra",
        "text",
        "number",
        "format",
        "order",
        "quality",
        "place",
    ],
)
def test_a_damaged_audit_is_refused_by_name(run: Run, how: str) -> None:
    path = of(run).write() / RECORD
    break_record(path, how)
    with pytest.raises(DamagedError, match=r"audit\.json is not an audit .* remove it, or run"):
        read_audit(run)


@pytest.mark.parametrize("content", [b"[]", b"null", b"{}", b"", b"[" * 100_000])
def test_a_foreign_file_is_refused_by_name(run: Run, content: bytes) -> None:
    path = of(run).write() / RECORD
    path.write_bytes(content)
    with pytest.raises(DamagedError, match="is not an audit"):
        read_audit(run)


def test_an_audit_of_other_labels_is_refused(run: Run) -> None:
    path = replace(of(run), data="0" * 64).write() / RECORD
    with pytest.raises(DamagedError, match=f"{path.name} is an audit of other labels than"):
        read_audit(run)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        read_audit(tmp_path)


def test_infinity_is_never_written(run: Run) -> None:
    odd = replace(of(run), labels=(ranked("x", math.inf),))
    with pytest.raises(ValueError, match="not JSON compliant"):
        odd.write()
    assert not (run.path / "audit" / RECORD).exists()


def test_an_audit_is_current_until_training_goes_on(run: Run) -> None:
    audit = of(run)
    assert is_current(audit, run)
    run.save(Checkpoint(3, {}, {}))
    assert is_current(audit, run)
    run.save(Checkpoint(4, {}, {}))
    assert not is_current(audit, run)
