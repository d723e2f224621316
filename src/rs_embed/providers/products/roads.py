"""By which road a product is read that lies in Earth Engine and in an open store as well."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from odc.geo.geobox import GeoBox

from rs_embed.core.errors import NoImageryError, ProviderError
from rs_embed.core.geometry import Lattice, Region
from rs_embed.core.imagery import ImageRequest, ImageStack
from rs_embed.core.product import Product
from rs_embed.providers.backends import open_provider
from rs_embed.providers.earth_engine import EarthEngineProvider
from rs_embed.providers.earth_engine_connection import is_installed
from rs_embed.providers.earth_engine_login import find_login
from rs_embed.providers.products.base import ProductProvider
from rs_embed.providers.products.earth_engine import EarthEngineArchive
from rs_embed.providers.products.opened import open_product

__all__ = ["ByEitherRoad", "by_earth_engine", "open_by_login"]

T = TypeVar("T")


def by_earth_engine(product: Product, provider: EarthEngineProvider) -> ProductProvider:
    """Return the product as Earth Engine has it."""
    return ProductProvider(product, EarthEngineArchive(product, provider.connection), "gee")


def open_by_login(product: Product, project: str | None, *, call: str | None = None) -> ProductProvider | ByEitherRoad:
    """Return the product through Earth Engine where this machine has a login to it, else from its open store.

    Nothing is asked of a network. A login that cannot be used, and an Earth Engine that does not answer, lead to the
    store as well, and stacks say so; only where a project is named, they are errors.

    Parameters
    ----------
    product
        With or without images in Earth Engine.
    project
        Google Cloud project; None: that of the environment or of the login.
    call
        The user's call with ``backend="auto"``, for the message of a missing login.

    Raises
    ------
    ProviderError
        If a project is named and there is no login that can be used.
    """
    if product.earth_engine is None:
        return _stored(product)
    if project is not None:
        return by_earth_engine(product, _opened(f"gee:{project}", call))
    try:
        if find_login() is None or not is_installed():
            return _stored(product)
        return ByEitherRoad(by_earth_engine(product, _opened("gee", call)), lambda: _stored(product))
    except ProviderError as error:
        return ByEitherRoad(None, lambda: _stored(product), why=error)


def _opened(name: str, call: str | None) -> EarthEngineProvider:
    found = open_provider(name, call=call)
    assert isinstance(found, EarthEngineProvider)
    return found


def _stored(product: Product) -> ProductProvider:
    found: ProductProvider = open_product(product, product.store)
    return found


class ByEitherRoad:
    """A product by one road, and by another from the moment on that the first fails: both lead to the same values.

    Stacks name the road that was taken (``origin``), and why the first was left (``notes``).

    Parameters
    ----------
    first
        The road that is tried; None: it failed already.
    second
        Opens the other one.
    why
        What went wrong with the first.
    """

    def __init__(
        self, first: ProductProvider | None, second: Callable[[], ProductProvider], *, why: ProviderError | None = None
    ) -> None:
        self._first, self._open = first, second
        self._why = why
        self._second: ProductProvider | None = None
        self._lock = threading.Lock()

    @property
    def product(self) -> Product:
        """What is read."""
        return self._road().product

    @property
    def name(self) -> str:
        """What the road is called that is taken now."""
        return self._road().name

    @property
    def source(self) -> str:
        """Where the road leads that is taken now."""
        return self._road().source

    @property
    def attribution(self) -> str | None:
        """Whom to name."""
        return self._road().attribution

    def offers(self, sensor: str) -> bool:
        """Whether it is the product's own sensor."""
        return self._road().offers(sensor)

    def newest(self, collection: str, region: Region) -> int | None:
        """Return the newest year at a place."""
        return self._ask(lambda road: road.newest(collection, region))[0]

    def native(self, collection: str, region: Region, year: int | None) -> Lattice:
        """Return the product's own lattice at the centre of a region."""
        return self._ask(lambda road: road.native(collection, region, year))[0]

    def neighbourhood(self, collection: str, region: Region, year: int | None) -> tuple[str, int, int]:
        """Return the tile and the block of a region's centre."""
        return self._ask(lambda road: road.neighbourhood(collection, region, year))[0]

    def load(self, request: ImageRequest, parts: Sequence[GeoBox]) -> Iterator[ImageStack]:
        """Yield the pixels of each part, by the road that works."""
        for part in parts:

            def loaded(road: ProductProvider, part: GeoBox = part) -> ImageStack:
                (stack,) = road.load(request, [part])
                return stack

            stack, road = self._ask(loaded)
            left = () if self._why is None or road is self._first else (self._said(road),)
            yield replace(stack, origin=(road.name, road.source), notes=(*stack.notes, *left))

    def _ask(self, call: Callable[[ProductProvider], T]) -> tuple[T, ProductProvider]:
        """Call the road that is taken now; where the first fails, the second from now on."""
        road = self._road()
        if road is self._first:
            try:
                return call(road), road
            except NoImageryError:
                raise
            except ProviderError as error:
                with self._lock:
                    self._why = self._why or error
            road = self._road()
        try:
            return call(road), road
        except ProviderError as error:
            error.add_note(f"Earth Engine had failed before: {self._why}")
            raise

    def _road(self) -> ProductProvider:
        with self._lock:
            if self._first is not None and self._why is None:
                return self._first
            if self._second is None:
                self._second = self._open()
            return self._second

    def _said(self, road: Any) -> str:
        brief = str(self._why).partition("; ")[0].removeprefix("backend='gee': ")
        return f"the same values were read from {road.source}, since Earth Engine could not be used: {brief}"
