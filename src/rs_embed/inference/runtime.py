"""Loaded encoders, kept between calls."""

from __future__ import annotations

import importlib.util
import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rs_embed.core.encoding import Batch, Encoder, Features, InputBatch
from rs_embed.core.entry_points import FAULTS
from rs_embed.core.errors import MissingExtraError, ModelError, RSEmbedError
from rs_embed.core.model_spec import Build, ModelSpec
from rs_embed.inference.features import check_encoder
from rs_embed.inference.setup import Setup

__all__ = ["Runtime", "check_precision", "load_runtime", "pick_device", "reset"]

KEPT = 2
"""Loaded models that stay in memory."""
PRECISIONS = ("float32", "bfloat16", "float16")

_cache: OrderedDict[tuple[Any, ...], Runtime] = OrderedDict()
_lock = threading.Lock()


@dataclass
class Runtime:
    """An encoder on its device."""

    encoder: Encoder
    device: str
    precision: str
    checkpoint: Mapping[str, Any] | None
    """Where the weights came from, for ``meta``."""
    spec: ModelSpec | None = field(default=None, repr=False)
    """The model: its identity is part of the key, so it lives as long as this."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def encode(self, batch: Batch) -> Features:
        """Run the encoder on a batch of numpy arrays and return numpy arrays."""
        if self.encoder.net is None:
            return _features(self.encoder, self.encoder(batch))
        import torch

        with self.lock, torch.inference_mode():
            inputs = {name: self._to_device(item) for name, item in batch.inputs.items()}
            moved = replace(batch, inputs=inputs)
            if self.precision == "float32":
                found = self.encoder(moved)
            else:
                with torch.autocast(self.device.split(":")[0], dtype=getattr(torch, self.precision)):
                    found = self.encoder(moved)
            arrays = vars(_features(self.encoder, found)).values()
            return Features(*(None if x is None else x.float().cpu().numpy() for x in arrays))

    def _to_device(self, item: InputBatch) -> InputBatch:
        import torch

        arrays = {}
        for name in ("pixels", "valid"):
            tensor = torch.from_numpy(np.ascontiguousarray(getattr(item, name)))
            if self.device.startswith("cuda"):
                tensor = tensor.pin_memory().to(self.device, non_blocking=True)
            elif self.device != "cpu":
                tensor = tensor.to(self.device)
            arrays[name] = tensor
        return InputBatch(**(vars(item) | arrays))


def _features(encoder: Encoder, found: Any) -> Features:
    if not isinstance(found, Features):
        raise ModelError(f"the encoder {type(encoder).__name__} returned a {type(found).__name__}, not Features")
    return found


def pick_device(device: str, *, torch_needed: bool) -> str:
    """Return the device's name: ``auto`` is CUDA where there is one.

    Raises
    ------
    ModelError
        If torch does not know the device, or it is not there.
    """
    if not isinstance(device, str):
        raise ModelError(f"device={device!r} must be a name such as 'auto', 'cpu' or 'cuda'")
    name = device.strip().lower()
    if not torch_needed:
        if name.split(":")[0] not in ("auto", "cpu", "cuda", "mps", "xpu"):
            raise ModelError(f"device={device!r} is not known; accepted: 'auto', 'cpu', 'cuda' or a torch device")
        return "cpu"
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(name)
    except RuntimeError as error:
        raise ModelError(
            f"device={device!r} is not known; accepted: 'auto', 'cpu', 'cuda' or a torch device"
        ) from error
    try:
        torch.empty(1, device=found).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        why = str(error).splitlines()[0]
        raise ModelError(f"device={device!r} cannot be used here ({why}); use device='cpu' or 'auto'") from error
    return str(found)


def check_precision(precision: str) -> None:
    """Raise `ModelError` unless it is one of `PRECISIONS`."""
    if precision not in PRECISIONS:
        raise ModelError(f"precision={precision!r} is not known; accepted: {', '.join(map(repr, PRECISIONS))}")


def load_runtime(setup: Setup, device: str, precision: str = "float32") -> Runtime:
    """Return the encoder of a setup with its weights, loading it only where it is not loaded yet.

    Raises
    ------
    ModelError
        For an unknown device or precision, a missing extra, or weights that do not fit.
    """
    check_precision(precision)
    needs_torch = setup.variant.checkpoint is not None
    if needs_torch and importlib.util.find_spec("torch") is None:
        raise MissingExtraError(
            f'{setup.spec.name} runs on torch, which is not installed: pip install "rs-embed[torch]"'
        )
    where = pick_device(device, torch_needed=needs_torch)
    key = (*setup.runtime_key(), where, precision)
    with _lock:
        found = _cache.get(key)
        if found is None:
            found = _load(setup, where, precision)
            _cache[key] = found
            while len(_cache) > KEPT:
                _cache.popitem(last=False)
        _cache.move_to_end(key)
        return found


def _load(setup: Setup, device: str, precision: str) -> Runtime:
    build = setup.build()
    encoder = _build(setup, build)
    provenance: Mapping[str, Any] | None = None
    if encoder.net is not None:
        if setup.variant.checkpoint is not None:
            from rs_embed.inference.weights import load_weights

            provenance = load_weights(encoder, setup.spec, setup.variant_name, build, checkpoint=setup.checkpoint)
        encoder.net.eval().requires_grad_(False).to(device)
    return Runtime(encoder, device if encoder.net is not None else "cpu", precision, provenance, setup.spec)


def _build(setup: Setup, build: Build) -> Encoder:
    """Build the encoder; the caller's random numbers of torch stay where they were."""
    quiet: AbstractContextManager[None] = nullcontext()
    if setup.variant.checkpoint is not None:
        import torch

        quiet = torch.random.fork_rng(devices=[])
    try:
        with quiet:
            return check_encoder(setup.spec, setup.spec.encoder(build))
    except RSEmbedError:
        raise
    except FAULTS as error:
        said = f"the builder of {setup.spec.name} failed: {type(error).__name__}: {error}"
        raise ModelError(said) from error


def reset() -> dict[str, int]:
    """Free all loaded models; return how many there were."""
    with _lock:
        count = len(_cache)
        _cache.clear()
    return {"models": count}
