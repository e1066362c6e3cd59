from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labelmend.config import Settings, preset
from labelmend.errors import (
    DamagedError,
    NonFiniteError,
    RunError,
    SettingsError,
    ShapeError,
    StorageError,
)
from labelmend.runs import Checkpoint, Run, write_atomically
from labelmend.runs.locks import lock_folder
from labelmend.runs.whereabouts import NOTE
from labelmend.types import DataSet, DataSpec, Sample

QUICK = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SPEC = DataSpec("segmentation", ("background", "lesion"), (0, 7), 255, 2, 3, "last", ".png", True)
ODD = 'labels/weak/a "quoted", é\r\nline\rwith\nends/\t😀\udcff.png'
DATA = DataSet(
    "/data with spaces/é",
    SPEC,
    (
        Sample("images/a.png", "labels/strong/a.png", "strong", "train", "a", "", "0" * 64, "1f"),
        Sample("images/a.png", ODD, "weak", "train", "'", "ann, o'tator", "0" * 64, ""),
        Sample("images/b.png", "labels/weak/b.png", "weak", "val", " b ", ";", "", ""),
    ),
    ("no data.toml: classes were found in the files", "two\nlines"),
)


class Problem(NamedTuple):
    file: str
    message: str


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", Settings(), DATA, {})


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    def content(tensor: torch.Tensor) -> bytes:
        plain = tensor.detach().clone(memory_format=torch.contiguous_format)
        return bytes(plain.resolve_conj().flatten().view(torch.uint8).tolist())

    same_kind = one.dtype == other.dtype and one.shape == other.shape
    return same_kind and content(one) == content(other)


# ---------------------------------------------------------------------- what a run begins with


def test_a_run_comes_back_as_it_was_created(tmp_path):
    facts = {"patch": (64, 64), "mean": np.float32(0.1), "sizes": np.arange(3), "name": "é"}
    wanted = Settings.make(preset("pooled"), {"optimiser": {"clip": None}, "steps": 7})
    made = Run.create(tmp_path / "run", wanted, DATA, facts, [Problem("bad.png", "truncated")])
    run = Run.open(tmp_path / "run")
    for each in (made, run):
        assert each.path == (tmp_path / "run").resolve()
        assert each.settings == wanted
        assert each.data == DATA
        assert each.facts == {
            "patch": [64, 64],
            "mean": float(np.float32(0.1)),
            "sizes": [0, 1, 2],
            "name": "é",
        }
        assert each.problems == (("bad.png", "truncated"),)
        assert each.environment["packages"]["torch"] == torch.__version__
    assert made.environment == run.environment


texts = st.text(st.characters(exclude_characters="\0"), max_size=12)


@QUICK
@given(rows=st.lists(st.tuples(texts, texts, texts), max_size=4), note=texts)
def test_any_names_and_notes_come_back(tmp_path_factory, rows, note):
    samples = tuple(Sample(a, b, "weak", "test", c, annotator=a) for a, b, c in rows)
    data = DataSet(note, SPEC, samples, (note,))
    path = tmp_path_factory.mktemp("runs") / "run"
    Run.create(path, Settings(), data, {"note": note})
    assert Run.open(path).data == data
    assert Run.open(path).facts == {"note": note}


def test_a_run_shows_its_folder(run):
    assert repr(run) == f"Run({str(run.path)!r})"


def test_an_empty_folder_is_taken_and_a_full_one_is_not(tmp_path):
    (tmp_path / "empty").mkdir()
    Run.create(tmp_path / "empty", Settings(), DATA, {})
    with pytest.raises(RunError, match=r"not empty; give another --out, or --resume .*empty"):
        Run.create(tmp_path / "empty", Settings(), DATA, {})
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="is a file"):
        Run.create(tmp_path / "file", Settings(), DATA, {})
    assert (tmp_path / "file").read_text() == "x"


