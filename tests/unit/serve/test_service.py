"""P1 to P4 in small: overload, gone clients, failures and limits, over real connections."""

from __future__ import annotations

import logging
import random
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import httpx
import numpy as np
import pytest

import labelmend
from labelmend.inference.predictor import Predictor
from labelmend.serve import service as service_module
from labelmend.serve.service import Limits
from labelmend.types import Raster

from .running import WAIT, Running, bright_in, png, running

Trained = Callable[[str], Any]


@pytest.fixture(scope="module")
def predictor(trained: Trained) -> Predictor:
    return labelmend.load(trained("gray").run, device="cpu")


@pytest.fixture(scope="module")
def served(predictor: Predictor) -> Iterator[Running]:
    with running(predictor) as one:
        yield one


def head(one: Running, length: int, more: str = "") -> bytes:
    host, port = one.places
    return (
        f"POST /v1/predict?name=a.png HTTP/1.1\r\nHost: {host}:{port}\r\n"
        f"Content-Length: {length}\r\n{more}\r\n"
    ).encode()


def begin(one: Running, content: bytes) -> socket.socket:
    """A request that is sent and not waited for."""
    connection = socket.create_connection(one.places, timeout=WAIT)
    connection.sendall(head(one, len(content)) + content)
    return connection


def answer_of(connection: socket.socket) -> tuple[int, bytes]:
    with closing(connection):
        text = b""
        while b"\r\n\r\n" not in text:
            text += connection.recv(65536)
        start, _, body = text.partition(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in start.lower().split(b"\r\n")
            if line.startswith(b"content-length")
        )
        while len(body) < length:
            body += connection.recv(65536)
        return int(start.split()[1]), body


# --- P2: one request, one right answer ------------------------------------------------------------


def test_many_at_once_each_get_their_own(predictor: Predictor) -> None:
    with (
        running(predictor, Limits(waiting=100, batch=4)) as one,
        ThreadPoolExecutor(16) as threads,
    ):
        asked = [(n, (9, 12 + n % 3)) for n in range(1, 100)] * 3
        random.Random(0).shuffle(asked)
        found = list(threads.map(lambda each: one.ask(png(*each)), asked))
    assert [answer.status_code for answer in found] == [200] * len(asked)
    assert [bright_in(answer.content) for answer in found] == [n for n, _ in asked]


def test_a_broken_network_answers_each_with_its_own_fate(
    predictor: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    """P2: ten exceptions, ten deaths of the thread, 180 right answers; nobody hangs."""

    def breaks(image: Raster) -> None:
        bright = int((image.array > 100).sum())
        if bright == 50:
            raise ValueError("the secret of the house")
        if bright == 60:
            raise SystemExit

    with (
        running(predictor, Limits(waiting=300)) as one,
        ThreadPoolExecutor(12) as threads,
    ):
        one.network.breaks = breaks
        sizes = [*range(1, 46)] * 4 + [50, 60] * 10
        random.Random(1).shuffle(sizes)
        found = list(threads.map(lambda n: one.ask(png(n)), sizes))
        deaths = one.service.counts.deaths
    for size, answer in zip(sizes, found, strict=True):
        if size < 50:
            assert (answer.status_code, bright_in(answer.content)) == (200, size)
            continue
        assert answer.status_code == 500
        word = "ValueError" if size == 50 else "thread ended"
        assert word in answer.json()["detail"]
        assert "secret" not in answer.text
    assert deaths == 10
    assert sum(r.levelno == logging.ERROR for r in caplog.records) >= 20


# --- P1: overload ---------------------------------------------------------------------------------


def test_who_finds_no_place_is_sent_away_at_once(predictor: Predictor) -> None:
    with running(predictor, Limits(waiting=4)) as one, ThreadPoolExecutor(5) as threads:
        one.network.may_go.clear()
        waiting = [threads.submit(one.ask, png(n)) for n in range(1, 6)]
        one.until(lambda: one.service.places.taken == 5)
        refused = [one.ask(png(9)) for _ in range(20)]
        assert {answer.status_code for answer in refused} == {429}
        assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in refused)
        assert httpx.get(f"{one.url}/health").status_code == 200
        one.network.may_go.set()
        found = [each.result() for each in waiting]
        assert sorted(bright_in(answer.content) for answer in found) == [1, 2, 3, 4, 5]
        assert one.ask(png(7)).status_code == 200
    assert len(one.network.seen) == 6
    assert one.service.counts.answers == Counter({429: 20, 200: 6})


