"""Numbers of bytes as a reader likes them."""

from __future__ import annotations

__all__ = ["human_bytes"]

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")


def human_bytes(n: float) -> str:
    """Return a number of bytes with three digits and a unit, as "1.5 MiB". Local."""
    if n < 1024:
        return f"{n:.0f} byte{'' if n == 1 else 's'}"
    power = 0
    while n >= 999.5 and power < len(_UNITS):
        n /= 1024
        power += 1
    return f"{n:.3g} {_UNITS[power - 1]}" if n < 999.5 else f"{n:.0f} {_UNITS[power - 1]}"
