"""The catalogue: which models there are, and the lookup of one by name or alias."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from functools import lru_cache

from rs_embed.core.entry_points import MODELS, Found, load_group, provider_plugins
from rs_embed.core.errors import ModelError
from rs_embed.core.model_spec import ModelSpec

__all__ = ["broken_plugins", "get_spec", "list_models", "register"]

_registered: dict[str, ModelSpec] = {}
_RASTERS = (".tif", ".tiff", ".zarr")
_TABLES = (".parquet", ".geoparquet", ".gpq")


@lru_cache(maxsize=1)
def _builtin() -> dict[str, ModelSpec]:
    """The models of `rs_embed.models`: every module there that exposes ``MODELS``."""
    package = importlib.import_module("rs_embed.models")
    names = [m.name for m in pkgutil.iter_modules(package.__path__) if not m.ispkg and not m.name.startswith("_")]
    modules = [importlib.import_module(f"rs_embed.models.{name}") for name in names]
    return {spec.name: spec for module in modules for spec in module.MODELS}


@lru_cache(maxsize=64)
def _module_of(name: str) -> ModelSpec | None:
    """The built-in model whose module has its name, without importing the others."""
    package = importlib.import_module("rs_embed.models")
    if name not in {m.name for m in pkgutil.iter_modules(package.__path__) if not m.ispkg and m.name[0] != "_"}:
        return None
    specs = importlib.import_module(f"rs_embed.models.{name}").MODELS
    return next((spec for spec in specs if spec.name == name), None)


def _specs(loaded: object) -> tuple[ModelSpec, ...]:
    """Return the models that an entry point names; none may have a name of ours."""
    specs = (loaded,) if isinstance(loaded, ModelSpec) else loaded
    if not isinstance(specs, Sequence) or isinstance(specs, str) or not specs:
        raise TypeError(f"it names a {type(loaded).__name__}, not a ModelSpec or a sequence of them")
    for spec in specs:
        if not isinstance(spec, ModelSpec):
            raise TypeError(f"it names a sequence with a {type(spec).__name__}, which is no ModelSpec")
        clash = [name for name in (spec.name, *spec.aliases) if name.lower() in _names(_builtin())]
        if clash:
            raise ValueError(f"its model {spec.name!r} takes the name {clash[0]!r}, which rs-embed has already")
    return tuple(specs)


@lru_cache(maxsize=1)
def _found() -> Found[tuple[ModelSpec, ...]]:
    """The models of third parties, by entry point."""
    return load_group(MODELS, _specs)


def _plugins() -> dict[str, ModelSpec]:
    """The models of third parties, by name; of two with one name, the first counts."""
    table: dict[str, ModelSpec] = {}
    for specs in _found().loaded.values():
        table = {spec.name: spec for spec in specs} | table
    return table


def _clashes() -> Iterator[tuple[str, str]]:
    """Yield entry points and reasons where another plug-in has a name already."""
    owners: dict[str, str] = {}
    for point, specs in _found().loaded.items():
        for name in {name.lower() for spec in specs for name in (spec.name, *spec.aliases)}:
            owner = owners.setdefault(name, point)
            if owner != point:
                yield point, f"the model name {name!r} is taken by the plug-in {owner!r}"


def broken_plugins() -> dict[str, str]:
    """Return ``{entry point: reason}`` of the plug-ins that cannot be used: of models, and of backends."""
    backends = {f"{name} (backend)": reason for name, reason in provider_plugins().failures.items()}
    return {**_found().failures, **dict(_clashes()), **backends}


def register(spec: ModelSpec, *, replace: bool = False) -> None:
    """Add a model to the catalogue of this process; it comes before an installed plug-in of the same name.

    Raises
    ------
    ModelError
        If it is no `ModelSpec`, or the name or an alias is taken and ``replace`` is false.
    """
    if not isinstance(spec, ModelSpec):
        raise ModelError(f"register takes a ModelSpec, got a {type(spec).__name__}")
    taken = _names(_builtin() | _registered)
    clash = [name for name in (spec.name, *spec.aliases) if name.strip().lower() in taken]
    if clash and not replace:
        raise ModelError(f"a model named {clash[0]!r} exists already; pass replace=True to put yours in its place")
    _registered[spec.name] = spec


def _names(catalogue: dict[str, ModelSpec]) -> dict[str, ModelSpec]:
    """Return ``{name or alias: spec}``."""
    table = {alias.lower(): spec for spec in catalogue.values() for alias in spec.aliases}
    return table | {spec.name.lower(): spec for spec in catalogue.values()}


def list_models(*, include_aliases: bool = False) -> list[str]:
    """Return the ids of all models, sorted.

    Parameters
    ----------
    include_aliases
        Also list the other names under which models are known.
    """
    catalogue = _plugins() | _builtin() | _registered
    return sorted(_names(catalogue)) if include_aliases else sorted(catalogue)


def _raster(address: str) -> ModelSpec:
    """The model that reads a raster or a Zarr store of embeddings."""
    found = importlib.import_module("rs_embed.models._own").own_product(address)
    assert isinstance(found, ModelSpec)
    return found


def _table(address: str) -> ModelSpec:
    """The model that reads a table of embeddings."""
    found = importlib.import_module("rs_embed.models._own_chips").own_chips(address)
    assert isinstance(found, ModelSpec)
    return found


def get_spec(name: str) -> ModelSpec:
    """Return the model of that name or alias; case and surrounding blanks do not matter.

    The path or URL of a GeoTIFF, a Zarr store or a Parquet file of embeddings is the name of the model that reads it.

    Raises
    ------
    ModelError
        If there is none; the message lists close matches.
    """
    if not isinstance(name, str):
        raise ModelError(f"model={name!r} must be a name; list_models() lists them")
    wanted = name.strip().lower()
    found = _names(_registered).get(wanted) or _module_of(wanted)
    found = found or _names(_builtin() | _registered).get(wanted) or _names(_plugins()).get(wanted)
    if found is None and (wanted.rstrip("/").endswith(_RASTERS) or ".zarr/" in wanted):
        return _raster(name.strip())
    if found is None and (wanted.partition("?")[0] if "://" in wanted else wanted).endswith(_TABLES):
        return _table(name.strip())
    if found is None:
        known = list_models(include_aliases=True)
        close = difflib.get_close_matches(wanted, known, n=3)
        hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
        raise ModelError(f"Unknown model {name!r}; {hint}Available: {list_models()}{_failed(wanted)}")
    return found


def _failed(wanted: str) -> str:
    """Say which plug-ins of models could not be loaded: the reason of the one that is wanted, the names of others."""
    failures = _found().failures
    if wanted in failures:
        return f" (the plug-in {wanted!r} failed: {failures[wanted]})"
    return f" (plug-ins that failed: {', '.join(failures)}; see broken_plugins())" if failures else ""
