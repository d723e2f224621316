"""Embeddings of anybody's in a Parquet file: a model without being declared."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

from rs_embed.core.model_spec import ModelSpec, Variant
from rs_embed.core.product import Product, product_sensor
from rs_embed.models._products import ANY_SIDE, identity

__all__ = ["own_chips"]

_UNKNOWN = "unknown: as its owner says"


def own_chips(address: str) -> ModelSpec:
    """Return the model that reads a Parquet file of embeddings.

    Parameters
    ----------
    address
        Path or URL of a file with a column ``embedding`` or ``embeddings``, and geometries or centres of its chips:
        `rs_embed.save` writes such, and so do Major TOM, Clay and Earth Index.

    Raises
    ------
    ProviderError
        If it cannot be read, or holds no embeddings.
    MissingExtraError
        If pyarrow is not installed.
    """
    remote = "://" in address
    stamp = None if remote or not Path(address).expanduser().exists() else Path(address).expanduser().stat().st_mtime_ns
    return _own(address, stamp)


@lru_cache(maxsize=64)
def _own(address: str, stamp: int | None) -> ModelSpec:
    from rs_embed.providers.products.chips import open_chips, open_table

    file = open_table(address)
    facts, dims = file.facts, file.table.width(file.columns.vector)
    name = file.name.rpartition(".")[0]
    origin = _first(facts.get("model"))
    sensor = product_sensor(
        name, file.name, (), gsd=math.nan, collections=(name,), attribution=_first(facts.get("attribution"))
    )

    def opened(address: str) -> Any:
        return open_chips(product, address)

    product = Product(sensor, address, opened, annual=False, chips=True, space=facts.get("space"))
    licence = facts.get("license")
    return ModelSpec(
        name=name,
        title=f"{origin or 'embeddings'} of {file.name}",
        inputs={},
        variants={"default": Variant(ANY_SIDE, {"pooled": dims}, {"collection": name}, parameters=0)},
        encoder=identity,
        pooled="window",
        pooled_says=(
            "the mean of the chips that share ground with the region, each weighted by the ground that it shares; of "
            "chips of one footprint the newest; of points the plain mean of those inside"
        ),
        citation=_first(facts.get("citation")) or f"@misc{{{name}, title = {{{file.name}}}}}",
        licence={"code": "none (a data set)", "weights": _first(licence) or _UNKNOWN},
        source=file.name,
        product=product,
    )


def _first(told: Any) -> str:
    """Return a text of a footer: the first where rows differ."""
    if isinstance(told, list):
        told = told[0] if told else ""
    return told if isinstance(told, str) else "" if told is None else str(told)
