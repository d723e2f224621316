"""Models of the catalogue as tests can afford them: the smallest variant, with few blocks where it is large."""

from __future__ import annotations

from dataclasses import replace

from rs_embed.core.model_spec import ModelSpec

LARGE = 50_000_000
"""Weights of a variant from which on the contract runs on a net of the same width with fewer blocks."""
BLOCKS = 2
DEPTHS = ("depth", "layers", "num_layers", "encoder_depth")
"""What nets call their number of blocks."""


def shallow(spec: ModelSpec, name: str | None = None) -> ModelSpec:
    """The model with a variant (the smallest one) cut to two blocks, or itself where that is small enough."""
    name = name or smallest(spec)
    variant = spec.variants[name]
    deep = {key: BLOCKS for key in DEPTHS if isinstance(n := variant.config.get(key), int) and n > BLOCKS}
    if (variant.parameters or 0) <= LARGE or not deep:
        return spec
    return replace(spec, variants={**spec.variants, name: replace(variant, config={**variant.config, **deep})})


def smallest(spec: ModelSpec) -> str:
    """Name of the variant with the fewest weights."""
    return min(spec.variants, key=lambda name: spec.variants[name].parameters or 0)
