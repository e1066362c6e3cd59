"""How commands speak: JSON or words, progress or silence, and one line where something failed."""

from __future__ import annotations

import json
import sys
from inspect import cleandoc
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from labelmend.progress import Watcher

Flag = Annotated[bool, Parameter(negative="", show_default=False)]
"""An option that is there or not, without a ``--no-`` form."""

Json = Annotated[bool, Parameter(name="--json", negative="", show_default=False)]
"""The option ``--json``; as a parameter it may be called otherwise."""


def as_json(thing: Any) -> str:
    """Plain values as a person can read them; NaN and infinity are refused.

    >>> print(as_json({"dice": 0.5}))
    {
      "dice": 0.5
    }
    """
    return json.dumps(thing, indent=2, allow_nan=False)


def flowing(text: str) -> str:
    r"""A docstring whose sentences go on in one line, so that help wraps at the screen alone.

    Paragraphs and the section of parameters stay as they are.

    >>> flowing("Train.\n\nWith\ncare.\n\nParameters\n----------\nout\n    A\n    folder.")
    'Train.\n\nWith care.\n\nParameters\n----------\nout\n    A folder.'
    """
    lines: list[str] = []
    for line in cleandoc(text).splitlines():
        same = lines and line[:4].isspace() == lines[-1][:4].isspace()
        plain = lines and all(part and part != "Parameters" for part in (line.strip(), lines[-1]))
        in_options = any(set(before) == {"-"} for before in lines)
        if same and plain and (line[:4].isspace() or not in_options) and set(line) != {"-"}:
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(line)
    return "\n".join(lines)


def make_watcher(quiet: bool, title: str = "training") -> Watcher:
    """Who shows the progress of a command: a line on the terminal, or nobody."""
    from labelmend.progress import Silent, Terminal

    return Silent() if quiet else Terminal(title)


def complain(text: str, status: int = 1) -> int:
    """Say in one line on standard error what went wrong; returns the exit status."""
    sys.stderr.write(f"labelmend: {' '.join(text.split())}\n")  # in one piece: others write too
    return status
