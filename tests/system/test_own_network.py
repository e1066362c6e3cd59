"""A run never decides what code is imported: only what its user names is."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import labelmend
from labelmend.errors import RunError, SettingsError
from labelmend.runs.sums import SUMS, make_sums, read_sums

from .. import made_data
from ..command import Outcome, command

NETWORK = """
from pathlib import Path

import torch

Path(__file__).with_suffix(".imported").touch()


class Net(torch.nn.Module):
    size_multiple = 2

    def __init__(self, dims, in_channels, out_channels, between=3):
        super().__init__()
        kind = {1: torch.nn.Conv1d, 2: torch.nn.Conv2d, 3: torch.nn.Conv3d}[dims]
        self.first = kind(in_channels, between, 3, padding=1)
        self.last = kind(between, out_channels, 1)

    def forward(self, image):
        return self.last(self.first(image).relu())
"""


class Module:
    """A module of the user's own that leaves a file behind when it is imported."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._mark = folder / f"{name}.imported"
        (folder / f"{name}.py").write_text(NETWORK)

    def forget(self) -> None:
        sys.modules.pop(self.name, None)
        self._mark.unlink(missing_ok=True)

    @property
    def was_imported(self) -> bool:
        return self._mark.exists()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Module, Path, Path]]:
    """A module, data, and a run trained with the module's network."""
    folder = tmp_path_factory.mktemp("own")
    module = Module(folder, "networks_of_mine")
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    data = made_data.gray(folder / "data")
    chosen = ["--set", "network.name=networks_of_mine:Net", "--set", "network.arguments.between=5"]
    options = ["--steps", "2", *made_data.settings_of("gray"), *chosen]
    said = command("train", data, "--out", folder / "run", *options)
    assert said.status == 0 and module.was_imported, said.err
    yield module, data, folder / "run"
    sys.path.remove(str(folder))
    module.forget()


def commands(run: Path, data: Path, out: Path) -> dict[str, list[object]]:
    """Everything that opens a run."""
    return {
        "evaluate": ["evaluate", run],
        "predict": ["predict", run, data / "images/s0.png", "--out", out],
        "resume": ["train", "--resume", run],
        "report": ["report", run, "--out", out / "page.html"],
    }


NAMES = ["evaluate", "predict", "resume", "report"]


def _refused(name: str, said: Outcome) -> None:
    """The page of a run can do without its network; nothing else can."""
    if name == "report":
        assert said.status == 0
        return
    assert said.status == 1 and said.err.count("\n") == 1
    assert "--network " in said.err and "if you trust it" in said.err


@pytest.mark.parametrize("name", NAMES)
def test_unnamed_code_is_not_imported(
    name: str, own: tuple[Module, Path, Path], tmp_path: Path
) -> None:
    module, data, run = own
    module.forget()
    said = command(*commands(run, data, tmp_path)[name])
    assert not module.was_imported and module.name not in sys.modules
    _refused(name, said)


@pytest.mark.parametrize("name", NAMES)
def test_named_code_is_imported_and_works(
    name: str, own: tuple[Module, Path, Path], tmp_path: Path
) -> None:
    module, data, run = own
    module.forget()
    said = command(*commands(run, data, tmp_path)[name], "--network", "networks_of_mine:Net")
    assert said.status == 0, said.err
    assert module.was_imported


def test_python_must_name_it_too(own: tuple[Module, Path, Path]) -> None:
    module, _, run = own
    module.forget()
    with pytest.raises(SettingsError, match="--network networks_of_mine:Net"):
        labelmend.load(run)
    with pytest.raises(SettingsError, match="not 'networks_of_mine:Other'; repeat that name"):
        labelmend.load(run, network="networks_of_mine:Other")
    assert not module.was_imported
    predictor = labelmend.load(run, network="networks_of_mine:Net")
    assert type(predictor.network).__name__ == "Net" and predictor.multiple == 2


def test_another_version_of_the_code_is_told_from_the_one_trained(
    own: tuple[Module, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, run = own
    predictor = labelmend.load(run, network="networks_of_mine:Net")
    kind = type(predictor.network)
    plain = kind.__init__

    def wider(self: Any, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **{**kwargs, "between": 9})

    monkeypatch.setattr(kind, "__init__", wider)
    # The parameters' names are read from the signature, which the patched one hides.
    wider.__signature__ = inspect.signature(plain)  # type: ignore[attr-defined]
    with pytest.raises(
        RunError, match=r"step 2: .* network Net as it is now: size mismatch"
    ) as error:
        labelmend.load(run, network="networks_of_mine:Net")
    assert "\n" not in str(error.value)


# --- a run folder made to do harm -----------------------------------------------------------------


def hostile(run: Path, target: Path, name: str, arguments: str = "") -> Path:
    """A copy of a run with another network in its settings, and checksums that fit."""
    shutil.copytree(run, target)
    path = target / "settings.toml"
    text = path.read_text()
    assert 'name = "unet"' in text
    text = text.replace('name = "unet"', f'name = "{name}"')
    text = text.replace("[network.arguments]\n", f"[network.arguments]\n{arguments}\n")
    path.write_text(text)
    files = {each: (target / each).read_bytes() for each in read_sums(target)}
    hashes = {each: hashlib.sha256(content).hexdigest() for each, content in files.items()}
    (target / SUMS).write_bytes(make_sums(hashes))
    return target


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_run_executes_nothing(
    name: str,
    trained: Callable[[str], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = trained("gray")
    mark = tmp_path / "executed"
    run = hostile(done.run, tmp_path / "run", "os:system", f'command = "touch {mark}"')
    network = labelmend.Run.open(run).settings.network
    assert (network.name, network.arguments) == ("os:system", {"command": f"touch {mark}"})
    called: list[object] = []
    monkeypatch.setattr(os, "system", lambda *args, **kwargs: called.append(args))
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **kwargs: called.append(args))
    said = command(*commands(run, done.data, tmp_path / "out")[name])
    _refused(name, said)
    assert not called and not mark.exists()


def test_a_hostile_module_is_not_imported(
    trained: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = trained("gray")
    module = Module(tmp_path, "harm_of_theirs")
    monkeypatch.syspath_prepend(tmp_path)
    run = hostile(done.run, tmp_path / "run", "harm_of_theirs:Net")
    for name, typed in commands(run, done.data, tmp_path / "out").items():
        _refused(name, command(*typed))
    with pytest.raises(SettingsError, match="code outside labelmend"):
        labelmend.load(run)
    assert not module.was_imported and module.name not in sys.modules


def test_a_network_named_for_a_built_in_one_is_refused(trained: Callable[[str], Any]) -> None:
    run = trained("gray").run
    with pytest.raises(SettingsError, match="'unet', not 'os:system'; leave --network out"):
        labelmend.load(run, network="os:system")
    assert labelmend.load(run, network="unet").step == 3
