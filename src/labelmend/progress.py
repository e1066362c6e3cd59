"""Show a person how the training goes, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")

_OFTEN = 0.25
"""Seconds between two drawings of a notebook's bar: each is a message to a browser."""


class Watcher(Protocol):
    """Whoever wants to see a training: the terminal, a notebook, a test, nobody."""

    def start(self, total: int, done: int) -> None:
        """Training begins or goes on at step ``done`` of ``total``."""
        ...

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        """A step has been taken."""
        ...

    def say(self, text: str) -> None:
        """One line that stays."""
        ...

    def finish(self) -> None:
        """Training has ended, one way or the other."""
        ...


class Silent:
    """A watcher that shows nothing.

    >>> Silent().step(1, {"loss": 0.5})
    """

    def start(self, total: int, done: int) -> None:
        """Nothing."""

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""


class Terminal:
    """A bar with the time left; where the output is no terminal, only the lines that stay."""

    def __init__(self, title: str = "training", console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._title = title
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._figures: dict[str, float] = {}

    def start(self, total: int, done: int) -> None:
        """Draw the bar."""
        if not self._console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
        )
        self._task = self._bar.add_task(self._title, total=total, completed=done, figures="")
        self._bar.start()

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        """Move the bar; figures that are not given keep their last value."""
        self._figures.update(figures)
        if self._bar is not None and self._task is not None:
            text = "  ".join(f"{name} {value:.3g}" for name, value in self._figures.items())
            self._bar.update(self._task, completed=step, figures=text)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        wrap = self._console.is_terminal  # a file or a pipe has no width
        self._console.print(text, highlight=False, markup=False, soft_wrap=not wrap)

    def finish(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.finish()


class Notebook:
    """A bar below a notebook's cell, with the time left, and the lines that stay.

    It needs IPython, which every notebook brings. The trap: a bar that was saved with a notebook
    is as it was then, so a kernel that died leaves one that stands still.
    """

    def __init__(self, title: str = "training") -> None:
        from IPython.display import HTML, display  # a terminal has none

        self._draw: Callable[[str], Any] = HTML
        self._display: Callable[..., Any] = display
        self._title = title
        self._handle: Any = None
        self._figures: dict[str, float] = {}
        self._total = self._first = self._done = 0
        self._began = self._drawn = 0.0

    def start(self, total: int, done: int) -> None:
        """Draw the bar."""
        self._total, self._first, self._done = total, done, done
        self._began = time.monotonic()
        self._handle = self._display(self._bar(), display_id=True)

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        """Move the bar; figures that are not given keep their last value."""
        self._figures.update(figures)
        self._done = step
        if time.monotonic() - self._drawn >= _OFTEN:
            self._update()

    def say(self, text: str) -> None:
        """Print a line."""
        print(text)

    def finish(self) -> None:
        """Leave the bar where it came to."""
        self._update()
        self._handle = None

    def _update(self) -> None:
        if self._handle is not None:
            self._handle.update(self._bar())
            self._drawn = time.monotonic()

    def _bar(self) -> Any:
        figures = "&ensp;".join(f"{name} {value:.3g}" for name, value in self._figures.items())
        return self._draw(
            f"<div>{self._title} <progress value='{self._done}' max='{self._total}'></progress> "
            f"{self._done} of {self._total}, {self._time()}&ensp;{figures}</div>"
        )

    def _time(self) -> str:
        """How long it took, or how much longer it will."""
        gone, steps = time.monotonic() - self._began, self._done - self._first
        if self._done >= self._total:
            return _clock(gone)
        return f"{_clock(gone * (self._total - self._done) / steps)} left" if steps else "–"


def _clock(seconds: float) -> str:
    """A length of time.

    >>> _clock(59.6), _clock(3725)
    ('1:00', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@contextmanager
def counting(watcher: Watcher) -> Iterator[Callable[[int, int], None]]:
    """A function that is told how many of how many are done, and shows it.

    >>> with counting(Silent()) as progress:
    ...     progress(1, 2)
    """

    def show(done: int, total: int) -> None:
        if done == 1:
            watcher.start(total, 0)
        watcher.step(done, {})

    try:
        yield show
    finally:
        watcher.finish()


def go_through(items: Sequence[T], work: Callable[[T], object], watcher: Watcher) -> None:
    """Do a piece of work for one item after the other, and show how far it is.

    >>> found = []
    >>> go_through([1, 2], found.append, Silent())
    >>> found
    [1, 2]
    """
    watcher.start(len(items), 0)
    try:
        for number, item in enumerate(items, 1):
            work(item)
            watcher.step(number, {})
    finally:
        watcher.finish()
