"""Checkpoints of random weights under the published names, and what a call of ours feeds its net."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from rs_embed.core.model_spec import Build
from rs_embed.core.registry import get_spec
from rs_embed.inference.runtime import _cache

__all__ = ["Watch", "bare_forward", "loaded_net", "random_checkpoint", "watched"]


def random_checkpoint(folder: Path, model: str, variant: str, prefix: str = "") -> str:
    """Write a file of random weights that the variant loads, and return its path."""
    torch.manual_seed(0)
    spec = get_spec(model)
    bands = {name: item.bands for name, item in spec.inputs.items()}
    sensors = {name: item.sources[0].sensor for name, item in spec.inputs.items()}
    options = {name: option.default for name, option in spec.options.items()}
    net = spec.encoder(Build(spec.variants[variant], options, bands, sensors)).net
    path = folder / f"{model}-{variant}.pt"
    torch.save({prefix + name: value for name, value in net.state_dict().items()}, path)
    return str(path)


def loaded_net() -> Any:
    """Return the net that was used last."""
    return next(reversed(_cache.values())).encoder.net


class Watch:
    """What a net was given, and the seconds that it took over it."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.seconds: list[float] = []
        self._start = 0.0

    def before(self, net: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.calls.append((args, kwargs))
        self._start = time.perf_counter()

    def after(self, net: Any, args: tuple[Any, ...], kwargs: dict[str, Any], found: Any) -> None:
        self.seconds.append(time.perf_counter() - self._start)


@contextmanager
def watched(net: Any) -> Iterator[Watch]:
    """Watch the forward passes of a net."""
    watch = Watch()
    hooks = (
        net.register_forward_pre_hook(watch.before, with_kwargs=True),
        net.register_forward_hook(watch.after, with_kwargs=True),
    )
    try:
        yield watch
    finally:
        for hook in hooks:
            hook.remove()


def bare_forward(net: Any, watch: Watch) -> Callable[[], None]:
    """Return a function that does the watched forward passes, of the same tensors, and nothing else."""
    calls = list(watch.calls)

    def run() -> None:
        with torch.inference_mode():
            for args, kwargs in calls:
                net(*args, **kwargs)

    return run
