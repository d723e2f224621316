"""What metadata say of every run: the library, the versions behind the numbers, and values as JSON types."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Any

import numpy as np

from rs_embed import __version__
from rs_embed.core.times import TemporalSpec

__all__ = ["LIBRARY", "SCHEMA", "describe_time", "plain", "versions_used"]

SCHEMA = "rs-embed/1"
LIBRARY = (
    "@software{rs_embed, title = {rs-embed: one call from a place and a time to an embedding}, "
    f"version = {{{__version__}}}, year = {{2026}}}}"
)


@cache
def versions_used() -> dict[str, str]:
    """Versions of what takes part in the numbers."""
    found = {"rs-embed": __version__, "python": platform.python_version()}
    for name in ("numpy", "rasterio", "odc-geo", "torch"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def plain(value: Any) -> Any:
    """Return ``value`` as JSON types: no tuples, numpy scalars or NaN."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    return str(value)


def describe_time(temporal: TemporalSpec | None) -> dict[str, Any] | None:
    """Return a span of time as JSON types."""
    if temporal is None:
        return None
    start, end = temporal.interval
    found: dict[str, Any] = {"mode": temporal.mode, "start": start.date().isoformat()}
    found["end"] = end.date().isoformat()
    if temporal.mode == "year":
        found["year"] = temporal.year
    return found
