"""Whatever happens behind a command: one line, a status that says of which kind, no traceback."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labelmend import cli
from labelmend.catalogue import scan
from labelmend.errors import DataError, LabelmendError, Stopped

from ...command import command


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


class OutOfMemoryError(RuntimeError):
    """As torch calls its own."""


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (LabelmendError("a thing\n  over two\tlines"), 1, "labelmend: a thing over two lines\n"),
        (DataError("x.png: is empty; copy it"), 1, "labelmend: x.png: is empty; copy it\n"),
        (Stopped("saved at step 3", 143), 143, "labelmend: saved at step 3\n"),
        (Stopped("saved at step 3", 130), 130, "labelmend: saved at step 3\n"),
        (KeyboardInterrupt(), 130, "labelmend: interrupted\n"),
        (
            MemoryError(),
            1,
            "labelmend: out of memory; make batch.size, input.patch or network.width smaller, "
            "or batch.accumulate larger\n",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "a/b"),
            1,
            "labelmend: a/b: Permission denied; check path, permissions and disk\n",
        ),
        (
            ZeroDivisionError("division\nby zero"),
            70,
            "labelmend: internal error, please report it: ZeroDivisionError: division by zero "
            "(LABELMEND_TRACEBACK=1 shows where)\n",
        ),
    ],
)
def test_every_failure_is_one_line(
    error: BaseException, status: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LABELMEND_TRACEBACK", raising=False)
    monkeypatch.setattr(scan, "inspect", raising(error))
    assert tuple(command("check", "data")) == (status, "", said)


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory"),
    ],
)
def test_too_little_memory_is_no_internal_error(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "inspect", raising(error))
    said = command("check", "data")
    assert said.status == 1 and said.err.startswith("labelmend: out of memory; make batch.size")


def test_an_internal_error_shows_where_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "inspect", raising(ZeroDivisionError()))
    monkeypatch.setenv("LABELMEND_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        cli.run(["check", "data"])


def test_a_reader_that_has_left_is_no_failure_to_report(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scan, "inspect", raising(BrokenPipeError()))
    pair = os.dup(1)
    try:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(os.fdopen(os.dup(1), "wb")))
        assert cli.run(["check", "data"]) == 1
    finally:
        os.dup2(pair, 1)
        os.close(pair)
    assert capfd.readouterr().err == ""


def test_main_exits_with_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "run", lambda arguments: 7 if arguments == ["a", "b"] else 0)
    monkeypatch.setattr(sys, "argv", ["labelmend", "a", "b"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 7


def test_names_that_no_terminal_can_show_do_not_hurt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with pytest.raises(SystemExit) as ended:
        cli.main(["check", str(tmp_path / "Ünïcode\udcff")])
    out.flush()
    err.flush()
    assert ended.value.code == 1
    assert b"\\xdcn\\xefcode" in err.buffer.getvalue() and b"problem: " in out.buffer.getvalue()  # type: ignore[attr-defined]
