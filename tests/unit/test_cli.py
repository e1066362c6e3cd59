"""Whatever happens behind a command: one line, a status that says of which kind, no traceback."""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import labelmend
from labelmend import cli
from labelmend.catalogue import scan
from labelmend.errors import DataError, LabelmendError, Stopped

from ..command import command


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


# --- the prompt -----------------------------------------------------------------------------------

COMMANDS = ["check", "train", "settings", "evaluate", "predict", "report", "demo"]


def test_without_a_command_there_is_help() -> None:
    said = command()
    assert said.status == 0 and said.err == ""
    assert all(f" {name} " in said.out for name in COMMANDS)
    assert command("--help").out == said.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_every_option(name: str) -> None:
    said = command(name, "--help")
    assert said.status == 0 and said.err == ""
    taken = cli.app[name].assemble_argument_collection(parse_docstring=True)
    for argument in taken:
        assert argument.parameter.help, f"{name}: {argument.name} is not explained"
        assert argument.name in said.out


def test_the_version_is_the_packages() -> None:
    said = command("--version")
    assert (said.status, said.out.strip()) == (0, labelmend.__version__)


@pytest.mark.parametrize(
    ("typed", "way"),
    [
        ("bogus", "labelmend --help"),
        ("check", "labelmend check --help"),
        ("check a b", "too many words: b; see: labelmend check --help"),
        ("train --bogus", "labelmend train --help"),
        ("evaluate run --split tset", 'Did you mean "test"? See: labelmend evaluate --help'),
    ],
)
def test_a_wrong_prompt_is_told_where_to_look(typed: str, way: str) -> None:
    said = command(*typed.split())
    assert said.status == 2 and said.out == ""
    assert said.err.count("\n") == 1 and way in said.err


def test_settings_are_refused_before_torch_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def guarded(name: str, *args: Any, **kwargs: Any) -> Any:
        assert name != "labelmend.training.assembly", "settings are looked at first"
        return plain(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", guarded)
    said = command("train", "data", "--out", "run", "--set", "batch.size=0")
    assert said.status == 1 and "'batch.size' wants at least 1" in said.err


def test_options_become_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from labelmend.training import assembly

    class Noted:
        path = tmp_path / "run"

        def metrics(self, kind: str) -> list[dict[str, Any]]:
            return []

    seen: dict[str, Any] = {}

    def fit(data: Path, out: Path, **given: Any) -> Noted:
        seen.update(given, data=data, out=out)
        return Noted()

    monkeypatch.setattr(assembly, "fit", fit)
    typed = "train data --out run --preset pooled --steps 5 --seed 3 --device cpu --workers 2"
    said = command(*typed.split(), "--allow-bad", "4", "--set", "batch.size=6", "--set", "loss=l1")
    assert said.status == 0 and said.out.startswith("trained: run, 0 steps\nnext: ")
    chosen = seen["settings"]
    assert (seen["data"], seen["out"]) == (Path("data"), Path("run"))
    assert (chosen.steps, chosen.seed, chosen.device) == (5, 3, "cpu")
    assert (chosen.input.workers, chosen.input.allow_bad) == (2, 4)
    assert (chosen.batch.size, chosen.batch.strong_share, chosen.loss) == (6, None, "l1")


def test_only_the_first_process_says_what_comes_next(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from labelmend.training import assembly

    monkeypatch.setattr(assembly, "fit", lambda *_, **__: None)
    monkeypatch.setenv("RANK", "1")
    assert tuple(command("train", "data", "--out", "run")) == (0, "", "")


def test_json_is_all_there_is_on_standard_output(tmp_path: Path) -> None:
    said = command("check", tmp_path, "--json")
    found = json.loads(said.out)
    assert said.status == 1 and found["ok"] is False and found["spec"] is None
    assert said.err.count("\n") == 1
