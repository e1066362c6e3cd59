"""Between the values in label files and class indices, both ways, with nothing lost."""

from __future__ import annotations

import numpy as np

from labelmend.errors import DataError
from labelmend.types import DataSpec

_DENSE = 1 << 20


def whole_numbers(array: np.ndarray) -> np.ndarray:
    """Label values as int64, refused unless they are whole numbers.

    >>> whole_numbers(np.array([0.0, 2.0], dtype=np.float32))
    array([0, 2])
    """
    if array.dtype.kind == "f":
        with np.errstate(invalid="ignore"):  # a signalling NaN is found by what follows
            whole = np.isfinite(array) & (np.trunc(array) == array) & (np.abs(array) < 2.0**53)
        if not whole.all():
            wrong = array[~whole].flat[0]
            raise DataError(
                f"holds {wrong:g}, but class labels are whole numbers; correct it, or put "
                "task = 'regression' into data.toml"
            )
    if array.dtype == np.uint64 and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise DataError("holds numbers over 2^63; number the classes from 0")
    return array.astype(np.int64)


def distinct(values: np.ndarray) -> np.ndarray:
    """The distinct values of an int64 array, sorted; quick where they lie close together.

    >>> distinct(np.array([[3, 1], [1, 1]]))
    array([1, 3])
    """
    if values.size == 0:
        return np.empty(0, dtype=np.int64)
    low, high = int(values.min()), int(values.max())
    if high - low < _DENSE:
        return np.flatnonzero(np.bincount((values - low).ravel())) + low
    return np.unique(values)


def check_values(found: np.ndarray, spec: DataSpec) -> None:
    """Refuse values that are neither a class nor the ignore value.

    Raises:
        DataError: naming the first few of them.
    """
    if spec.instances:
        wrong = found[(found < 0) & (found != _ignored(spec))]
    else:
        wrong = found[~np.isin(found, (*spec.values, _ignored(spec)))]
    if wrong.size:
        shown = ", ".join(str(value) for value in wrong[:5]) + (", …" if wrong.size > 5 else "")
        known = "0 and above" if spec.instances else _listed(spec)
        raise DataError(
            f"holds {_count(wrong.size)} that no class has: {shown}; classes are {known}; "
            "correct the label, or add the class or ignore value to data.toml"
        )


def to_indices(values: np.ndarray, spec: DataSpec) -> tuple[np.ndarray, np.ndarray]:
    """Class indices int64 and where they are known, bool, from the values of a label file.

    Ignored positions have index 0 and are not known.

    Raises:
        DataError: for a value that is neither a class nor the ignore value.

    >>> spec = DataSpec("segmentation", ("bg", "cell"), (0, 7), 9, 2, 1, "none", ".png")
    >>> index, known = to_indices(np.array([[7, 0, 9]]), spec)
    >>> index.tolist(), known.tolist()
    ([[1, 0, 0]], [[True, True, False]])
    """
    check_values(distinct(values), spec)
    known = np.ones(values.shape, dtype=bool) if spec.ignore is None else values != spec.ignore
    if spec.instances:
        return ((values > 0) & known).astype(np.int64), known
    order = np.argsort(spec.values)
    places = np.searchsorted(np.asarray(spec.values)[order], values)
    index = order[np.minimum(places, len(order) - 1)]
    return np.where(known, index, 0), known


def to_values(indices: np.ndarray, spec: DataSpec) -> np.ndarray:
    """The values that label files have for class indices, int64; :func:`to_indices` undone.

    Raises:
        DataError: for an index that no class has.
    """
    if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < len(spec.values):
        raise DataError(
            f"class indices must lie in 0 to {len(spec.values) - 1}, "
            f"not {int(indices.min())} to {int(indices.max())}"
        )
    values: np.ndarray = np.asarray(spec.values, dtype=np.int64)[indices]
    return values


def _ignored(spec: DataSpec) -> int:
    return spec.values[0] if spec.ignore is None else spec.ignore


def _listed(spec: DataSpec) -> str:
    pairs = zip(spec.classes[:12], spec.values[:12], strict=False)
    text = ", ".join(f"{name} = {value}" for name, value in pairs)
    text += ", …" if len(spec.classes) > 12 else ""
    return text + ("" if spec.ignore is None else f", ignore = {spec.ignore}")


def _count(number: int) -> str:
    return "a value" if number == 1 else f"{number} values"