def test_what_is_no_run_is_refused_by_name(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(RunError, match=f"there is no run in {path}"):
            Run.open(path)
    Run.create(tmp_path / "run", Settings(), DATA, {})
    (tmp_path / "run" / "SHA256SUMS").unlink()
    with pytest.raises(DamagedError, match="SHA256SUMS is missing"):
        Run.open(tmp_path / "run")


def test_settings_that_toml_cannot_hold_are_refused_before_anything_is_written(tmp_path):
    arguments = Settings.make({"network": {"arguments": {"norm": None}}})
    with pytest.raises(SettingsError, match=r"network\.arguments"):
        Run.create(tmp_path / "run", arguments, DATA, {})
    with pytest.raises(NonFiniteError, match="facts, mean"):
        Run.create(tmp_path / "run", Settings(), DATA, {"mean": math.nan})
    assert list(tmp_path.iterdir()) == []


def test_a_run_can_be_read_where_nothing_can_be_written(run, monkeypatch):
    with run.claim():
        run.save(Checkpoint(1, {"main": {"a": torch.zeros(1)}}, {}))
    monkeypatch.setattr(os, "fsync", lambda file: pytest.fail("reading wrote"))
    before = sorted((p, p.stat().st_mtime_ns) for p in run.path.rglob("*"))
    again = Run.open(run.path)
    again.load()
    again.metrics(), again.weights(), again.weight_history(), again.steps()
    assert sorted((p, p.stat().st_mtime_ns) for p in run.path.rglob("*")) == before


# ---------------------------------------------------------------------- records

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.none()
values = st.recursive(
    numbers | st.booleans() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@QUICK
@given(st.lists(st.dictionaries(st.text(max_size=4), values, max_size=3), max_size=4))
def test_records_come_back_exactly(tmp_path_factory, records):
    run = Run.create(tmp_path_factory.mktemp("runs") / "run", Settings(), DATA, {})
    records = [{**record, "step": step, "kind": "val"} for step, record in enumerate(records)]
    for record in records:
        run.log(record)
    found = run.metrics("val")
    assert found == records
    assert repr(found) == repr(records)  # -0.0 stays -0.0, 1.0 stays 1.0
    assert run.metrics("train") == []


@pytest.mark.parametrize(
    "bad", [math.nan, math.inf, -math.inf, np.float32("nan"), torch.tensor(math.nan)]
)
def test_a_bad_number_is_never_logged(run, bad):
    run.log({"step": 1, "loss": 0.5})
    with pytest.raises(NonFiniteError, match=r"record of step 2, loss, place 1 is -?(nan|inf)"):
        run.log({"step": 2, "loss": [0.0, bad]})
    with pytest.raises(NonFiniteError, match=r"weight of labels/weak/b.png at step 2"):
        run.log_weights(2, {"weight": [0.5, bad]})
    with pytest.raises(NonFiniteError, match="weights of labels/weak/b.png"):
        run.write_weights([{"id": "labels/weak/b.png", "weight": bad}])
    with pytest.raises(NonFiniteError, match="state"):
        run.save(Checkpoint(1, {}, {"best": bad}))
    assert run.metrics() == [{"step": 1, "loss": 0.5}]
    assert run.weight_history() == run.weights() == run.steps() == []


@pytest.mark.parametrize(
    "record", [{}, {"step": -1}, {"step": "1"}, {"step": True}, {"step": 1, 2: 3}]
)
def test_a_record_needs_a_step_and_texts_as_keys(run, record):
    with pytest.raises(RunError):
        run.log(record)
    assert run.metrics() == []


def test_only_a_torn_last_line_is_passed_over_and_the_next_line_replaces_it(run):
    for step in (1, 2, 3):
        run.log({"step": step})
    file = run.path / "metrics.jsonl"
    whole = file.read_bytes()
    for cut in range(1, len(b'{"step": 3}\n')):
        file.write_bytes(whole[:-cut])
        assert run.metrics() == [{"step": 1}, {"step": 2}]
    run.log({"step": 4})
    assert run.metrics() == [{"step": 1}, {"step": 2}, {"step": 4}]
    file.write_bytes(whole[:15] + b"\xff" + whole[16:])
    with pytest.raises(DamagedError, match=r"line 2 of .*metrics\.jsonl"):
        run.metrics()
    file.write_bytes(b'{"step": NaN}\n' + whole)
    with pytest.raises(DamagedError, match="line 1"):
        run.metrics()


def test_rewinding_drops_later_records_and_checkpoints_and_nothing_else(run):
    for step in range(1, 6):
        run.log({"step": step, "kind": "train", "loss": 0.1 * step})
        run.log_weights(step, {"weight": [0.1 * step, None]})
        run.save(Checkpoint(step, {}, {}), keep=9)
    with (run.path / "metrics.jsonl").open("ab") as stream:
        stream.write(b'{"step": 2, "torn')
    kept = (run.path / "metrics.jsonl").read_bytes().splitlines(keepends=True)[:3]
    run.rewind(3)
    assert (run.path / "metrics.jsonl").read_bytes() == b"".join(kept)
    assert [record["step"] for record in run.weight_history()] == [1, 2, 3]
    assert run.steps() == [1, 2, 3]
    run.rewind(9)
    assert len(run.metrics()) == 3
    run.rewind(0)
    assert run.metrics() == run.weight_history() == run.steps() == []


def test_the_weights_history_is_in_the_order_of_the_weak_samples(run):
    assert [sample.id for sample in run.weak] == [ODD, "labels/weak/b.png"]
    run.log_weights(5, {"weight": torch.tensor([0.25, 1.0]), "loss": [None, 0.1]})
    assert run.weight_history() == [
        {"step": 5, "columns": {"weight": [0.25, 1.0], "loss": [None, 0.1]}}
    ]
    with pytest.raises(RunError, match="column 'loss' of step 6 has 1 values; the run has 2"):
        run.log_weights(6, {"loss": [0.5]})


def test_the_table_of_weights_comes_back_with_what_the_manifest_says(run):
    assert run.weights() == []
    rows = [
        {"id": ODD, "weight": 0.1 + 0.2, "updated": 3, "reason": "a,b\n"},
        {"id": "labels/weak/b.png", "weight": np.float32(0.1), "loss": None, "reason": "é"},
    ]
    run.write_weights(rows)
    about = {"id": ODD, "quality": "weak", "group": "'", "annotator": "ann, o'tator"}
    first, second = run.weights()
    assert first == {**about, "weight": 0.1 + 0.2, "updated": 3, "reason": "a,b\n", "loss": None}
    assert second["weight"] == float(np.float32(0.1))
    assert (second["group"], second["annotator"], second["updated"]) == (" b ", ";", None)
    with pytest.raises(RunError, match="not 'labels/weak/c.png'"):
        run.write_weights([{"id": "labels/weak/c.png", "weight": 1.0}])
    assert len(run.weights()) == 2


@QUICK
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(), min_size=1))
def test_numbers_in_the_table_of_weights_come_back_exactly(tmp_path_factory, numbers):
    run = Run.create(tmp_path_factory.mktemp("runs") / "run", Settings(), DATA, {})
    row = {f"column {place}": number for place, number in enumerate(numbers)}
    run.write_weights([{"id": ODD, **row}])
    (found,) = run.weights()
    assert [repr(found[name]) for name in row] == [repr(number) for number in numbers]


