"""Checks of single values that the specifications share."""

from __future__ import annotations

import math
from typing import Any

from rs_embed.core.errors import SpecError

__all__ = ["check_choice", "check_number"]


def check_number(owner: str, name: str, value: Any) -> float:
    """Return ``value`` as a finite float, or raise `SpecError`."""
    if isinstance(value, bool | str) or not hasattr(value, "__float__"):
        raise SpecError(f"{owner}.{name} must be a number, got {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise SpecError(f"{owner}.{name} must be a number, got {value!r}") from error
    if not math.isfinite(number):
        raise SpecError(f"{owner}.{name} must be finite, got {value!r}")
    return number


def check_choice(owner: str, name: str, value: Any, accepted: tuple[str, ...]) -> None:
    """Raise `SpecError` unless ``value`` is one of ``accepted``."""
    if value not in accepted:
        raise SpecError(f"{owner}.{name}={value!r} is not known; accepted: {', '.join(map(repr, accepted))}")