def test_who_is_sent_away_with_much_to_say_can_read_the_answer(predictor: Predictor) -> None:
    """A connection that is closed on unread bytes breaks before the answer is read."""
    with running(predictor, Limits(waiting=1)) as one, ThreadPoolExecutor(2) as threads:
        one.network.may_go.clear()
        waiting = [threads.submit(one.ask, png(n)) for n in (1, 2)]
        one.until(lambda: one.service.places.taken == 2)
        for _ in range(3):
            assert one.ask(b"x" * 20_000_000).status_code == 429
        one.network.may_go.set()
        assert [each.result().status_code for each in waiting] == [200, 200]


def test_what_takes_too_long_is_given_up(predictor: Predictor) -> None:
    with running(predictor, Limits(patience=0.3)) as one:
        one.network.may_go.clear()
        answer = one.ask(png(1))
        assert answer.status_code == 503
        assert "0.3 s" in answer.json()["detail"]
        assert int(answer.headers["retry-after"]) >= 1
        one.until(lambda: httpx.get(f"{one.url}/ready").status_code == 503)
        one.network.may_go.set()
        one.until(lambda: httpx.get(f"{one.url}/ready").status_code == 200)
        assert one.ask(png(5)).status_code == 200
        assert one.service.counts.late == 1


# --- P3: gone clients -----------------------------------------------------------------------------


def test_who_leaves_while_waiting_costs_nothing(predictor: Predictor) -> None:
    with running(predictor, Limits(waiting=200)) as one:
        one.network.may_go.clear()
        first = begin(one, png(1))
        one.until(lambda: one.network.seen)
        stays = [begin(one, png(n)) for n in range(2, 12)]
        leaves = [begin(one, png(100)) for _ in range(60)]
        one.until(lambda: one.service.places.taken == 71)
        for connection in leaves:
            connection.close()
        one.until(lambda: one.service.places.taken == 11)
        one.network.may_go.set()
        found = [answer_of(connection) for connection in (first, *stays)]
        assert [bright_in(body) for _, body in found] == list(range(1, 12))
        counts = one.service.counts
        assert (counts.images, counts.left["waiting"]) == (11, 60)
        assert not [1 for image in one.network.seen if (image.array > 100).sum() == 100]


def test_who_leaves_while_it_runs_is_forgotten(predictor: Predictor) -> None:
    with running(predictor) as one:
        one.network.may_go.clear()
        connection = begin(one, png(1))
        one.until(lambda: one.network.seen)
        connection.close()
        one.until(lambda: one.service.places.taken == 0)
        one.network.may_go.set()
        assert bright_in(one.ask(png(4)).content) == 4
        assert one.service.counts.left["running"] == 1
        assert one.service.counts.answers == Counter({200: 1})


# --- P4: limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [-1, 0, 1, 5000])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_may_be_as_large_as_was_said(predictor: Predictor, more: int, chunked: bool) -> None:
    limits = Limits(largest=0.01)
    content = png(5)
    content += b"\0" * (limits.body + more - len(content))  # what follows the end of a PNG
    with running(predictor, limits) as one:
        parts = (content[a : a + 999] for a in range(0, len(content), 999))
        answer = one.ask(parts if chunked else content)
    assert answer.status_code == (413 if more > 0 else 200), answer.text
    if more > 0:
        assert f"{limits.body:,} bytes" in answer.json()["detail"]


