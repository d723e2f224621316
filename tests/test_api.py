"""The public calls, end to end on the painted landscape: defaults, times, sensors, modalities, reuse, inspection."""

from __future__ import annotations

import inspect
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
from fakes import FakeProvider
from shapely.geometry import box, mapping

import rs_embed
from rs_embed import (
    BBox,
    Embedding,
    FetchSpec,
    Model,
    OutputSpec,
    PointBuffer,
    SensorSpec,
    SpecError,
    TemporalSpec,
    UserData,
    describe_model,
    get_embedding,
    get_embedding_from_data,
    get_embeddings_batch,
    get_embeddings_batch_from_data,
    inspect_gee_patch,
    inspect_model_input,
    inspect_provider_patch,
    list_models,
    list_models_for_data,
    reset_runtime,
)
from rs_embed.core import embedding, registry

PLACE = PointBuffer(11.5, 48.1, 160)
SPAN = TemporalSpec.range("2022-06-01", "2022-08-01")
GRID = OutputSpec.grid()
S2 = "COPERNICUS/S2_SR_HARMONIZED"


def embed(model: str = "imagestats", **more: Any) -> Embedding:
    return get_embedding(model, **({"spatial": PLACE, "temporal": SPAN, "backend": "synthetic"} | more))


@pytest.fixture(scope="session")
def nano(shared: Path) -> dict[str, Any]:
    """The options of galileo's real weights."""
    return {"variant": "nano", "checkpoint": str(shared / "weights/galileo_nano/encoder.pt")}


FIXED = {
    get_embedding: {
        "spatial": inspect.Parameter.empty,
        "temporal": None,
        "sensor": None,
        "output": OutputSpec.pooled(),
        "backend": "gee",
        "device": "auto",
        "input_prep": "resize",
    },
    get_embeddings_batch: {
        "spatials": inspect.Parameter.empty,
        "temporal": None,
        "sensor": None,
        "output": OutputSpec.pooled(),
        "backend": "gee",
        "device": "auto",
        "input_prep": "resize",
    },
}


@pytest.mark.parametrize("function", FIXED, ids=lambda f: f.__name__)
def test_names_and_defaults_are_the_fixed_ones(function: Any) -> None:
    parameters = inspect.signature(function).parameters
    assert next(iter(parameters)) == "model"
    for name, default in FIXED[function].items():
        assert parameters[name].default == default
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
    assert embedding.Embedding is Embedding and registry.list_models() == list_models()


def test_no_time_is_the_default_summer_with_a_warning_at_the_callers_line() -> None:
    calls = [
        lambda: get_embedding("imagestats", spatial=PLACE, backend="synthetic"),
        lambda: get_embeddings_batch("imagestats", spatials=[PLACE], backend="synthetic")[0],
        lambda: Model("imagestats", backend="synthetic").get_embedding(PLACE),
        lambda: Model("imagestats", backend="synthetic").get_embeddings_batch([PLACE])[0],
    ]
    for call in calls:
        with pytest.warns(UserWarning, match=r"2022-06-01\.\.2022-09-01") as caught:
            found = call()
        assert found.meta["temporal"] == {"mode": "range", "start": "2022-06-01", "end": "2022-09-01"}
        assert [Path(w.filename).name for w in caught] == ["test_api.py"]
    with pytest.warns(UserWarning, match=r"2022-06-01\.\.2022-09-01") as caught:
        inspect_model_input("imagestats", spatial=PLACE, backend="synthetic")
    assert [Path(w.filename).name for w in caught] == ["test_api.py"]


def test_a_year_and_a_range() -> None:
    year = embed(temporal=TemporalSpec.year(2021), backend=FakeProvider())
    assert year.meta["temporal"] == {"mode": "year", "start": "2021-01-01", "end": "2022-01-01", "year": 2021}
    assert embed().meta["temporal"] == {"mode": "range", "start": "2022-06-01", "end": "2022-08-01"}


def test_a_time_for_each_region() -> None:
    spans = [SPAN, TemporalSpec.range("2022-08-01", "2022-09-10")]
    both = get_embeddings_batch("imagestats", spatials=[PLACE, PLACE], temporal=spans, backend="synthetic")
    assert [e.meta["temporal"]["start"] for e in both] == ["2022-06-01", "2022-08-01"]
    assert not np.allclose(both[0].data, both[1].data)
    for found, span in zip(both, spans, strict=True):
        assert np.array_equal(found.data, embed(temporal=span).data)


