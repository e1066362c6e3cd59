"""P1: who finds no place is told at once, and memory is shared in the order of coming."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from fastapi import HTTPException

from labelmend.serve.counts import Counts
from labelmend.serve.places import LONGEST_PAUSE, PREDICT, Places, Room

POST = {"path": PREDICT, "method": "POST"}
T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result; in a thread of its own, for a browser's loop may be going on in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def test_there_are_as_many_places_as_were_said() -> None:
    places = Places(2, Counts())
    with places.admit(POST):
        with places.admit(POST):
            assert places.taken == 2
            for _ in range(3):
                with pytest.raises(HTTPException) as refused:
                    places.admit(POST)
                assert refused.value.status_code == 429
            with places.admit({"path": "/health", "method": "GET"}):
                assert places.taken == 2
            with places.admit({"path": PREDICT, "method": "GET"}):
                assert places.taken == 2
        with places.admit(POST):
            assert places.taken == 2
    assert places.taken == 0


def test_a_place_is_given_back_when_something_breaks() -> None:
    places = Places(1, Counts())
    with pytest.raises(ZeroDivisionError), places.admit(POST):
        _ = 1 / 0
    assert places.taken == 0


@pytest.mark.parametrize(
    ("pace", "pause"), [(0, 1), (0.001, 1), (1.01, 4), (2, 6), (1e9, LONGEST_PAUSE)]
)
def test_who_is_sent_away_hears_how_long_it_will_take(pace: float, pause: int) -> None:
    counts = Counts()
    if pace:
        counts.worked(pace, 1)
    places = Places(3, counts)
    with places.admit(POST), places.admit(POST), places.admit(POST):
        with pytest.raises(HTTPException) as refused:
            places.admit(POST)
        assert refused.value.headers == {"Retry-After": str(pause)}
        assert "3 requests are waiting" in refused.value.detail


def test_nobody_new_comes_in_while_it_ends() -> None:
    places = Places(3, Counts())
    with places.admit(POST):
        places.closed = True
        with pytest.raises(HTTPException) as refused:
            places.admit(POST)
        assert (refused.value.status_code, places.taken) == (503, 1)


def test_room_is_never_overdrawn_and_all_get_some() -> None:
    most = 0

    async def use(room: Room, size: int, done: list[int]) -> None:
        nonlocal most
        async with room.of(size):
            most = max(most, room.taken)
            await asyncio.sleep(0.001)
            done.append(size)

    async def all_of_them() -> list[int]:
        room, done = Room(10), []
        sizes = [3, 7, 5, 10, 1, 1, 9, 4] * 5
        async with asyncio.TaskGroup() as group:
            for size in sizes:
                group.create_task(use(room, size, done))
        assert room.taken == 0
        assert sorted(done) == sorted(sizes)
        return done

    assert len(run(all_of_them())) == 40
    assert most <= 10


def test_one_that_is_larger_than_all_room_waits_for_it_to_be_empty() -> None:
    async def both() -> list[str]:
        room, order = Room(10), []

        async def use(size: int, name: str) -> None:
            async with room.of(size):
                order.append(name)
                await asyncio.sleep(0.01)
                order.append(name)

        await asyncio.gather(use(3, "small"), use(99, "large"))
        return order

    assert run(both()) == ["small", "small", "large", "large"]


def test_who_gives_up_waiting_takes_no_room() -> None:
    async def one() -> int:
        room = Room(10)
        async with room.of(10):
            waiting = asyncio.create_task(room.of(5).__aenter__())
            await asyncio.sleep(0.01)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        async with room.of(10):
            return room.taken

    assert run(one()) == 10
