"""The command line: say what is wanted, do it, say what came out in as few words as possible."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper

import cyclopts

from labelmend.cli import (
    after,
    audit,
    before,
    calibrate,
    exchange,
    export,
    labels,
    review,
    serve,
    training,
    verdict,
)
from labelmend.cli.failures import answer
from labelmend.cli.output import flowing

# Whatever needs torch is imported inside the commands that use it: --help and check answer at once.

app = cyclopts.App(
    name="labelmend",
    help="Train segmentation and other dense-prediction models on labels that cannot be "
    "fully trusted.",
    version_flags=["--version"],
    help_format="plaintext",
    suppress_keyboard_interrupt=False,  # it would end in silence
)

COMMANDS: tuple[Callable[..., int], ...] = (
    before.demo,
    before.check,
    training.train,
    after.evaluate,
    after.report,
    after.predict,
    audit.audit,
    review.review,
    verdict.verdict,
    calibrate.calibrate,
    after.fix,
    exchange.import_,
    exchange.export_labels,
    labels.propose,
    export.export,
    serve.serve,
    after.attach,
    before.settings,
)
"""In the order in which one comes to need them, which is that of the help."""

for _place, _command in enumerate(COMMANDS):
    _command.__doc__ = flowing(_command.__doc__ or "")
    _name = _command.__name__.strip("_").replace("_", "-")
    app.command(_command, name=_name, sort_key=_place)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; every failure is one line on standard error and a status that is not 0."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may hold anything
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def run(arguments: list[str]) -> int:
    """Run a command and return its exit status.

    >>> run(["evaluate", "no/such/run", "--chekpoint", "best"])
    2
    """
    return answer(
        lambda: app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    )
