"""Plans as examples, and loading processes that die, hang, raise or are left behind."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import deque
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from labelmend.data.augment import Augmentation
from labelmend.data.dataset import SampleDataset
from labelmend.data.plan import Plan
from labelmend.data.prepare import Preparation
from labelmend.data.sampling import ahead, load
from labelmend.errors import ChangedDataError, DataError, SettingsError, WorkerError
from labelmend.types import DataSet, DataSpec, Sample

PLAN = Plan(tuple(range(4)), tuple(range(4, 20)), 4, 0.5, 0)


@pytest.fixture
def doubles(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import loader_doubles

    return loader_doubles


@pytest.fixture
def images(tmp_path):
    """Twenty small images with labels, as files."""
    rng, samples = np.random.default_rng(0), []
    for n in range(20):
        hashes = []
        for name, array in (("i", rng.random((12, 12))), ("l", rng.integers(0, 2, (12, 12)))):
            np.save(tmp_path / f"{name}{n}.npy", array.astype("f4" if name == "i" else "u1"))
            hashes.append(hashlib.sha256((tmp_path / f"{name}{n}.npy").read_bytes()).hexdigest())
        quality = "strong" if n < 4 else "weak"
        samples.append(Sample(f"i{n}.npy", f"l{n}.npy", quality, "train", str(n), "", *hashes))
    spec = DataSpec("segmentation", ("a", "b"), (0, 1), None, 2, 1, "none", ".npy")
    change = Augmentation(0.5, True, 0.1, 0.1, 0.1)
    data = DataSet(str(tmp_path), spec, tuple(samples))
    return SampleDataset(data, Preparation(), (8, 8), change, seed=3)


def processes():
    return [
        p
        for p in psutil.Process().children(recursive=True)
        if p.status() != psutil.STATUS_ZOMBIE and "tracker" not in " ".join(p.cmdline())
    ]


def loading():
    """Processes that load: children of the fork server, not it."""
    return [p for p in processes() if p.ppid() != os.getpid()]


def equal(one, two):
    return all(
        torch.equal(getattr(a, f), getattr(b, f)) and getattr(a, f).dtype == getattr(b, f).dtype
        for a, b in zip(one, two, strict=True)
        for f in ("image", "label", "valid", "index")
    )


# ---------------------------------------------------------------- plans


def indices(plan, steps):
    return [d.index for step in range(steps) for d in plan.batch(step)]


def test_a_batch_has_the_share_asked_for():
    for share, strong in ((0.5, 4), (0.25, 2), (0.01, 1), (0.99, 7), (1.0, 8), (0.0, 0), (0.44, 4)):
        plan = Plan(tuple(range(10)), tuple(range(10, 99)), 8, share, 0)
        assert all(sum(d.index < 10 for d in plan.batch(s)) == strong for s in range(5))


def test_a_pool_without_samples_is_filled_from_the_other():
    assert set(indices(Plan((), (1, 2, 3), 2, 0.5, 0), 3)) == {1, 2, 3}
    assert set(indices(Plan((1, 2, 3), (), 2, 0.5, 0), 3)) == {1, 2, 3}
    assert set(indices(Plan((1, 2, 3), (), 1, 0.5, 0), 3)) == {1, 2, 3}


def test_steps_per_epoch_pass_once_over_the_larger_pool_in_use():
    assert Plan(tuple(range(3)), tuple(range(100)), 8, 0.5, 0).steps_per_epoch == 25
    assert Plan(tuple(range(3)), tuple(range(100)), 8, 1.0, 0).steps_per_epoch == 1
    assert Plan(tuple(range(3)), tuple(range(100)), 8, None, 0).steps_per_epoch == 13


def test_orders_differ_between_passes_seeds_and_pools():
    plan = Plan(tuple(range(50)), tuple(range(50)), 50, 1.0, 0)
    other = Plan(tuple(range(50)), tuple(range(50)), 50, 0.0, 0)
    orders = {
        tuple(d.index for d in p.batch(step))
        for p in (plan, other, Plan(plan.strong, plan.weak, 50, 1.0, 1))
        for step in (0, 1)
    }
    assert len(orders) == 6


def test_the_order_is_the_same_for_ever():
    # whoever changes this breaks the resuming of every run on disk
    assert indices(Plan((), tuple(range(10)), 10, 0.0, 7), 1) == [8, 6, 4, 0, 5, 7, 1, 3, 9, 2]


@pytest.mark.parametrize(
    ("share", "drawn"),
    [
        (0.5, [3, 7, 8, 4, 5, 1, 5, 9, 8, 2, 3, 0, 3, 6, 8, 9]),
        (None, [0, 4, 3, 6, 1, 5, 8, 9, 2, 7, 5, 2, 7, 3, 1, 4]),
    ],
)
def test_draws_without_weights_are_the_same_for_ever(share, drawn):
    plan = Plan((3, 5, 8), (0, 1, 2, 4, 6, 7, 9), 4, share, 11)
    assert indices(plan, 4) == drawn
    assert [d.key for d in plan.batch(1)] == ([7, 8, 10, 11] if share else [12, 15, 18, 21])


@pytest.mark.parametrize(
    ("share", "drawn"),
    [
        (0.5, [3, 6, 8, 2, 5, 1, 5, 9, 8, 2, 3, 1, 3, 2, 8, 9]),
        (None, [8, 2, 3, 2, 1, 5, 8, 9, 2, 6, 5, 2, 4, 3, 1, 2]),
    ],
)
def test_draws_by_weight_are_the_same_for_ever(share, drawn):
    plan = Plan((3, 5, 8), (0, 1, 2, 4, 6, 7, 9), 4, share, 11)
    gamma = [0.1, 0.9, 2.0, np.pi, 0.3, 7.0, 1 / 3, 0.0, 0.0, 0.6]
    got = [d for step in range(4) for d in plan.batch(step, gamma)]
    assert [d.index for d in got] == drawn
    assert [d.key for d in got] == [d.key for step in range(4) for d in plan.batch(step)]


def test_a_million_samples_are_no_trouble():
    plan = Plan(tuple(range(10**6)), (), 4, None, 0)
    assert len({d.index for s in range(1000) for d in plan.batch(s)}) == 4000
    plan = Plan((), tuple(range(10**6)), 4, None, 0)
    odd = np.arange(10**6) % 2
    drawn = [d.index for s in range(10) for d in plan.batch(s, odd)]
    assert len(set(drawn)) >= 39 and all(i % 2 for i in drawn)


def test_a_rare_sample_comes_round_when_it_is_due():
    # a start that never changed would draw it in every pass or in none
    plan = Plan((), tuple(range(10)), 10, 0.0, 0)
    gamma = [1.0] * 9 + [0.1]
    passes = [any(d.index == 9 for d in plan.batch(step, gamma)) for step in range(910)]
    due = [n for n, drawn in enumerate(passes) if drawn]
    assert 97 <= len(due) <= 103  # 10 * 0.1 / 9.1 of 910 passes are 100
    assert max(b - a for a, b in pairwise(due)) <= 18


def test_weights_may_come_in_any_vessel_and_stay_as_they_were():
    gamma = torch.rand(20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = gamma.clone()
    frozen = gamma.numpy().copy()
    frozen.flags.writeable = False
    wanted = PLAN.batch(3, gamma.tolist())
    vessels = (gamma, gamma.requires_grad_(), gamma.float().double(), frozen, tuple(frozen))
    assert all(PLAN.batch(3, vessel) == wanted for vessel in vessels)
    assert torch.equal(gamma, before)
    single = gamma.detach().float()
    assert PLAN.batch(3, single) == PLAN.batch(3, single.tolist())


def test_weak_places_are_filled_from_the_strong_where_all_weights_are_0():
    for share in (0.5, 0.0, None):
        plan = Plan((0, 1, 2, 3), (4, 5, 6), 4, share, 0)
        drawn = [d for step in range(2) for d in plan.batch(step, [0.0] * 7)]
        assert {d.index for d in drawn} <= {0, 1, 2, 3}
        assert [d.key for d in drawn] == [d.key for step in range(2) for d in plan.batch(step)]
        if share == 0.0:
            assert sorted(d.index for d in drawn) == [0, 0, 1, 1, 2, 2, 3, 3]
    with pytest.raises(SettingsError, match="3 weak samples .* got 0 for all"):
        Plan((), (4, 5, 6), 4, None, 0).batch(0, [0.0] * 7)
    assert PLAN.batch(0, [0.0] * 4 + [1e-300] + [0.0] * 15)[1].index == 4  # little is not nothing


@pytest.mark.parametrize(
    ("gamma", "got"),
    [
        ([1.0] * 19, r"at least 20 in all, got shape \(19,\)"),
        (torch.ones(20, 1), r"got shape \(20, 1\)"),
        (torch.tensor(1.0), r"got shape \(\)"),
        ([1.0] * 19 + [-0.1], "got -0.1 at place 19"),
        ([1.0, float("nan")] * 10, "got nan at place 1"),
        (np.full(20, np.inf), "got inf at place 0"),
    ],
)
def test_weights_that_are_none_are_refused(gamma, got):
    with pytest.raises(SettingsError, match=got) as caught:
        PLAN.batch(0, gamma)
    assert "\n" not in str(caught.value)
    with pytest.raises(SettingsError, match="weights want"):
        PLAN.share(0, weights=gamma)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"size": 0}, "size"),
        ({"seed": -1}, "seed"),
        ({"strong": (), "weak": ()}, "got none"),
        ({"strong_share": 1.1}, "from 0 to 1"),
        ({"strong_share": 1.0, "strong": ()}, "no sample"),
        ({"strong_share": 0.0, "weak": ()}, "no sample"),
        ({"size": 1}, "at least 2"),
    ],
)
def test_batches_that_cannot_be_made_are_refused(change, text):
    settings = {"strong": (1,), "weak": (2,), "size": 4, "strong_share": 0.5, "seed": 0}
    with pytest.raises(SettingsError, match=text):
        Plan(**(settings | change))


def test_divisions_that_leave_someone_idle_are_refused(doubles):
    with pytest.raises(SettingsError, match="at least 6 samples for 3 processes with 2 parts"):
        PLAN.share(0, 0, 3, 2)
    with pytest.raises(SettingsError, match="rank 2"):
        PLAN.share(0, 2, 2, 1)
    with pytest.raises(SettingsError, match="at least 5"):  # at once, before anything is asked for
        load(doubles.Numbers(), PLAN, steps=range(3), world=5)
    with pytest.raises(SettingsError, match="timeout"):
        load(doubles.Numbers(), PLAN, steps=range(3), workers=1, timeout=0)
    with pytest.raises(SettingsError, match="count from 0"):
        PLAN.batch(-1)


# ---------------------------------------------------------------- loading


def test_loading_is_the_same_for_every_number_of_processes(images):
    wanted = list(load(images, PLAN, steps=range(7), parts=2))
    assert len(wanted) == 7 and all(len(parts) == 2 for parts in wanted)
    for workers in (1, 4):
        got = list(load(images, PLAN, steps=range(7), parts=2, workers=workers))
        assert all(equal(a, b) for a, b in zip(got, wanted, strict=True))


def test_loading_goes_on_from_any_step(images):
    wanted = list(load(images, PLAN, steps=range(6)))
    assert all(
        equal(a, b)
        for a, b in zip(load(images, PLAN, steps=range(4, 6), workers=2), wanted[4:], strict=True)
    )
    assert all(
        equal(a, b) for a, b in zip(load(images, PLAN, steps=range(1, 6)), wanted[1:], strict=True)
    )


def fading(step):
    """Weights that are others at every step, and none at step 2."""
    if step == 2:
        return None
    return torch.arange(20, dtype=torch.float64).remainder(step + 2) / (step + 1)


def test_loading_by_weight_is_the_same_for_every_number_of_processes_and_any_start(images):
    wanted = list(load(images, PLAN, steps=range(7), parts=2, weights=fading))
    drawn = [[i for part in parts for i in part.index.tolist()] for parts in wanted]
    assert drawn == [[d.index for d in PLAN.batch(s, fading(s))] for s in range(7)]
    got = list(load(images, PLAN, steps=range(3, 7), parts=2, workers=1, weights=fading))
    assert all(equal(a, b) for a, b in zip(got, wanted[3:], strict=True))
    halves = [
        next(load(images, PLAN, steps=range(5, 6), rank=rank, world=2, weights=fading))[0]
        for rank in range(2)
    ]
    assert torch.cat([half.index for half in halves]).tolist() == drawn[5]


@pytest.mark.parametrize(("workers", "parts"), [(0, 1), (0, 3), (1, 1), (1, 3), (3, 2)])
def test_weights_are_asked_for_as_early_as_said_and_no_earlier(doubles, workers, parts):
    asked = []

    def noted(step):
        asked.append(step)
        return torch.ones(20, dtype=torch.float64)

    steps = range(5, 25)
    loading_now = load(
        doubles.Numbers(), PLAN, steps=steps, parts=parts, workers=workers, weights=noted
    )
    assert not asked
    for step, batches in zip(steps, loading_now, strict=True):
        assert len(batches) == parts
        assert max(asked) == min(step + ahead(workers, parts), steps[-1])
    assert asked == list(steps)


@pytest.mark.parametrize("workers", [0, 1])
def test_weights_of_another_data_set_are_refused(images, workers):
    with pytest.raises(SettingsError, match=r"data set, 20 in all, got shape \(21,\)"):
        next(load(images, PLAN, steps=range(3), workers=workers, weights=lambda _: torch.ones(21)))
    assert not loading()


def test_ranks_and_parts_together_are_the_batch(images):
    whole = next(load(images, PLAN, steps=range(2, 3)))[0]
    parts = [
        part
        for rank in range(2)
        for part in next(load(images, PLAN, steps=range(2, 3), rank=rank, world=2, parts=2))
    ]
    assert torch.equal(torch.cat([p.index for p in parts]), whole.index)
    assert torch.equal(torch.cat([p.image for p in parts]), whole.image)


def test_no_steps_give_nothing(images):
    assert list(load(images, PLAN, steps=range(3, 3), workers=1)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_ours_comes_through_as_itself(images, doubles, workers):
    with pytest.raises(DataError) as caught:
        list(load(doubles.Numbers("raise_ours", 5), PLAN, steps=range(20), workers=workers))
    assert str(caught.value) == "labels/5.npy: is damaged"
    path = Path(images.data.root) / "l9.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\7")
    with pytest.raises(ChangedDataError, match=r"l9\.npy"):
        list(load(images, PLAN, steps=range(20), workers=workers))
    assert not loading()


@pytest.mark.parametrize("workers", [0, 2])
def test_any_other_error_names_the_samples_in_one_line(doubles, workers):
    with pytest.raises(WorkerError, match=r"labels/5\.npy.* failed: KeyError") as caught:
        list(load(doubles.Numbers("raise_theirs", 5), PLAN, steps=range(20), workers=workers))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("how", "said"), [("die", "SIGKILL"), ("leave", "status 3")])
def test_a_process_that_dies_is_noticed_and_the_samples_named(doubles, how, said):
    with pytest.raises(WorkerError, match=rf"labels/5\.npy.*{said}") as caught:
        list(load(doubles.Numbers(how, 5), PLAN, steps=range(20), workers=2, timeout=500))
    assert "\n" not in str(caught.value) and not loading()


def test_a_process_that_hangs_is_noticed_and_gone(doubles):
    with pytest.raises(WorkerError, match=r"labels/5\.npy.* did not answer for 0\.5 s"):
        list(load(doubles.Numbers("sleep", 5), PLAN, steps=range(20), workers=2, timeout=0.5))
    assert not loading()


@pytest.mark.parametrize("what", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("kind", ["Numbers", "Large"])
def test_signals_from_outside_are_noticed_whatever_it_was_doing(doubles, what, kind):
    batches = load(getattr(doubles, kind)(), PLAN, steps=range(10**6), workers=2, timeout=1)
    for _ in range(3):
        next(batches)
    assert len(loading()) == 2
    time.sleep(0.1)  # until both wait in the middle of sending, or for a request
    loading()[0].send_signal(what)
    with pytest.raises(WorkerError, match=r"labels/\d+\.npy"):
        deque(islice(batches, 10**4), maxlen=0)
    assert not loading()


@pytest.mark.parametrize("what", [signal.SIGTERM, signal.SIGINT])
def test_processes_leave_it_to_the_training_how_to_stop(doubles, what):
    batches = load(doubles.Numbers(), PLAN, steps=range(50), workers=2, timeout=60)
    for _ in range(2):  # one from each: both have started
        next(batches)
    for process in loading():
        process.send_signal(what)
    assert len(list(batches)) == 48


def test_closing_early_leaves_no_process(doubles):
    batches = load(doubles.Large(), PLAN, steps=range(10**6), workers=3)
    next(batches)
    assert len(loading()) == 3
    batches.close()
    assert not loading()
    dropped = load(doubles.Numbers(), PLAN, steps=range(10**6), workers=1)
    next(dropped)
    del dropped
    assert not loading()


def test_a_process_that_cannot_start_says_so(doubles):
    with pytest.raises(WorkerError, match="while starting, .*__main__"):
        next(load(doubles.Stillborn(), PLAN, steps=range(3), workers=1))
    assert not loading()


def script(tmp_path, ending):
    path = tmp_path / "script.py"
    path.write_text(
        textwrap.dedent(f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import loader_doubles
        from labelmend.data.plan import Plan
        from labelmend.data.sampling import load
        if __name__ == "__main__":
            plan = Plan((0, 1), (), 2, None, 0)
            batches = load(loader_doubles.Large(), plan, steps=range(10**6), workers=2)
            next(batches)
            import psutil
            print(*(p.pid for p in psutil.Process().children(recursive=True)), flush=True)
            {ending}
        """)
    )
    return subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("sys.exit(5)", 5),
        ("raise SystemExit(signal.raise_signal(signal.SIGKILL))", -9),
    ],
)
def test_nothing_is_left_however_the_training_process_ends(tmp_path, ending, status):
    done = script(tmp_path, ending)
    assert done.returncode == status, done.stderr
    left = {int(pid) for pid in done.stdout.split()}
    assert len(left) >= 3
    deadline = time.time() + 30
    while alive := {pid for pid in left if is_running(pid)}:
        assert time.time() < deadline, alive
        time.sleep(0.05)


def is_running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
