"""`iter_embeddings`: in order, with flat memory; and Regions, frames and Features in all calls."""

from __future__ import annotations

import gc
import json
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import geopandas
import numpy as np
import pytest
from fakes import FakeProvider
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import box, mapping

from rs_embed import (
    BatchError,
    BBox,
    Embedding,
    Model,
    ModelError,
    NoImageryError,
    OutputSpec,
    PointBuffer,
    ProviderError,
    Regions,
    SpecError,
    TemporalSpec,
    get_embedding,
    get_embeddings_batch,
    iter_embeddings,
    read_regions,
)

SUMMER = TemporalSpec.range("2022-06-01", "2022-09-01")
TOO_LARGE = BBox(0, 40, 20, 60)
FIELDS = geopandas.GeoDataFrame(
    {"crop": ["wheat", "maize"], "size": [1.5, float("nan")]},
    index=["n1", "n2"],
    geometry=[box(10, 48, 10.002, 48.002), box(10.01, 48, 10.012, 48.002)],
    crs=4326,
)
LABELS = [{"crop": "wheat", "size": 1.5}, {"crop": "maize", "size": None}]


def places(count: int, sides: tuple[float, ...] = (40,)) -> list[PointBuffer]:
    return [PointBuffer(10 + i / 1000, 48, sides[i % len(sides)]) for i in range(count)]


def each(spatials: Any, **more: Any) -> Iterator[Embedding]:
    return iter_embeddings("imagestats", spatials=spatials, **({"temporal": SUMMER, "backend": FakeProvider()} | more))


def batch(spatials: Any, **more: Any) -> list[Embedding]:
    call = {"temporal": SUMMER, "backend": FakeProvider()} | more
    return get_embeddings_batch("imagestats", spatials=spatials, **call)


@settings(max_examples=15)
@given(st.lists(st.sampled_from([40, 50, 60, 90, 400]), min_size=1, max_size=60), st.integers(1, 40))
def test_it_yields_what_a_batch_returns(sides: list[float], batch_size: int) -> None:
    regions = places(len(sides), tuple(sides))
    found = list(each(regions, batch_size=batch_size))
    wanted = batch(regions)
    assert [f.meta["center"] for f in found] == [w.meta["center"] for w in wanted]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.values(), other.values(), rtol=1e-6)


def test_results_come_before_all_is_loaded() -> None:
    provider = FakeProvider()
    stream = each(places(1000), backend=provider)
    next(stream)
    assert 0 < len(provider.loaded) < 200
    stream.close()
    loaded = len(provider.loaded)
    assert loaded < 300 and not [t for t in threading.enumerate() if t.name.startswith("rs-embed-load")]


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    provider = FakeProvider()
    stream = each(places(3), backend=provider)
    assert not provider.loaded
    assert len(list(stream)) == 3


def test_what_was_yielded_is_let_go() -> None:
    seen: list[weakref.ref[Embedding]] = []
    most = 0
    for embedding in each(places(300)):
        seen.append(weakref.ref(embedding))
        most = max(most, sum(reference() is not None for reference in seen))
    del embedding
    gc.collect()
    assert len(seen) == 300 and most <= 3 and not [1 for reference in seen if reference() is not None]


def test_one_that_waits_for_others_of_its_size_holds_few_up() -> None:
    provider = FakeProvider()
    stream = each(places(2000, (40, *(50,) * 1999)), backend=provider)
    next(stream)
    assert len(provider.loaded) < 500
    stream.close()


def test_failures_have_their_place() -> None:
    regions = [*places(2), TOO_LARGE, "Munich", *places(2)]
    found = list(each(regions, on_error="return"))
    assert [f.ok for f in found] == [True, True, False, False, True, True]
    assert np.stack([f.values() for f in found]).shape == (6, 48)
    assert "too large" in found[2].meta["error"] and "Munich" in found[3].meta["error"]
    stream = each(Regions([*places(2), TOO_LARGE, *places(2)], ids=["a", "b", "c", "d", "e"]))
    assert [next(stream).id, next(stream).id] == ["a", "b"]
    with pytest.raises(SpecError, match="too large") as caught:
        next(stream)
    assert caught.value.__notes__ == ["region 2 (id 'c')"]
    assert list(stream) == []


