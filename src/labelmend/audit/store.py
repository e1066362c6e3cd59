"""An audit that was kept in a run folder: read again, or refused."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from labelmend.audit.ranking import Order
from labelmend.audit.result import (
    FORMAT,
    RECORD,
    Audit,
    Part,
    Quality,
    Ranked,
    digest,
    folder_of,
)
from labelmend.errors import DamagedError
from labelmend.runs import Run
from labelmend.types import DataSet

_TEXTS = ("label", "image", "annotator", "group", "split", "quality", "reason", "like")
_FIGURES = ("weight", "confidence", "disagreement")


def read_audit(run: Run | str | Path, model: str = "main") -> Audit | None:
    """The audit that was written into a run folder; None where there is none.

    Raises:
        RunError: when the folder is no run.
        DamagedError: when the file is not as it was written, or is of other labels.

    The trap: it is of the checkpoint that was there then; see :func:`is_current`.
    """
    opened = run if isinstance(run, Run) else Run.open(Path(run))
    path = opened.path / folder_of(model) / RECORD
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DamagedError(f"{path} cannot be read: {error.strerror}; remove it") from error
    try:
        audit = _parse(json.loads(content), str(opened.path))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(
            f"{path} is not an audit as labelmend writes them; remove it, or run labelmend audit "
            f"{opened.path} again"
        ) from error
    if audit.data != describe(opened.data):
        raise DamagedError(
            f"{path} is an audit of other labels than those of {opened.path}; remove it, or run "
            f"labelmend audit {opened.path} again"
        )
    return audit


def is_current(audit: Audit, run: Run) -> bool:
    """Whether no checkpoint of the run is newer than the one that looked."""
    return audit.step >= max(run.steps(), default=0)


def describe(data: DataSet) -> str:
    """A digest of the labels of a data set and of what is in them."""
    rows = [[s.label, s.image, s.label_sha256, s.image_sha256] for s in data.samples]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _parse(record: dict[str, Any], run: str) -> Audit:
    """An audit from its record.

    Raises:
        ValueError: also KeyError, TypeError, AttributeError for anything else than a record.
    """
    if record.pop("sum") != digest(record) or record["format"] != FORMAT:
        raise ValueError("not what was written")
    budget, order = record["budget"], record["order"]
    quality = record.get("quality", "all")  # older records do not say
    if order not in get_args(Order) or quality not in get_args(Quality):
        raise ValueError("not an order of labels")
    return Audit(
        run,
        int(record["step"]),
        _text(record["model"]),
        tuple(_ranked(row) for row in _rows(record["labels"])),
        tuple(_part(row) for row in _rows(record["annotators"])),
        tuple(_part(row) for row in _rows(record["groups"])),
        _text(record["data"]),
        tuple(_text(note) for note in _rows(record["notes"])),
        None if budget is None else int(budget),
        order,
        quality,
    )


def _ranked(row: dict[str, Any]) -> Ranked:
    if set(row) != {field.name for field in fields(Ranked)}:
        raise ValueError("not the fields of a label")
    there = row["displacement"]
    found: dict[str, Any] = {name: _text(row[name]) for name in _TEXTS}
    found |= {name: None if row[name] is None else _number(row[name]) for name in _FIGURES}
    found["displacement"] = None if there is None else tuple(_number(v) for v in there)
    return Ranked(score=_number(row["score"]), wrong=_number(row["wrong"]), **found)


def _part(row: dict[str, Any]) -> Part:
    weight, apart = row["weight"], row["disagreement"]
    return Part(
        _text(row["name"]),
        int(row["labels"]),
        None if weight is None else _number(weight),
        None if apart is None else _number(apart),
        _number(row["first"]),
    )


def _rows(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"a list, not {value!r}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text, not {value!r}")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"a number, not {value!r}")
    return float(value)
