"""Seeded random weights in place of a checkpoint: what a net computes can be tested before its file is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rs_embed.core.encoding import Encoder
from rs_embed.core.errors import ModelError
from rs_embed.core.model_spec import Build, ModelSpec, Variant

__all__ = ["random_encoder", "with_random_weights"]

SEED = 7
_STD = 0.02
"""Of biases that a fresh net has as zero: an offset that is forgotten would not show."""


def random_encoder(spec: ModelSpec, build: Build, *, seed: int = SEED) -> Encoder:
    """Build an encoder whose net has the random weights of its own constructor, always the same ones.

    Raises
    ------
    ModelError
        If the net leaves weights without a number.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = spec.encoder(build)
        if getattr(encoder, "net", None) is None:
            return encoder
        for name, weight in encoder.net.named_parameters():
            if weight.ndim == 1 and not weight.any():
                torch.nn.init.normal_(weight, std=_STD)
            if not torch.isfinite(weight).all():
                raise ModelError(f"{spec.name}: the constructor of its net leaves {name!r} without numbers")
    encoder.net.eval().requires_grad_(False)
    return encoder


def with_random_weights(spec: ModelSpec, *, seed: int = SEED) -> ModelSpec:
    """Return the model with nothing to download: its variants have random weights and no checkpoint."""

    def build_encoder(build: Build) -> Encoder:
        return random_encoder(spec, build, seed=seed)

    def without_checkpoint(variant: Variant, options: Mapping[str, Any]) -> Variant:
        return replace(spec.adapt(variant, options), checkpoint=None)

    return replace(spec, encoder=build_encoder, adapt=without_checkpoint)
