"""What installed packages add: objects under an entry-point group, and why some could not be had."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

from rs_embed.core.errors import RSEmbedError

__all__ = ["FAULTS", "MODELS", "PROVIDERS", "Found", "load_group", "provider_plugins"]

MODELS = "rs_embed.models"
"""Group of models: each entry point names a `ModelSpec` or a sequence of them."""
PROVIDERS = "rs_embed.providers"
"""Group of providers: each entry point names a class or function that makes a `Provider`."""

FAULTS = (
    *(ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError, LookupError, ArithmeticError),
    *(AssertionError, RuntimeError, OSError, EOFError, BufferError, Warning, RSEmbedError),
)
"""What code of others raises where it is at fault: all but the wish to stop and a machine without memory."""

T = TypeVar("T")


@dataclass(frozen=True)
class Found(Generic[T]):
    """What the entry points of a group name."""

    loaded: Mapping[str, T]
    """By the entry point's name."""
    failures: Mapping[str, str]
    """``{entry point: reason}`` of those that could not be had."""


def load_group(group: str, check: Callable[[object], T]) -> Found[T]:
    """Load every entry point of a group; one that is broken is noted and breaks nothing else.

    Parameters
    ----------
    group
        Name of the group.
    check
        Turns what an entry point names into what the group promises, or raises.
    """
    from importlib import metadata  # 27 ms that a built-in model need not pay

    loaded: dict[str, T] = {}
    failures: dict[str, str] = {}
    for point in metadata.entry_points(group=group):
        try:
            if point.name in loaded:
                raise ValueError(f"the entry point {point.name!r} of {group} is another package's already")
            loaded[point.name] = check(point.load())
        except FAULTS as error:
            said = f"{type(error).__name__}: {error}"
            failures[point.name] = f"{failures[point.name]}; {said}" if point.name in failures else said
    return Found(loaded, failures)


def _factory(loaded: object) -> Callable[..., object]:
    if not callable(loaded):
        raise TypeError(f"it names a {type(loaded).__name__}, not a class or function that makes a provider")
    return loaded


@lru_cache(maxsize=1)
def provider_plugins() -> Found[Callable[..., object]]:
    """Return what makes the providers of installed packages, by the backend's name."""
    return load_group(PROVIDERS, _factory)