# ---------------------------------------------------------------------- checkpoints

KINDS = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.complex64,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
)


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    kind = draw(st.sampled_from(KINDS))
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    size = math.prod(shape) * torch.empty(0, dtype=kind).element_size()
    # Any bits at all: NaNs with a payload, infinities, subnormals.
    content = draw(st.binary(min_size=size, max_size=size))
    if kind == torch.bool:
        content = bytes(byte & 1 for byte in content)
    if size == 0:
        return torch.empty(shape, dtype=kind)
    tensor = torch.frombuffer(bytearray(content), dtype=kind).reshape(shape)
    manner = draw(st.sampled_from(["plain", "turned", "every second"]))
    if manner == "turned" and tensor.ndim > 1:
        return tensor.transpose(0, -1)
    if manner == "every second" and tensor.ndim:
        return tensor[::2]
    return tensor


@QUICK
@given(
    groups=st.dictionaries(
        st.sampled_from(["main", "optimiser", "weights"]),
        st.dictionaries(st.text(max_size=8), tensors(), max_size=4),
    ),
    state=st.dictionaries(st.text(max_size=4).filter(lambda key: key != "best_step"), values),
)
def test_checkpoints_come_back_bit_for_bit(tmp_path_factory, groups, state):
    run = Run.create(tmp_path_factory.mktemp("runs") / "run", Settings(), DATA, {})
    run.save(Checkpoint(3, groups, state))
    loaded = run.load()
    assert (loaded.step, loaded.notes) == (3, ())
    assert repr(loaded.state) == repr(state)
    assert {group: set(members) for group, members in loaded.tensors.items()} == {
        group: set(members) for group, members in groups.items()
    }
    for group, members in groups.items():
        for name, tensor in members.items():
            assert same_bits(loaded.tensors[group][name], tensor)
            assert loaded.tensors[group][name].is_contiguous()


