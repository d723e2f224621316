"""The weights of a golden case in a net."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from rs_embed.core.model_spec import GoldenCase

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["accepted", "arguments", "loaded", "shapes_of"]

_COUNTER = "num_batches_tracked"  # BatchNorm's, no parameter


def loaded(
    net: nn.Module, case: GoldenCase, convert: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
) -> nn.Module:
    """Load a case's weights strictly.

    Parameters
    ----------
    net : nn.Module
        Built from the case's configuration.
    case : GoldenCase
        Weights under their published names, or a checkpoint's path.
    convert : callable
        From the published names to the net's.

    Returns
    -------
    nn.Module
        `net`, in evaluation mode and of the weights' own precision.

    Raises
    ------
    ValueError
        If the case has no weights.
    RuntimeError
        If names or shapes are others than the net's (torch names them).
    """
    import torch

    if case.state is None:
        raise ValueError("the case has no weights, and the net cannot do without")
    if isinstance(case.state, str):
        state = torch.load(case.state, map_location="cpu", weights_only=True)
    else:
        state = {name: torch.from_numpy(value) for name, value in case.state.items()}
    converted = {name: value for name, value in convert(state).items() if not name.endswith(_COUNTER)}
    dtype = next((value.dtype for value in converted.values() if value.is_floating_point()), torch.float32)
    net.to(dtype).load_state_dict(converted, strict=True)
    return net.eval()


def shapes_of(net: nn.Module, prefix: str = "") -> dict[str, tuple[int, ...]]:
    """Return ``{prefix + name: shape}`` of a net's parameters and buffers, without BatchNorm's step counters."""
    state = net.state_dict()
    return {prefix + name: tuple(value.shape) for name, value in state.items() if not name.endswith(_COUNTER)}


def accepted(function: Callable[..., Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of `config` that are arguments of `function`: a golden file's may hold others."""
    names = inspect.signature(function).parameters
    return {name: value for name, value in config.items() if name in names}


def arguments(
    function: Callable[..., Any], config: Mapping[str, Any], *, without_effect: Sequence[str] = ()
) -> dict[str, Any]:
    """Return a configuration as arguments of `function`, and refuse what might change the net and is not known.

    Parameters
    ----------
    function : callable
        The net's constructor.
    config : mapping
        The authors' arguments, under our names.
    without_effect : sequence of str
        Patterns (fnmatch) of their arguments that leave the encoder's outputs as they are.

    Returns
    -------
    dict
        The entries of `config` that `function` takes.

    Raises
    ------
    ValueError
        If there is another argument.
    """
    known = accepted(function, config)
    strange = [name for name in config if name not in known and not any(fnmatchcase(name, p) for p in without_effect)]
    if strange:
        raise ValueError(f"the net has no argument {strange[0]!r} (={config[strange[0]]!r}), which may change it")
    return known
