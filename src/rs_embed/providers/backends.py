"""From a backend's name, path or instance to a provider."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from rs_embed.core.entry_points import FAULTS, provider_plugins
from rs_embed.core.errors import ProviderError, RSEmbedError
from rs_embed.providers.base import Provider, SceneProvider

__all__ = ["open_provider", "register_provider"]

NAMES = ("gee", "auto", "earth-search", "planetary-computer", "synthetic")


def open_provider(backend: Any, *, call: str | None = None, cache: bool = True) -> Provider:
    """Return the provider that ``backend`` names.

    Parameters
    ----------
    backend
        ``"auto"``, ``"gee"`` or ``"gee:project"``, ``"earth-search"``, ``"planetary-computer"``, the URL of a STAC API
        or of a static catalogue, ``"synthetic"``, the path of a static STAC catalogue or of a folder of rasters, a
        `Provider`, or the name of a plug-in, alone or with an argument: ``"name"``, ``"name:argument"``. A path that
        exists comes before a plug-in.
    call
        The user's call with ``backend="auto"``, for the message of a missing login.
    cache
        Whether pixels of open services are kept on this machine and looked up there.

    Raises
    ------
    ProviderError
        If the backend is unknown or needs a login.
    """
    if isinstance(backend, Provider):
        return backend
    if not isinstance(backend, str | Path) or not str(backend).strip():
        raise ProviderError(f"backend={backend!r} must be a name, a path or a Provider; names: {', '.join(NAMES)}")
    name = str(backend).strip()
    if name.lower() == "synthetic":
        from rs_embed.providers.synthetic import SyntheticProvider

        return SyntheticProvider()
    if name.lower().partition(":")[0] == "gee":
        return _earth_engine(name.partition(":")[2].strip() or None, call)
    if name.lower() in NAMES:
        return _open_services(name.lower(), _pixels(cache))
    if name.lower().startswith(("http://", "https://")):
        return _stac(name, _pixels(cache))
    path = _path(name)
    if path is not None:
        return _local(str(path.resolve()), path.stat().st_mtime_ns)
    plugin, _, argument = name.partition(":")
    if plugin.lower() in _factories():
        return _plugin(plugin.lower(), argument.strip() or None)
    raise ProviderError(_unknown(name))


def _path(name: str) -> Path | None:
    """The path that a backend's name is, if it exists."""
    try:
        path = Path(name).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError):  # too long for a path, or in a home that is not known here
        return None


def _unknown(name: str) -> str:
    """Say which names there are, which is close, and which plug-in failed."""
    known = (*NAMES, *sorted(_factories()))
    close = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    failures = provider_plugins().failures
    failed = "".join(f"; the plug-in {point!r} failed: {reason}" for point, reason in failures.items())
    return f"backend={name!r} is neither a known name ({', '.join(known)}) nor a path that exists{hint}{failed}"


_registered: dict[str, Callable[..., object]] = {}


def register_provider(name: str, factory: Callable[..., Provider], *, replace: bool = False) -> None:
    """Make ``backend=name`` open a provider of yours in this process.

    Parameters
    ----------
    name
        Without a colon: what follows one, as in ``backend="name:argument"``, is the factory's only argument.
    factory
        A class or function that returns a `Provider`.
    replace
        Put it in the place of one that was registered under the name before, or that a package brings.

    Raises
    ------
    ProviderError
        If the name is taken or cannot be one, or the factory cannot be called.
    """
    key = name.strip().lower() if isinstance(name, str) else ""
    if not key or ":" in key or key in NAMES:
        raise ProviderError(
            f"a backend cannot be named {name!r}: names of ours ({', '.join(NAMES)}) and ':' are not free"
        )
    if not callable(factory):
        raise ProviderError(f"backend {key!r}: {factory!r} is no class or function that makes a provider")
    if key in _factories() and not replace:
        raise ProviderError(f"a backend named {key!r} exists already; pass replace=True to put yours in its place")
    _registered[key] = factory
    _plugin.cache_clear()


def _factories() -> dict[str, Callable[..., object]]:
    """What makes the providers of others, by name; names of ours are never theirs."""
    installed = {name.lower(): factory for name, factory in provider_plugins().loaded.items()}
    return {name: factory for name, factory in {**installed, **_registered}.items() if name not in NAMES}


@lru_cache(maxsize=8)
def _plugin(name: str, argument: str | None) -> Provider:
    """Make a plug-in's provider, once for each name and argument."""
    arguments = () if argument is None else (argument,)
    try:
        made = _factories()[name](*arguments)
    except RSEmbedError:
        raise
    except FAULTS as error:
        said = f"backend {name!r} could not be opened: {type(error).__name__}: {error}"
        raise ProviderError(
            f'{said} (with an argument: backend="{name}:argument")' if not arguments else said
        ) from error
    if not isinstance(made, Provider):
        lacking = ", ".join(each for each in ("name", "source", "offers", "load") if not hasattr(made, each))
        kind = type(made).__name__
        raise ProviderError(f"backend {name!r} made an object of type {kind}, no Provider: it has no {lacking}")
    return made


def _earth_engine(project: str | None, call: str | None) -> Provider:
    """Open Earth Engine once for each login, so that its searches are remembered."""
    from rs_embed.providers.earth_engine_login import find_login, missing_login

    login = find_login(project)
    if login is None:
        raise missing_login(call)
    return _logged_in(login.project, login.fingerprint())


@lru_cache(maxsize=4)
def _logged_in(project: str, fingerprint: str) -> Provider:
    from rs_embed.providers.earth_engine import EarthEngineProvider

    return EarthEngineProvider(project)


@lru_cache(maxsize=8)
def _open_services(name: str, pixels: Path | None) -> Provider:
    """Open a service, or all of them for ``auto``, once: they remember what they were asked."""
    from rs_embed.providers.failover import FailoverProvider
    from rs_embed.providers.services import SERVICES

    if name == "auto":
        return FailoverProvider([_stac(each, pixels) for each in SERVICES])
    return _stac(name, pixels)


@lru_cache(maxsize=8)
def _stac(address: str, pixels: Path | None) -> SceneProvider:
    """Open a service by its name or URL once, with a cache of pixels where a folder is given."""
    from rs_embed.providers.cache import cached
    from rs_embed.providers.services import SERVICES
    from rs_embed.providers.stac import open_stac

    service = open_stac(SERVICES.get(address, address))
    return service if pixels is None else cached(service, folder=pixels)


def _pixels(cache: bool) -> Path | None:
    """The folder of cached pixels, None without a cache."""
    from rs_embed.providers.cache import pixel_folder

    return pixel_folder() if cache else None


@lru_cache(maxsize=8)
def _local(path: str, stamp: int) -> Provider:
    """Open a folder once: its catalogue is read when it is opened, and again after it changed."""
    from rs_embed.providers.local import open_local

    return open_local(Path(path))
