"""P2, P3: every image gets its own scores once, whatever fails, leaves or dies meanwhile."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any

import numpy as np
import pytest

from labelmend.errors import LabelmendError, NonFiniteError, WorkerError
from labelmend.serve import worker
from labelmend.serve.counts import Counts
from labelmend.serve.worker import Worker
from labelmend.types import Raster

WAIT = 30.0


def image(value: float, size: tuple[int, ...] = (2, 2)) -> Raster:
    return Raster(np.full((1, *size), value, np.float32))


def twice(images: Sequence[Raster]) -> list[Any]:
    return [2 * each.array for each in images]


class Network:
    """Doubles what it is given; can be stopped, and remembers what it was given together."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.may_go = threading.Event()
        self.may_go.set()

    def __call__(self, images: Sequence[Raster], flips: bool) -> list[Any]:
        values = [float(each.array.flat[0]) for each in images]
        self.batches.append(values)
        assert self.may_go.wait(WAIT)
        if any(value == -1 for value in values):
            raise ValueError("a broken layer")
        if any(value == -2 for value in values):
            raise SystemExit("killed")
        return [
            NonFiniteError("NaN") if value == -3 else scores
            for value, scores in zip(values, twice(images), strict=True)
        ]


@pytest.fixture
def network() -> Iterator[Network]:
    made = Network()
    yield made
    made.may_go.set()


def held(network: Network, runner: Worker) -> Future[np.ndarray]:
    """One job that runs until the network may go."""
    network.may_go.clear()
    first = runner.submit(image(0))
    end = time.monotonic() + WAIT
    while not network.batches and time.monotonic() < end:
        time.sleep(0.001)
    return first


def result(scores: Future[np.ndarray]) -> float:
    return float(scores.result(WAIT).flat[0])


def test_every_image_gets_its_own_scores() -> None:
    runner = Worker(Network(), Counts(), batch=8)
    jobs = [runner.submit(image(value, (1 + value % 3, 2))) for value in range(300)]
    assert [result(job) for job in jobs] == [2.0 * value for value in range(300)]
    assert [job.result().shape for job in jobs] == [(1, 1 + v % 3, 2) for v in range(300)]


def test_what_waits_of_one_size_goes_together_in_its_order(network: Network) -> None:
    counts = Counts()
    runner = Worker(network, counts, batch=3)
    first = held(network, runner)
    jobs = [runner.submit(image(v, (2, 2) if v != 3 else (5, 5))) for v in range(1, 7)]
    flipped = runner.submit(image(9), flips=True)
    network.may_go.set()
    for job in (first, *jobs, flipped):
        job.result(WAIT)
    assert network.batches == [[0], [1, 2, 4], [3], [5, 6], [9]]
    assert counts.images == 8


def test_large_images_go_alone(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "JOINED", 9)
    runner = Worker(network, Counts(), batch=8)
    first = held(network, runner)
    jobs = [runner.submit(image(v, (2, 2))) for v in (1, 2, 3)]
    jobs += [runner.submit(image(v, (4, 4))) for v in (4, 5)]
    network.may_go.set()
    for job in (first, *jobs):
        job.result(WAIT)
    assert network.batches == [[0], [1, 2], [3], [4], [5]]


def test_who_left_while_waiting_never_runs(network: Network) -> None:
    """P3: not one image of 200 that were taken back."""
    counts = Counts()
    runner = Worker(network, counts, batch=4)
    first = held(network, runner)
    jobs = [runner.submit(image(value)) for value in range(1, 301)]
    left = set(random.Random(0).sample(range(300), 200))
    assert all(jobs[place].cancel() for place in left)
    assert not first.cancel()  # it runs, and is finished
    network.may_go.set()
    stayed = [value for place, value in enumerate(range(1, 301)) if place not in left]
    assert [result(jobs[value - 1]) for value in stayed] == [2.0 * value for value in stayed]
    assert [value for batch in network.batches[1:] for value in batch] == stayed
    assert counts.images == 101
    for place in left:
        with pytest.raises(CancelledError):
            jobs[place].result(0)


def test_one_image_that_breaks_the_network_breaks_no_other(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    counts = Counts()
    runner = Worker(network, counts, batch=8)
    first = held(network, runner)
    jobs = {value: runner.submit(image(value)) for value in (1, -1, 2, -3, 3)}
    network.may_go.set()
    assert [result(jobs[value]) for value in (1, 2, 3)] == [2.0, 4.0, 6.0]
    with pytest.raises(ValueError, match="a broken layer"):
        jobs[-1].result(WAIT)
    with pytest.raises(NonFiniteError):
        jobs[-3].result(WAIT)
    first.result(WAIT)
    assert network.batches == [[0], [1, -1, 2, -3, 3], [1], [-1], [2], [-3], [3]]
    assert counts.failures == 1
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_our_own_errors_are_answers_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(*_: Any) -> list[Any]:
        raise LabelmendError("no")

    runner = Worker(refuse, Counts())
    with pytest.raises(LabelmendError, match="^no$"):
        runner.submit(image(1)).result(WAIT)
    assert not caplog.records


def test_a_thread_that_dies_leaves_nobody_waiting(network: Network) -> None:
    """P2: killed 20 times, between 200 images; none is lost, doubled or swapped."""
    counts = Counts()
    runner = Worker(network, counts, batch=1)
    values = [-2 if value % 11 == 5 else value for value in range(220)]
    jobs = [runner.submit(image(value)) for value in values]
    for value, job in zip(values, jobs, strict=True):
        if value == -2:
            with pytest.raises(WorkerError, match="send the image again"):
                job.result(WAIT)
        else:
            assert result(job) == 2.0 * value
    assert counts.deaths == 20
    assert [batch[0] for batch in network.batches] == values


def test_a_death_answers_all_that_were_together(network: Network) -> None:
    runner = Worker(network, Counts(), batch=8)
    first = held(network, runner)
    jobs = [runner.submit(image(value)) for value in (1, -2, 2)]
    other = runner.submit(image(7, (3, 3)))
    network.may_go.set()
    for job in jobs:
        with pytest.raises(WorkerError):
            job.result(WAIT)
    assert (result(first), result(other)) == (0.0, 14.0)


def test_the_end_cancels_what_waits_and_finishes_what_runs(network: Network) -> None:
    runner = Worker(network, Counts())
    first = held(network, runner)
    waiting = runner.submit(image(1))
    assert runner.busy > 0
    runner.end()
    with pytest.raises(WorkerError, match="ending"):
        runner.submit(image(2))
    network.may_go.set()
    assert result(first) == 0.0
    with pytest.raises(CancelledError):
        waiting.result(WAIT)
    assert network.batches == [[0]]


def test_a_network_that_rests_is_not_busy() -> None:
    runner = Worker(Network(), Counts())
    runner.submit(image(1)).result(WAIT)
    end = time.monotonic() + WAIT
    while runner.busy and time.monotonic() < end:
        time.sleep(0.001)
    assert runner.busy == 0.0