def test_regions_may_be_geometries_and_geojson() -> None:
    shape = box(11.5, 48.1, 11.503, 48.102)
    found = get_embeddings_batch(
        "imagestats",
        spatials=[shape, mapping(shape), {"type": "Feature", "geometry": mapping(shape), "properties": {}}],
        temporal=SPAN,
        backend="synthetic",
    )
    assert all(np.array_equal(e.data, found[0].data) for e in found)
    whole = embed(spatial=BBox(11.5, 48.1, 11.503, 48.102))
    assert np.allclose(found[0].data[:12], whole.data[:12], rtol=1e-3)


def test_the_order_is_that_of_the_regions() -> None:
    places = [PointBuffer(11.5 + 0.01 * i, 48.1, 60 + 50 * (i % 3)) for i in range(7)]
    found = get_embeddings_batch("imagestats", spatials=places, temporal=SPAN, backend="synthetic", batch_size=2)
    assert [e.meta["center"][0] for e in found] == pytest.approx([p.lon for p in places])
    again = get_embeddings_batch("imagestats", spatials=tuple(places), temporal=SPAN, backend="synthetic")
    assert all(np.array_equal(a.data, b.data) for a, b in zip(found, again, strict=True))


def test_fetch_changes_what_it_names() -> None:
    found = embed("rcf", fetch=FetchSpec(scale_m=20, cloudy_pct=80, composite="mosaic"), output=GRID)
    assert (found.meta["sensor"]["scale_m"], found.meta["sensor"]["cloudy_pct"]) == (20, 80)
    assert found.meta["sensor"]["composite"] == "mosaic"
    assert found.meta["geobox"]["transform"][0] == 20.0 and found.meta["effective_gsd"] == 20.0
    assert embed("rcf", fetch=FetchSpec(scale_m=2.5), output=GRID).meta["geobox"]["transform"][0] == 2.5


def test_composites_differ_and_repeat() -> None:
    found = {c: embed(fetch=FetchSpec(composite=c)).data for c in ("median", "mean", "mosaic")}
    assert len({v.tobytes() for v in found.values()}) == 3
    assert np.array_equal(embed().data, found["median"])
    assert np.corrcoef(found["median"][:12], found["mean"][:12])[0, 1] > 0.99


@pytest.mark.parametrize("model", ["rcf", "imagestats"])
def test_a_sensor_of_other_bands(model: str) -> None:
    bands = ("B8", "B4")
    found = embed(model, sensor=SensorSpec(S2, bands, cloudy_pct=60))
    assert found.meta["sensor"]["bands"] == ["B8", "B4"] and found.meta["sensor"]["collection"] == S2
    assert found.shape == ((8,) if model == "imagestats" else (512,))
    if model == "imagestats":
        turned = embed(model, sensor=SensorSpec("s2", ("red", "nir"), cloudy_pct=60))
        assert np.array_equal(turned.data.reshape(4, 2), found.data.reshape(4, 2)[:, ::-1])
        radar = embed(model, sensor=SensorSpec("s1", ("VV", "VH")))
        assert radar.shape == (8,) and (radar.data[:2] < 0).all()


def test_a_sensor_on_a_model_that_masks_missing_bands(nano: dict[str, Any]) -> None:
    whole = embed("galileo", **nano)
    part = embed("galileo", sensor=SensorSpec(S2, ("B2", "B3", "B4", "B8", "B8A")), **nano)
    assert part.shape == whole.shape == (128,) and np.isfinite(part.data).all()
    assert not np.allclose(part.data, whole.data, rtol=0.01)
    radar = embed("galileo", sensor=SensorSpec("COPERNICUS/S1_GRD", ("VV", "VH")), **nano)
    assert radar.meta["modality"] == "s1"


