"""Embeddings of one's own, or of anybody's, in one raster file or Zarr store: a model without being declared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from rs_embed.core.encoding import Encoder
from rs_embed.core.errors import ModelError
from rs_embed.core.model_spec import Build, ModelSpec, Variant
from rs_embed.core.product import Product, product_sensor
from rs_embed.models._products import ANY_SIDE, UNKNOWN_LICENCE, Identity, OnSphere, input_of

__all__ = ["own_product", "raster_product"]


def own_product(address: str) -> ModelSpec:
    """Return the model that reads a raster of embeddings, which its metadata say it is.

    Parameters
    ----------
    address
        Path or URL of a GeoTIFF with the tag ``geoemb`` (the geo-embeddings convention; `rs_embed.save` writes such),
        or of a Zarr store with attributes ``geoemb:...``, or of a group or array inside one.

    Raises
    ------
    ModelError
        If the file says nothing of embeddings.
    ProviderError
        If it cannot be read.
    """
    return _own(address, None if "://" in address else _stamp(Path(address).expanduser()))


def _stamp(path: Path) -> int | None:
    """When a file, or the metadata of a store, was last written."""
    files = [path, *(path / name for name in ("zarr.json", ".zmetadata", ".zattrs"))]
    return max((file.stat().st_mtime_ns for file in files if file.exists()), default=None)


def _is_zarr(address: str) -> bool:
    return address.lower().rstrip("/").endswith(".zarr") or ".zarr/" in address.lower()


def _described(address: str) -> Any:
    """What a file or a store says of its embeddings."""
    if _is_zarr(address):
        from rs_embed.providers.products.single_zarr import describe_zarr

        return describe_zarr(address)
    from rs_embed.providers.products.single import describe_file

    return describe_file(address)


@lru_cache(maxsize=64)
def _own(address: str, stamp: int | None) -> ModelSpec:
    tags = _described(address).tags
    name = _name(address)
    meta: Mapping[str, Any] = json.loads(tags["rs_embed_meta"]) if "rs_embed_meta" in tags else {}
    if not meta and not any(key == "geoemb" or key.startswith(("geoemb:", "emb:")) or key == "emb" for key in tags):
        raise ModelError(
            f"{name} says nothing of embeddings (it has no tag geoemb): if it is imagery, give it to a model as "
            "UserData.from_raster(...); if it holds embeddings, register(raster_product(name, path)) first"
        )
    licence = meta.get("license") if isinstance(meta.get("license"), dict) else None
    return raster_product(
        PurePosixPath(name).stem,
        address,
        title=f"{meta.get('model', 'embeddings')} of {name}",
        licence=licence,
        citation=str((meta.get("citation") or [""])[0]),
        source=str(meta.get("model_source") or tags.get("geoemb:model") or name),
        unit=_on_sphere(str(meta.get("model", ""))),
        space=str(meta["space"]).rpartition("/")[0] if meta.get("space") else None,
    )


def _name(address: str) -> str:
    return PurePosixPath(unquote(urlsplit(address).path) if "://" in address else Path(address).as_posix()).name


def _on_sphere(model: str) -> bool:
    """Whether the vectors of a model of the catalogue have length one."""
    from rs_embed.core.registry import get_spec

    try:
        product = get_spec(model).product
    except ModelError:
        return False
    return product is not None and product.unit


def raster_product(
    name: str,
    address: str,
    *,
    title: str = "",
    licence: Mapping[str, str] | None = None,
    citation: str = "",
    source: str = "",
    attribution: str = "",
    unit: bool = False,
    space: str | None = None,
) -> ModelSpec:
    """Return a model that reads the embeddings of a raster file or a Zarr store in place, one band a dimension.

    Parameters
    ----------
    name
        What the model is called.
    address
        Path or URL of a raster, or of a Zarr store ``….zarr``, or of a group or array inside one; nodata, scale and
        offset count as they are told there, and a pixel with NaN in a band has no data.
    title, licence, citation, source, attribution
        What ``describe_model`` and the metadata of embeddings say.
    unit
        Whether vectors have length one, so that means and resampled pixels are brought back to it.
    space
        Vector space, where it is another model's: what ``meta["space"]`` begins with.

    Raises
    ------
    ProviderError
        If it cannot be read, or has no georeference.
    MissingExtraError
        If it is a Zarr store and zarr is not installed.

    Examples
    --------
    >>> register(raster_product("farms", "https://example.org/farms.tif", citation="…"))  # doctest: +SKIP
    """
    about = _described(address)
    told = len(set(about.names)) == about.count and all(about.names)
    bands = about.names if told else tuple(f"d{i}" for i in range(about.count))
    a = about.grid.affine.a
    metres = a * 111_194.927 if about.grid.crs is not None and about.grid.crs.geographic else a
    sensor = product_sensor(name, title or name, bands, gsd=metres, collections=(name,), attribution=attribution)

    def opened(address: str) -> Any:
        return about.open(product, address)

    def encoder(build: Build) -> Encoder:
        return OnSphere() if unit else Identity()

    years = about.years or None
    product = Product(sensor, address, opened, annual=years is not None, years=years, unit=unit, space=space)
    dims = {"pooled": about.count, "grid": about.count}
    return ModelSpec(
        name=name,
        title=title or f"embeddings of {_name(address)}",
        inputs=input_of(product),
        variants={"default": Variant(window=ANY_SIDE, dims=dims, config={"collection": name}, parameters=0)},
        encoder=encoder,
        pooled="cells",
        pooled_says="the mean of the region's vectors, weighted by the share of each pixel inside"
        + (", divided by its length" if unit else ""),
        citation=citation or f"@misc{{{name}, title = {{{title or name}}}}}",
        licence=licence or {"code": "none (a data set)", "weights": UNKNOWN_LICENCE},
        source=source or _name(address),
        locality="pixel",
        product=product,
    )
