"""Type a command without starting a process: its exit status and what it printed."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, NamedTuple

from labelmend import cli


class Outcome(NamedTuple):
    status: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """Standard output as the one JSON object that it must be."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


def command(*arguments: object) -> Outcome:
    """``labelmend ARGUMENTS`` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = cli.run([str(argument) for argument in arguments])
    return Outcome(status, out.getvalue(), err.getvalue())
