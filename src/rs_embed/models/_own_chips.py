"""Embeddings of anybody's in a Parquet file: a model without being declared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from rs_embed.core.model_spec import ModelSpec, Variant
from rs_embed.core.product import Product, product_sensor
from rs_embed.models._products import ANY_SIDE, UNKNOWN_LICENCE, identity

__all__ = ["chip_product", "own_chips"]


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
    from rs_embed.providers.products.chips import open_first

    file = open_first(address)
    facts = file.facts
    origin = _first(facts.get("model"))
    licence = _first(facts.get("license"))
    return chip_product(
        file.name.rpartition(".")[0],
        address,
        title=f"{origin or 'embeddings'} of {file.name}",
        licence={"code": "none (a data set)", "weights": licence} if licence else None,
        citation=_first(facts.get("citation")),
        source=file.name,
        attribution=_first(facts.get("attribution")),
        space=facts.get("space"),
    )


def chip_product(
    name: str,
    address: str,
    *,
    title: str = "",
    licence: Mapping[str, str] | None = None,
    citation: str = "",
    source: str = "",
    attribution: str = "",
    space: str | None = None,
) -> ModelSpec:
    """Return a model that reads the embeddings of Parquet files in place, a row a piece of imagery.

    Parameters
    ----------
    name
        What the model is called.
    address
        Path or URL of a file, or of a folder of files; or of a data set on Hugging Face. See `rs_embed.read_chips`.
    title, licence, citation, source, attribution
        What ``describe_model`` and the metadata of embeddings say.
    space
        Vector space, where it is another model's: what ``meta["space"]`` begins with.

    Raises
    ------
    ProviderError
        If there is no file, or the first one cannot be read or holds no embeddings.
    MissingExtraError
        If pyarrow is not installed.

    Examples
    --------
    >>> register(chip_product("clay", "https://example.org/clay", citation="…"))  # doctest: +SKIP
    """
    from rs_embed.providers.products.chips import open_first

    file = open_first(address)
    sensor = product_sensor(name, title or name, (), gsd=math.nan, collections=(name,), attribution=attribution)

    def opened(address: str) -> Any:
        from rs_embed.providers.products.chips import open_chips

        return open_chips(product, address)

    product = Product(sensor, address, opened, annual=False, chips=True, space=space)
    dims = {"pooled": file.table.width(file.columns.vector)}
    return ModelSpec(
        name=name,
        title=title or f"embeddings of {name}",
        inputs={},
        variants={"default": Variant(ANY_SIDE, dims, {"collection": name}, parameters=0)},
        encoder=identity,
        pooled="window",
        pooled_says=(
            "the mean of the chips that share ground with the region, each weighted by the ground that it shares; of "
            "chips of one footprint the newest; of points the plain mean of those inside"
        ),
        citation=citation or f"@misc{{{name}, title = {{{title or name}}}}}",
        licence=licence or {"code": "none (a data set)", "weights": UNKNOWN_LICENCE},
        source=source or name,
        product=product,
    )


def _first(told: Any) -> str:
    """Return a text of a footer: the first where rows differ."""
    if isinstance(told, list):
        told = told[0] if told else ""
    return told if isinstance(told, str) else "" if told is None else str(told)
