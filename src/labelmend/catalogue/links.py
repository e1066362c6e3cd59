"""Where links of a data folder may lead: within it, and to folders that the user trusts."""

from __future__ import annotations

import os
from pathlib import Path

TRUSTED = "LABELMEND_LINKS"
"""The environment variable that names these folders, as PATH does. It is the user who sets it: a
data folder of somebody else's could otherwise have any file of this machine read."""


def stays_inside(root: Path, path: str) -> bool:
    """Whether a path, links followed, lies below the data root."""
    return (root / path).resolve().is_relative_to(root.resolve())


def may_read(root: Path, path: str) -> bool:
    """Whether a path, links followed, lies below the data root or a folder that is trusted.

    The trap: this is for reading what is listed. What is written goes below the data root only.
    """
    if stays_inside(root, path):
        return True
    there = (root / path).resolve()
    named = [Path(name) for name in os.environ.get(TRUSTED, "").split(os.pathsep) if name]
    return any(folder.is_absolute() and there.is_relative_to(folder.resolve()) for folder in named)


def leads_out(path: str) -> str:
    """What to say of a path that may not be read, after its name.

    >>> leads_out("../a.png")
    'leads out of the data folder; copy the file into it'
    """
    text = "leads out of the data folder; copy the file into it"
    if ".." in Path(path).parts or Path(path).is_absolute() or "\0" in path:
        return text
    return f"{text}, or name, by its whole path, the folder that the link leads to in {TRUSTED}"
