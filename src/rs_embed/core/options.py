"""The keyword arguments of models: which there are, and checking their values."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rs_embed.core.errors import ModelError
from rs_embed.core.model_spec import ModelSpec, Option

__all__ = ["accepted_options", "check_options"]


def accepted_options(spec: ModelSpec) -> dict[str, Option]:
    """Return every keyword that the model takes: its own, and those that all models share."""
    shared: dict[str, Option] = {}
    if len(spec.variants) > 1:
        names = tuple(spec.variants)
        shared["variant"] = Option(names[0], "published size of the model", choices=names)
    if any(v.checkpoint for v in spec.variants.values()):
        shared["checkpoint"] = Option(None, "path of a weights file of your own", optional=True)
    if spec.locality == "pixel":
        shared["cell"] = Option(
            None,
            "pixels along the side of a grid cell; by default 1, and more where the grid would exceed 1 GB",
            type="int",
            low=1,
            high=4096,
            optional=True,
        )
    return shared | dict(spec.options)


def _check_option(spec: ModelSpec, name: str, value: Any, option: Option) -> Any:
    """Return the option's value in its own type, or say what is accepted."""
    where = f"{spec.name}: option {name}={value!r}"
    if value is None and option.optional:
        return None
    if option.choices is not None:
        found = [c for c in option.choices if c == value or str(c).lower() == str(value).lower()]
        if not found:
            raise ModelError(f"{where} is not known; accepted: {', '.join(map(repr, option.choices))}")
        return found[0]
    kinds: dict[str, Any] = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str, Path)}
    if not isinstance(value, kinds[option.type]) or (isinstance(value, bool) and option.type != "bool"):
        raise ModelError(f"{where} must be of type {option.type}")
    if option.type in ("int", "float"):
        low, high = option.low, option.high
        if (low is not None and value < low) or (high is not None and value > high) or value != value:
            raise ModelError(f"{where} must be from {low} to {high}")
    return float(value) if option.type == "float" else value


def check_options(spec: ModelSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options with their values; an unknown one is an error that names the accepted ones."""
    accepted = accepted_options(spec)
    for name in given:
        if name not in accepted:
            close = difflib.get_close_matches(name, accepted, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            names = ", ".join(accepted) or "none"
            raise ModelError(f"{spec.name} does not accept the option {name!r}{hint}; accepted: {names}")
    return {name: _check_option(spec, name, given.get(name, o.default), o) for name, o in accepted.items()}
