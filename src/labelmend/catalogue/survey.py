"""Read every file of a data set once, and keep only what the checks need to know of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from labelmend.errors import DataError
from labelmend.files.readers import check_numbers, decode, decode_label, read_bytes
from labelmend.files.values import distinct
from labelmend.labels.events import Event
from labelmend.types import ChannelAxis, Task

Progress = Callable[[int, int], None]

_MOST_VALUES = 65536
_THREADS = 4


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one file after it was read: its hash, and what it holds or why not.

    ``shape`` has the axes as stored; ``values`` are a class label's distinct values; ``no_data`` is
    what the file calls so, where the image holds it.
    """

    sha256: str = ""
    problem: str = ""
    shape: tuple[int, ...] = ()
    channel: ChannelAxis | None = None
    spacing: tuple[float, ...] | None = None
    affine: np.ndarray | None = None
    flat: bool = False
    values: np.ndarray | None = None
    events: tuple[Event, ...] | None = None
    no_data: float | None = None


def survey(
    root: Path,
    images: Iterable[str],
    labels: Iterable[str],
    task: Task,
    progress: Progress | None = None,
) -> tuple[dict[str, Facts], dict[str, Facts]]:
    """The facts of images and of labels, by path below the root; nothing is raised for bad files.

    Files are read by a few threads, each once; ``progress`` hears how many of how many are done.
    """
    of_image = [(path, partial(_survey_image, root, path)) for path in images]
    of_label = [(path, partial(_survey_label, root, path, task)) for path in labels]
    jobs = of_image + of_label
    facts: list[Facts] = []
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as threads:
        for done, found in enumerate(threads.map(lambda job: job[1](), jobs), 1):
            facts.append(found)
            if progress is not None:
                progress(done, len(jobs))
    paths = [path for path, _ in jobs]
    count = len(of_image)
    return (
        dict(zip(paths[:count], facts[:count], strict=True)),
        dict(zip(paths[count:], facts[count:], strict=True)),
    )


def _survey_image(root: Path, path: str) -> Facts:
    content, sha256, problem = _content(root, path)
    if problem:
        return Facts(problem=problem)
    try:
        raw = decode(root / path, content)
        check_numbers(raw.array)
    except DataError as error:
        return Facts(sha256, _bare(root / path, error))
    flat = bool(raw.array.min() == raw.array.max())
    gap = raw.no_data if raw.no_data is not None and (raw.array == raw.no_data).any() else None
    about = (raw.array.shape, raw.channel, raw.spacing, raw.affine, flat)
    return Facts(sha256, "", *about, no_data=gap)


def _survey_label(root: Path, path: str, task: Task) -> Facts:
    content, sha256, problem = _content(root, path)
    if problem:
        return Facts(problem=problem)
    try:
        found = decode_label(root / path, content, task)
        if isinstance(found, tuple):
            return Facts(sha256, events=found)
        if task == "regression":
            check_numbers(found.array)
    except DataError as error:
        return Facts(sha256, _bare(root / path, error))
    values = None
    if task == "segmentation":
        values = distinct(found.array)
        if len(values) > _MOST_VALUES:
            text = f"holds {len(values):,} different values; is it an image? labels hold few"
            return Facts(sha256, text)
    shape = found.array.shape
    about = (found.channel, found.spacing, found.affine)
    return Facts(sha256, "", shape, *about, values=values)


def _content(root: Path, path: str) -> tuple[bytes, str, str]:
    try:
        content = read_bytes(root / path)
    except DataError as error:
        return b"", "", _bare(root / path, error)
    return content, hashlib.sha256(content).hexdigest(), ""


def _bare(path: Path, error: DataError) -> str:
    return str(error).removeprefix(f"{path}: ")