def test_the_first_may_fail() -> None:
    def fail(request: Any, part: Any) -> None:
        raise ProviderError("the disk is gone")

    with pytest.raises(ProviderError, match="the disk is gone"):
        next(each(places(3), backend=FakeProvider(fail)))
    found = list(each(places(3), backend=FakeProvider(fail), on_error="return"))
    assert [f.shape for f in found] == [(48,)] * 3 and all("disk" in f.meta["error"] for f in found)


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no list": ({"spatials": "Munich"}, ModelError, "non-empty list"),
    "nothing": ({"spatials": []}, ModelError, "non-empty list"),
    "an option": ({"spatials": places(1), "colour": 3}, ModelError, "colour"),
    "on_error": ({"spatials": places(1), "on_error": "ignore"}, SpecError, "'ignore'"),
    "times": ({"spatials": places(2), "temporal": [SUMMER]}, SpecError, "2 of them"),
    "a backend": ({"spatials": places(1), "backend": "nowhere"}, ProviderError, "nowhere"),
    "points": ({"spatials": FIELDS.set_geometry(FIELDS.representative_point())}, SpecError, "buffer_m"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls_are_told_at_once(case: str) -> None:
    more, kind, words = WRONG[case]
    with pytest.raises(kind, match=words):
        each(**more)


CALLS: dict[str, Callable[..., Any]] = {
    "batch": batch,
    "iter": lambda spatials, **more: list(each(spatials, **more)),
    "Model": lambda spatials, temporal=SUMMER, **more: Model("imagestats", backend=FakeProvider()).get_embeddings_batch(
        spatials, temporal=temporal, **more
    ),
    "Model.iter": lambda spatials, temporal=SUMMER, **more: list(
        Model("imagestats", backend=FakeProvider()).iter_embeddings(spatials, temporal=temporal, **more)
    ),
}
SHAPES = [{"type": "Feature", "id": i, "geometry": mapping(g), "properties": labels}
          for i, g, labels in zip(FIELDS.index, FIELDS.geometry, LABELS, strict=True)]  # fmt: skip
TABLES: dict[str, Any] = {
    "Regions": read_regions(FIELDS),
    "a GeoDataFrame": FIELDS,
    "Features": SHAPES,
    "a FeatureCollection": {"type": "FeatureCollection", "features": SHAPES},
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_names_and_labels_reach_every_output(table: Any, call: Callable[..., Any]) -> None:
    found = call(table)
    assert [f.id for f in found] == ["n1", "n2"] and [f.meta["labels"] for f in found] == LABELS
    bare = call(FIELDS.geometry.tolist())
    assert [f.id for f in bare] == [None, None] and [f.meta["labels"] for f in bare] == [{}, {}]
    for one, other in zip(found, bare, strict=True):
        np.testing.assert_array_equal(one.values(), other.values())
        assert json.loads(json.dumps(one.meta, allow_nan=False)) == one.meta


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_regions_own_dates_are_taken_where_the_call_gives_none(call: Callable[..., Any]) -> None:
    regions = read_regions(FIELDS).each(TemporalSpec.years(2020, 2021))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = call(regions, temporal=None)
        said = call(regions, temporal=SUMMER)
    assert [f.meta["temporal"]["year"] for f in found] == [2020, 2021, 2020, 2021]
    assert [f.id for f in found] == ["n1/2020", "n1/2021", "n2/2020", "n2/2021"]
    assert found[2].meta["labels"] == {"crop": "maize", "size": None, "region": "n2", "year": 2020}
    assert {f.meta["temporal"]["start"] for f in said} == {"2022-06-01"}
    with pytest.warns(UserWarning, match="temporal=None"):
        call(FIELDS, temporal=None)


def test_failed_and_grid_outputs_have_names_and_labels_too() -> None:
    regions = Regions([FIELDS.geometry.iloc[0], TOO_LARGE], ids=["a", "b"], table={"crop": ["w", "m"]})
    for output in (OutputSpec.pooled(), OutputSpec.grid()):
        found = batch(regions, on_error="return", output=output)
        assert [(f.ok, f.id, f.meta["labels"]) for f in found] == [
            (True, "a", {"crop": "w"}),
            (False, "b", {"crop": "m"}),
        ]
    with pytest.raises(BatchError) as caught:
        batch(regions)
    assert caught.value.results[0].id == "a"


def test_one_region_may_be_a_table_of_one() -> None:
    def one(spatial: Any) -> Embedding:
        return get_embedding("imagestats", spatial=spatial, temporal=SUMMER, backend=FakeProvider())

    for spatial in (
        read_regions(FIELDS)[:1],
        FIELDS[:1],
        SHAPES[0],
        {"type": "FeatureCollection", "features": SHAPES[:1]},
    ):
        found = one(spatial)
        assert found.id == "n1" and found.meta["labels"] == LABELS[0]
    with pytest.raises(SpecError, match="GeoDataFrame as one region must hold one, got 2"):
        one(FIELDS)
    dated = Regions([SHAPES[0]], temporals=[TemporalSpec.year(2019)])
    found = Model("imagestats", backend=FakeProvider()).get_embedding(dated)
    assert found.meta["temporal"]["year"] == 2019


def test_warnings_name_the_regions_once_the_first_of_them() -> None:
    provider = FakeProvider(
        valid=lambda request, stack: np.arange(stack.valid.size).reshape(stack.valid.shape) % 3 == 0
    )
    regions = Regions(places(30), ids=[f"p{i}" for i in range(30)])
    with pytest.warns(UserWarning, match=r"less than half.*\[regions: p0, p1, .*, p19 and 10 more\]") as caught:
        assert len(list(each(regions, backend=provider))) == 30
    assert len(caught) == 1


def test_a_missing_login_prints_a_call_that_fits_on_a_screen() -> None:
    with pytest.raises(ProviderError, match='backend="auto"') as caught:
        batch(places(5000), backend="gee")
    assert len(str(caught.value)) < 2000


def test_nothing_clear_is_an_error_in_its_place() -> None:
    blank = FakeProvider(valid=lambda request, stack: np.zeros(stack.valid.shape, bool))
    with pytest.raises(NoImageryError):
        next(each(places(2), backend=blank))
