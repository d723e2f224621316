"""The catalogue: which models there are, and the lookup of one by name or alias."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import lru_cache

from rs_embed.core.errors import ModelError, RSEmbedError
from rs_embed.core.model_spec import ModelSpec

__all__ = ["broken_plugins", "get_spec", "list_models", "register"]

GROUP = "rs_embed.models"
"""Entry-point group of third parties' models: each names a `ModelSpec` or a sequence of them."""

_BROKEN = (ImportError, SyntaxError, AttributeError, TypeError, ValueError, RuntimeError, OSError, RSEmbedError)

_registered: dict[str, ModelSpec] = {}
_failures: dict[str, str] = {}


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


@lru_cache(maxsize=1)
def _plugins() -> dict[str, ModelSpec]:
    """The models of third parties; one that is broken is noted and breaks nothing else."""
    from importlib import metadata  # 27 ms that a built-in model need not pay

    found: dict[str, ModelSpec] = {}
    for point in metadata.entry_points(group=GROUP):
        try:
            loaded = point.load()
            specs = [loaded] if isinstance(loaded, ModelSpec) else list(loaded)
            found |= {spec.name: spec for spec in specs}
        except _BROKEN as error:
            _failures[point.name] = f"{type(error).__name__}: {error}"
    return found


def broken_plugins() -> dict[str, str]:
    """Return ``{entry point: reason}`` of the plugins that could not be loaded."""
    _plugins()
    return dict(_failures)


def register(spec: ModelSpec, *, replace: bool = False) -> None:
    """Add a model to the catalogue of this process.

    Raises
    ------
    ModelError
        If the name or an alias is taken and ``replace`` is false.
    """
    taken = _names(_builtin() | _registered)
    clash = [name for name in (spec.name, *spec.aliases) if name in taken]
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


def get_spec(name: str) -> ModelSpec:
    """Return the model of that name or alias; case and surrounding blanks do not matter.

    Raises
    ------
    ModelError
        If there is none; the message lists close matches.
    """
    if not isinstance(name, str):
        raise ModelError(f"model={name!r} must be a name; list_models() lists them")
    wanted = name.strip().lower()
    found = _registered.get(wanted) or _module_of(wanted)
    found = found or _names(_builtin() | _registered).get(wanted) or _names(_plugins()).get(wanted)
    if found is None:
        known = list_models(include_aliases=True)
        close = difflib.get_close_matches(wanted, known, n=3)
        hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
        failed = f" (plugin {wanted!r} failed: {_failures[wanted]})" if wanted in _failures else ""
        raise ModelError(f"Unknown model {name!r}; {hint}Available: {list_models()}{failed}")
    return found
