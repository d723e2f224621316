"""AlphaEarth through Earth Engine: the values of the open mirror; and which of the two is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from earth_engine_stub import TOKEN, Broken, EarthEngineStub, error_body, serving
from google.oauth2.credentials import Credentials
from product_images import COLLECTION, image_of
from product_stores import AefTile, codes, index_aef, paint_aef, paint_tessera
from pyproj import Transformer

from rs_embed import (
    BBox,
    FetchSpec,
    Model,
    NoImageryError,
    OutputSpec,
    PointBuffer,
    Polygon,
    ProviderError,
    TemporalSpec,
    estimate,
    get_embedding,
    get_embeddings_batch,
    inspect_model_input,
)
from rs_embed.core import registry
from rs_embed.core.imagery import Scene
from rs_embed.core.registry import get_spec
from rs_embed.inference.products import open_backend
from rs_embed.plugin import register
from rs_embed.providers.earth_engine import EarthEngineProvider
from rs_embed.providers.earth_engine_catalog import Dataset
from rs_embed.providers.earth_engine_graph import Asset
from rs_embed.providers.earth_engine_scenes import read_grids
from rs_embed.providers.products.memory import MEMORY
from rs_embed.providers.products.roads import ByEitherRoad, by_earth_engine

GRID = OutputSpec.grid()
Y2024 = TemporalSpec.year(2024)
LEFT, TOP = 686_080, 5_335_040
UTM = "EPSG:32632"
PIXELS = "image:computePixels"


@dataclass
class Two:
    """The same tiles in the mirror and in Earth Engine."""

    mirror: str
    world: EarthEngineStub

    def provider(self, **options: Any) -> EarthEngineProvider:
        given = {"credentials": Credentials(TOKEN), "url": self.world.url, "attempts": 2} | options
        return EarthEngineProvider("my-project", **given)


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[AefTile]]:
    """Two tiles side by side, one of them also older and with holes; two of neighbouring zones; one in the south."""
    root = tmp_path_factory.mktemp("aef")
    west = codes(1, 64, 300, 300)
    west[:, 100:103, 100:105] = -128
    west[7, 110, 110] = -128
    tiles = [
        paint_aef(root, west, year=2024, epsg=32632, left=LEFT, top=TOP),
        paint_aef(root, codes(2, 64, 300, 300), year=2024, epsg=32632, left=LEFT + 3000, top=TOP),
        paint_aef(root, codes(3, 64, 300, 300), year=2019, epsg=32632, left=LEFT, top=TOP),
        paint_aef(root, codes(4, 64, 300, 300), year=2024, epsg=32632, left=720_020, top=TOP, name="xa"),
        paint_aef(root, codes(5, 64, 300, 300), year=2024, epsg=32633, left=276_000, top=TOP, name="xb"),
        paint_aef(root, codes(6, 64, 100, 100), year=2024, epsg=32756, left=300_000, top=6_250_000, bottom_up=False),
    ]
    index_aef(root, tiles)
    return root, tiles


@pytest.fixture(scope="module")
def both(painted: tuple[Path, list[AefTile]], test_data: Path) -> Iterator[Two]:
    root, tiles = painted
    world = EarthEngineStub.of(test_data / "earth_engine_rest")
    world.images = [image_of(tile, bottom_up=n != 1) for n, tile in enumerate(tiles)]
    world.collections = {COLLECTION}
    with serving(world):
        yield Two(str(root), world)


@pytest.fixture(autouse=True)
def fresh(nowhere: Path, both: Two) -> Iterator[None]:
    """A home without any login, nothing in memory, and a server that works."""
    MEMORY.clear()
    both.world.broken = []
    yield
    both.world.broken = []


def box(left: float, top: float, height: int, width: int, crs: str = UTM) -> BBox:
    return BBox(left, top - 10 * height, left + 10 * width, top, crs=crs)


def lonlat(x: float, y: float) -> tuple[float, float]:
    lon, lat = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True).transform(x, y)
    return float(lon), float(lat)


TRIANGLE = [(LEFT + 2005, TOP - 2005), (LEFT + 2195, TOP - 2005), (LEFT + 2050, TOP - 2193)]
CASES: dict[str, dict[str, Any]] = {
    "grid": {"spatial": box(LEFT + 900, TOP - 900, 40, 50), "output": GRID},
    "grid of one pixel": {"spatial": box(LEFT + 900, TOP - 900, 1, 1), "output": GRID},
    "larger than a block": {"spatial": box(LEFT + 110, TOP - 70, 90, 150), "output": GRID},
    "more than one part": {"spatial": box(LEFT + 10, TOP - 10, 30, 290), "output": GRID},
    "pooled": {"spatial": box(LEFT + 900, TOP - 900, 40, 50)},
    "largest": {"spatial": box(LEFT + 900, TOP - 900, 40, 50), "output": OutputSpec.pooled("max")},
    "polygon": {"spatial": Polygon(shapely.Polygon(TRIANGLE), crs=UTM)},
    "polygon's cells": {"spatial": Polygon(shapely.Polygon(TRIANGLE), crs=UTM), "output": GRID},
    "degrees": {"spatial": PointBuffer(*lonlat(LEFT + 1505, TOP - 1505), 95), "output": GRID},
    "across tiles": {"spatial": box(LEFT + 2900, TOP - 300, 30, 40), "output": GRID},
    "across zones": {"spatial": box(720_020 + 1900, TOP - 1000, 60, 150), "output": GRID},
    "across zones, pooled": {"spatial": box(720_020 + 1900, TOP - 1000, 60, 150)},
    "in the south": {"spatial": box(300_400, 6_249_500, 12, 9, crs="EPSG:32756"), "output": GRID},
    "coarser": {"spatial": box(LEFT + 1500, TOP - 1500, 30, 30), "output": GRID, "fetch": FetchSpec(scale_m=30)},
    "resampled": {"spatial": box(LEFT + 1500, TOP - 1500, 30, 30), "output": GRID, "fetch": FetchSpec(scale_m=25)},
    "larger cells": {"spatial": box(LEFT + 1500, TOP - 1500, 8, 8), "output": GRID, "cell": 4},
    "an older year": {"spatial": box(LEFT + 900, TOP - 900, 5, 5), "temporal": TemporalSpec.year(2019), "output": GRID},
}


@pytest.mark.parametrize("case", CASES)
def test_both_roads_lead_to_the_same_numbers(both: Two, case: str) -> None:
    call = {"temporal": Y2024} | CASES[case]
    theirs = get_embedding("gse", backend=both.provider(), **call)
    ours = get_embedding("gse", backend=both.mirror, **call)
    assert np.array_equal(np.asarray(theirs.data), np.asarray(ours.data), equal_nan=True)
    assert np.isfinite(np.asarray(theirs.data)).any() and np.asarray(theirs.data).dtype == np.float32
    assert (theirs.meta["backend"], theirs.meta["source"]) == ("gee", "Google Earth Engine")
    differing = {"backend", "source", "scenes", "created", "warnings"}
    assert {k: v for k, v in theirs.meta.items() if k not in differing} == {
        k: v for k, v in ours.meta.items() if k not in differing
    }
    assert [note.partition(" of ")[0] for note in theirs.meta["warnings"]] == [
        note.partition(" of ")[0] for note in ours.meta["warnings"]
    ]
    assert json.loads(json.dumps(theirs.meta, allow_nan=False)) == theirs.meta
    assert all(scene["id"].startswith(COLLECTION) for scene in theirs.meta["scenes"]["product"])


def test_many_points_share_searches_and_blocks(both: Two) -> None:
    at = np.random.default_rng(0).integers(0, [297, 594], (60, 2)).tolist()
    places = [box(LEFT + 10 * col, TOP - 10 * row, 3, 3) for row, col in at]
    provider, before = both.provider(), len(both.world.requests)
    theirs = get_embeddings_batch("gse", spatials=places, temporal=Y2024, backend=provider)
    asked = [path for path, _, _ in both.world.requests[before:]]
    ours = get_embeddings_batch("gse", spatials=places, temporal=Y2024, backend=both.mirror)
    assert all(np.array_equal(a.data, b.data) for a, b in zip(theirs, ours, strict=True))
    assert sum(path.endswith("value:compute") for path in asked) == 3  # the login, a list, where pixels lie
    assert sum(path.endswith(PIXELS) for path in asked) <= 50  # the blocks of two tiles


def test_parts_are_below_the_limits_of_the_server(both: Two) -> None:
    region = box(LEFT + 110, TOP - 70, 90, 150)
    ours = get_embedding("gse", spatial=region, temporal=Y2024, output=GRID, backend=both.mirror)
    both.world.most_pixels = 5000
    try:
        theirs = get_embedding("gse", spatial=region, temporal=Y2024, output=GRID, backend=both.provider())
    finally:
        both.world.most_pixels = 2**62
    assert np.array_equal(theirs.values(), ours.values(), equal_nan=True)


def test_what_earth_engine_has_not_is_told_with_what_it_has(both: Two) -> None:
    call: dict[str, Any] = {"spatial": box(LEFT, TOP, 5, 5), "backend": both.provider()}
    with pytest.raises(NoImageryError, match=r"gse has no embedding of 2021 at .*; there are 2019, 2024"):
        get_embedding("gse", temporal=TemporalSpec.year(2021), **call)
    with pytest.raises(NoImageryError, match="of any year"):
        get_embedding("gse", temporal=Y2024, **(call | {"spatial": PointBuffer(0, 0, 50)}))
    with pytest.raises(NoImageryError, match="has data: it is sea"):
        get_embedding("gse", temporal=Y2024, **(call | {"spatial": box(LEFT + 1000, TOP - 1000, 3, 5)}))
    with pytest.warns(UserWarning, match="newest year that gse has"):
        found = get_embedding("gse", **call)
    assert found.meta["temporal"]["year"] == 2024


@pytest.mark.parametrize("lacking", ["dimensions", "zone", "band"])
def test_an_image_that_is_not_what_it_should_be(both: Two, test_data: Path, lacking: str) -> None:
    world = EarthEngineStub.of(test_data / "earth_engine_rest")
    image = both.world.images[0]
    bands = dict(image.bands)
    if lacking == "band":
        del bands["A63"]
    world.images = [replace(image, bands=bands)]
    told = {"id": "A00", "data_type": {}, "crs": UTM, "crs_transform": [10, 0, LEFT, 0, -10, TOP]}
    if lacking == "zone":
        told |= {"crs": "SR-ORG:6974", "dimensions": [300, 300]}
    answer = json.dumps({"result": [{"bands": [told]}]})
    with serving(world):
        provider = EarthEngineProvider("p", credentials=Credentials(TOKEN), url=world.url, attempts=1)
        call: dict[str, Any] = {"spatial": box(LEFT, TOP, 5, 5), "temporal": Y2024, "backend": provider}
        if lacking == "band":
            with pytest.raises(NoImageryError, match="of any year"):
                get_embedding("gse", **call)
            return
        with pytest.raises(NoImageryError):  # the list is kept: the next answer is that of the pixels' places
            get_embedding("gse", **(call | {"temporal": TemporalSpec.year(2021)}))
        world.broken = [Broken("value:compute", 200, answer)]
        with pytest.raises(ProviderError, match=r"neither size nor zone.*backend='auto'"):
            get_embedding("gse", **call)


def test_pixels_may_begin_away_from_the_transforms_origin() -> None:
    dataset = Dataset((COLLECTION,), {"A00": "A00"})
    scene = Scene("x", datetime(2024, 1, 1, tzinfo=UTC), frozenset({"A00"}), item=Asset(f"{COLLECTION}/x", dataset))
    told = {"id": "A00", "crs": UTM, "crs_transform": [10, 0, LEFT, 0, 10, TOP], "dimensions": [30, 20]}
    for origin, wanted in ((None, (LEFT, TOP)), ([7, 3], (LEFT + 70, TOP + 30))):
        answer = [{"bands": [told if origin is None else told | {"origin": origin}]}]
        grid = read_grids(answer, [scene], ["A00"])["x"]["A00"]
        assert (grid.transform[2], grid.transform[5]) == wanted and grid.size == (20, 30)


# Which road ------------------------------------------------------------------------------------------------------


USER = {"refresh_token": "1//secret", "client_id": "id", "client_secret": "s", "project": "of-the-login"}


def log_in(home: Path, content: dict[str, str] = USER) -> None:
    file = home / ".config" / "earthengine" / "credentials"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def nearby(both: Two, name: str = "gse") -> Any:
    """The spec of gse, whose mirror lies on this machine."""
    spec = get_spec(name)
    assert spec.product is not None
    return replace(spec, product=replace(spec.product, store=both.mirror))


def test_without_a_login_the_mirror_is_read(both: Two) -> None:
    for backend in ("gee", " GEE ", "auto"):
        provider = open_backend(nearby(both), backend)
        assert provider.name == "store" and provider.source == Path(both.mirror).name


def test_with_a_login_but_no_library_the_mirror_is_read(
    both: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "ee", None)
    assert open_backend(nearby(both), "gee").name == "store"


def test_with_a_login_earth_engine_is_read_and_auto_never_is(both: Two, tmp_path: Path) -> None:
    log_in(tmp_path)
    by_login = open_backend(nearby(both), "gee")
    assert isinstance(by_login, ByEitherRoad) and by_login.name == "gee"
    assert open_backend(nearby(both), "gee:my-project").name == "gee"
    assert open_backend(nearby(both), "auto").name == "store"


def test_a_project_that_is_named_is_meant(both: Two) -> None:
    with pytest.raises(ProviderError, match=r"(?s)needs a login.*get_embedding\('gse'.*backend=\"auto\"") as caught:
        get_embedding("gse", spatial=box(LEFT, TOP, 5, 5), temporal=Y2024, backend="gee:my-project")
    assert "earthengine authenticate" in str(caught.value)


def test_other_products_have_nothing_there(tmp_path: Path) -> None:
    log_in(tmp_path)
    for backend in ("gee", "gee:my-project"):
        assert open_backend(get_spec("tessera"), backend).name == "source.coop"


@pytest.mark.parametrize("content", [{k: v for k, v in USER.items() if k != "project"}, {"nothing": "of use"}])
def test_a_login_that_cannot_be_used_never_fails_a_call(
    both: Two, tmp_path: Path, content: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    register(replace(nearby(both), name="gse-nearby", aliases=()))
    log_in(tmp_path, content)
    call: dict[str, Any] = {"spatial": box(LEFT, TOP, 5, 5), "temporal": Y2024}
    found = get_embedding("gse-nearby", **call)
    assert found.meta["backend"] == "store"
    assert any("since Earth Engine could not be used" in note for note in found.meta["warnings"])
    assert np.array_equal(found.data, get_embedding("gse", backend=both.mirror, **call).data)


def test_a_network_without_earth_engine_never_fails_a_call(
    both: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    register(replace(nearby(both), name="gse-nearby", aliases=()))
    log_in(tmp_path)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    found = get_embedding("gse-nearby", spatial=box(LEFT, TOP, 5, 5), temporal=Y2024)
    assert found.ok and found.meta["backend"] == "store"
    assert any("Earth Engine (login) cannot be reached" in note for note in found.meta["warnings"])


FAULTS = {
    "login": Broken("value:compute", 401, error_body(401, "Invalid credentials")),
    "not registered": Broken("value:compute", 403, error_body(403, "Project is not registered to use Earth Engine.")),
    "quota": Broken(PIXELS, 429, error_body(429, "Quota exceeded")),
    "page": Broken(PIXELS, 200, "<html>Sign in</html>", mime="text/html"),
    "half an answer": Broken(PIXELS, 200, "\x93NUMPY\x01\x00"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("output", [GRID, OutputSpec.pooled()])
def test_where_earth_engine_fails_the_mirror_goes_on(both: Two, fault: str, output: OutputSpec) -> None:
    both.world.broken = [replace(FAULTS[fault])]
    product = nearby(both).product
    road = ByEitherRoad(by_earth_engine(product, both.provider()), lambda: product.open(both.mirror))
    call: dict[str, Any] = {"spatial": box(LEFT + 900, TOP - 900, 40, 50), "temporal": Y2024, "output": output}
    found = get_embedding("gse", backend=road, **call)
    ours = get_embedding("gse", backend=both.mirror, **call)
    assert np.array_equal(np.asarray(found.data), np.asarray(ours.data), equal_nan=True)
    assert found.meta["backend"] == "store" and found.meta["source"] == Path(both.mirror).name
    (note,) = [note for note in found.meta["warnings"] if "since Earth Engine could not be used" in note]
    assert TOKEN not in note and "\n" not in note
    asked = len(both.world.requests)
    get_embedding("gse", backend=road, **call)
    assert len(both.world.requests) == asked, "what failed once is not asked again"
    alone = by_earth_engine(product, both.provider())
    with pytest.raises(ProviderError):
        get_embedding("gse", backend=alone, **call)


def test_what_is_not_there_is_no_fault_of_the_road(both: Two) -> None:
    product = nearby(both).product
    road = ByEitherRoad(by_earth_engine(product, both.provider()), lambda: product.open(both.mirror))
    for place in (PointBuffer(0, 0, 50), box(LEFT + 1000, TOP - 1000, 3, 5)):
        with pytest.raises(NoImageryError):
            get_embedding("gse", spatial=place, temporal=Y2024, backend=road)
    with pytest.raises(NoImageryError, match="there are 2019, 2024"):
        get_embedding("gse", spatial=box(LEFT, TOP, 5, 5), temporal=TemporalSpec.year(2021), backend=road)
    found = get_embedding("gse", spatial=box(LEFT, TOP, 5, 5), temporal=Y2024, backend=road)
    assert found.meta["backend"] == road.name == "gee" and found.meta["warnings"] == []


def test_blocks_by_both_roads_are_both_named(both: Two) -> None:
    product = nearby(both).product
    road = ByEitherRoad(by_earth_engine(product, both.provider()), lambda: product.open(both.mirror))
    call: dict[str, Any] = {"spatial": box(LEFT + 10, TOP - 10, 270, 290), "temporal": Y2024, "output": GRID}
    get_embedding("gse", backend=road, **(call | {"spatial": box(LEFT, TOP, 2, 2)}))
    both.world.broken = [Broken(PIXELS, 400, error_body(400, "no more"), times=0)]
    fault, served = both.world.broken[0], len(both.world.posted(PIXELS))
    found = get_embedding("gse", backend=road, **call)
    assert found.meta["backend"] == "gee" and len(both.world.posted(PIXELS)) == served + 4
    fault.times = 1
    found = get_embedding("gse", backend=road, **call)
    ours = get_embedding("gse", backend=both.mirror, **call)
    assert np.array_equal(found.values(), ours.values(), equal_nan=True)
    assert set(found.meta["backend"].split(", ")) in ({"gee", "store"}, {"store"})


def test_the_error_of_the_mirror_tells_of_earth_engine_too(both: Two, tmp_path: Path) -> None:
    both.world.broken = [Broken("value:compute", 403, error_body(403, "not registered"))]
    product = nearby(both).product
    road = ByEitherRoad(by_earth_engine(product, both.provider()), lambda: product.open(str(tmp_path)))
    with pytest.raises(ProviderError, match="no copy of AlphaEarth's store") as caught:
        get_embedding("gse", spatial=box(LEFT, TOP, 5, 5), temporal=Y2024, backend=road)
    assert any("Earth Engine had failed before" in note for note in caught.value.__notes__)


def test_every_call_takes_either_road(both: Two) -> None:
    region = box(LEFT + 900, TOP - 900, 4, 5)
    provider = both.provider()
    model = Model("gse", backend=provider)
    assert np.array_equal(
        model.get_embedding(region, temporal=Y2024).data,
        get_embedding("gse", spatial=region, temporal=Y2024, backend=both.mirror).data,
    )
    report = inspect_model_input("gse", spatial=region, temporal=Y2024, backend=provider)
    assert report["ok"] and report["backend"] == "gee" and report["n_frames"] == 1
    found = estimate("gse", spatials=[region], temporal=Y2024, backend=provider)
    assert found.backend == "gee" and found.read_bytes == 4 * 64 * 20


def test_a_stranger_to_products_says_what_it_lacks(both: Two, tmp_path: Path) -> None:
    paint_tessera(tmp_path, 11.55, 48.15, pixel=500.0)
    with pytest.raises(ProviderError, match=r"tessera takes tessera .*'gee' has none of them"):
        get_embedding("tessera", spatial=box(LEFT, TOP, 5, 5), temporal=Y2024, backend=both.provider())