def test_a_slow_body_is_not_waited_for(predictor: Predictor) -> None:
    with running(predictor, patience=0.2) as one:
        with closing(socket.create_connection(one.places, timeout=WAIT)) as connection:
            connection.sendall(head(one, 100) + b"x")
            assert connection.recv(100).startswith(b"HTTP/1.1 408")
        one.until(lambda: one.service.places.taken == 0)


def test_other_addresses_take_only_small_bodies(served: Running) -> None:
    for path in ("/health", "/v1/model", "/v1/looks/x/image", "/nothing"):
        answer = httpx.request("GET", served.url + path, content=b"x" * 70_000)
        assert answer.status_code == 413, path


def test_an_image_that_takes_too_much_memory_is_refused(predictor: Predictor) -> None:
    with running(predictor, Limits(memory=1e-5)) as one:
        assert one.ask(png(1)).status_code == 200
        answer = one.ask(png(1, (300, 300)))
        assert answer.status_code == 422
        assert "--memory" in answer.json()["detail"]


def test_a_bomb_is_refused_from_its_header(served: Running) -> None:
    header = np.lib.format.magic(1, 0)
    described = "{'descr': '<f8', 'fortran_order': False, 'shape': (99999, 99999), }"
    text = described.ljust(117) + "\n"
    bomb = header + len(text).to_bytes(2, "little") + text.encode()
    answer = served.ask(bomb, name="a.npy")
    assert answer.status_code == 422
    assert "its header promises" in answer.json()["detail"]


# --- the end --------------------------------------------------------------------------------------


def test_what_waits_at_the_end_is_finished_and_nothing_new_begun(predictor: Predictor) -> None:
    with running(predictor, Limits(waiting=10)) as one:
        one.network.may_go.clear()
        waiting = [begin(one, png(n)) for n in (1, 2, 3)]
        one.until(lambda: one.service.places.taken == 3)
        one.server.should_exit = True
        one.until(lambda: one.service.places.closed)
        answer = one.ask(png(4))
        assert (answer.status_code, answer.json()["detail"][:20]) == (503, "the server is ending")
        assert httpx.get(f"{one.url}/ready").status_code == 503
        one.network.may_go.set()
        found = [answer_of(connection) for connection in waiting]
        assert [(status, bright_in(body)) for status, body in found] == [
            (200, 1),
            (200, 2),
            (200, 3),
        ]


def test_what_is_not_done_in_time_at_the_end_is_told_so(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "GRACE", 0.2)
    with running(predictor) as one:
        one.network.may_go.clear()
        waiting = [begin(one, png(n)) for n in (1, 2)]
        one.until(lambda: one.service.places.taken == 2)
        one.server.should_exit = True
        assert [answer_of(connection)[0] for connection in waiting] == [503, 503]
    assert len(one.network.seen) == 1


@pytest.mark.soak
def test_p2_a_hundred_thousand_requests(predictor: Predictor) -> None:
    """Every answer is the right one, while the thread is killed 20 times."""
    total = 100_000
    rng = random.Random(3)
    sizes = [rng.randrange(1, 100) for _ in range(total)]
    for place in rng.sample(range(total), 20):
        sizes[place] = 105

    def breaks(image: Raster) -> None:
        if int((image.array > 100).sum()) == 105:
            raise SystemExit

    with (
        running(predictor, Limits(waiting=100, batch=4)) as one,
        ThreadPoolExecutor(16) as threads,
        httpx.Client(timeout=WAIT) as client,
    ):
        one.network.breaks = breaks

        def ask(size: int) -> tuple[int, int]:
            answer = client.post(f"{one.url}/v1/predict?name=a.png", content=png(size))
            return answer.status_code, bright_in(answer.content) if answer.is_success else 0

        wrong = Counter(
            (size, got)
            for size, got in zip(sizes, threads.map(ask, sizes), strict=True)
            if got != ((200, size) if size != 105 else (500, 0))
        )
    assert one.service.counts.deaths == 20
    # whoever was predicted together with one that killed the thread is told to come again
    assert sum(wrong.values()) <= 20 * 3
    assert all(status == 500 for _, (status, _) in wrong)
