"""What bad input gets: the offending value, the remedy, and not one pixel loaded for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeProvider, Untouchable, fake_model
from shapely.geometry import LineString, Point

import rs_embed
from rs_embed import (
    BatchError,
    BBox,
    Embedding,
    FetchSpec,
    InputPrepSpec,
    Model,
    ModelError,
    NoImageryError,
    OutputSpec,
    PointBuffer,
    ProviderError,
    RSEmbedError,
    SensorSpec,
    SpecError,
    TemporalSpec,
    UserData,
    get_embedding,
    get_embedding_from_data,
    get_embeddings_batch,
    get_embeddings_batch_from_data,
    inspect_model_input,
    inspect_provider_patch,
    list_models_for_data,
)
from rs_embed.core import registry
from rs_embed.core.model_spec import Window

PLACE = PointBuffer(11.5, 48.1, 160)
SUMMER = TemporalSpec.range("2022-06-01", "2022-09-01")
DAY = TemporalSpec.range("2022-06-04", "2022-06-05")


def embed(model: str = "imagestats", **more: Any) -> Embedding:
    """A call that would fail the test if it loaded anything."""
    return get_embedding(model, **({"spatial": PLACE, "temporal": SUMMER, "backend": Untouchable()} | more))


def batch(**more: Any) -> list[Embedding]:
    call = {"spatials": [PLACE], "temporal": SUMMER, "backend": Untouchable()} | more
    return get_embeddings_batch("imagestats", **call)


def sensor(**more: Any) -> SensorSpec:
    return SensorSpec(**({"collection": "COPERNICUS/S2_SR_HARMONIZED", "bands": ("B4", "B3", "B2")} | more))


# call -> (kind of error, what its message must hold)
CALLS: dict[str, tuple[Callable[[], Any], type[RSEmbedError], tuple[str, ...]]] = {
    "unknown model": (lambda: embed("remotclip"), ModelError, ("'remotclip'", "'remoteclip'", "Available", "galileo")),
    "model of a number": (lambda: embed(3), ModelError, ("3", "list_models")),
    "unknown backend": (
        lambda: embed(backend="synthetik"),
        ProviderError,
        ("'synthetik'", "'synthetic'", "gee", "path"),
    ),
    "absent path": (lambda: embed(backend="/no/such/place"), ProviderError, ("/no/such/place", "exist")),
    "empty backend": (lambda: embed(backend=""), ProviderError, ("''", "synthetic")),
    "no provider": (lambda: embed(backend=object()), ProviderError, ("backend", "Provider", "synthetic")),
    "unknown device": (lambda: embed(device="gpu"), ModelError, ("'gpu'", "'cpu'", "'cuda'")),
    "device of a number": (lambda: embed(device=0), ModelError, ("0", "'cpu'")),
    "unknown device with torch": (
        lambda: embed("remoteclip", device="tpu9"),
        ModelError,
        ("'tpu9'", "'cpu'", "'cuda'"),
    ),
    "a device that holds no numbers": (lambda: embed("remoteclip", device="meta"), ModelError, ("'meta'", "'cpu'")),
    "unknown precision": (lambda: embed(precision="half"), ModelError, ("'half'", "'float32'", "'bfloat16'")),
    "unknown option": (lambda: embed("rcf", featurs=64), ModelError, ("'featurs'", "'features'", "kernel", "seed")),
    "misspelt variant": (lambda: embed("galileo", varient="nano"), ModelError, ("'varient'", "'variant'")),
    "unknown variant": (lambda: embed("galileo", variant="huge"), ModelError, ("'huge'", "'nano'", "'tiny'", "'base'")),
    "odd features": (lambda: embed("rcf", features=65), ModelError, ("65", "even")),
    "unknown modality": (lambda: embed("galileo", modality="s3"), ModelError, ("'s3'", "'s1'", "'s2'", "'s2+s1'")),
    "modality of a number": (lambda: embed("galileo", modality=5), RSEmbedError, ("5",)),
    "modality of a model without": (lambda: embed(modality="s1"), ModelError, ("'s1'", "imagestats")),
    "absent checkpoint": (
        lambda: embed("galileo", checkpoint="/no/such/file.pt"),
        ModelError,
        ("/no/such/file.pt", "not a file"),
    ),
    "unknown band": (lambda: embed(sensor=sensor(bands=("B4", "B99"))), ModelError, ("'B99'", "B12", "SCL")),
    "band of another sensor": (
        lambda: embed("galileo", sensor=sensor(bands=("B4", "B10"))),
        ModelError,
        ("'B10'", "B8A"),
    ),
    "band that the model has not": (
        lambda: embed("galileo", sensor=sensor(bands=("B4", "B1"))),
        ModelError,
        ("'B1'", "B2", "B12"),
    ),
    "a band twice by alias": (lambda: embed(sensor=sensor(bands=("B4", "red"))), ModelError, ("red", "twice")),
    "unknown collection": (
        lambda: embed(sensor=sensor(collection="sentinel-2-l3x")),
        SpecError,
        ("'sentinel-2-l3x'", "sentinel-2-l2a"),
    ),
    "sensor that the model cannot take": (
        lambda: embed("galileo", sensor=sensor(collection="landsat", bands=("SR_B4",))),
        ModelError,
        ("'landsat'", "sentinel-2-l2a"),
    ),
    "too few bands": (
        lambda: embed("remoteclip", sensor=sensor(bands=("B4", "B3"))),
        ModelError,
        ("3 bands", "got 2"),
    ),
    "sensor and fetch": (
        lambda: embed(sensor=sensor(), fetch=FetchSpec(scale_m=20)),
        ModelError,
        ("Use either sensor=... or fetch=..., not both",),
    ),
    "sensor of words": (lambda: embed(sensor="s2"), SpecError, ("'s2'", "SensorSpec")),
    "fetch of a number": (lambda: embed(fetch=20), SpecError, ("20", "FetchSpec")),
    "output of words": (lambda: embed(output="grid"), SpecError, ("'grid'", "OutputSpec.grid")),
    "unknown input_prep": (
        lambda: embed(input_prep="squeeze"),
        ModelError,
        ("'squeeze'", "'resize'", "'tile'", "'auto'"),
    ),
    "a place of words": (lambda: embed(spatial="Munich"), SpecError, ("'Munich'", "BBox", "PointBuffer", "GeoJSON")),
    "a line": (lambda: embed(spatial=LineString([(0, 0), (1, 1)])), SpecError, ("LineString",)),
    "a bare point": (lambda: embed(spatial=Point(0, 0)), SpecError, ("Point", "PointBuffer")),
    "no place": (lambda: embed(spatial=None), SpecError, ("None", "BBox")),
    "a continent": (lambda: embed(spatial=BBox(0, 40, 20, 60)), SpecError, ("too large", "split", "1%")),
    "time of words": (lambda: embed(temporal="2022"), SpecError, ("'2022'", "TemporalSpec")),
    "two times for one place": (lambda: embed(temporal=[SUMMER, SUMMER]), SpecError, ("1", "2", "TemporalSpec")),
    "too many frames": (
        lambda: embed("galileo", temporal=TemporalSpec.range("2018-01-01", "2021-01-01")),
        ModelError,
        ("24", "36", "2018-01-01/2021-01-01"),
    ),
    "too many tiles": (
        lambda: embed(
            "remoteclip", spatial=PointBuffer(11, 48, 20_000), input_prep=InputPrepSpec.tile(max_tiles_hard=10)
        ),
        ModelError,
        ("324", "max_tiles_hard=10", "split"),
    ),
    "tiles of a size that the net has not": (
        lambda: embed("remoteclip", input_prep=InputPrepSpec.tile(tile_size=200)),
        ModelError,
        ("224", "200"),
    ),
    "no regions": (lambda: batch(spatials=[]), ModelError, ("spatials", "non-empty")),
    "a region for a list": (lambda: batch(spatials=PLACE), ModelError, ("spatials", "list", "PointBuffer")),
    "words for a list": (lambda: batch(spatials="Munich"), ModelError, ("spatials", "list", "str")),
    "GeoJSON for a list": (lambda: batch(spatials={"type": "Polygon"}), ModelError, ("spatials", "list", "dict")),
    "times of another number": (
        lambda: batch(spatials=[PLACE] * 3, temporal=[SUMMER] * 2),
        SpecError,
        ("temporal", "3", "2"),
    ),
    "times of words": (lambda: batch(spatials=[PLACE], temporal=["2022"]), SpecError, ("temporal", "TemporalSpec")),
    "unknown on_error": (lambda: batch(on_error="ignore"), SpecError, ("'ignore'", "'raise'", "'return'")),
    "batches of nothing": (lambda: batch(batch_size=0), ModelError, ("batch_size=0", "above 0")),
    "batches of a half": (lambda: batch(batch_size=1.5), ModelError, ("batch_size=1.5", "whole")),
    "no data": (lambda: get_embeddings_batch_from_data("rcf", []), ModelError, ("non-empty",)),
    "an array for data": (
        lambda: get_embedding_from_data("rcf", np.zeros((12, 8, 8))),
        SpecError,
        ("ndarray", "UserData"),
    ),
    "unknown model, inspected": (
        lambda: inspect_model_input("rfc", spatial=PLACE, temporal=SUMMER, backend=Untouchable()),
        ModelError,
        ("'rfc'", "'rcf'"),
    ),
    "range upside down": (
        lambda: inspect_provider_patch(
            spatial=PLACE, temporal=SUMMER, sensor=sensor(), backend=Untouchable(), value_range=(9, 1)
        ),
        SpecError,
        ("(9, 1)", "lower"),
    ),
    "model with an unknown option": (
        lambda: Model("rcf", backend="synthetic", featurs=2),
        ModelError,
        ("'featurs'", "'features'"),
    ),
}


@pytest.mark.parametrize("case", CALLS)
def test_a_wrong_call_is_told_what_and_how_and_loads_nothing(case: str) -> None:
    call, kind, said = CALLS[case]
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert not [part for part in said if part not in message], message


NOWHERE: dict[str, Callable[[], Any]] = {
    "lat 120": lambda: embed(spatial=PointBuffer(11, 120, 100)),
    "lon 500": lambda: embed(spatial=PointBuffer(500, 48, 100)),
    "NaN": lambda: embed(spatial=PointBuffer(math.nan, 48, 100)),
    "zero buffer": lambda: embed(spatial=PointBuffer(11, 48, 0)),
    "negative buffer": lambda: embed(spatial=PointBuffer(11, 48, -1)),
    "infinite buffer": lambda: embed(spatial=PointBuffer(11, 48, math.inf)),
    "reversed latitudes": lambda: embed(spatial=BBox(11, 49, 12, 48)),
    "start after end": lambda: embed(temporal=TemporalSpec.range("2022-09-01", "2022-06-01")),
    "composite": lambda: embed(fetch=FetchSpec(composite="nonsense")),
    "cloud": lambda: embed(fetch=FetchSpec(cloudy_pct=500)),
    "pooling": lambda: embed(output=OutputSpec.pooled("average")),
}


@pytest.mark.parametrize("case", NOWHERE)
def test_what_the_other_library_embeds_without_a_word_is_a_spec_error(case: str) -> None:
    with pytest.raises(SpecError):
        NOWHERE[case]()


@pytest.mark.parametrize("latitude", [89.0, -89.0])
def test_latitude_89_is_where_it_is(latitude: float) -> None:
    found = get_embedding("imagestats", spatial=PointBuffer(11, latitude, 160), temporal=SUMMER, backend=FakeProvider())
    assert found.crs == ("EPSG:32661" if latitude > 0 else "EPSG:32761")
    assert found.meta["center"] == pytest.approx([11, latitude])


def test_earth_engine_without_a_login_prints_the_same_call_with_auto() -> None:
    with pytest.raises(ProviderError, match="earthengine authenticate") as caught:
        get_embedding("remoteclip", spatial=PLACE, temporal=SUMMER)  # "gee" is the default
    said = str(caught.value)
    call = said[said.index("get_embedding(") :].strip()
    assert 'backend="auto"' in call and repr(PLACE) in call and repr(SUMMER) in call
    names = {name: getattr(rs_embed, name) for name in rs_embed.__all__}
    again = eval(call, names | {"get_embedding": lambda model, **given: (model, given)})  # it is Python
    assert again == ("remoteclip", {"spatial": PLACE, "temporal": SUMMER, "backend": "auto"})


def test_the_same_call_keeps_everything_that_was_said() -> None:
    with pytest.raises(ProviderError) as caught:
        get_embedding(
            "galileo",
            spatial=PLACE,
            temporal=SUMMER,
            modality="s1",
            output=OutputSpec.grid(),
            input_prep="tile",
            device="cpu",
            variant="tiny",
            patch_size=4,
        )
    said = str(caught.value)
    for part in ("'galileo'", "modality='s1'", "mode='grid'", "input_prep='tile'", "variant='tiny'", "patch_size=4"):
        assert part in said


def test_the_same_call_of_a_batch() -> None:
    with pytest.raises(ProviderError, match=r"get_embeddings_batch\('rcf', spatials=\[PointBuffer.*backend=\"auto\""):
        get_embeddings_batch("rcf", spatials=[PLACE], temporal=SUMMER)


@pytest.mark.filterwarnings("ignore:temporal=None")
def test_inspection_without_a_login_says_so_too() -> None:
    with pytest.raises(ProviderError, match="earthengine authenticate"):
        inspect_provider_patch(spatial=PLACE, sensor=sensor())
    with pytest.raises(ProviderError, match="earthengine authenticate"):
        inspect_model_input("rcf", spatial=PLACE)


def test_no_scene_names_window_collection_and_nearest_dates() -> None:
    with pytest.raises(NoImageryError) as caught:
        embed(backend="synthetic", temporal=DAY)
    said = str(caught.value)
    assert "sentinel-2" in said and "2022-06-04" in said and "2022-06-05" in said
    assert "nearest dates: 2022-06-0" in said
    assert isinstance(caught.value, ProviderError)


def test_all_cloud_says_the_clear_fraction() -> None:
    nothing = FakeProvider(valid=lambda request, stack: False)
    with pytest.raises(NoImageryError, match=r"clear fraction .*cloudier scenes \(FetchSpec\(cloudy_pct"):
        embed(backend=nothing)


def failing_for(places: set[float]) -> FakeProvider:
    """A provider without imagery around some longitudes."""

    def loading(request: Any, part: Any) -> None:
        if round(request.footprint.centroid.x, 3) in places:
            raise NoImageryError(f"nothing at {request.footprint.centroid.x:.3f}")

    return FakeProvider(loading)


EIGHT = [PointBuffer(11 + 0.01 * i, 48, 100) for i in range(8)]


def test_one_region_without_imagery_keeps_the_other_seven() -> None:
    provider = failing_for({11.03})
    with pytest.raises(BatchError, match=r"1 of 8 regions failed; the first is region 3: nothing at 11\.030") as caught:
        get_embeddings_batch("imagestats", spatials=EIGHT, temporal=SUMMER, backend=provider)
    error = caught.value
    assert list(error.errors) == [3] and isinstance(error.errors[3], NoImageryError)
    assert error.results[3] is None and sum(isinstance(r, Embedding) and r.ok for r in error.results) == 7
    kept = get_embeddings_batch("imagestats", spatials=EIGHT, temporal=SUMMER, backend=provider, on_error="return")
    assert [e.ok for e in kept] == [i != 3 for i in range(8)]
    assert "NoImageryError: nothing at 11.030" in kept[3].meta["error"]
    assert np.isnan(kept[3].data).all() and np.stack([e.data for e in kept]).shape == (8, 48)
    for one, other in zip(error.results, kept, strict=True):
        assert one is None or np.array_equal(one.data, other.data)


def test_a_batch_of_one_raises_like_the_others() -> None:
    with pytest.raises(BatchError):
        get_embeddings_batch("imagestats", spatials=EIGHT[3:4], temporal=SUMMER, backend=failing_for({11.03}))
    with pytest.raises(NoImageryError):
        get_embedding("imagestats", spatial=EIGHT[3], temporal=SUMMER, backend=failing_for({11.03}))


@pytest.mark.parametrize("pooling", ["mean", "stats", "max"])
def test_failed_rows_stack_with_the_others_whatever_failed(pooling: str) -> None:
    spatials = [EIGHT[0], BBox(0, 40, 20, 60), EIGHT[3]]
    found = get_embeddings_batch(
        "imagestats",
        spatials=spatials,
        temporal=SUMMER,
        backend=failing_for({11.03}),
        output=OutputSpec.pooled(pooling),
        sensor=sensor(),
        on_error="return",
    )
    assert [e.ok for e in found] == [True, False, False]
    assert "too large" in found[1].meta["error"]
    assert len({e.shape for e in found}) == 1


def test_a_misspelt_place_in_a_batch_fails_alone() -> None:
    found = get_embeddings_batch(
        "imagestats", spatials=[PLACE, "Munich"], temporal=SUMMER, backend=FakeProvider(), on_error="return"
    )
    assert [e.ok for e in found] == [True, False] and "Munich" in found[1].meta["error"]


PIXELS = np.full((12, 40, 40), 1000, np.float32)
UTM = {"crs": "EPSG:32632", "transform": (10, 0, 500_000, 0, -10, 5_000_000)}

DATA: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "two axes": (lambda: UserData(PIXELS[0], "s2"), ("(40, 40)", "(C, H, W)")),
    "five axes": (lambda: UserData(PIXELS[None, None], "s2"), ("(1, 1, 12, 40, 40)", "(T, C, H, W)")),
    "no pixels": (lambda: UserData(PIXELS[:, :0], "s2"), ("no pixel",)),
    "words": (lambda: UserData(PIXELS.astype(str), "s2"), ("dtype", "real numbers")),
    "bands untold": (lambda: UserData(PIXELS[:5], "s2"), ("5 channels", "12", "bands=[...]")),
    "another number of bands": (lambda: UserData(PIXELS[:3], "s2", bands=["B4", "B3"]), ("2 bands", "3 channels")),
    "unknown band": (lambda: UserData(PIXELS[:1], "s2", bands=["B99"]), ("'B99'", "B12")),
    "unknown collection": (lambda: UserData(PIXELS, "sentinel-7"), ("'sentinel-7'",)),
    "crs without transform": (lambda: UserData(PIXELS, "s2", crs="EPSG:32632"), ("transform is missing",)),
    "transform without area": (
        lambda: UserData(PIXELS, "s2", crs="EPSG:32632", transform=(0, 0, 0, 0, 0, 0)),
        ("no area",),
    ),
    "scale 0": (lambda: UserData(PIXELS, "s2", scale_m=0), ("scale_m", "above 0")),
    "unknown units": (lambda: UserData(PIXELS, "s2", units="percent"), ("'percent'", "'reflectance'")),
    "spans of another number": (lambda: UserData(PIXELS, "s2", temporal=[SUMMER, SUMMER]), ("2 spans", "1 frames")),
}


@pytest.mark.parametrize("case", DATA)
def test_wrong_arrays_are_told_what_is_wrong(case: str) -> None:
    make, said = DATA[case]
    with pytest.raises(SpecError) as caught:
        make()
    assert not [part for part in said if part not in str(caught.value)], str(caught.value)


def test_missing_bands_of_an_array_are_named() -> None:
    data = UserData(PIXELS[:3], "s2", bands=["B4", "B3", "B2"], temporal=SUMMER, **UTM)
    with pytest.raises(ModelError, match=r"imagestats needs the bands B1, .*have no B1, B5"):
        get_embedding_from_data("imagestats", data)
    radar = UserData(PIXELS[:2], "s1", temporal=SUMMER, **UTM)
    with pytest.raises(RSEmbedError, match=r"rcf .*sentinel-1"):
        get_embedding_from_data("rcf", radar)


def test_an_array_that_does_not_fit_fails_alone() -> None:
    good = UserData(PIXELS, "s2", temporal=SUMMER, **UTM)
    bad = UserData(PIXELS[:3], "s2", bands=["B4", "B3", "B2"], temporal=SUMMER, **UTM)
    found = get_embeddings_batch_from_data("imagestats", [good, bad, good], on_error="return")
    assert [e.ok for e in found] == [True, False, True]
    assert "have no B1" in found[1].meta["error"] and found[1].shape == found[0].shape
    with pytest.raises(BatchError) as caught:
        get_embeddings_batch_from_data("imagestats", [good, bad, good])
    assert list(caught.value.errors) == [1] and sum(r is not None for r in caught.value.results) == 2


def test_models_for_data_reports_and_never_raises() -> None:
    rows = list_models_for_data(UserData(PIXELS[:2], "s1", bands=["VV", "VH"], temporal=SUMMER, **UTM))
    assert [row["model"] for row in rows] == rs_embed.list_models()
    found = {row["model"]: row for row in rows}
    assert found["galileo"] == {"model": "galileo", "compatible": True, "bands_used": ["VV", "VH"], "reason": None}
    assert not found["rcf"]["compatible"] and "sentinel-1" in found["rcf"]["reason"]
    landsat = list_models_for_data(UserData(np.ones((7, 9, 9), np.float32), "landsat", units="dn"))
    assert all(row["compatible"] or row["reason"] for row in landsat)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_non_finite_pixel_is_masked_and_counted(value: float) -> None:
    spoilt = np.random.default_rng(0).uniform(500, 3000, (12, 40, 40)).astype(np.float32)
    whole = get_embedding_from_data("imagestats", UserData(spoilt.copy(), "s2", temporal=SUMMER, **UTM))
    spoilt[3, 10, 20] = value
    found = get_embedding_from_data("imagestats", UserData(spoilt, "s2", temporal=SUMMER, **UTM))
    assert np.isfinite(found.data).all()
    assert found.meta["valid_fraction"] == pytest.approx(1 - 1 / 1600, abs=1e-5)
    assert np.allclose(found.data[:12], whole.data[:12], rtol=0.01)


def test_a_corner_without_data_is_no_error() -> None:
    spoilt = PIXELS.copy()
    spoilt[:, :10, :10] = 0
    data = UserData(spoilt, "s2", temporal=SUMMER, nodata=0, **UTM)
    found = get_embedding_from_data("imagestats", data)
    assert found.meta["valid_fraction"] == pytest.approx(1 - 100 / 1600)
    assert np.allclose(found.data[:12], 1000)


def test_nothing_but_nodata_is_an_error() -> None:
    nothing = UserData(np.zeros((12, 40, 40), np.float32), "s2", temporal=SUMMER, nodata=0, **UTM)
    for output in (OutputSpec.pooled(), OutputSpec.grid()):
        with pytest.raises(NoImageryError, match="no usable pixel"):
            get_embedding_from_data("imagestats", nothing, output=output)


def test_an_array_below_a_patch_is_told_to_grow(shared: Path) -> None:
    small = UserData(PIXELS[:, :4, :4], "s2", temporal=SUMMER, **UTM)
    with pytest.raises(ModelError, match=r"4 x 4 pixels.*8 x 8.*larger"):
        get_embedding_from_data(
            "galileo", small, variant="nano", checkpoint=str(shared / "weights/galileo_nano/encoder.pt")
        )


def test_a_checkpoint_of_another_variant_is_told_which(shared: Path) -> None:
    file = str(shared / "weights/galileo_nano/encoder.pt")
    with pytest.raises(ModelError, match=r"encoder\.pt is not a checkpoint of galileo tiny.*variant='nano'"):
        embed("galileo", variant="tiny", checkpoint=file)


def test_without_network_and_cache_the_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RS_EMBED_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=r"RemoteCLIP-RN50\.pt") as caught:
        embed("remoteclip", variant="RN50")
    assert "chendelong/RemoteCLIP" in str(caught.value) and "checkpoint=" in str(caught.value)


def test_errors_are_one_tree() -> None:
    for name in ("SpecError", "ModelError", "ProviderError", "BatchError", "CheckpointError", "MissingExtraError"):
        assert issubclass(getattr(rs_embed, name), RSEmbedError)
    assert issubclass(NoImageryError, ProviderError)
    assert issubclass(SpecError, ValueError) and issubclass(rs_embed.MissingExtraError, ImportError)


@pytest.mark.parametrize("name", ["BatchExporter", "ModelConfig", "EmbedderBase"])
def test_refused_names_say_what_to_use(name: str) -> None:
    with pytest.raises(AttributeError, match=rf"no {name}; use \w+"):
        getattr(rs_embed, name)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = rs_embed.nonsense


def test_a_model_of_ones_own_is_refused_like_the_others() -> None:
    spec = fake_model(Window(size=64, patch=8, min=64, max=64, multiple=8, square=True))
    registry.register(replace(spec, name="errors-of-its-own"))
    try:
        with pytest.raises(ModelError, match="does not accept the option 'variant'; accepted: none"):
            embed("errors-of-its-own", variant="x")
    finally:
        del registry._registered["errors-of-its-own"]
