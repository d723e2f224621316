"""``auto``: which service answers, who takes over, and that one request has one answer."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from range_server import RangeServer
from real_catalogue import CATALOGUE, SQUARE, ask, load, real_items
from servers import Front, free_port, stac_api

from rs_embed import (
    PointBuffer,
    SensorSpec,
    TemporalSpec,
    compare_backends,
    get_embedding,
    inspect_model_input,
    inspect_provider_patch,
)
from rs_embed.core.errors import NoImageryError, ProviderError
from rs_embed.core.imagery import ImageRequest, Interval, Scene
from rs_embed.providers.backends import open_provider
from rs_embed.providers.base import Provider, SceneProvider
from rs_embed.providers.failover import FailoverProvider
from rs_embed.providers.local import open_local
from rs_embed.providers.remote import forget_heads
from rs_embed.providers.services import SERVICES, Service
from rs_embed.providers.stac import STACProvider, open_stac


def service(name: str, url: str) -> STACProvider:
    return STACProvider(replace(SERVICES["earth-search"], name=name, title=name.title(), url=url))


def rows(top: int, count: int) -> GeoBox:
    a = SQUARE.affine
    return GeoBox((count, SQUARE.shape[1]), Affine(a.a, 0, a.c, 0, a.e, a.f + top * a.e), SQUARE.crs)


def nobody() -> str:
    return f"http://127.0.0.1:{free_port()}"


def test_the_first_answers_where_it_can(api: str) -> None:
    provider = FailoverProvider([service("first", api), service("second", nobody())])
    stack = load(provider, ask())
    assert stack.origin == ("first", "First") and stack.notes == () and stack.valid.any()


@pytest.mark.parametrize("status", [403, 429, 503])
def test_one_that_refuses_hands_over_and_it_is_said(test_data: Path, api: str, status: int) -> None:
    with Front(behind=api) as front:
        front.fail(status, Retry_After="0")
        provider = FailoverProvider([service("first", front.url), service("second", api)])
        stack = load(provider, ask())
        (note,) = stack.notes
        assert stack.origin == ("second", "Second")
        assert note.startswith("second answered, since first did not: first: the search in sentinel-2-l2a")
        assert str(status) in note
    np.testing.assert_array_equal(stack.pixels, load(open_local(test_data / CATALOGUE), ask()).pixels)


def test_one_that_is_down_or_has_nothing_hands_over(api: str, tmp_path: Path) -> None:
    elsewhere = {
        **{"type": "Feature", "stac_version": "1.0.0", "id": "far", "collection": "sentinel-2-l2a", "links": []},
        **{"bbox": [0, 0, 1, 1], "geometry": {"type": "Point", "coordinates": [0.5, 0.5]}},
        **{
            "properties": {"datetime": "2023-08-10T00:00:00Z"},
            "assets": {"red": {"href": "https://example.org/a.tif"}},
        },
    }
    with stac_api([elsewhere], tmp_path) as empty:
        provider = FailoverProvider([service("down", nobody()), service("empty", empty), service("full", api)])
        stack = load(provider, ask())
    assert stack.origin == ("full", "Full")
    assert [note.split(":")[0] for note in stack.notes] == [
        "full answered, since down did not",
        "full answered, since empty has none",
    ]


def test_scenes_that_cannot_be_read_hand_over_before_the_first_part(test_data: Path, tmp_path: Path, api: str) -> None:
    with RangeServer(test_data / CATALOGUE) as broken:
        broken.break_("status", status=404, path=r"B0[48]\.tif")
        with stac_api(real_items(test_data, broken), tmp_path) as url:
            provider = FailoverProvider([service("first", url), service("second", api)])
            stack = load(provider, ask())
    assert stack.origin == ("second", "Second") and "404" in stack.notes[0]


def test_one_request_has_one_answer(test_data: Path, tmp_path: Path, api: str) -> None:
    """The first part is read from one service: where that fails later, the region fails, and no other completes it."""
    parts = [rows(row, 20) for row in (0, 20, 40)]
    with RangeServer(test_data / CATALOGUE) as flaky, stac_api(real_items(test_data, flaky), tmp_path) as url:
        provider = FailoverProvider([service("first", url), service("second", api)])
        stacks = provider.load(ask(), parts)
        assert next(stacks).origin == ("first", "First")
        flaky.break_("status", status=404)
        forget_heads()
        with pytest.raises(ProviderError, match="404") as caught:
            next(stacks)
        assert caught.value.__notes__ == [
            "other parts of this region were read from first; no other service completes it"
        ]
        other = replace(ask(), composite="mosaic")
        assert load(provider, other).origin == ("second", "Second")


class Slow(SceneProvider):
    """A service whose reads fail after others of the same request have begun."""

    name = source = "slow"

    def __init__(self, behind: SceneProvider, fails_from: int) -> None:
        self.behind, self.left = behind, fails_from

    def offers(self, sensor: str) -> bool:
        return True

    def search(self, request: ImageRequest, interval: Interval) -> list[Scene]:
        return self.behind.search(request, interval)

    def read(self, scene: Scene, bands: Sequence[str], geobox: GeoBox) -> NDArray[np.float32]:
        self.left -= 1
        if self.left < 0:
            raise ProviderError("slow: gone")
        return self.behind.read(scene, bands, geobox)


@pytest.mark.parametrize("fails_from", [0, 1, 2, 4, 7])
def test_parts_that_load_at_once_have_one_answer(api: str, fails_from: int) -> None:
    parts = [rows(13 * i, 13) for i in range(5)]
    provider = FailoverProvider([Slow(open_stac(api), fails_from), service("second", api)])

    def one(part: GeoBox) -> str | None:
        try:
            (stack,) = provider.load(ask(), [part])
        except ProviderError:
            return None
        assert stack.origin is not None
        return stack.origin[0]

    with ThreadPoolExecutor(5) as pool:
        found = list(pool.map(one, parts))
    assert len({name for name in found if name is not None}) <= 1
    assert "second" not in found or None not in found


def test_where_none_answers_all_are_said(api: str) -> None:
    provider = FailoverProvider([service("first", nobody()), service("second", nobody())])
    with pytest.raises(
        ProviderError, match=r"no open service could answer for sentinel-2-l2a: \(1\) first: .*\(2\) second: "
    ):
        load(provider, ask())
    with Front(behind=api) as front:
        front.fail(503)
        (left, right) = service("first", front.url), service("second", nobody())
        provider = FailoverProvider([left, right])
        with pytest.raises(ProviderError):
            load(provider, ask())
        front.fail(None)
        left._down = None  # as if half a minute had passed
        assert load(provider, ask()).origin == ("first", "First")


def test_no_imagery_only_where_all_have_none(api: str) -> None:
    september = ((datetime(2023, 9, 1, tzinfo=UTC), datetime(2023, 10, 1, tzinfo=UTC)),)
    both = FailoverProvider([service("first", api), service("second", api)])
    with pytest.raises(NoImageryError, match=r"nearest dates: 2023-08-20.*\(asked: first, second\)"):
        load(both, ask(intervals=september))
    half = FailoverProvider([service("first", api), service("second", nobody())])
    with pytest.raises(ProviderError, match="no open service could answer") as caught:
        load(half, ask(intervals=september))
    assert not isinstance(caught.value, NoImageryError)


def test_scenes_are_those_of_the_service_that_will_answer(api: str) -> None:
    provider = FailoverProvider([service("first", nobody()), service("second", api)])
    request = ask()
    found = provider.search(request, request.intervals[0])
    assert len(found) == 10 and load(provider, request).origin == ("second", "Second")


def test_a_model_is_told_why_no_service_can_feed_it() -> None:
    sensor = SensorSpec("COPERNICUS/S2_HARMONIZED", ("B4", "B3", "B2"))
    call: dict[str, Any] = {"spatial": PointBuffer(15.6, 46.92, 300), "temporal": TemporalSpec.year(2022)}
    for backend in ("auto", "earth-search"):
        with pytest.raises(
            ProviderError, match=r"has no imagery of 'COPERNICUS/S2_HARMONIZED'.*JPEG 2000.*backend='gee'"
        ):
            get_embedding("rcf", sensor=sensor, backend=backend, **call)


def test_what_there_is_instead_is_said(test_data: Path, api: str) -> None:
    call: dict[str, Any] = {"spatial": PointBuffer(15.6, 46.92, 300), "temporal": TemporalSpec.year(2022)}
    sensor = SensorSpec("COPERNICUS/S1_GRD", ("VV", "VH"))
    for backend, said in ((api, r"127\.0\.0\.1:\d+ has"), (str(test_data / CATALOGUE), f"{CATALOGUE} holds")):
        told = rf"no imagery of 'COPERNICUS/S1_GRD' \(sentinel-1\) \({said} sentinel-2-l2a\); choose another backend"
        with pytest.raises(ProviderError, match=told):
            get_embedding("imagestats", sensor=sensor, backend=backend, **call)


def test_looks_and_comparisons_name_who_answered_and_what_was_asked_for(test_data: Path, api: str) -> None:
    where: dict[str, Any] = {"spatial": PointBuffer(15.6, 46.92, 3000), "temporal": TemporalSpec.parse("2023-08")}
    sensor = SensorSpec("sentinel-2-c1-l2a", ("B4", "B3", "B2"), scale_m=120)
    table = {"sentinel-2-l2a": SERVICES["earth-search"].offers["sentinel-2-l2a"][:1]}  # type: ignore[index]
    auto = FailoverProvider([service("first", nobody()), STACProvider(Service("second", "Second", api, table))])
    said = ("second has no sentinel-2-c1-l2a: read from sentinel-2-l2a", "second answered, since first did not")

    def told(notes: list[str]) -> list[bool]:
        return [note.startswith(start) for note, start in zip(notes, said, strict=True)]

    patch = inspect_provider_patch(sensor=sensor, backend=auto, **where)
    assert patch["backend"] == "second" and all(told(patch["notes"]))
    given = inspect_model_input("rcf", sensor=sensor, backend=auto, **where)
    assert given["backend"] == "second" and all(told(given["notes"]))
    found = compare_backends(auto, str(test_data / CATALOGUE), sensor=sensor, **where)
    assert found["ok"] and found["backend_a"] == "auto (second)"
    assert all(told(found["notes_a"])) and found["notes_b"] == []


def test_an_orbit_that_the_items_do_not_tell(api: str) -> None:
    with pytest.raises(NoImageryError, match=r"5 were left out by orbit='ascending' \(5 of them tell no orbit\)"):
        load(open_stac(api), ask(orbit="ascending"))


def test_a_sensor_that_no_service_has() -> None:
    provider = FailoverProvider([STACProvider(each) for each in SERVICES.values()])
    assert isinstance(provider, Provider) and provider.offers("naip") and not provider.offers("era5")
    request = ask(sensor="sentinel-2-l1c", bands=("B4",), mask=None)
    with pytest.raises(ProviderError, match=r"none of the open services \(earth-search, planetary-computer\)"):
        load(provider, request)


@pytest.mark.parametrize("name", ["auto", "earth-search", "planetary-computer", "https://stac.example.org/v1"])
def test_backends_open_without_a_network(name: str) -> None:
    provider = open_provider(name)
    assert provider is open_provider(name)
    assert provider.name == ("stac.example.org" if name.startswith("https") else name)
    again = pickle.loads(pickle.dumps(provider))
    assert (again.name, again.source) == (provider.name, provider.source)


def test_an_embedding_names_who_answered(test_data: Path, api: str) -> None:
    call: dict[str, Any] = {
        "spatial": PointBuffer(15.6, 46.92, 3000),
        "temporal": TemporalSpec.range("2023-08-01", "2023-09-01"),
        "sensor": SensorSpec("sentinel-2-c1-l2a", ("B4", "B3", "B2"), scale_m=120),
    }
    table = {"sentinel-2-l2a": SERVICES["earth-search"].offers["sentinel-2-l2a"][:1]}  # type: ignore[index]
    only = Service("second", "Second", api, table)
    provider = FailoverProvider([service("first", nobody()), STACProvider(only)])
    there = get_embedding("rcf", backend=provider, **call)  # type: ignore[arg-type]
    here = get_embedding("rcf", backend=str(test_data / CATALOGUE), **call)
    np.testing.assert_array_equal(there.data, here.data)
    assert there.meta["backend"] == "second" and there.meta["source"] == "Second"
    assert there.meta["scenes"] == here.meta["scenes"]
    said = "; ".join(there.meta["warnings"])
    assert "second has no sentinel-2-c1-l2a: read from sentinel-2-l2a" in said
    assert "second answered, since first did not: first: the search" in said
