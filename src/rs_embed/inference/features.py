"""What an encoder returned against what its spec says: a model of somebody else may be wrong."""

from __future__ import annotations

from typing import Any

from rs_embed.core.encoding import Encoder, Features
from rs_embed.core.errors import ModelError
from rs_embed.core.model_spec import ModelSpec
from rs_embed.inference.plan import Plan

__all__ = ["check_encoder", "check_features", "check_vector"]


def check_encoder(spec: ModelSpec, encoder: Any) -> Encoder:
    """Return what a builder made, or raise `ModelError` if it is no encoder."""
    if isinstance(encoder, Encoder):
        return encoder
    lacking = ", ".join(name for name in ("net", "__call__", "head") if not hasattr(encoder, name))
    kind = type(encoder).__name__
    raise ModelError(f"the builder of {spec.name} returned an object of type {kind}, no Encoder: it has no {lacking}")


def _described(plan: Plan) -> bool:
    """Whether the bands are the spec's, so that its dimensions hold (models of any bands follow their number)."""
    return all(item.bands == item.spec.bands for item in plan.setup.inputs.values() if item.spec.any_bands)


def check_features(plan: Plan, features: Features, samples: int, cells: tuple[int, ...]) -> None:
    """Raise `ModelError` unless a batch's features have the shapes that plan and spec ask for.

    Parameters
    ----------
    plan
        Of one region of the batch; all have the same model and output.
    features
        What the encoder returned.
    samples
        Number N of windows in the batch.
    cells
        Height and width of a window's grid.
    """
    spec, output = plan.setup.spec, plan.output
    own = output.mode == "pooled" and output.pooling == "mean" and spec.pooled == "window"
    said = f"the encoder of {spec.name} returned"
    wanted = features.pooled if own else features.grid
    name, text = ("pooled", f"({samples}, D)") if own else ("grid", f"({samples}, D, {cells[0]}, {cells[1]})")
    if wanted is None:
        raise ModelError(f"{said} no {name}, which this output is made of")
    D = wanted.shape[1] if wanted.ndim > 1 else 0
    if tuple(wanted.shape) != ((samples, D) if own else (samples, D, *cells)):
        raise ModelError(f"{said} {name} of shape {tuple(wanted.shape)}; its spec makes it {text}")
    if not own and _described(plan) and plan.setup.variant.dims["grid"] != D:
        raise ModelError(f"{said} a grid of {D} dimensions; its spec says {plan.setup.variant.dims['grid']}")
    weight = features.weight
    if weight is not None and tuple(weight.shape) != (samples, *cells):
        raise ModelError(f"{said} weight of shape {tuple(weight.shape)}; it must be {(samples, *cells)}")


def check_vector(plan: Plan, shape: tuple[int, ...]) -> None:
    """Raise `ModelError` unless the model's own vector is as long as its spec says."""
    spec, output = plan.setup.spec, plan.output
    if output.mode == "pooled" and output.pooling == "mean" and _described(plan):
        wanted = (plan.setup.variant.dims["pooled"],)
        if tuple(shape) != wanted:
            raise ModelError(f"the vector of {spec.name} has the shape {tuple(shape)}; its spec says {wanted}")
