"""The static facts of a model as a plain dict."""

from __future__ import annotations

import json
from typing import Any

from rs_embed.core.model_spec import InputSpec, ModelSpec, Option, Variant
from rs_embed.core.options import accepted_options

__all__ = ["describe"]


def _option(option: Option) -> dict[str, Any]:
    found: dict[str, Any] = {"type": option.type, "default": option.default, "description": option.description}
    if option.choices is not None:
        found["choices"] = list(option.choices)
    for name in ("low", "high"):
        if getattr(option, name) is not None:
            found[name] = getattr(option, name)
    return found


def _input(item: InputSpec) -> dict[str, Any]:
    frames = item.frames
    return {
        "sensors": [
            {"sensor": s.sensor, "trained_on": s.trained_on, "bands": list(s.bands or item.bands)} for s in item.sources
        ],
        "bands": list(item.bands),
        "gsd_m": item.gsd,
        "gsd_range_m": list(item.gsd_range),
        "frames": {
            "kind": frames.kind,
            "step": frames.step,
            "min": frames.min,
            "max": frames.max,
            "missing": frames.missing,
        },
        "missing_band": item.missing_band,
        "fill": item.fill if isinstance(item.fill, str) else list(item.fill),
        "any_bands": item.any_bands,
        "subset": item.subset,
        "any_wavelengths": item.foreign is not None,
        "cloudy_pct": item.cloudy_pct,
        "preprocessing": [step.describe() for step in item.sources[0].steps],
    }


def _variant(variant: Variant) -> dict[str, Any]:
    window, checkpoint = variant.window, variant.checkpoint
    found: dict[str, Any] = {
        "dims": dict(variant.dims),
        "parameters": variant.parameters,
        "modalities": list(variant.modalities),
        "conditions": None if variant.conditions is None else list(variant.conditions),
        "window": {side: getattr(window, side) for side in ("size", "patch", "min", "max", "context")},
        "checkpoint": None,
    }
    if checkpoint is not None:
        found["checkpoint"] = {
            "repository": checkpoint.repository,
            "url": checkpoint.url,
            "file": checkpoint.file,
            "revision": checkpoint.revision,
            "sha256": checkpoint.sha256,
            "size_bytes": checkpoint.size,
            "pin": "pinned" if checkpoint.pinned else "unpinned",
        }
    return found


def _temporal(spec: ModelSpec) -> str | None:
    """How the model sees time: the kind of its first input's frames, ``annual``, ``static``, or None without inputs."""
    if spec.product is not None:
        return "acquisitions" if spec.product.chips else "annual" if spec.product.annual else "static"
    first = next(iter(spec.inputs.values()), None)
    return first.frames.kind if first else None


def describe(spec: ModelSpec) -> dict[str, Any]:
    """Return the static facts of a model, JSON types only; nothing is loaded."""
    default = spec.variants[spec.default_variant]
    first = next(iter(spec.inputs.values()), None)
    facts = {
        "model": spec.name,
        "title": spec.title,
        "aliases": list(spec.aliases),
        "type": "on_the_fly" if spec.product is None else "precomputed",
        "backend": ["provider", "tensor"] if spec.product is None else ["auto"],
        "output": ["pooled"] if spec.product is not None and spec.product.chips else ["pooled", "grid"],
        "pooled": spec.pooled_says,
        "pooled_kind": spec.pooled,
        "locality": spec.locality,
        "conditions": list(spec.conditions),
        "requires": list(spec.requires),
        "inputs": {name: _input(item) for name, item in spec.inputs.items()},
        "modalities": {name: list(inputs) for name, inputs in spec.modalities.items()},
        "temporal": _temporal(spec),
        "image_size": default.window.size,
        "dims": dict(default.dims),
        "variants": {name: _variant(variant) for name, variant in spec.variants.items()},
        "model_config": {name: _option(option) for name, option in accepted_options(spec).items()},
        "defaults": {
            "variant": spec.default_variant,
            "scale_m": first.gsd if first else None,
            "cloudy_pct": first.cloudy_pct if first else None,
            "composite": "median" if spec.product is None else None,
        },
        "license": dict(spec.licence),
        "citation": spec.citation,
        "source": spec.source,
        "notes": spec.notes,
    }
    plain: dict[str, Any] = json.loads(json.dumps(facts))
    return plain
