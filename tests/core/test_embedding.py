"""The Embedding object: what it says of itself, pooling, components, similarity, and the card of notebooks."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from odc.geo.geobox import GeoBox

from rs_embed import (
    BBox,
    Embedding,
    OutputSpec,
    PointBuffer,
    Polygon,
    SpecError,
    TemporalSpec,
    fit_basis,
    get_embedding,
)
from rs_embed.core.cells import pool_cells
from rs_embed.core.footprints import coverage_of, outline_of, read_region, region_dict
from rs_embed.core.geometry import locate
from rs_embed.core.georeference import geobox_from_dict, grid_array

pytestmark = pytest.mark.filterwarnings("ignore:Use .@. matmul:PendingDeprecationWarning")  # of odc-geo's own code

TIME = TemporalSpec.parse("2022-07")
PLACE = PointBuffer(11.457, 47.442, 187)
RING = [[11.44, 47.43], [11.46, 47.431], [11.45, 47.44], [11.44, 47.43]]
TRIANGLE = Polygon({"type": "Polygon", "coordinates": [RING]})
GRID = OutputSpec.grid()


def embed(place: Any = PLACE, output: OutputSpec = GRID, **options: Any) -> Embedding:
    return get_embedding("imagestats", spatial=place, temporal=TIME, backend="synthetic", output=output, **options)


def made(values: Any, **meta: Any) -> Embedding:
    return Embedding(np.asarray(values, np.float32), meta)


def cells(n: int = 60, dim: int = 5, seed: int = 0) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, dim)) @ rng.normal(size=(dim, dim)) + rng.normal(size=dim)).astype(np.float32)


def test_what_it_is() -> None:
    found = embed()
    assert found.ok and found.id is None and found.crs == "EPSG:32632"
    assert found.shape == found.data.shape and found.dim == found.shape[0]
    for name in ("__len__", "__iter__", "__eq__"):
        assert name not in vars(Embedding)
    assert found != embed()  # by identity: arrays have no single truth
    found.meta["id"] = "a"
    assert repr(found) == f"<Embedding imagestats id='a' {' x '.join(map(str, found.shape))}>"
    assert repr(made([1.0], model="m", error="E: x")) == "<Embedding failed m 1>"
    assert not made([1.0], error="E: x").ok


def test_numpy_takes_it() -> None:
    vector = made([3.0, 4.0])
    assert np.linalg.norm(vector) == 5.0
    assert np.asarray(vector) is vector.data
    assert np.array(vector, np.float64).dtype == np.float64
    copied = np.array(vector)
    copied[0] = 9
    assert vector.values()[0] == 3.0
    assert np.asarray(embed()).ndim == 3


def test_the_geobox_is_one_to_work_with_and_follows_a_crop() -> None:
    found = embed()
    whole = found.geobox
    assert isinstance(whole, GeoBox) and whole == geobox_from_dict(found.meta["geobox"])
    found.data = found.data[:, 3:9, 5:]
    assert found.geobox == whole[3:9, 5:]
    found.data = found.data[:, ::-1]
    assert found.geobox is not None and found.geobox.affine.e > 0
    vector = embed(output=OutputSpec.pooled())
    assert vector.geobox == geobox_from_dict(vector.meta["geobox"])
    assert made([1.0]).geobox is None and made(np.zeros((2, 3, 4))).geobox is None
    bare = Embedding(np.zeros((1, *whole.shape), np.float32), {"geobox": embed().meta["geobox"]})
    assert bare.geobox == whole
    odd = embed()
    odd.data = odd.data.isel(x=[0, 1, 5])  # type: ignore[union-attr]
    with pytest.raises(SpecError, match="x coordinates of the grid are not evenly spaced"):
        _ = odd.geobox


def test_a_grid_without_metadata_lies_by_its_coordinates() -> None:
    found = embed()
    bare = Embedding(found.data, {})
    assert bare.geobox == found.geobox
    one = Embedding(found.data[:, :1, :1], {})
    assert one.geobox == found.geobox[:1, :1]  # type: ignore[index]


def test_as_xarray() -> None:
    grid, vector = embed(), embed(output=OutputSpec.pooled())
    assert grid.to_xarray() is grid.data
    found = vector.to_xarray()
    assert isinstance(found, xarray.DataArray) and found.dims == ("d",)
    assert json.loads(found.attrs["rs_embed_meta"]) == vector.meta
    assert found.attrs["attribution"] == "Contains modified Copernicus Sentinel data 2022"
    assert "rs_embed" in found.attrs["citation"]
    assert made(np.zeros((2, 3, 4))).to_xarray().dims == ("d", "y", "x")
    with pytest.raises(SpecError, match=r"meta\['a'\]"):
        made([1.0], a=float("nan")).to_xarray()


REGIONS = [
    PLACE,
    TRIANGLE,
    BBox(11, 47, 11.01, 47.01),
    BBox(500_000, 5_200_000, 500_500, 5_200_700, crs="EPSG:32632"),
    BBox(179.99, -17, -179.99, -16.99),
    PointBuffer(180, 0.0, 1000),
    PointBuffer(10, 85, 1000),
]


@pytest.mark.parametrize("region", REGIONS, ids=str)
def test_metadata_name_the_region_so_that_it_can_be_asked_for_again(region: Any) -> None:
    said = json.loads(json.dumps(region_dict(region)))
    assert read_region(said) == region
    outline = outline_of(region)
    exact = locate(region).footprint
    assert outline.is_valid and outline.symmetric_difference(exact).area < 1e-3 * exact.area
    assert outline.bounds[0] >= -180 and outline.bounds[2] <= 180


@given(lon=st.floats(-179, 179), lat=st.floats(-74, 74), half=st.floats(10, 20_000))
def test_the_quick_outline_of_a_square_is_that_of_the_plan(lon: float, lat: float, half: float) -> None:
    square = PointBuffer(lon, lat, half)
    exact = locate(square).footprint
    assert outline_of(square).hausdorff_distance(exact) < 5e-7 + 1e-6 * half / 1000  # degrees


@pytest.mark.parametrize("place", [PLACE, TRIANGLE], ids=["square", "triangle"])
@pytest.mark.parametrize("pooling", ["cells", "max", "std", "stats", "gem"])
def test_a_grid_pools_as_the_road_does(place: Any, pooling: str) -> None:
    """PLACE ends inside of pixels, so that the weights of its border matter."""
    found = embed(place).pool(pooling)
    wanted = embed(place, OutputSpec.pooled(pooling))
    np.testing.assert_allclose(found.data, wanted.data, rtol=2e-6)
    assert found.meta["space"] == wanted.meta["space"] and found.meta["pooling"] == pooling
    assert found.meta["pooled_from"]["weights"] == "coverage" and "grid_shape" not in found.meta
    assert (found.meta["output"], found.meta["pooled_shape"]) == ("pooled", list(found.shape))
    json.dumps(found.meta, allow_nan=False)


def test_pooling_without_a_region_weighs_all_cells_alike() -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    values[1, 0, 0] = np.nan
    found = made(values).pool()
    assert np.allclose(found.data, [values[0].ravel()[1:].mean(), values[1].ravel()[1:].mean()])
    assert found.meta["pooled_from"] == {"grid_shape": [2, 3, 4], "weights": "equal"}


def test_pooling_refuses_what_it_cannot_mean() -> None:
    with pytest.raises(SpecError, match=r"output=OutputSpec\.pooled\(\)\) for it, or pool\('cells'\)"):
        embed().pool("mean")
    with pytest.raises(SpecError, match="pooling='median' is not known; accepted: 'cells'"):
        embed().pool("median")
    with pytest.raises(SpecError, match=r"vector of shape \(3,\)"):
        made([1, 2, 3]).pool()
    with pytest.raises(SpecError, match="none of the 4 cells"):
        made(np.full((1, 2, 2), np.nan)).pool()
    failed = made(np.full((2, 2, 2), np.nan), error="E: x").pool("stats")
    assert failed.shape == (8,) and not failed.ok and np.isnan(failed.data).all()


VALUES = st.floats(-100, 100, width=32)


@given(
    hnp.arrays(np.float32, (3, 2, 4), elements=VALUES),
    hnp.arrays(np.float32, (2, 4), elements=st.floats(0.125, 1, width=32)),
)
def test_weights_are_areas(grid: Any, weight: Any) -> None:
    """A cell of weight 2 counts as two cells of weight 1."""
    doubled = np.concatenate((grid, grid), axis=1)
    whole = pool_cells(doubled, np.concatenate((weight, weight)), "stats")
    np.testing.assert_allclose(pool_cells(grid, weight, "stats"), whole, rtol=1e-4, atol=1e-4)
    mean = pool_cells(grid, weight, "cells")
    np.testing.assert_allclose(
        mean, np.average(grid.reshape(3, -1), axis=1, weights=weight.ravel()), rtol=1e-4, atol=1e-4
    )


def test_coverage_is_the_same_in_another_crs_and_south_up() -> None:
    geobox = embed(TRIANGLE).geobox
    assert geobox is not None
    cover = coverage_of(TRIANGLE, geobox)
    assert cover.shape == geobox.shape and 0 < cover.mean() < 1
    meta: dict[str, Any] = {}
    turned = grid_array(np.zeros((1, *geobox.shape), np.float32), geobox, meta)[:, ::-1]
    south_up = Embedding(turned, meta).geobox
    assert south_up is not None
    assert np.array_equal(coverage_of(TRIANGLE, south_up)[::-1], cover)
    degrees = GeoBox.from_bbox((11.43, 47.42, 11.47, 47.45), "EPSG:4326", shape=(60, 80))
    area = coverage_of(TRIANGLE, degrees).sum() * (0.04 / 80) * (0.03 / 60)
    assert area == pytest.approx(TRIANGLE.shape.area, rel=1e-4)


def test_components_equal_those_of_a_singular_value_decomposition() -> None:
    flat = cells()
    found, basis = made(flat.T.reshape(5, 6, 10)).pca(3)
    centred = flat - flat.mean(0)
    _, _, axes = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    signs = np.sign((axes[:3] * basis.components).sum(1))
    np.testing.assert_allclose(found.reshape(3, -1).T * signs, centred @ axes[:3].T, atol=1e-4)
    assert found.shape == (3, 6, 10) and found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(basis.components, axis=1), 1, rtol=1e-5)


def test_one_basis_over_several_areas_is_that_of_all_their_cells() -> None:
    flat = cells(90)
    parts = [made(flat[a:b].T.reshape(5, -1, 5), space="s/grid") for a, b in ((0, 20), (20, 50), (50, 90))]
    vector = made(flat[0], space="s/cells", pooling="cells")
    lost = made(np.full((5, 2, 2), np.nan), error="E: x")
    together = fit_basis([*parts, lost], 2)
    alone = made(flat.T.reshape(5, 9, 10)).pca(2)[1]
    np.testing.assert_allclose(together.mean, alone.mean, rtol=1e-5)
    np.testing.assert_allclose(together.components, alone.components, atol=1e-5)
    mapped, used = parts[0].pca(basis=together)
    assert used == together and mapped.shape == (2, 4, 5)
    assert np.allclose(vector.pca(basis=together)[0], mapped[:, 0, 0], atol=1e-5)
    assert np.allclose(parts[0].pca(basis=(together.mean, together.components))[0], mapped)


def test_cells_without_numbers_stay_so_in_components() -> None:
    values = cells().T.reshape(5, 6, 10).copy()
    values[2, 1, 3] = np.nan
    found, _ = made(values).pca()
    assert np.isnan(found[:, 1, 3]).all() and np.isfinite(np.delete(found.reshape(3, -1), 13, axis=1)).all()


def test_a_basis_refuses_what_does_not_fit() -> None:
    with pytest.raises(SpecError, match="vector of shape"):
        made([1, 2, 3]).pca()
    with pytest.raises(SpecError, match="n=7 components cannot be taken from 5"):
        made(cells().T.reshape(5, 6, 10)).pca(7)
    with pytest.raises(SpecError, match="no cell that holds numbers"):
        fit_basis([made(np.full((2, 2, 2), np.nan))])
    with pytest.raises(SpecError, match="one length, got 5 and 4"):
        fit_basis([made(cells(10)[0]), made(cells(10, 4)[0])])
    with pytest.raises(SpecError, match="different spaces"):
        fit_basis([made([1, 2], space="a/b"), made([1, 2], space="c/b")], 1)
    basis = fit_basis([made(cells().T.reshape(5, 6, 10))])
    with pytest.raises(SpecError, match="basis is of 5 dimensions, the embedding of 2"):
        made([1, 2]).pca(basis=basis)


def test_similarity_is_the_cosine() -> None:
    grid = made(cells().T.reshape(5, 6, 10))
    vector = made(cells(1, 5, seed=3)[0])
    found = grid.similarity(vector)
    a, b = grid.values()[:, 2, 4], vector.values()
    assert found.shape == (6, 10) and found[2, 4] == pytest.approx(
        a @ b / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-5
    )
    assert float(vector.similarity(vector)) == pytest.approx(1)
    assert float(vector.similarity(-vector.values())) == pytest.approx(-1)
    assert np.allclose(grid.similarity(grid), 1)
    assert np.isnan(made([0, 0]).similarity(made([1, 0])))
    with pytest.raises(SpecError, match=r"needs a vector of 5 numbers or \(5, 6, 10\), got \(4,\)"):
        grid.similarity(np.ones(4))


def test_only_what_lies_in_one_space_compares() -> None:
    grid, mean, top = embed(), embed(output=OutputSpec.pooled("cells")), embed(output=OutputSpec.pooled("max"))
    assert grid.similarity(mean).shape == grid.shape[1:]
    assert float(mean.similarity(grid.pool("cells"))) == pytest.approx(1)
    with pytest.raises(SpecError, match="different spaces"):
        mean.similarity(top)
    with pytest.raises(SpecError, match=r"pool\('cells'\) gives"):
        grid.similarity(top)
    token = made(mean.values(), space=mean.meta["space"].replace("/cells", "/mean"), pooling="mean", cls_removed=True)
    with pytest.raises(SpecError, match="different spaces"):
        grid.similarity(token)


class Page(HTMLParser):
    """Text, tags and image sources of a piece of HTML whose tags are asserted to match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.sources: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [str(value) for name, value in attrs if name == "src"]
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def picture(page: Page) -> np.ndarray[Any, Any]:
    import base64
    import io

    from PIL import Image

    (source,) = page.sources
    head, data = source.split(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_the_card_shows_place_dates_and_sky() -> None:
    found = embed(TRIANGLE)
    found.meta["id"] = "<script>alert('x')</script> & \"co\""
    page = Page(found._repr_html_())
    assert page.tags == {"div", "span", "table", "tr", "td", "img"}
    for said in ("imagestats", found.meta["id"], "47.4350° N, 11.4500° E", "2022-07-01 to 2022-08-01", "EPSG:32632"):
        assert said in page.text
    assert f"{found.meta['clear_fraction']:.0%}" in page.text
    shown = picture(page)
    finite = np.isfinite(found.values()).all(0)
    step = -(-max(finite.shape) // 96)
    assert np.array_equal(shown[..., 3] == 255, finite[::step, ::step])
    assert len(np.unique(shown[shown[..., 3] == 255], axis=0)) > 10
    colours = re.findall(r"(?:^|[;\"])(?:color|background):([^;\"]+)", found._repr_html_())
    assert set(colours) <= {"inherit", "transparent", "none"}  # so that it suits dark and light


@pytest.mark.parametrize(
    "embedding",
    [
        made([1.0, -2.0, 3.0], model="m"),
        made(np.zeros(4)),
        made([np.inf, np.nan, 1.0]),
        made(np.ones((1, 1, 1))),
        made(np.random.default_rng(0).normal(size=(2, 300, 7))),
        made(np.random.default_rng(0).normal(size=(3000, 4, 4))),
        made(np.random.default_rng(0).normal(size=5000)),
    ],
    ids=["vector", "zeros", "holes", "one cell", "two dimensions", "many dimensions", "long"],
)
def test_every_embedding_has_a_card(embedding: Embedding) -> None:
    shown = picture(Page(embedding._repr_html_()))
    assert shown.shape[2] == 4 and max(shown.shape) <= 512
    assert len(embedding._repr_html_()) < 60_000


def test_the_card_of_a_failure_says_why() -> None:
    page = Page(made([np.nan, np.nan], error="NoImageryError: <none>")._repr_html_())
    assert page.sources == [] and "NoImageryError: <none>" in page.text


def test_bars_point_up_and_down() -> None:
    shown = picture(Page(made([1.0, -1.0])._repr_html_()))
    left, right = shown[:, 0, 3] > 0, shown[:, -1, 3] > 0
    assert left[:32].all() and not left[32:].any()
    assert right[32:].all() and not right[:32].any()
