"""What pydantic found wrong with settings, in one sentence that a person can act on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from labelmend.errors import unknown


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first mistake: which setting, what it wants, and what it got.

    >>> class Model(BaseModel):
    ...     size: int
    >>> try:
    ...     Model(size="many")
    ... except ValidationError as error:
    ...     explain(error, Model)
    "setting 'size' wants a whole number, not 'many'"
    """
    first = error.errors()[0]
    known = _known(model)
    places = [str(part) for part in first["loc"]]
    if ".".join(places[:-1]) in known:  # of what may be several things pydantic names one
        places.pop()
    where = ".".join(places)
    if first["type"] == "extra_forbidden":
        if isinstance(first["input"], Mapping) and len(first["loc"]) == 1:
            known = sorted({name.partition(".")[0] for name in known if "." in name})
        return str(unknown("setting", where, known))
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    wish = _WISHES.get(first["type"], first["msg"]).format(**_limits(first), where=where)
    return f"setting {where!r} {wish}, not {first['input']!r}"


def _limits(mistake: ErrorDetails) -> dict[str, Any]:
    known = mistake.get("ctx", {})
    return {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in known.items()}


_WHOLE, _NUMBER = "wants a whole number", "wants a number"
_WISHES = {
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "bool_type": "wants true or false",
    "bool_parsing": "wants true or false",
    "string_type": "wants a word",
    "missing": "wants a longer list",
    "too_long": "wants a list of {max_length}",
    "tuple_type": "wants a list, such as [64, 64]",
    "dict_type": "wants names and values, such as {{name = 1}}",
    "model_type": "is a section; give one of its settings as {where}.NAME",
    "literal_error": "is one of {expected}",
    "greater_than": "wants more than {gt}",
    "greater_than_equal": "wants at least {ge}",
    "less_than": "wants less than {lt}",
    "less_than_equal": "wants at most {le}",
}
"""What a setting wants, by what pydantic calls the mistake."""


def _known(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            keys += _known(inner, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys
