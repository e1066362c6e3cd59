"""End cleanly when asked: the first signal lets the step finish, the second ends at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

from labelmend.errors import Stopped

WATCHED = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Remembers a SIGINT or SIGTERM while it is entered; the training loop asks :meth:`number`.

    A second signal ends the process at once with the status that the first would have given.
    Outside the main thread, where Python allows no handlers, it never asks for a stop.

    >>> with StopRequest() as request:
    ...     os.kill(os.getpid(), signal.SIGTERM)
    ...     request.number() == signal.SIGTERM
    True
    """

    def __init__(self) -> None:
        self._number = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in WATCHED:
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def number(self) -> int:
        """The signal that came, or 0."""
        return self._number

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        if self._number:
            os._exit(128 + number)
        self._number = number


def stopped(number: int, step: int, run: str) -> Stopped:
    """The error that a stop by a signal ends in.

    >>> stopped(signal.SIGTERM, 7, "RUN").exit_status
    143
    """
    name = signal.Signals(number).name
    return Stopped(
        f"stopped by {name} after step {step}; everything is saved: labelmend train --resume {run}",
        128 + number,
    )