def test_shared_and_derived_tensors_come_back(run):
    base = torch.arange(12.0).reshape(3, 4).requires_grad_()
    whole = {
        "whole": base,
        "same": base,
        "row": base[1],
        "corner": base[1:, ::2],
        "wide": torch.ones(1).expand(5),
        "last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "conjugate": torch.tensor([1 + 2j]).conj(),
    }
    run.save(Checkpoint(1, {"main": whole}, {}))
    loaded = run.load().tensors["main"]
    for name, tensor in whole.items():
        assert torch.equal(loaded[name], tensor.detach())
    loaded["whole"].zero_()  # what comes back shares nothing
    assert loaded["row"].sum() == 22


def test_a_network_and_its_optimiser_go_on_exactly(run):
    network = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    memory = {f"{i}/{k}": v for i, m in enumerate(optimiser.state.values()) for k, v in m.items()}
    run.save(Checkpoint(1, {"main": network.state_dict(), "optimiser": memory}, {}))
    loaded = run.load()
    assert loaded.tensors["optimiser"]["0/step"].shape == ()
    assert all(same_bits(memory[k], v) for k, v in loaded.tensors["optimiser"].items())
    network.load_state_dict(dict(loaded.tensors["main"]))


@pytest.mark.parametrize(
    ("tensors", "error"),
    [
        ({"../main": {}}, RunError),
        ({"": {}}, RunError),
        ({"main": {"__metadata__": torch.zeros(1)}}, RunError),
        ({"main": {"a": torch.zeros(3).to_sparse()}}, ShapeError),
    ],
)
def test_what_a_checkpoint_cannot_hold_is_refused_and_leaves_nothing(run, tensors, error):
    before = sorted(run.path.rglob("*"))
    with pytest.raises(error):
        run.save(Checkpoint(1, tensors, {}))
    left = [p for p in run.path.rglob("*") if p not in before]
    assert [path.name for path in left if path.name not in (".lock", "checkpoints")] == []


def test_the_last_few_and_the_best_are_kept(run):
    for step in range(1, 8):
        run.save(Checkpoint(step, {}, {}), keep=2, best_step=None if step < 3 else 3)
    assert run.steps() == [3, 6, 7]
    assert run.load("best").step == 3
    assert run.load("best").state == {"best_step": 3}
    assert run.load().step == 7
    assert run.load(6).step == 6
    with pytest.raises(RunError, match="no checkpoint of step 5; it has 3, 6, 7"):
        run.load(5)
    run.save(Checkpoint(8, {}, {"best_step": 8}), keep=1)
    assert run.steps() == [8]


def test_the_best_of_a_first_ending_is_kept_beside_that_of_the_second(run):
    for step in range(1, 7):
        state = {"best_step": 2 if step < 4 else 4, "first_best_step": 2 if step < 6 else None}
        run.save(Checkpoint(step, {}, state), keep=1)
        assert run.steps() == {5: [2, 4, 5], 6: [4, 6]}.get(step, run.steps())


