"""What a server has done so far, in numbers that a monitor can read."""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1, 2, 4, 8, 16, 32)
MEMORY = 0.2
"""How much the newest answer counts in the mean time that an answer takes."""


class Histogram:
    """How many values were at most so large; for Prometheus, which wants them cumulative.

    >>> seen = Histogram((1, 2))
    >>> for value in (1, 2, 9): seen.add(value)
    >>> [*seen.lines("size")]
    ['size_bucket{le="1"} 1', 'size_bucket{le="2"} 2', 'size_bucket{le="+Inf"} 3', 'size_sum 12', \
'size_count 3']
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        """``bounds`` rise; what is above the last one is counted, too."""
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """One more value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str) -> Iterator[str]:
        """As text."""
        total = 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self._sum:.9g}"
        yield f"{name}_count {total}"


@dataclass(slots=True, eq=False)
class Counts:
    """Everything that is counted; any thread may count.

    Attributes:
        answers: answers to requests for a prediction, by status.
        left: clients that left without an answer, by what was going on: ``waiting`` or ``running``.
        images: images that the network has been given.
        late: requests that waited longer than they may.
        failures: images for which the network failed.
        deaths: threads that ended under the network and were replaced.
        gauges: name → (words, how many just now).
    """

    answers: Counter[int] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    images: int = 0
    late: int = 0
    failures: int = 0
    deaths: int = 0
    gauges: dict[str, tuple[str, Callable[[], float]]] = field(default_factory=dict)
    _together: Histogram = field(default_factory=lambda: Histogram(SIZES))
    _took: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    _pace: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(self, status: int, seconds: float) -> None:
        """A request for a prediction was answered."""
        with self._lock:
            self.answers[status] += 1
            if status == 200:
                self._took.add(seconds)

    def gone(self, while_: str) -> None:
        """A client left while its request was ``waiting`` or ``running``."""
        with self._lock:
            self.left[while_] += 1

    def count(self, name: str) -> None:
        """One more of ``late``, ``failures`` or ``deaths``."""
        with self._lock:
            setattr(self, name, getattr(self, name) + 1)

    def begun(self, many: int) -> None:
        """The network is given images."""
        with self._lock:
            self.images += many
            self._together.add(many)

    def worked(self, seconds: float, many: int) -> None:
        """The network has done with images."""
        each = seconds / many
        with self._lock:
            self._pace = each if not self._pace else self._pace + MEMORY * (each - self._pace)

    @property
    def pace(self) -> float:
        """Seconds that one image takes of late; 0 before the first one."""
        return self._pace

    def to_text(self) -> str:
        """All of it in the text format of Prometheus, version 0.0.4."""
        with self._lock:
            return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield from _about("requests_total", "counter", "Answers to requests for a prediction.")
        for status in sorted(self.answers):
            yield f'labelmend_requests_total{{status="{status}"}} {self.answers[status]}'
        yield from _about("clients_left_total", "counter", "Clients that left before the answer.")
        for while_ in ("waiting", "running"):
            yield f'labelmend_clients_left_total{{while="{while_}"}} {self.left[while_]}'
        for name, words, value in (
            ("refused_total", "Requests refused because too many waited.", self.answers[429]),
            ("images_total", "Images that the network was given.", self.images),
            ("late_total", "Requests that waited longer than they may.", self.late),
            ("failures_total", "Images for which the network failed.", self.failures),
            ("worker_deaths_total", "Threads that ended under the network.", self.deaths),
        ):
            yield from _about(name, "counter", words)
            yield f"labelmend_{name} {value}"
        for name, (words, now) in self.gauges.items():
            yield from _about(name, "gauge", words)
            yield f"labelmend_{name} {now():.9g}"
        yield from _about("batch_size", "histogram", "Images given to the network at once.")
        yield from self._together.lines("labelmend_batch_size")
        yield from _about("request_seconds", "histogram", "From request to label.")
        yield from self._took.lines("labelmend_request_seconds")


def memory_in_use() -> float:
    """Bytes of memory that this process holds; 0 where the system does not say.

    >>> memory_in_use() >= 0
    True
    """
    try:
        return float(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf(
            "SC_PAGE_SIZE"
        )
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0


def _about(name: str, kind: str, words: str) -> Iterator[str]:
    yield f"# HELP labelmend_{name} {words}"
    yield f"# TYPE labelmend_{name} {kind}"