def test_modalities_of_galileo(nano: dict[str, Any]) -> None:
    found = {m: embed("galileo", modality=m, **nano) for m in (None, "s2", "s1", "s2+s1", "S2+S1")}
    assert np.array_equal(found[None].data, found["s2"].data) and found[None].meta["modality"] == "s2"
    assert np.array_equal(found["s2+s1"].data, found["S2+S1"].data)
    assert len({found[m].data.tobytes() for m in ("s1", "s2", "s2+s1")}) == 3
    assert set(found["s2+s1"].meta["scenes"]) == {"s2", "s1"}
    assert set(found["s1"].meta["scenes"]) == {"s1"}
    assert found["s2+s1"].meta["frames"]["requested"] == 4
    assert len({e.meta["space"] for e in found.values()}) == 3
    grid = embed("galileo", modality="sentinel1", output=GRID, **nano)
    assert grid.shape[0] == 128 and np.isfinite(grid.values()).all()


def test_inputs_of_two_scales_meet_on_the_finer(nano: dict[str, Any]) -> None:
    coarse = SensorSpec(S2, ("B2", "B3", "B4"), scale_m=20)
    found = embed("galileo", modality="s2+s1", sensor=coarse, output=GRID, **nano)
    assert found.meta["geobox"]["transform"][0] == 80.0 and np.isfinite(found.values()).all()


def test_options_change_the_model(nano: dict[str, Any]) -> None:
    single, halves = (embed("galileo", **nano, **o) for o in ({"temporal_mode": "single"}, {"n_frames": 3}))
    assert single.meta["frames"]["requested"] == 1 and halves.meta["frames"]["requested"] == 3
    fine = embed("galileo", patch_size=4, output=GRID, **nano)
    assert fine.meta["geobox"]["transform"][0] == 40.0
    assert embed("rcf", features=64, kernel=5).shape == (64,)
    assert not np.allclose(embed("rcf", seed=1).data, embed("rcf").data)
    assert embed("rcf", cell=4, output=GRID).meta["geobox"]["transform"][0] == 40.0


def test_weights_are_loaded_once(nano: dict[str, Any]) -> None:
    reset_runtime()
    model = Model("galileo", backend="synthetic", **nano)
    loaded = model._session.runtime().encoder
    one, two = model.get_embedding(PLACE, temporal=SPAN), embed("galileo", **nano)
    assert np.array_equal(one.data, two.data)
    assert Model("GALILEO ", backend="synthetic", output=GRID, **nano)._session.runtime().encoder is loaded
    assert Model("galileo", backend="synthetic", modality="s2", **nano)._session.runtime().encoder is loaded
    assert reset_runtime()["models"] >= 1
    assert reset_runtime() == {"models": 0}
    assert Model("galileo", backend="synthetic", **nano)._session.runtime().encoder is not loaded
    assert np.array_equal(embed("galileo", **nano).data, two.data)
    assert reset_runtime()["models"] == 1


def test_two_models_stay_loaded() -> None:
    reset_runtime()
    for seed in range(4):
        embed("rcf", seed=seed, features=8, backend=FakeProvider())
    assert reset_runtime() == {"models": 2}


def test_a_model_describes_itself() -> None:
    model = Model("rcf", backend="synthetic")
    assert model.describe() == describe_model("rcf") and "rcf" in repr(model)
    assert Model.list_models() == list_models()


def test_facts_of_the_four_models() -> None:
    galileo, clip = describe_model("galileo"), describe_model("remoteclip_s2rgb")
    assert list(galileo["variants"]) == ["nano", "tiny", "base"] and set(clip["variants"]) >= {
        "RN50",
        "ViT-B-32",
        "ViT-L-14",
    }
    assert galileo["inputs"]["s2"]["frames"]["step"] == "month" and galileo["inputs"]["s2"]["missing_band"] == "mask"
    assert [s["trained_on"] for s in galileo["inputs"]["s2"]["sensors"]] == [True, False]
    assert galileo["modalities"] == {"s2": ["s2"], "s1": ["s1"], "s2+s1": ["s2", "s1"]}
    assert galileo["variants"]["nano"]["checkpoint"]["pin"] == "pinned"
    assert galileo["variants"]["base"]["checkpoint"]["pin"] == "unpinned"
    assert clip["image_size"] == 224 and clip["pooled_kind"] == "window"
    assert any(step["step"] == "stretch_8bit" for step in clip["inputs"]["rgb"]["preprocessing"])
    for name in ("rcf", "imagestats"):
        assert describe_model(name)["variants"]["default"]["checkpoint"] is None
        assert describe_model(name)["locality"] == "pixel"


