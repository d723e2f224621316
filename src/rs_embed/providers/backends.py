"""From a backend's name, path or instance to a provider."""

from __future__ import annotations

import difflib
from functools import lru_cache
from pathlib import Path
from typing import Any

from rs_embed.core.errors import ProviderError
from rs_embed.providers.base import Provider

__all__ = ["open_provider"]

NAMES = ("gee", "auto", "earth-search", "planetary-computer", "synthetic")


def open_provider(backend: Any, *, call: str | None = None) -> Provider:
    """Return the provider that ``backend`` names.

    Parameters
    ----------
    backend
        ``"synthetic"``, the path of a static STAC catalogue or of a folder of rasters, or a `Provider`.
    call
        The user's call with ``backend="auto"``, for the message of a missing login.

    Raises
    ------
    ProviderError
        If the backend is unknown, needs a login, or is not part of this version.
    """
    if isinstance(backend, Provider):
        return backend
    if not isinstance(backend, str | Path) or not str(backend).strip():
        raise ProviderError(f"backend={backend!r} must be a name, a path or a Provider; names: {', '.join(NAMES)}")
    name = str(backend).strip()
    if name.lower() == "synthetic":
        from rs_embed.providers.synthetic import SyntheticProvider

        return SyntheticProvider()
    if name.lower() == "gee":
        again = f"The same without an account:\n    {call}" if call else 'Without an account: backend="auto".'
        raise ProviderError(
            "backend='gee' needs a login to Google Earth Engine, and none was found: install earthengine-api and run "
            f"`earthengine authenticate`, then name your project with `earthengine set_project`. {again}"
        )
    if name.lower() in NAMES or name.startswith(("http://", "https://")):
        raise ProviderError(
            f"backend={name!r} (open STAC services) is not part of this version yet; "
            "give the path of a STAC catalogue or of a folder of rasters, or 'synthetic'"
        )
    path = Path(name).expanduser()
    if path.exists():
        return _local(str(path.resolve()), path.stat().st_mtime_ns)
    close = difflib.get_close_matches(name.lower(), NAMES, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ProviderError(f"backend={name!r} is neither a known name ({', '.join(NAMES)}) nor a path that exists{hint}")


@lru_cache(maxsize=8)
def _local(path: str, stamp: int) -> Provider:
    """Open a folder once: its catalogue is read when it is opened, and again after it changed."""
    from rs_embed.providers.local import open_local

    return open_local(Path(path))
