"""Kill, fill, break and rot the disk under a run, at every operation: promises T1, T5, T6."""

from __future__ import annotations

import errno
import itertools
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from labelmend.config import Settings
from labelmend.errors import DamagedError, RunError, StorageError
from labelmend.runs import Checkpoint, Run, write_atomically
from labelmend.runs.disk import Disk
from labelmend.types import DataSet, DataSpec, Sample

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")

SPEC = DataSpec("segmentation", ("background", "lesion"), (0, 1), None, 2, 1, "none", ".png")
DATA = DataSet(
    "data",
    SPEC,
    (
        Sample("images/a.png", "labels/strong/a.png", "strong", "train", "a"),
        Sample("images/b.png", "labels/weak/b.png", "weak", "train", "b"),
    ),
)
OPERATIONS = tuple(name for name, value in vars(Disk).items() if isinstance(value, staticmethod))


def make_checkpoint(step: int) -> Checkpoint:
    generator = torch.Generator().manual_seed(step)
    main = {"weight": torch.randn(5, 7, generator=generator), "bias": torch.full((3,), step)}
    optimiser = {"weight/step": torch.tensor(float(step)), "weight/seen": torch.arange(step)}
    return Checkpoint(step, {"main": main, "optimiser": optimiser}, {"step": step, "best_step": 1})


def bits(checkpoint: Checkpoint) -> object:
    tensors = {
        (group, name): (tensor.dtype, tuple(tensor.shape), tensor.numpy().tobytes())
        for group, members in checkpoint.tensors.items()
        for name, tensor in members.items()
    }
    return checkpoint.step, tensors, checkpoint.state


def make_run(path: Path, saved: int) -> Run:
    run = Run.create(path, Settings(), DATA, {"channels": 1})
    with run.claim():
        for step in range(1, saved + 1):
            run.log({"step": step, "kind": "train", "loss": 1 / step})
            run.log_weights(step, {"weight": [0.5]})
            run.save(make_checkpoint(step), keep=2)
    return run