def pixels(size: int = 48) -> np.ndarray:
    return np.random.default_rng(5).uniform(200, 4000, (12, size, size)).astype(np.float32)


def test_ones_own_arrays_in_order() -> None:
    utm = {"crs": "EPSG:32632", "transform": (10, 0, 500_000, 0, -10, 5_000_000)}
    datas = [UserData(pixels(n), "s2", temporal=SPAN, **utm) for n in (20, 33, 20)]
    found = get_embeddings_batch_from_data("imagestats", datas, batch_size=2)
    for data, one in zip(datas, found, strict=True):
        assert np.allclose(one.data[:12], data.data.mean((1, 2)), rtol=1e-5)
        assert np.array_equal(one.data, get_embedding_from_data("imagestats", data).data)
        assert one.meta["backend"] == "user_data"
    no_date = get_embedding_from_data("imagestats", UserData(pixels(), "s2", **utm))  # no date, no warning
    assert no_date.meta["temporal"] is None


def test_reflectances_say_so() -> None:
    with pytest.warns(UserWarning, match="units='reflectance'"):
        plain = UserData(pixels() / 10_000, "s2")
    assert plain.data.max() < 1
    one = get_embedding_from_data("imagestats", UserData(pixels() / 10_000, "s2", units="reflectance", scale_m=10))
    assert np.allclose(
        one.data, get_embedding_from_data("imagestats", UserData(pixels(), "s2", scale_m=10)).data, rtol=1e-4
    )


def test_which_models_take_an_array() -> None:
    rows = {row["model"]: row for row in list_models_for_data(UserData(pixels(), "s2", temporal=SPAN, scale_m=10))}
    assert set(rows) == set(list_models())
    for name in ("galileo", "imagestats", "rcf", "remoteclip"):
        assert rows[name]["compatible"], rows[name]
    assert rows["remoteclip"]["bands_used"] == ["B4", "B3", "B2"]


REPORT = """name ok issues shape dtype finite_frac band_min band_max band_mean band_std band_quantiles band_p01 band_p50
    band_p99 quantiles hist_bins band_hist hist_range hist fill_value fill_frac""".split()  # noqa: SIM905


def test_inspecting_a_patch() -> None:
    sensor = SensorSpec(S2, ("B4", "B8"), fill_value=-1.0)
    call = {"spatial": PLACE, "temporal": SPAN, "sensor": sensor, "backend": "synthetic"}
    found = inspect_provider_patch(**call)
    assert {"ok", "report", "sensor", "temporal", "backend", "artifacts"} <= set(found) and "array_chw" not in found
    assert found["ok"] is True and found["backend"] == "synthetic"
    report = found["report"]
    assert not [key for key in REPORT if key not in report]
    assert report["name"] == "gee_patch" and report["shape"] == [2, 33, 33] and report["issues"] == []
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    array = inspect_gee_patch(**call, return_array=True)["array_chw"]
    assert array.shape == (2, 33, 33) and array.dtype == np.float32
    assert report["band_mean"] == pytest.approx(array.mean((1, 2)).tolist(), rel=1e-5)
    narrow = inspect_provider_patch(**call, value_range=(0, 500))
    assert (
        not narrow["ok"]
        and narrow["report"]["outside_range_frac"] > 0.1
        and "(0, 500)" in narrow["report"]["issues"][0]
    )


def test_inspecting_what_a_model_would_get(nano: dict[str, Any]) -> None:
    found = inspect_model_input(
        "galileo", spatial=PLACE, temporal=SPAN, backend="synthetic", modality="s2+s1", return_arrays=True, **nano
    )
    wanted = {
        "ok",
        "model",
        "backend",
        "n_frames",
        "n_empty",
        "frames",
        "fetch_meta",
        "sensor",
        "temporal",
        "artifacts",
    }
    assert wanted <= set(found)
    assert found["model"] == "galileo" and found["n_frames"] == 4 and found["n_empty"] == 0 and found["ok"]
    assert [f["start"] for f in found["frames"]] == ["2022-06-01", "2022-07-01"] * 2
    first = found["frames"][0]
    assert {"index", "start", "end", "empty", "report", "array_chw"} <= set(first)
    assert first["array_chw"].shape == (10, 40, 40)
    plain = inspect_model_input("rcf", spatial=PLACE, temporal=SPAN, backend="synthetic")
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_an_inspection_loads_no_weights() -> None:
    reset_runtime()
    found = inspect_model_input("remoteclip", spatial=PLACE, temporal=SPAN, backend="synthetic")
    assert found["n_frames"] == 1 and found["ok"]
    assert reset_runtime() == {"models": 0}


