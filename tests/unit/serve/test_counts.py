"""What a monitor reads: parsed by the rules of the text format, and right."""

from __future__ import annotations

import re
import threading

import pytest

from labelmend.serve.counts import SECONDS, Counts, Histogram, memory_in_use

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf'({NAME})(?:\{{({NAME})="([^"\\\n]*)"\}})? ([-+0-9.eE]+)')


def parse(text: str) -> dict[str, float]:
    """Every sample by its name and label; refuses what a monitor would not understand."""
    kinds: dict[str, str] = {}
    found: dict[str, float] = {}
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# "):
            word, name, rest = line[2:].split(" ", 2)
            assert word in ("HELP", "TYPE"), line
            if word == "TYPE":
                assert name not in kinds, f"{name} twice"
                assert rest in ("counter", "gauge", "histogram"), line
                kinds[name] = rest
            continue
        matched = SAMPLE.fullmatch(line)
        assert matched, line
        name, label, value, number = matched.groups()
        family = re.sub("_(bucket|sum|count)$", "", name)
        assert name in kinds or kinds.get(family) == "histogram", line
        assert kinds.get(name) != "counter" or name.endswith("_total"), line
        key = name if label is None else f"{name}/{value}"
        assert key not in found, f"{key} twice"
        found[key] = float(number)
    return found


def test_all_that_is_counted_is_said() -> None:
    counts = Counts()
    counts.gauges["waiting"] = ("Those who wait.", lambda: 3)
    for status, seconds in ((200, 0.02), (200, 7.0), (429, 0.0), (422, 1.0)):
        counts.answered(status, seconds)
    counts.begun(1)
    counts.begun(3)
    counts.gone("waiting")
    for name in ("late", "failures", "deaths"):
        counts.count(name)
    found = parse(counts.to_text())
    assert found["labelmend_requests_total/200"] == 2
    assert found["labelmend_requests_total/429"] == found["labelmend_refused_total"] == 1
    assert found["labelmend_clients_left_total/waiting"] == 1
    assert found["labelmend_clients_left_total/running"] == 0
    assert found["labelmend_images_total"] == 4
    assert found["labelmend_waiting"] == 3
    names = ("late", "failures", "worker_deaths")
    assert [found[f"labelmend_{name}_total"] for name in names] == [1, 1, 1]
    assert found["labelmend_batch_size_bucket/1"] == 1
    assert found["labelmend_batch_size_bucket/4"] == found["labelmend_batch_size_count"] == 2
    assert found["labelmend_batch_size_sum"] == 4
    assert found["labelmend_request_seconds_bucket/0.025"] == 1
    assert found["labelmend_request_seconds_bucket/+Inf"] == 2
    assert found["labelmend_request_seconds_sum"] == pytest.approx(7.02)


def test_nothing_was_done_yet() -> None:
    found = parse(Counts().to_text())
    assert not any(value for key, value in found.items())


def test_buckets_hold_what_is_at_most_as_large() -> None:
    seen = Histogram(SECONDS)
    for value in (SECONDS[0], SECONDS[-1], SECONDS[-1] + 1):
        seen.add(value)
    buckets = list(seen.lines("x"))[: len(SECONDS) + 1]
    counts = [int(line.rsplit(" ", 1)[1]) for line in buckets]
    assert counts == [1] * (len(SECONDS) - 1) + [2, 3]


def test_any_thread_may_count() -> None:
    counts = Counts()

    def many() -> None:
        for _ in range(2000):
            counts.answered(200, 0.1)
            counts.count("late")

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (counts.answers[200], counts.late) == (8000, 8000)


def test_the_pace_follows_what_happens_of_late() -> None:
    counts = Counts()
    assert counts.pace == 0
    counts.worked(4.0, 2)
    assert counts.pace == 2.0
    for _ in range(50):
        counts.worked(1.0, 10)
    assert counts.pace == pytest.approx(0.1, rel=0.01)


def test_memory_is_said_in_bytes() -> None:
    assert memory_in_use() == 0 or 2**20 < memory_in_use() < 2**40
