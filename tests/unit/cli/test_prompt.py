"""What is typed: help for every option, settings out of options, and what a wrong word is told."""

from __future__ import annotations

import builtins
import json
import re
from pathlib import Path
from typing import Any

import pytest

import labelmend
from labelmend import cli
from labelmend.config import PRESETS, Settings
from labelmend.errors import LabelmendError

from ...command import command

COMMANDS = ["check", "train", "settings", "evaluate", "predict", "fix", "report", "demo"]


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


def test_help_is_in_the_order_of_work_and_breaks_lines_at_the_screen_alone() -> None:
    listed = re.findall(r"(?m)^\W*\b(?<!-)([a-z-]+)  +[A-Z]", command("--help").out)
    assert listed[:5] == ["demo", "check", "train", "evaluate", "report"]
    for name in listed:
        taken = cli.app[name].assemble_argument_collection(parse_docstring=True)
        assert not [one.name for one in taken if "\n" in (one.parameter.help or "")], name


def test_the_version_is_the_packages() -> None:
    said = command("--version")
    assert (said.status, said.out.strip()) == (0, labelmend.__version__)


@pytest.mark.parametrize(
    ("typed", "way"),
    [
        ("bogus", "labelmend --help"),
        ("check", ": check wants DATA; see: labelmend check --help"),
        ("predict run", ": predict wants INPUTS; see: labelmend predict --help"),
        ("export run", ": export wants a value for --to; see: labelmend export --help"),
        ("check a b", "too many words: b; see: labelmend check --help"),
        ("train --bogus", "labelmend train --help"),
        ("evaluate run --model esemble", 'Did you mean "ensemble"? See: labelmend evaluate --help'),
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


def test_a_seed_is_refused_before_the_demonstration_makes_anything(tmp_path: Path) -> None:
    said = command("demo", "--out", tmp_path / "demo", "--seed", -1)
    assert (said.status, said.out) == (1, "")
    assert said.err == command("train", "data", "--out", "run", "--seed", -1).err
    assert "'seed' wants at least 0, not -1" in said.err and list(tmp_path.iterdir()) == []


def test_every_way_to_align_is_explained() -> None:
    said = " ".join(command("train", "--help").out.replace("│", " ").split())
    words, _, rest = said.partition("--align CHOICE")[2].partition("[choices: ")
    ways = rest.partition("]")[0].split(", ")
    assert "warp" in ways and all(re.search(rf"\b{way}\b", words) for way in ways)


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a training is given, which does not take place."""
    from labelmend.training import assembly

    class Noted:
        def metrics(self, kind: str) -> list[dict[str, Any]]:
            return []

    seen: dict[str, Any] = {}

    def fit(data: Path, out: Path, **given: Any) -> Noted:
        seen.update(given, data=data, out=out)
        return Noted()

    monkeypatch.setattr(assembly, "fit", fit)
    return seen


def test_options_become_settings(fitted: dict[str, Any]) -> None:
    typed = "train data --out run --preset pooled --steps 5 --seed 3 --device cpu --workers 2"
    said = command(*typed.split(), "--allow-bad", "4", "--set", "batch.size=6", "--set", "loss=l1")
    assert said.status == 0 and said.out.startswith("trained: run, 0 steps\nnext: ")
    chosen = fitted["settings"]
    assert (fitted["data"], fitted["out"]) == (Path("data"), Path("run"))
    assert (chosen.steps, chosen.seed, chosen.device) == (5, 3, "cpu")
    assert (chosen.input.workers, chosen.input.allow_bad) == (2, 4)
    assert (chosen.batch.size, chosen.batch.strong_share, chosen.loss) == (6, None, "l1")


@pytest.mark.parametrize(
    ("typed", "mixing", "dual"),
    [
        ("", False, False),
        ("--mix", True, False),
        ("--dual", True, True),
        ("--mix --dual", True, True),
        ("--mix --set mixing.use=false", True, False),
        ("--dual --set mixing.rate=0.5", True, True),
    ],
)
def test_mixed_images_and_two_networks_are_one_word_each(
    typed: str, mixing: bool, dual: bool, fitted: dict[str, Any]
) -> None:
    assert command(*f"train data --out run {typed}".split()).status == 0
    chosen = fitted["settings"]
    assert (chosen.mixing.use, chosen.dual.use) == (mixing, dual)
    rate = 0.5 if "rate" in typed else Settings().mixing.rate
    assert chosen == Settings.make({"mixing": {"use": mixing, "rate": rate}, "dual": {"use": dual}})


@pytest.mark.parametrize("typed", ["--mix", "--dual"])
def test_what_has_a_say_in_training_has_none_when_it_goes_on(typed: str) -> None:
    said = command("train", "--resume", "run", typed)
    assert said.status == 1 and "--resume goes on with the run's own" in said.err


@pytest.mark.parametrize("typed", ["--no-mix", "--no-dual"])
def test_a_flag_is_there_or_not(typed: str) -> None:
    assert command("train", "data", "--out", "run", typed).status == 2


@pytest.mark.parametrize("name", ["train", "settings"])
def test_help_names_every_preset(name: str) -> None:
    words = set(re.findall(r"[a-z_]+", command(name, "--help").out))
    assert set(PRESETS) <= words


@pytest.mark.parametrize("typed", ["evaluate run", "predict run image.png"])
@pytest.mark.parametrize("model", ["main", "auxiliary", "ensemble"])
def test_the_network_asked_for_is_loaded(
    typed: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from labelmend.inference import predictor

    seen: dict[str, Any] = {}

    def load(run: Path, **given: Any) -> None:
        seen.update(given)
        raise LabelmendError("seen enough")

    monkeypatch.setattr(predictor, "load", load)
    asked = [] if model == "main" else ["--model", model]
    said = command(*typed.split(), *asked, "--checkpoint", "best")
    assert said.err == "labelmend: seen enough\n"
    assert seen == {"checkpoint": "best", "model": model, "device": "auto", "network": None}


@pytest.mark.parametrize(
    "typed",
    [
        *("evaluate RUN", "predict RUN image.png", "fix RUN --out NEW", "audit RUN", "review RUN"),
        *("export RUN --to torch", "propose DATA --by RUN"),
    ],
)
def test_a_damaged_checkpoint_that_was_passed_over_is_said(
    typed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from labelmend.inference import predictor

    class Found:
        notes = ("the checkpoint of step 3 is damaged",)

    monkeypatch.setattr(predictor, "load", lambda *_, **__: Found())
    said = command(*typed.replace("RUN", str(tmp_path)).split())
    assert said.err.startswith("note: the checkpoint of step 3 is damaged\n")


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
