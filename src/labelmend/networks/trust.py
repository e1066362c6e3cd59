"""Whose code may run: a network outside labelmend is imported only when its user names it."""

from __future__ import annotations

from labelmend.errors import SettingsError


def check_named(wanted: str, named: str | None, where: str) -> None:
    """Refuse to import code that a run folder asks for and its user does not.

    Args:
        wanted: the network that the run was trained with.
        named: the network that the user names, if any.
        where: the run folder, for the message.

    Raises:
        SettingsError: when ``wanted`` is ``module:Class`` and was not named, or another was.

    >>> check_named("unet", None, "runs/a")
    >>> check_named("mine:Net", None, "runs/a")
    Traceback (most recent call last):
    labelmend.errors.SettingsError: runs/a was trained with network 'mine:Net', which is code ...
    """
    if named is None and ":" in wanted:
        raise SettingsError(
            f"{where} was trained with network {wanted!r}, which is code outside labelmend; "
            f"if you trust it, name it to have it imported: --network {wanted}"
        )
    if named is not None and named != wanted:
        raise SettingsError(
            f"{where} was trained with network {wanted!r}, not {named!r}; "
            + ("repeat that name" if ":" in wanted else "leave --network out")
        )