def test_without_a_best_the_last_is_the_best_and_without_any_it_is_an_error(run):
    with pytest.raises(RunError, match=r"run has no checkpoint yet"):
        run.load()
    with pytest.raises(RunError, match=r"run has no checkpoint yet"):
        run.load(4)
    run.save(Checkpoint(4, {}, {}))
    assert run.load("best").step == 4
    run.save(Checkpoint(5, {}, {"best_step": 2}))
    best = run.load("best")
    assert best.step == 5
    assert "no checkpoint of step 2" in best.notes[0]


def test_nothing_in_a_run_folder_can_be_executed(run):
    run.log({"step": 1})
    run.log_weights(1, {"weight": [1.0, 1.0]})
    run.write_weights([{"id": ODD}])
    run.save(Checkpoint(1, {"main": {"a": torch.zeros(3)}}, {}))
    files = [path for path in run.path.rglob("*") if path.is_file()]
    kinds = {path.suffix or path.name for path in files}
    assert kinds == {
        ".toml", ".csv", ".json", ".jsonl", ".safetensors", "SHA256SUMS", ".lock"
    }  # fmt: skip
    assert not any(path.stat().st_mode & 0o111 for path in files)
    assert json.loads((run.path / "checkpoints" / "step-00000001" / "state.json").read_bytes())


# ---------------------------------------------------------------------- one writer


def test_one_writer_at_a_time(run):
    other = Run.open(run.path)
    with run.claim() as own:
        assert own is run
        with run.claim():  # again by the same: no harm
            pass
        with pytest.raises(RunError, match=f"in use by process {os.getpid()} on"), other.claim():
            pass
        with pytest.raises(RunError, match="in use"):
            other.save(Checkpoint(1, {}, {}))
        with pytest.raises(RunError, match="in use"):
            other.rewind(0)
        run.save(Checkpoint(1, {}, {}))
    with other.claim():
        pass


def test_a_claim_removes_what_a_killed_process_left_and_nothing_else(run):
    folder = run.path / "checkpoints"
    left = folder / ".step-00000001.0123456789ab.tmp"
    left.mkdir(parents=True)
    (left / "main.safetensors").write_bytes(b"half")
    files = ("metrics.jsonl", "weights.jsonl", "weights.csv", "places.csv", NOTE)
    half = [run.path / f".{name}.0123456789ab.tmp" for name in files]
    for path in half:
        path.write_bytes(b"half")
    mine = run.path / ".notes.0123456789ab.tmp"
    mine.write_bytes(b"of somebody else")
    with run.claim():
        assert list(folder.iterdir()) == []
        assert [path.name for path in half if path.exists()] == []
    assert mine.exists()


def test_a_run_being_created_by_another_process_is_not_swept_away(tmp_path):
    busy, dead = (tmp_path / f".run.{letter * 12}.tmp" for letter in "ab")
    busy.mkdir()
    dead.mkdir()
    with lock_folder(busy) as ours:
        assert ours
        Run.create(tmp_path / "run", Settings(), DATA, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == [busy.name, "run"]


def test_folders_for_others_lie_inside_the_run(run):
    assert run.folder("predictions") == run.path / "predictions"
    assert run.folder("predictions").is_dir()
    for name in ("", ".", "..", "a/b", "/tmp", "checkpoints"):
        with pytest.raises(RunError, match="plain name"):
            run.folder(name)
    (run.path / "report").write_text("x")
    with pytest.raises(StorageError, match="report"):
        run.folder("report")


def test_a_file_is_replaced_whole_whatever_its_name(tmp_path):
    for name in ("a.txt", "é" * 120, "." + "x" * 200):
        path = tmp_path / name
        write_atomically(path, b"one")
        write_atomically(path, b"two")
        assert path.read_bytes() == b"two"
    assert len(list(tmp_path.iterdir())) == 3
    with pytest.raises(StorageError, match="could not be kept"):
        write_atomically(tmp_path / "missing" / "a", b"")


def test_a_data_set_with_a_manifest_is_no_damaged_run(tmp_path):
    (tmp_path / "manifest.csv").write_text("image,label\n")
    with pytest.raises(RunError, match="there is no run in"):
        Run.open(tmp_path)
