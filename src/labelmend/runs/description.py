"""The four files that say what a run is: settings, manifest, data and environment."""

from __future__ import annotations

import os
import platform
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from labelmend.config import Settings
from labelmend.errors import DamagedError, RunError, SettingsError
from labelmend.runs.records import from_json, from_table, plain, to_json, to_table
from labelmend.runs.sums import SUMS, read_sums, read_verified
from labelmend.runs.whereabouts import find_data
from labelmend.types import DataSet, DataSpec, Sample

SETTINGS, MANIFEST, DATA, RUN = "settings.toml", "manifest.csv", "data.json", "run.json"
_FORMAT = 1
_COLUMNS = tuple(field.name for field in fields(Sample))
_PACKAGES = ("torch", "monai", "lightning-fabric", "numpy", "safetensors")


class LeftOut(NamedTuple):
    """A file of the data set that could not be used, and why."""

    file: str
    message: str


class Problem(Protocol):
    """Anything with a file and what is wrong with it."""

    @property
    def file(self) -> str:
        """The file's path relative to the data root."""
        ...

    @property
    def message(self) -> str:
        """What is wrong with it."""
        ...


@dataclass(frozen=True, slots=True)
class Description:
    """What a run was begun with; it never changes afterwards.

    But for where the data lie: ``way`` leads there from the run folder, as it was in the beginning.
    """

    settings: Settings
    data: DataSet
    facts: dict[str, Any]
    environment: dict[str, Any]
    problems: tuple[LeftOut, ...]
    way: str = ""

    @classmethod
    def make(
        cls,
        settings: Settings,
        data: DataSet,
        facts: Mapping[str, object],
        problems: Iterable[Problem],
        way: str = "",
    ) -> Description:
        """As :meth:`read` will give it back."""
        left_out = tuple(LeftOut(problem.file, problem.message) for problem in problems)
        environment = describe_environment(settings)
        return cls(settings, data, plain(facts, "facts"), environment, left_out, way)

    @classmethod
    def read(cls, folder: Path) -> Description:
        """From a run folder.

        Raises:
            RunError: when there is no run, or one of a newer format.
            DamagedError: when a file differs from its checksum, naming it.
            SettingsError: when the settings hold a key that this version does not know.
        """
        names = (SETTINGS, MANIFEST, DATA, RUN)
        # A data set may hold a manifest.csv of its own: that alone is no damaged run.
        if not any((folder / name).exists() for name in (SUMS, SETTINGS, DATA, RUN)):
            raise RunError(
                f"there is no run in {folder}; name the folder that training wrote with --out"
            )
        hashes = read_sums(folder)
        files = {name: read_verified(folder, hashes, name) for name in names}
        run, data = (from_json(files[name], str(folder / name)) for name in (RUN, DATA))
        if run["format"] != _FORMAT:
            raise RunError(
                f"{folder} was written by labelmend {run['environment']['labelmend']} in a format "
                f"({run['format']}) that this version does not read ({_FORMAT}); update labelmend"
            )
        way = data.get("way", "")
        data["root"] = find_data(folder, data["root"], way)
        return cls(
            _read_settings(files[SETTINGS], folder / SETTINGS),
            _read_data(data, files[MANIFEST], folder / MANIFEST),
            run["facts"],
            run["environment"],
            tuple(LeftOut(**problem) for problem in data["left_out"]),
            way,
        )

    def files(self) -> dict[str, bytes]:
        """Name and content of the four files.

        Raises:
            SettingsError: when the settings would not come back equal from their file.
        """
        settings = _write_settings(self.settings)
        run = {"format": _FORMAT, "environment": self.environment, "facts": self.facts}
        data = {
            "root": self.data.root,
            "way": self.way,
            "spec": asdict(self.data.spec),
            "notes": self.data.notes,
            "orientations": self.data.orientations,
            "spacings": self.data.spacings,
            "left_out": [problem._asdict() for problem in self.problems],
        }
        rows = (asdict(sample) for sample in self.data.samples)
        return {
            SETTINGS: settings,
            MANIFEST: to_table(rows, _COLUMNS),
            DATA: to_json(data, DATA) + b"\n",
            RUN: to_json(run, RUN) + b"\n",
        }


def describe_environment(settings: Settings) -> dict[str, Any]:
    """Versions and hardware that a training's figures depend on."""
    return {
        "labelmend": _version("labelmend"),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "device": _device(settings.device),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _device(wanted: str) -> str:
    import torch  # late: what only reads a run's tables should start quickly

    if wanted in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda: {torch.cuda.get_device_name()}"
    if wanted in ("auto", "mps") and torch.backends.mps.is_available():
        return "mps"
    return f"cpu: {platform.processor() or platform.machine()}"


def _write_settings(settings: Settings) -> bytes:
    try:
        content = settings.to_toml().encode()
    except (TypeError, ValueError) as error:
        raise SettingsError(f"these settings cannot be written as TOML: {error}") from error
    if _read_settings(content, Path(SETTINGS)) != settings:
        raise SettingsError(
            "these settings would not come back equal from their TOML text, which has no null; "
            "leave out what is None in network.arguments"
        )
    return content


def _read_settings(content: bytes, path: Path) -> Settings:
    try:
        return Settings.make(tomllib.loads(content.decode()))
    except (SettingsError, ValueError) as error:
        raise SettingsError(f"{path}: {error}") from error


def _read_data(data: dict[str, Any], manifest: bytes, path: Path) -> DataSet:
    spec = dict(data["spec"])
    spec |= {name: tuple(value) for name, value in spec.items() if isinstance(value, list)}
    try:
        samples = tuple(Sample(**row) for row in from_table(manifest, str(path)))  # type: ignore[arg-type]
    except TypeError as error:
        raise DamagedError(f"{path} has other columns than {', '.join(_COLUMNS)}") from error
    orientations, spacings = (data.get(name, ()) for name in ("orientations", "spacings"))
    return DataSet(
        data["root"],
        DataSpec(**spec),
        samples,
        tuple(data["notes"]),
        tuple(orientations),
        tuple(map(tuple, spacings)),
    )