def strays(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


# ---------------------------------------------------------------------- breaking the disk


@contextmanager
def watched(watch: Callable[[int, str, tuple[object, ...]], None]) -> Iterator[None]:
    """Call ``watch(number, operation, arguments)`` before every operation on the disk."""
    originals = {name: vars(Disk)[name] for name in OPERATIONS}
    count = 0

    def wrap(name: str, operation: Callable[..., object]) -> Callable[..., object]:
        def watched_operation(*arguments: object) -> object:
            nonlocal count
            count += 1
            watch(count, name, arguments)
            return operation(*arguments)

        return watched_operation

    for name, original in originals.items():
        setattr(Disk, name, staticmethod(wrap(name, original.__func__)))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(Disk, name, original)


class Death:
    """SIGKILL before the n-th operation; or in the middle of a write; or with the power gone.

    Without power, whatever was written to a file since it was last synced is lost.
    """

    def __init__(self, number: int, manner: str, folder: Path) -> None:
        self.number, self.manner, self.folder = number, manner, folder
        self.kept: dict[int, int] = {}  # inode: bytes that have reached the disk

    def __call__(self, number: int, name: str, arguments: tuple[object, ...]) -> None:
        if number == self.number:
            self.strike(name, arguments)
        if name == "write":
            status = os.fstat(arguments[0])
            self.kept.setdefault(status.st_ino, status.st_size)
        if name == "sync":
            self.kept.pop(os.fstat(arguments[0]).st_ino, None)

    def strike(self, name: str, arguments: tuple[object, ...]) -> None:
        if name == "write" and self.manner == "torn":
            file, data = arguments
            os.write(file, data[: len(data) // 2])
        if self.manner == "power":
            for path in self.folder.rglob("*"):
                size = self.kept.get(path.lstat().st_ino)
                if size is not None and path.is_file():
                    os.truncate(path, size)
        os.kill(os.getpid(), signal.SIGKILL)


def in_child(action: Callable[[], object]) -> int:
    """Run an action in a forked process; 0 when it ended, else the signal that killed it."""
    child = os.fork()
    if child == 0:
        status = 1
        with suppress(BaseException):
            action()
            status = 0
        os._exit(status)
    _, status = os.waitpid(child, 0)
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0, "the action itself failed"
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def kill_everywhere(
    base: Path, action: Callable[[Path], object], check: Callable[[Path], None], manner: str
) -> int:
    """Repeat an action, each time killed one operation later, until it survives; how often."""
    for number in range(1, 10_000):
        trial = base.parent / f"trial-{number}" / "run"
        trial.parent.mkdir()
        if base.exists():
            shutil.copytree(base, trial)

        def doomed(trial: Path = trial, number: int = number) -> None:
            with watched(Death(number, manner, trial.parent)):
                action(trial)

        ended = in_child(doomed)
        check(trial)
        shutil.rmtree(trial.parent)
        if ended == 0:
            return number - 1
    raise AssertionError("the action never ended")


MANNERS = ("clean", "torn", "power")


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("saved", [0, 1, 3])
def test_a_kill_at_any_operation_of_a_save_leaves_the_old_or_the_new(tmp_path, saved, manner):
    base = tmp_path / "base"
    make_run(base, saved)
    old = bits(make_checkpoint(saved)) if saved else None
    new, best = bits(make_checkpoint(saved + 1)), bits(make_checkpoint(1))

    def check(trial: Path) -> None:
        run = Run.open(trial)
        try:
            loaded = run.load()
        except RunError:
            assert old is None
            assert run.steps() == []
        else:
            assert loaded.notes == ()
            assert bits(loaded) in (old, new)
            assert bits(run.load("best")) == best
        with run.claim():
            assert strays(trial) == []
            run.save(make_checkpoint(saved + 2))
        assert bits(run.load()) == bits(make_checkpoint(saved + 2))

    killed = kill_everywhere(
        base, lambda trial: Run.open(trial).save(make_checkpoint(saved + 1)), check, manner
    )
    assert killed > (30 if saved == 3 else 18), "operations were missed"


@pytest.mark.parametrize("manner", MANNERS)
def test_a_kill_while_the_same_step_is_saved_again_leaves_one_of_the_two(tmp_path, manner):
    make_run(tmp_path / "base", 1)
    changed = Checkpoint(1, make_checkpoint(7).tensors, {"again": True})
    either = (bits(make_checkpoint(1)), bits(changed))

    def check(trial: Path) -> None:
        run = Run.open(trial)
        assert bits(run.load()) in either
        assert run.steps() == [1]
        with run.claim():
            run.save(changed)
        assert bits(run.load()) == either[1]
        assert len(list((trial / "checkpoints").iterdir())) == 1

    kill_everywhere(tmp_path / "base", lambda trial: Run.open(trial).save(changed), check, manner)


@pytest.mark.parametrize("manner", MANNERS)
def test_a_kill_while_a_run_is_created_leaves_none_or_a_whole_one(tmp_path, manner):
    def create(trial: Path) -> Run:
        return Run.create(trial, Settings(seed=3), DATA, {"channels": 1})

    def check(trial: Path) -> None:
        run = Run.open(trial) if trial.exists() else create(trial)
        assert run.settings.seed == 3
        assert run.data == DATA
        assert [path.name for path in trial.parent.iterdir()] == ["run"]

    assert kill_everywhere(tmp_path / "base", create, check, manner) > 15


@pytest.mark.parametrize("manner", MANNERS)
def test_a_kill_while_rewinding_can_be_made_good_by_rewinding(tmp_path, manner):
    make_run(tmp_path / "base", 3)

    def check(trial: Path) -> None:
        run = Run.open(trial)
        assert run.load().notes == ()
        assert run.steps() in ([1], [1, 2], [1, 2, 3])
        with run.claim():
            run.rewind(run.load().step)
            last = run.load().step
            assert [record["step"] for record in run.metrics()] == list(range(1, last + 1))
            run.rewind(1)
        assert run.steps() == [1]
        assert [record["step"] for record in run.metrics()] == [1]
        assert [record["step"] for record in run.weight_history()] == [1]
        assert strays(trial) == []

    kill_everywhere(tmp_path / "base", lambda trial: Run.open(trial).rewind(1), check, manner)


@pytest.mark.parametrize("manner", MANNERS)
def test_a_kill_while_logging_costs_at_most_the_line_being_written(tmp_path, manner):
    run = make_run(tmp_path / "base", 1)
    before = run.metrics()

    def check(trial: Path) -> None:
        run = Run.open(trial)
        assert run.metrics() in (before, [*before, {"step": 2, "text": "é\n"}])
        run.log({"step": 3})
        assert run.metrics()[-1] == {"step": 3}
        assert run.metrics()[: len(before)] == before

    kill_everywhere(
        tmp_path / "base",
        lambda trial: Run.open(trial).log({"step": 2, "text": "é\n"}),
        check,
        manner,
    )


def test_what_was_saved_has_reached_the_disk_name_and_all_before_anything_is_removed(tmp_path):
    run = make_run(tmp_path / "run", 3)
    unsynced: set[Path] = set()
    uncommitted: set[Path] = set()
    unwritten: set[Path] = set()

    def watch(number: int, name: str, arguments: tuple[object, ...]) -> None:
        if name == "sync":
            synced = Path(f"/proc/self/fd/{arguments[0]}").readlink()
            for waiting in (unsynced, uncommitted, unwritten):
                waiting.discard(synced)
        elif name == "write":
            unwritten.add(Path(f"/proc/self/fd/{arguments[0]}").readlink())
        elif name in ("create", "mkdir", "unlink", "rmdir"):
            unsynced.add(arguments[0].parent)
        elif name == "rename":
            old, new = arguments
            assert old not in unsynced, "renamed before the names in it were safe"
            assert unwritten == set(), "renamed before files and records were safe"
            unsynced.add(new.parent)
            if new.name.endswith(".tmp"):
                assert uncommitted == set(), "removed before the new name was safe"
            else:
                uncommitted.add(new.parent)

    with run.claim(), watched(watch):
        run.log({"step": 4})
        run.log_weights(4, {"weight": [0.5]})
        run.save(make_checkpoint(4))
    assert run.steps() == [1, 3, 4]
    assert {path for path in unsynced if path.exists()} == set()


def test_a_file_that_was_replaced_has_reached_the_disk_and_so_has_its_name(tmp_path):
    waiting: set[Path] = set()

    def watch(number: int, name: str, arguments: tuple[object, ...]) -> None:
        if name == "rename":
            assert waiting == {tmp_path}, "renamed before what is in it was safe"
        if name in ("create", "rename", "unlink"):
            waiting.add(arguments[0].parent)
        if name in ("write", "sync"):
            file = Path(f"/proc/self/fd/{arguments[0]}").readlink()
            (waiting.add if name == "write" else waiting.discard)(file)

    for content in (b"one", b"two"):
        with watched(watch):
            write_atomically(tmp_path / "a", content)
        assert waiting == set()


def kill_at_random_moments(tmp_path: Path, times: int) -> int:
    run = make_run(tmp_path / "run", 1)
    moments = random.Random(0)
    for kill in itertools.count():
        # On a busy machine it takes longer until anything is saved that could be lost.
        if kill >= times and run.load().step > 1:
            break
        first = run.load().step + 1
        child = os.fork()
        if child == 0:
            with suppress(BaseException), Run.open(run.path).claim() as own:
                for step in range(first, 10**6):
                    own.log({"step": step, "kind": "train"})
                    own.save(make_checkpoint(step))
            os._exit(1)
        time.sleep(moments.uniform(0.01, 0.06) * (1 + kill // times))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        loaded = run.load()
        assert loaded.notes == ()
        assert bits(loaded) == bits(make_checkpoint(loaded.step))
        with run.claim():
            assert strays(run.path) == []
            run.rewind(loaded.step)
        assert [r["step"] for r in run.metrics()] == list(range(1, loaded.step + 1))
    return run.load().step


def test_kills_at_random_moments_cost_no_complete_checkpoint(tmp_path):
    assert kill_at_random_moments(tmp_path, 10) > 1, "no save was ever completed"


@pytest.mark.soak
def test_kills_at_many_random_moments_cost_no_complete_checkpoint(tmp_path):
    assert kill_at_random_moments(tmp_path, 200) > 1


def test_a_killed_process_lets_go_of_the_run(tmp_path):
    run = make_run(tmp_path / "run", 1)
    ready, done = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException), Run.open(run.path).claim():
            os.write(done, b"1")
            time.sleep(60)
        os._exit(1)
    os.read(ready, 1)
    with pytest.raises(RunError, match=f"in use by process {child} on"), run.claim():
        pass
    with pytest.raises(RunError, match="in use"):
        run.save(make_checkpoint(2))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with run.claim():
        run.save(make_checkpoint(2))
    assert run.steps() == [1, 2]


def test_an_orphan_of_a_killed_training_does_not_hold_the_run(tmp_path):
    run = make_run(tmp_path / "run", 1)
    ready, done = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException), Run.open(run.path).claim():
            worker = os.fork()
            if worker == 0:
                time.sleep(60)
                os._exit(0)
            os.write(done, str(worker).encode())
            time.sleep(60)
        os._exit(1)
    worker = int(os.read(ready, 20))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    try:
        with run.claim():
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


# ---------------------------------------------------------------------- T5: damage


def rot(tmp_path: Path, times: int) -> None:
    run = make_run(tmp_path / "run", 3)
    newest = tmp_path / "run" / "checkpoints" / "step-00000003"
    files = sorted(newest.iterdir())
    assert [file.name for file in files] == [
        "SHA256SUMS",
        "main.safetensors",
        "optimiser.safetensors",
        "state.json",
    ]
    older, chance = bits(make_checkpoint(2)), random.Random(0)
    for _ in range(times):
        file = chance.choice(files)
        good = file.read_bytes()
        bad = bytearray(good)
        bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
        file.write_bytes(bad)
        loaded = run.load()
        assert bits(loaded) == older
        assert str(newest) in loaded.notes[0]
        assert str(file) in loaded.notes[0]
        assert "step 2" in loaded.notes[-1]
        file.write_bytes(good)
    assert run.load().notes == ()


def test_every_flipped_bit_is_noticed_named_and_passed_over(tmp_path):
    rot(tmp_path, 500)


@pytest.mark.soak
def test_every_one_of_10_000_flipped_bits_is_noticed(tmp_path):
    rot(tmp_path, 10_000)


def test_truncated_missing_swapped_and_foreign_files_are_noticed_and_named(tmp_path):
    run = make_run(tmp_path / "run", 3)
    newest = tmp_path / "run" / "checkpoints" / "step-00000003"
    whole = tmp_path / "whole"
    shutil.copytree(newest, whole)

    def expect(name: str) -> None:
        loaded = run.load()
        assert loaded.step == 2
        assert str(newest / name) in loaded.notes[0]
        with pytest.raises(DamagedError, match=name):
            run.load(3)
        shutil.rmtree(newest)
        shutil.copytree(whole, newest)

    for file in sorted(whole.iterdir()):
        size = file.stat().st_size
        for kept in {0, 1, size // 2, size - 1}:
            os.truncate(newest / file.name, kept)
            expect(file.name)
        with (newest / file.name).open("ab") as stream:
            stream.write(b"\n")
        expect(file.name)
        (newest / file.name).unlink()
        expect(file.name)
        shutil.copy(newest.with_name("step-00000002") / file.name, newest / file.name)
        if file.name == "SHA256SUMS":
            expect("main.safetensors")
        else:
            expect(file.name)
    (newest / "extra.bin").write_bytes(b"")
    expect("extra.bin")
    assert run.load().step == 3


def test_a_checkpoint_under_another_steps_name_is_noticed(tmp_path):
    run = make_run(tmp_path / "run", 2)
    (run.path / "checkpoints" / "step-00000002").rename(run.path / "checkpoints" / "step-00000009")
    loaded = run.load()
    assert loaded.step == 1
    assert "step-00000009" in loaded.notes[0]


def test_two_damaged_checkpoints_are_both_named_and_three_are_an_error(tmp_path):
    run = make_run(tmp_path / "run", 3)  # leaves 1 (the best), 2 and 3
    folder = run.path / "checkpoints"
    os.truncate(folder / "step-00000003" / "main.safetensors", 10)
    (folder / "step-00000002" / "state.json").unlink()
    loaded = run.load()
    assert loaded.step == 1
    assert "step-00000003/main.safetensors" in loaded.notes[0]
    assert "step-00000002/state.json" in loaded.notes[1]
    os.truncate(folder / "step-00000001" / "SHA256SUMS", 0)
    with pytest.raises(DamagedError, match=r"step-00000003/main.*00002/state.*00001/SHA256SUMS"):
        run.load()


def test_a_damaged_best_gives_way_to_the_newest_and_says_so(tmp_path):
    run = make_run(tmp_path / "run", 3)
    assert run.load("best").step == 1
    (run.path / "checkpoints" / "step-00000001" / "main.safetensors").write_bytes(b"")
    loaded = run.load("best")
    assert loaded.step == 3
    assert "step-00000001/main.safetensors" in loaded.notes[0]


def test_a_flipped_bit_in_what_the_run_began_with_is_refused_and_named(tmp_path):
    run = make_run(tmp_path / "run", 0)
    chance = random.Random(1)
    for name in ("settings.toml", "manifest.csv", "data.json", "run.json", "SHA256SUMS"):
        good = (run.path / name).read_bytes()
        for _ in range(20):
            bad = bytearray(good)
            bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
            (run.path / name).write_bytes(bad)
            with pytest.raises(DamagedError, match=name):
                Run.open(run.path)
        (run.path / name).unlink()
        with pytest.raises(DamagedError, match=name):
            Run.open(run.path)
        (run.path / name).write_bytes(good)
    assert Run.open(run.path).data == DATA


# ---------------------------------------------------------------------- T6: a disk that refuses


def refusing(first: int, last: int, number: int) -> Callable[..., None]:
    def watch(count: int, name: str, arguments: tuple[object, ...]) -> None:
        if first <= count <= last:
            if name == "write":
                os.write(arguments[0], arguments[1][: len(arguments[1]) // 3])
            if name == "close":
                os.close(arguments[0])
            raise OSError(number, os.strerror(number))

    return watch


REFUSALS = {name: getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EROFS", "EIO", "EACCES")}


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_at_any_operation_of_a_save_costs_no_checkpoint(tmp_path, refusal, lasting):
    base = tmp_path / "base"
    make_run(base, 3)
    old, new = bits(make_checkpoint(3)), bits(make_checkpoint(4))
    refused: list[StorageError] = []
    for first in range(1, 1000):
        trial = tmp_path / f"trial-{first}"
        shutil.copytree(base, trial)
        run = Run.open(trial)
        last = 10**6 if lasting else first
        try:
            with watched(refusing(first, last, REFUSALS[refusal])):
                run.save(make_checkpoint(4))
        except StorageError as error:
            refused.append(error)
        else:
            assert first > 30, "a refusal was swallowed"
            assert bits(run.load()) == new
            break
        assert bits(run.load()) in (old, new)
        assert bits(run.load("best")) == bits(make_checkpoint(1))
        assert run.load().notes == ()
        with run.claim():
            assert strays(trial) == []
            run.save(make_checkpoint(5))
        assert bits(run.load()) == bits(make_checkpoint(5))
        shutil.rmtree(trial)
    assert {error.errno for error in refused} == {REFUSALS[refusal]}
    for error in refused:
        assert "it needs" in str(error) and "is free there" in str(error)
        assert "\n" not in str(error)


def test_a_passing_refusal_while_writing_leaves_nothing_behind(tmp_path):
    run = make_run(tmp_path / "run", 1)
    before = sorted(run.path.rglob("*"))

    def watch(number: int, name: str, arguments: tuple[object, ...]) -> None:
        if name == "rename":
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match=r"step 2 .* needs 100\.\d kB and .* make room"):  # noqa: SIM117
        with watched(watch):
            run.save(make_checkpoint(2))
    assert sorted(run.path.rglob("*")) == before


@pytest.mark.parametrize("lasting", [False, True])
def test_a_refusal_at_any_operation_of_a_creation_leaves_none_or_a_whole_run(tmp_path, lasting):
    for first in range(1, 1000):
        path = tmp_path / f"trial-{first}" / "deep" / "run"
        last = 10**6 if lasting else first
        try:
            with watched(refusing(first, last, errno.ENOSPC)):
                Run.create(path, Settings(), DATA, {})
        except StorageError:
            pass
        else:
            assert first > 15, "a refusal was swallowed"
            return
        if path.exists():
            assert Run.open(path).data == DATA
        else:
            Run.create(path, Settings(), DATA, {})
        assert strays(tmp_path / f"trial-{first}") == []
    raise AssertionError("the creation never succeeded")


def test_a_refused_line_leaves_the_records_as_they_were(tmp_path):
    run = make_run(tmp_path / "run", 2)
    before = (run.path / "metrics.jsonl").read_bytes()
    with (
        watched(refusing(2, 2, errno.ENOSPC)),
        pytest.raises(StorageError, match=r"metrics\.jsonl"),
    ):
        run.log({"step": 3})
    assert (run.path / "metrics.jsonl").read_bytes() == before


def test_a_real_limit_on_file_size_is_a_storage_error(tmp_path):
    run = make_run(tmp_path / "run", 1)
    large = Checkpoint(2, {"main": {"weight": torch.zeros(100_000)}}, {})

    def save_within_limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        with pytest.raises(StorageError, match=r"File too large; it needs 500\.\d kB"):
            run.save(large)
        assert strays(run.path) == []

    assert in_child(save_within_limit) == 0
    assert bits(run.load()) == bits(make_checkpoint(1))


def test_writes_that_take_only_a_few_bytes_at_a_time_lose_none(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", 0)
    monkeypatch.setattr(Disk, "write", staticmethod(lambda file, data: os.write(file, data[:7])))
    run.log({"step": 1, "text": "a" * 100})
    run.save(make_checkpoint(1))
    assert run.metrics() == [{"step": 1, "text": "a" * 100}]
    assert bits(run.load()) == bits(make_checkpoint(1))
