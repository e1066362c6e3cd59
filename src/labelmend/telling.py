"""Results that show themselves as the command line shows them."""

from __future__ import annotations

from typing import Any


class Telling:
    """What ends a notebook's cell, or is printed, as the text that the command line prints of it.

    A debugger, a log or a list shows ``repr``, which is a line.

    >>> class Two(Telling):
    ...     def to_text(self):
    ...         return "2 labels"
    >>> print(Two())
    2 labels
    """

    __slots__ = ()

    def to_text(self) -> str:
        """A few lines for a person."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.to_text()

    def __init_subclass__(cls, **options: Any) -> None:
        # IPython looks class by class: an inherited method comes after the class's own repr.
        super().__init_subclass__(**options)
        cls._repr_pretty_ = Telling._repr_pretty_  # type: ignore[method-assign]

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What IPython asks for before ``repr``."""
        del cycle  # nothing here holds itself
        printer.text(self.to_text())
