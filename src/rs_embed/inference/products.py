"""Planning a precomputed model: the lattice is the product's own, unless another resolution is asked for."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from odc.geo.crs import CRS

from rs_embed.core.errors import ModelError, NoImageryError, ProviderError, RSEmbedError
from rs_embed.core.geometry import Lattice, Region, locate, locate_in
from rs_embed.core.model_spec import ModelSpec
from rs_embed.core.product import Product
from rs_embed.core.specs import InputPrepSpec, OutputSpec, SpatialSpec, TemporalSpec
from rs_embed.inference.plan import Plan, make_plan
from rs_embed.inference.setup import Setup
from rs_embed.providers.backends import open_provider
from rs_embed.providers.base import Provider
from rs_embed.providers.products.opened import open_product

__all__ = ["open_backend", "place_key", "plan_product"]

_IMAGERY = ("earth-search", "planetary-computer", "synthetic")


def open_backend(spec: ModelSpec, backend: Any, *, call: str | None = None, cache: bool = True) -> Provider:
    """Return where a model's pixels come from: imagery for one that is computed, its own store for a product.

    Parameters
    ----------
    backend
        As `open_provider` takes it; for a product ``"auto"`` (its own open store), the URL or folder of a copy of the
        store, or a provider. ``"gee"`` counts as ``"auto"``, but for a product that Earth Engine has as well: that is
        read there where this machine has a login. With a project, ``"gee:project"``, it is read there or not at all.

    Raises
    ------
    ProviderError
        If a product is asked to be read from imagery, or from Earth Engine by a project without a login.
    """
    product = spec.product
    if product is None:
        return open_provider(backend, call=call, cache=cache)
    if not isinstance(backend, str) and isinstance(backend, Provider):
        return _of_provider(product, backend)
    if not isinstance(backend, str | Path) or not str(backend).strip():
        raise ProviderError(
            f"backend={backend!r} must be 'auto', 'gee', the URL or folder of a copy of {product.store}, or a Provider"
        )
    address = str(backend).strip()
    name, _, project = address.partition(":")
    if name.lower() == "gee":
        from rs_embed.providers.products.roads import open_by_login

        return cast("Provider", open_by_login(product, project.strip() or None, call=call))
    if address.lower() in _IMAGERY:
        raise ProviderError(
            f"{spec.name} is precomputed and reads its own store, no imagery: backend={address!r} has nothing of it; "
            f"use backend='auto', or the URL or folder of a copy of {product.store}"
        )
    found: Provider = open_product(product, product.store if address.lower() == "auto" else address)
    return found


def _of_provider(product: Product, provider: Provider) -> Provider:
    """Return a provider of the user's: of a connection to Earth Engine, the product as it lies there."""
    if product.earth_engine is None or provider.offers(product.sensor.id):
        return provider
    from rs_embed.providers.earth_engine import EarthEngineProvider
    from rs_embed.providers.products.roads import by_earth_engine

    if not isinstance(provider, EarthEngineProvider):
        return provider
    return cast("Provider", by_earth_engine(product, provider))


def plan_product(
    setup: Setup,
    provider: Any,
    spatial: SpatialSpec,
    temporal: TemporalSpec | None,
    *,
    output: OutputSpec,
    prep: InputPrepSpec,
) -> Plan:
    """Plan a region of a product.

    Raises
    ------
    NoImageryError
        If the product has nothing at the place, or not of the year.
    ModelError
        If the span of time covers several years.
    """
    (item,) = setup.inputs.values()
    collection = item.wanted.collection
    place = locate_in(spatial, CRS("EPSG:4326"))
    span = _year(setup, provider, place, temporal)
    native = provider.native(collection, place, None if span is None else span.year)
    region, lattice = _on_lattice(setup, spatial, native)
    inputs = {item.name: replace(item, wanted=replace(item.wanted, scale_m=lattice.gsd))}
    asked = None if lattice is native else setup.scale_m
    planned = replace(setup, inputs=inputs, scale_m=asked)
    return make_plan(planned, region, temporal=span, output=output, prep=prep, lattice=lattice)


def _year(setup: Setup, provider: Any, place: Region, temporal: TemporalSpec | None) -> TemporalSpec | None:
    """Return the year that is meant: the newest at the place where none is said."""
    product, name = setup.spec.product, setup.spec.name
    if product is None or not product.annual:
        return None
    if temporal is None:
        (item,) = setup.inputs.values()
        newest = provider.newest(item.wanted.collection, place)
        if newest is None:
            lon, lat = place.lonlat or (math.nan, math.nan)
            raise NoImageryError(
                f"{name} has no embedding at {lat:.4f}° N, {lon:.4f}° E of any year: the place is not covered; choose "
                "another product or a model"
            )
        return TemporalSpec(mode="year", year=newest)
    start, end = temporal.interval
    last = end.year if (end.month, end.day, end.hour, end.minute, end.second) != (1, 1, 0, 0, 0) else end.year - 1
    if last != start.year:
        raise ModelError(
            f"{name} has one embedding a year, and {start.date()}/{end.date()} covers {start.year} to {last}; say one "
            f"year, such as TemporalSpec.year({last})"
        )
    return TemporalSpec(mode="year", year=start.year)


def _on_lattice(setup: Setup, spatial: SpatialSpec, native: Lattice) -> tuple[Region, Lattice]:
    """Return the region on the product's own lattice, or on one of true metres where a resolution is asked for."""
    asked = setup.scale_m
    assert native.crs is not None
    metric = native.crs.projected
    if asked is None or (metric and abs(asked - native.gsd) <= 1e-9 * native.gsd):
        return locate_in(spatial, native.crs), native
    region = locate(spatial)
    whole = abs(asked / native.gsd - round(asked / native.gsd)) <= 1e-9
    if region.crs == native.crs and whole and asked > native.gsd:
        return region, replace(native, gsd=asked)
    return region, region.lattice(asked, 0.0)


def place_key(setup: Setup, provider: Any, spatial: SpatialSpec, temporal: TemporalSpec | None) -> tuple[str, int, int]:
    """Return by what regions are sorted, so that those that read the same block follow each other."""
    (item,) = setup.inputs.values()
    try:
        place = locate_in(spatial, CRS("EPSG:4326"))
        span = _year(setup, provider, place, temporal)
        found: tuple[str, int, int] = provider.neighbourhood(
            item.wanted.collection, place, None if span is None else span.year
        )
    except RSEmbedError:
        return "", 0, 0  # planning it will say what is wrong
    return found
