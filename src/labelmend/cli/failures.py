"""Whatever goes wrong behind a command is one line on standard error and a status of its kind."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable

import cyclopts

from labelmend.cli.output import complain
from labelmend.errors import LabelmendError, Stopped


def answer(command: Callable[[], object]) -> int:
    """Do what a command wants; its exit status, or that of what went wrong.

    1 is a failure with a way out, 2 a mistake at the prompt, 70 a mistake of ours; who was
    stopped by a signal ends with 128 and its number. ``LABELMEND_TRACEBACK`` in the environment
    lets an error that nobody put into words through.

    >>> answer(lambda: 3), answer(lambda: None)
    (3, 0)
    """
    try:
        status = command()
    except cyclopts.CycloptsError as error:
        return complain(_at_prompt(error), status=2)
    except Stopped as stop:
        return complain(str(stop), status=stop.exit_status)
    except LabelmendError as error:
        return complain(str(error), status=1)
    except KeyboardInterrupt:
        return complain("interrupted", status=130)
    except BrokenPipeError:
        # Whoever read our output has left, as `| head` does; there is nobody to complain to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("LABELMEND_TRACEBACK"):
            raise
        return complain(*_unforeseen(error))
    return status if isinstance(status, int) else 0


def _at_prompt(error: cyclopts.CycloptsError) -> str:
    text = str(error).strip().replace("...", "…").rstrip(".")
    missing = re.fullmatch(r'Command "(.+)" parameter (\S+) requires an argument', text)
    if missing:
        command, name = missing.groups()
        text = f"{command} wants {'a value for ' * name.startswith('-')}{name}"
    if isinstance(error, cyclopts.UnusedCliTokensError):
        text = f"too many words: {' '.join(error.unused_tokens or ())}"
    command = " ".join(["labelmend", *(error.command_chain or ())])
    return f"{text}{' See:' if text.endswith('?') else '; see:'} {command} --help"


def _unforeseen(error: Exception) -> tuple[str, int]:
    """What to say of an error that nobody put into words, and the exit status."""
    kind, text = type(error).__name__, str(error)
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError" or "CPUAllocator" in text:
        way = "make batch.size, input.patch or network.width smaller, or batch.accumulate larger"
        return f"out of memory; {way}", 1
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; check path, permissions and disk", 1
    text = f"{kind}: {text} (LABELMEND_TRACEBACK=1 shows where)"
    return f"internal error, please report it: {text}", 70
