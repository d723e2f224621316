"""Each product in each public call and command: the same vector, its own store, and the year that is meant."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Caller, Said
from product_stores import codes, index_aef, paint_aef, paint_copernicus, paint_tessera

from rs_embed import (
    Model,
    OutputSpec,
    PointBuffer,
    Polygon,
    TemporalSpec,
    estimate,
    get_embedding,
    get_embeddings_batch,
    inspect_model_input,
    iter_embeddings,
    load,
)
from rs_embed.core.errors import ModelError, NoImageryError

PLACE = PointBuffer(11.525, 48.13, 150)
OTHER = PointBuffer(11.527, 48.131, 150)
NEWEST = "newest year"


@dataclass(frozen=True)
class Painted:
    """A store with two years, or none."""

    name: str
    store: str
    dims: int
    years: tuple[int, ...]

    @property
    def old(self) -> TemporalSpec | None:
        return TemporalSpec.year(self.years[0]) if self.years else None

    @property
    def new(self) -> TemporalSpec | None:
        return TemporalSpec.year(self.years[-1]) if self.years else None

    def vector(self, place: Any = PLACE, **more: Any) -> Any:
        call: dict[str, Any] = {"temporal": self.new} | more
        return get_embedding(self.name, spatial=place, backend=self.store, **call).data


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Painted]:
    root = tmp_path_factory.mktemp("stores")
    tiles = [
        paint_aef(root / "aef", codes(year, 64, 300, 300), year=year, epsg=32632, left=686_080, top=5_335_040)
        for year in (2019, 2024)
    ]
    index_aef(root / "aef", tiles)
    for year in (2019, 2024):
        paint_tessera(root / "tessera", 11.55, 48.15, pixel=100.0, year=year, seed=year)
    cells = np.random.default_rng(0).standard_normal((768, 4, 1440)).astype(np.float32)
    paint_copernicus(root / "copernicus" / "embed_map_310k.tif", cells, first=166, block=64)
    return {
        "gse": Painted("gse", str(root / "aef"), 64, (2019, 2024)),
        "tessera": Painted("tessera", str(root / "tessera"), 128, (2019, 2024)),
        "copernicus": Painted("copernicus", str(root / "copernicus"), 768, ()),
    }


@pytest.fixture(params=["gse", "tessera", "copernicus"])
def product(request: pytest.FixtureRequest, stores: dict[str, Painted]) -> Painted:
    return stores[request.param]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Caller:
    return Caller(capsys)


def quietly(product: Painted, call: Any) -> Any:
    """A call without a time: the newest year is warned of, where there are years."""
    if product.years:
        with pytest.warns(UserWarning, match=NEWEST) as told:
            found = call()
        assert len(told) == 1
        return found
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return call()


def test_each_call_of_python_gives_the_same(product: Painted) -> None:
    places = [PLACE, OTHER]
    wanted = [product.vector(place) for place in places]
    assert wanted[0].shape == (product.dims,) and np.isfinite(wanted).all()
    model = Model(product.name, backend=product.store)
    more: dict[str, Any] = {"temporal": product.new}
    found: list[Sequence[Any]] = [
        get_embeddings_batch(product.name, spatials=places, backend=product.store, **more),
        list(iter_embeddings(product.name, spatials=places, backend=product.store, **more)),
        [model.get_embedding(place, **more) for place in places],
        model.get_embeddings_batch(places, **more),
        list(model.iter_embeddings(places, **more)),
    ]
    for each in found:
        assert all(np.array_equal(a.data, b) for a, b in zip(each, wanted, strict=True))
        assert all(one.meta["backend"] == "store" and one.meta["type"] == "precomputed" for one in each)


def test_each_call_of_python_takes_the_newest_year(product: Painted) -> None:
    wanted = product.vector()
    model = Model(product.name, backend=product.store)
    one = quietly(product, lambda: get_embedding(product.name, spatial=PLACE, backend=product.store))
    assert np.array_equal(one.data, wanted)
    for call in (
        lambda: get_embeddings_batch(product.name, spatials=[PLACE], backend=product.store),
        lambda: list(iter_embeddings(product.name, spatials=[PLACE], backend=product.store)),
        lambda: model.get_embeddings_batch([PLACE]),
        lambda: [model.get_embedding(PLACE)],
    ):
        (found,) = quietly(product, call)
        assert np.array_equal(found.data, wanted)
        assert (found.meta["temporal"] or {}).get("year") == (2024 if product.years else None)


def test_years_are_each_their_own(product: Painted) -> None:
    if not product.years:
        assert np.array_equal(product.vector(temporal=TemporalSpec.year(1999)), product.vector())
        return
    spans = [TemporalSpec.year(year) for year in product.years]
    found = get_embeddings_batch(product.name, spatials=[PLACE, PLACE], temporal=spans, backend=product.store)
    assert not np.array_equal(found[0].data, found[1].data)
    assert np.array_equal(found[0].data, product.vector(temporal=product.old))
    with pytest.raises(NoImageryError, match=r"2019.*2024"):
        product.vector(temporal=TemporalSpec.year(2021))


def test_an_input_is_inspected_without_a_model(product: Painted) -> None:
    shape = get_embedding(
        product.name, spatial=PLACE, temporal=product.new, backend=product.store, output=OutputSpec.grid()
    ).shape
    for more in ({"temporal": product.new}, {}):

        def inspect(more: dict[str, Any] = more) -> dict[str, Any]:
            return inspect_model_input(product.name, spatial=PLACE, backend=product.store, return_arrays=True, **more)

        found = inspect() if more else quietly(product, inspect)
        (frame,) = found["frames"]
        assert found["ok"] and found["backend"] == "store" and found["n_empty"] == 0
        assert frame["array_chw"].shape == shape and frame["report"]["valid_frac"] == 1
        year = None if found["temporal"] is None else found["temporal"]["start"][:4]
        assert year == ("2024" if product.years else None)
        assert json.dumps({k: v for k, v in found.items() if k != "frames"})


def test_what_it_costs_is_estimated(product: Painted) -> None:
    found = estimate(product.name, spatials=[PLACE, OTHER], temporal=product.new, backend=product.store)
    assert (found.regions, found.output_shape, found.missing) == (2, (product.dims,), ())
    assert found.read_bytes > 0 and found.weights_bytes == 0 and not found.failed and not found.no_imagery
    grid = estimate(
        product.name, spatials=[PLACE], temporal=product.new, backend=product.store, output=OutputSpec.grid()
    )
    made = get_embedding(
        product.name, spatial=PLACE, temporal=product.new, backend=product.store, output=OutputSpec.grid()
    )
    assert grid.output_shape == made.shape
    newest = quietly(product, lambda: estimate(product.name, spatials=[PLACE], backend=product.store))
    assert newest.regions == 1 and newest.output_shape == (product.dims,)
    nowhere = estimate(
        product.name, spatials=[PLACE, PointBuffer(-60, -20, 100)], temporal=product.new, backend=product.store
    )
    assert [trouble.index for trouble in nowhere.no_imagery] == [1]


def test_polygons_and_geojson_are_regions(product: Painted) -> None:
    ring = [[11.524, 48.129], [11.528, 48.129], [11.526, 48.132], [11.524, 48.129]]
    shape = {"type": "Polygon", "coordinates": [ring]}
    one, other = product.vector(shape), product.vector(Polygon(shape))
    assert np.array_equal(one, other) and np.isfinite(one).all()


def test_a_sensor_cannot_be_replaced(product: Painted) -> None:
    from rs_embed import FetchSpec

    for fetch in (FetchSpec(cloudy_pct=5), FetchSpec(composite="mean")):
        with pytest.raises(ModelError, match="scale_m only"):
            product.vector(fetch=fetch)


POINT = ("--point", "11.525", "48.13", "--buffer", "150")


def warned(said: Said, product: Painted, *, timed: bool) -> None:
    assert said.code == 0, said.err
    assert (NEWEST in said.err) == (bool(product.years) and not timed)


@pytest.mark.filterwarnings(f"always:.*{NEWEST}")
@pytest.mark.parametrize("cache", [(), ("--no-cache",)])
@pytest.mark.parametrize("timed", [True, False])
def test_the_command_line(
    product: Painted, command: Caller, tmp_path: Path, cache: tuple[str, ...], timed: bool
) -> None:
    time = ("--time", "2024") if timed and product.years else ()
    where = (*POINT, *time, "--backend", product.store, *cache)
    said = command("embed", product.name, *where)
    warned(said, product, timed=timed)
    assert np.allclose(json.loads(said.out)["embedding"], product.vector(), rtol=1e-6)
    warned(command("embed", product.name, *where, "-o", tmp_path / "one.npz"), product, timed=timed)
    assert np.array_equal(load(tmp_path / "one.npz").data, product.vector())
    said = command("inspect", "--model", product.name, *where, "--json")
    warned(said, product, timed=timed)
    assert json.loads(said.out)["n_empty"] == 0
    said = command("inspect", "--model", product.name, *where, "-o", tmp_path / "look.png")
    warned(said, product, timed=timed)
    assert ("2024-01-01" if product.years else "of no date") in said.out and (tmp_path / "look.png").is_file()
    said = command("estimate", product.name, *where)
    warned(said, product, timed=timed)
    assert f"({product.dims} a region)" in said.out


def test_a_table_of_places(product: Painted, command: Caller, tmp_path: Path) -> None:
    table = tmp_path / "places.csv"
    table.write_text("name,lon,lat,when\na,11.525,48.13,2024\nb,11.527,48.131,2019\n")
    columns = ("--id", "name", "--lon", "lon", "--lat", "lat", "--buffer", "150", "--time-col", "when")
    out = tmp_path / "all.parquet"
    said = command("embed", product.name, "--regions", table, *columns, "--backend", product.store, "-o", out)
    assert said.code == 0, said.err
    found = {each.id: each for each in load(out)}
    assert np.array_equal(found["a"].data, product.vector())
    assert np.array_equal(found["b"].data, product.vector(OTHER, temporal=product.old))