def test_the_input_is_checked_where_the_sensor_asks_for_it(tmp_path: Path) -> None:
    fine = embed(sensor=SensorSpec(S2, ("B4", "B8"), check_input=True))
    assert fine.meta["input_check"] and json.loads(json.dumps(fine.meta, allow_nan=False)) == fine.meta
    kept = embed(sensor=SensorSpec(S2, ("B4", "B8"), check_input=True, check_save_dir=str(tmp_path)))
    assert list(tmp_path.iterdir()) and str(tmp_path) not in json.dumps(kept.meta)


def test_a_grid_writes_a_netcdf_and_reads_back(tmp_path: Path) -> None:
    grid = embed(output=GRID)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the writer's own
        grid.data.to_netcdf(tmp_path / "grid.nc", engine="scipy")
        with xarray.open_dataset(tmp_path / "grid.nc", engine="scipy") as again:
            read = again["embedding"].load()
    assert np.array_equal(read.values, grid.values())
    assert json.loads(read.attrs["rs_embed_meta"])["model"] == "imagestats"


def test_what_an_embedding_can_do() -> None:
    vector, grid = embed("rcf", features=16), embed("rcf", features=16, output=GRID)
    assert repr(vector) == "<Embedding rcf 16>" and vector.dim == 16 and vector.shape == (16,)
    assert np.asarray(vector).shape == (16,) and np.asarray(grid).shape == grid.shape
    for nonsense in (lambda: len(vector), lambda: iter(vector)):  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            nonsense()
    similar = grid.similarity(vector)
    assert similar.shape == grid.shape[1:] and similar.min() >= -1.001 and similar.max() <= 1.001
    with pytest.raises(SpecError, match="different spaces"):
        grid.similarity(embed("rcf", features=16, seed=3))
    colours, basis = grid.pca()
    again, _ = embed("rcf", features=16, output=GRID, spatial=PointBuffer(11.51, 48.1, 100)).pca(basis=basis)
    assert colours.shape == (3, *grid.shape[1:]) and again.shape[0] == 3
    with pytest.raises(SpecError, match="grid"):
        vector.pca()


def test_old_names_warn_and_do_nothing() -> None:
    for old in (rs_embed.enable_pretty_warnings, rs_embed.disable_pretty_warnings):
        before = warnings.showwarning
        with pytest.warns(DeprecationWarning, match="does nothing"):
            old()
        assert warnings.showwarning is before


def test_a_device_means_nothing_to_numpy() -> None:
    assert embed(device="cuda").meta["device"] == "cpu"
    assert np.array_equal(embed(device="cuda:1").data, embed(device="cpu").data)


def test_the_name_of_a_model_may_be_an_alias() -> None:
    assert embed("MOSAIKS").meta["model"] == "rcf"


def test_lower_precision_is_near(nano: dict[str, Any]) -> None:
    whole, half = embed("galileo", **nano), embed("galileo", precision="bfloat16", **nano)
    assert half.meta["precision"] == "bfloat16" and half.data.dtype == np.float32
    assert 0 < np.linalg.norm(half.data - whole.data) < 0.05 * np.linalg.norm(whole.data)


def test_relief_has_no_date() -> None:
    dem = SensorSpec("COPERNICUS/DEM/GLO30", ("elevation", "slope"), scale_m=30)
    found = inspect_provider_patch(spatial=PLACE, temporal=SPAN, sensor=dem, backend="synthetic", return_array=True)
    elevation, slope = found["array_chw"]
    assert found["ok"] and 0 < elevation.min() < elevation.max() < 9000 and 0 <= slope.min() < slope.max() < 90
