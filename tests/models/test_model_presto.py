"""Presto as the catalogue declares it: from raw values of four sensors to pixels, on the published weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from affine import Affine
from fakes import FakeProvider
from numpy.typing import NDArray
from pyproj import Transformer

from rs_embed import OutputSpec, PointBuffer, TemporalSpec, UserData, get_embedding, get_embedding_from_data
from rs_embed.core.encoding import Batch, Features, InputBatch
from rs_embed.core.errors import CheckpointError, ModelError, ProviderError
from rs_embed.core.model_spec import Build
from rs_embed.inference.golden import GoldenFile
from rs_embed.inference.weights import load_weights
from rs_embed.models.presto import MODELS, STEPS, PixelSeries
from rs_embed.nets.presto import BANDS, PrestoEncoder, ndvi

(SPEC,) = MODELS
GOLDEN = GoldenFile.open(Path(__file__).parents[1] / "golden" / "presto.json")
BUILD = Build(SPEC.variants["default"], {}, {}, {})
MONTHS = np.array(["2022-11-16", "2022-12-16", "2023-01-16"], "datetime64[s]")
RAW: Mapping[str, tuple[float, float]] = {"s2": (200, 4000), "s1": (-25, -5), "era5": (0, 290), "dem": (0, 60)}
GRID = OutputSpec.grid()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RS_EMBED_CACHE_DIR", str(tmp_path))


@pytest.fixture
def weights(shared: Path) -> Path:
    return shared / "weights" / "presto" / "default_model.pt"


def drawn(size: int = 32) -> PixelSeries:
    torch.manual_seed(0)
    return PixelSeries(PrestoEncoder(embedding_size=size, num_heads=4).eval())


class Recorder:
    """Stands where the net does, and writes down what it is given."""

    embedding_size = 2

    def __init__(self) -> None:
        self.given: list[dict[str, torch.Tensor]] = []

    def __call__(self, x: torch.Tensor, latlons: torch.Tensor, **more: torch.Tensor) -> torch.Tensor:
        self.given.append({"x": x, "latlons": latlons, **more})
        return latlons.to(x.dtype)

    def all(self, name: str) -> torch.Tensor:
        return torch.cat([each[name] for each in self.given])


def raw(name: str, frames: int = 3, shape: tuple[int, int] = (2, 3), count: int = 1) -> NDArray[np.float32]:
    """Values of the sensor, ``(N, T, C, H, W)``."""
    low, high = RAW[name]
    size = (count, 1 if name == "dem" else frames, len(STEPS[name][1]), *shape)
    return np.random.default_rng(len(name)).uniform(low, high, size).astype(np.float32)


def batch(
    values: Mapping[str, NDArray[np.float32]],
    times: Mapping[str, NDArray[Any]] | None = None,
    invalid: Mapping[str, Sequence[tuple[Any, ...]]] | None = None,
    missing: Mapping[str, tuple[str, ...]] | None = None,
    lonlat: NDArray[np.float64] | None = None,
) -> Batch:
    inputs = {}
    for name, each in values.items():
        (step,) = SPEC.inputs[name].sources[0].steps
        N, T, C, H, W = each.shape
        valid = torch.ones(N, T, H, W, dtype=torch.bool)
        for index in (invalid or {}).get(name, ()):
            valid[index] = False
        dates = (times or {}).get(name, MONTHS[:T] if name != "dem" else np.full(1, np.datetime64("NaT", "s")))
        inputs[name] = InputBatch(
            pixels=torch.from_numpy(np.stack([step(sample) for sample in each])),
            valid=valid,
            times=np.broadcast_to(dates, (N, T)),
            bands=SPEC.inputs[name].bands,
            missing_bands=(missing or {}).get(name, ()),
            wavelengths=np.full(C, np.nan),
            bandwidths=np.full(C, np.nan),
            gsd=np.full(N, 10.0),
        )
    N, _, _, H, W = next(iter(values.values())).shape
    rows, columns = np.mgrid[:H, :W]
    places = np.stack((11.5 + 0.1 * columns, 48.1 - 0.1 * rows), axis=-1)
    lonlat = np.broadcast_to(places, (N, H, W, 2)) if lonlat is None else lonlat
    return Batch(inputs, np.ones((N, H, W), np.float32), np.zeros((N, 2)), lonlat)


def run(encoder: Any, given: Batch) -> Features:
    with torch.inference_mode():
        return encoder(given)


def assert_close(got: Any, wanted: Any, tolerance: float = 2e-6) -> None:
    got, wanted = (torch.as_tensor(np.asarray(each)) for each in (got, wanted))
    assert got.shape == wanted.shape
    assert float((got - wanted).abs().max() / wanted.abs().max()) <= tolerance


def test_digital_numbers_through_the_published_weights_give_the_authors_vectors(weights: Path) -> None:
    encoder = SPEC.encoder(BUILD)
    provenance = load_weights(encoder, SPEC, "default", BUILD, checkpoint=weights)
    assert provenance["pinned"] and provenance["file"] == "default_model.pt"
    with np.load(weights.parent / "golden_official.npz") as stored:
        dn, latlon, month, wanted = (stored[name] for name in ("s2_dn", "latlon", "month", "pooled"))
    values = {"s2": dn[..., None, None].astype(np.float32)}  # (B, T, C) -> a pixel a sample
    firsts = (np.datetime64("2021-01") + month)[:, None] + np.arange(dn.shape[1])
    given = batch(values, {"s2": firsts.astype("datetime64[s]")}, lonlat=latlon[:, None, None, ::-1].astype(np.float64))
    found = run(encoder, given)
    assert found.grid.shape == (4, 128, 1, 1)
    assert_close(found.grid[..., 0, 0], wanted, 2e-5)


def test_raw_values_become_what_the_authors_give_their_net() -> None:
    section = GOLDEN.described["normalization"]
    given = {name: GOLDEN.normalization_inputs("x")[name] for name in section["input"]}
    thirteen = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
    s2 = given["s2"][:, [thirteen.index(band) for band in STEPS["s2"][1]]]
    arrays = {"s2": s2, "s1": given["s1"], "era5": given["era5"], "dem": given["srtm"][:1]}
    values = {name: each[None, :, :, None, None].astype(np.float32) for name, each in arrays.items()}
    months = {name: np.arange("2022-01", "2022-05", dtype="datetime64[M]").astype("datetime64[s]") for name in arrays}
    net = Recorder()
    run(PixelSeries(net), batch(values, months | {"dem": months["s2"][:1]}))
    wanted, mask = GOLDEN.arrays["norm/x"], GOLDEN.arrays["norm/mask"]
    relief = [BANDS.index(band) for band in STEPS["dem"][1]]
    x, hidden = net.all("x")[0].numpy(), net.all("mask")[0].numpy()
    others = [i for i in range(len(BANDS)) if i not in relief]
    np.testing.assert_allclose(x[:, others], wanted[:, others], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(x[0, relief], wanted[0, relief], rtol=1e-6)
    assert not hidden[:, others].any() and not mask.any()
    assert hidden[1:, relief].all() and not hidden[0, relief].any()  # the net reads the first step's alone


def test_every_pixel_is_told_its_own_place_and_month() -> None:
    net = Recorder()
    run(PixelSeries(net), batch({"s2": raw("s2", count=2)}))
    assert net.all("latlons").shape == (12, 2)
    np.testing.assert_allclose(net.all("latlons")[4], [48.0, 11.6])
    assert net.all("month").tolist() == [[10, 11, 0]] * 12


def test_samples_may_begin_in_other_months() -> None:
    values = {"s2": raw("s2", count=2)}
    dates = np.stack((MONTHS, MONTHS + np.timedelta64(150, "D")))
    found = run(drawn(), batch(values, {"s2": dates})).grid
    for i in range(2):
        alone = run(drawn(), batch({"s2": values["s2"][i : i + 1]}, {"s2": dates[i]})).grid
        assert_close(found[i : i + 1], alone)


@pytest.mark.parametrize("modality", SPEC.modalities)
def test_what_is_not_given_is_hidden(modality: str) -> None:
    used = SPEC.modalities[modality]
    net = Recorder()
    run(PixelSeries(net), batch({name: raw(name) for name in used}))
    shown = ~net.all("mask")[0].numpy()
    bands = {band for name in used for band in STEPS[name][1]} | ({"NDVI"} if "s2" in used else set())
    assert {band for band, seen in zip(BANDS, shown[0], strict=True) if seen} == bands
    assert {band for band, seen in zip(BANDS, shown[2], strict=True) if seen} == bands - set(STEPS["dem"][1])


def test_modalities_are_all_that_have_a_satellite() -> None:
    assert next(iter(SPEC.modalities)) == "s2" and len(SPEC.modalities) == 12
    assert SPEC.modalities["s2+s1+era5+dem"] == ("s2", "s1", "era5", "dem")
    assert not {"era5", "dem", "era5+dem"} & set(SPEC.modalities)


def test_a_missing_band_hides_itself_and_what_is_derived_from_it() -> None:
    net = Recorder()
    run(PixelSeries(net), batch({"s2": raw("s2")}, missing={"s2": ("B4", "B11")}))
    hidden = net.all("mask")[0, 0].numpy()
    assert {band for band, out in zip(BANDS, hidden, strict=True) if out} == {
        *("VV", "VH", "B4", "B11", "NDVI"),
        *(*STEPS["era5"][1], *STEPS["dem"][1]),
    }


def test_an_invalid_pixel_of_a_month_counts_as_if_it_had_not_been() -> None:
    encoder, values = drawn(), {"s2": raw("s2"), "s1": raw("s1")}
    whole = run(encoder, batch(values)).grid
    holes = {"s2": [(0, 1, 0, 2)], "s1": [(0, 0, 0, 2)]}
    found = run(encoder, batch(values, invalid=holes)).grid
    elsewhere = torch.ones(2, 3, dtype=torch.bool)
    elsewhere[0, 2] = False
    assert_close(found[..., elsewhere], whole[..., elsewhere])
    x, mask = torch.zeros(1, 3, 17), torch.ones(1, 3, 17)
    for name, channels in (("s2", slice(2, 12)), ("s1", slice(0, 2))):
        x[0, :, channels] = batch(values).inputs[name].pixels[0, :, :, 0, 2]
    x[..., 16] = ndvi(x[..., 8], x[..., 4])
    mask[0, [0, 2], 2:12] = mask[0, [0, 2], 16] = mask[0, 1:, :2] = 0
    with torch.inference_mode():
        wanted = encoder.net(x, torch.tensor([[48.1, 11.7]]), mask=mask, month=10)
    assert_close(found[:, :, 0, 2], wanted)


def test_a_pixel_counts_where_a_satellite_saw_it() -> None:
    values = {name: raw(name) for name in RAW}
    blind = {"s2": [(0, slice(None), 0, 0), (0, slice(None), 1, 1)], "s1": [(0, slice(None), 0, 0), (0, 0, 1, 2)]}
    assert run(drawn(), batch(values, invalid=blind)).weight[0].tolist() == [[0, 1, 1], [1, 1, 1]]


def test_one_pixel_is_as_in_any_window() -> None:
    encoder, values = drawn(), {"s2": raw("s2", shape=(40, 30)), "dem": raw("dem", shape=(40, 30))}
    given = batch(values)
    whole = run(encoder, given).grid
    for row, column in ((0, 0), (17, 29), (39, 13)):
        one = {name: each[..., row : row + 1, column : column + 1] for name, each in values.items()}
        place = given.pixel_lonlat[:, row : row + 1, column : column + 1]
        assert_close(run(encoder, batch(one, lonlat=place)).grid[0, :, 0, 0], whole[0, :, row, column])


def test_sensors_of_different_months_are_refused() -> None:
    values = {"s2": raw("s2"), "s1": raw("s1")}
    with pytest.raises(ModelError, match=r"s2 has 2022-11, 2022-12, 2023-01, s1 has 2022-12, 2023-01, 2023-02"):
        run(drawn(), batch(values, {"s1": MONTHS + np.timedelta64(31, "D")}))
    with pytest.raises(ModelError, match="same months"):
        run(drawn(), batch({"s2": raw("s2"), "s1": raw("s1", frames=2)}))


def test_imagery_without_a_date_is_refused() -> None:
    with pytest.raises(ModelError, match="told the month of each frame"):
        run(drawn(), batch({"s2": raw("s2")}, {"s2": np.full(3, np.datetime64("NaT", "s"))}))


def test_a_checkpoint_of_something_else_is_refused(weights: Path, tmp_path: Path) -> None:
    state = torch.load(weights, map_location="cpu", weights_only=True)
    state["encoder.norm.weight"] = torch.ones(64)
    torch.save(state, tmp_path / "narrow.pt")
    with pytest.raises(CheckpointError, match=r"'norm.weight' has the shape \(64,\), not \(128,\)"):
        load_weights(SPEC.encoder(BUILD), SPEC, "default", BUILD, checkpoint=tmp_path / "narrow.pt")


def test_too_long_a_time_and_a_sensor_that_is_not_there(weights: Path) -> None:
    call: dict[str, Any] = {"spatial": PointBuffer(11.5, 48.1, 20), "backend": "synthetic", "checkpoint": str(weights)}
    with pytest.raises(ModelError, match="at most 24 frames"):
        get_embedding("presto", temporal=TemporalSpec.range("2020-01-01", "2022-02-01"), **call)
    with pytest.raises(ModelError, match=r"no modality 'era5'; accepted: 's2', 's1'"):
        get_embedding("presto", temporal=TemporalSpec.parse("2022"), modality="era5", **call)


SENTINEL = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B11", "B12")  # the cube has no B8A


def cube(folder: Path, names: Sequence[str]) -> NDArray[np.float32]:
    with xr.open_dataset(folder / "worldcereal" / "worldcereal_preprocessed_inputs.nc", mask_and_scale=False) as data:
        return np.stack([data[name].values.view(np.uint16) for name in names], axis=1).astype(np.float32)


def worldcereal(folder: Path, **more: Any) -> dict[str, UserData]:
    """A year of monthly composites of fields and villages in Belgium, as users bring them."""
    with xr.open_dataset(folder / "worldcereal" / "worldcereal_preprocessed_inputs.nc", mask_and_scale=False) as data:
        x, y, t = (data[name].values for name in ("x", "y", "t"))
    transform = Affine(10, 0, float(x[0]) - 5, 0, -10, float(y[0]) + 5)
    months = [TemporalSpec.parse(str(time)[:7]) for time in t]
    placed: dict[str, Any] = {"crs": "EPSG:32631", "transform": transform, **more}
    weather = cube(folder, ["AGERA5-TMEAN", "AGERA5-PRECIP"]) / np.float32([[[[100]], [[1e5]]]])
    dated: dict[str, Any] = {"temporal": months, **placed}
    optical = cube(folder, [f"S2-L2A-{b}" for b in SENTINEL])
    radar = cube(folder, ["S1-SIGMA0-VV", "S1-SIGMA0-VH"])
    return {
        "s2": UserData(optical, "s2", bands=SENTINEL, nodata=65535, **dated),
        "s1": UserData(radar, "s1", units="worldcereal", **dated),
        "era5": UserData(weather, "era5", **dated),
        "dem": UserData(cube(folder, ["elevation", "slope"])[0], "dem", **placed),
    }


def test_a_real_year_of_four_sensors(test_data: Path, weights: Path) -> None:
    place = PointBuffer(5.3265, 50.6335, 60)
    datas = worldcereal(test_data, spatial=place)
    found = get_embedding_from_data("presto", tuple(datas.values()), output=GRID, checkpoint=str(weights))
    assert found.meta["modality"] == "s2+s1+era5+dem" and found.meta["checkpoint"]["pinned"]
    assert found.meta["missing_bands"] == {"s2": ["B8A"]}
    grid = found.values()
    spread = grid.std(axis=(1, 2)) / np.abs(grid).mean(axis=(1, 2))
    assert np.isfinite(grid).all() and np.median(spread) > 0.02
    encoder = SPEC.encoder(BUILD)
    load_weights(encoder, SPEC, "default", BUILD, checkpoint=weights)
    box = found.geobox
    row = round((datas["s2"].transform.f - box.affine.f) / 10) + 3
    column = round((box.affine.c - datas["s2"].transform.c) / 10) + 5
    x, mask = torch.zeros(1, 12, 17), torch.ones(1, 12, 17)
    dn = torch.from_numpy(np.array(datas["s2"].data[:, :, row, column]))
    x[0, :, [2, 3, 4, 5, 6, 7, 8, 10, 11]], seen = dn / 1e4, (dn < 65535).all(1)
    x[..., 16] = (x[..., 8] - x[..., 4]) / (x[..., 8] + x[..., 4])
    power = torch.from_numpy(np.array(datas["s1"].data[:, :, row, column]))
    x[0, :, :2] = (20 * torch.log10(power) - 83 + 25) / 25
    weather = torch.from_numpy(np.array(datas["era5"].data[:, :, row, column]))
    x[0, :, 12:14] = (weather - torch.tensor([272.15, 0])) / torch.tensor([35, 0.03])
    x[0, 0, 14:16] = torch.from_numpy(np.array(datas["dem"].data[:, row, column])) / torch.tensor([2000.0, 50.0])
    mask[0][:, [0, 1, 12, 13, 14, 15]] = 0
    mask[0][:, [*range(2, 9), 10, 11, 16]] = (~seen).float()[:, None]
    assert seen.tolist() == [True, False, False, *[True] * 9]
    middle = (box.affine.c + 10 * 5.5, box.affine.f - 10 * 3.5)
    lon, lat = Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True).transform(*middle)
    with torch.inference_mode():
        wanted = encoder.net(x, torch.tensor([[lat, lon]]), mask=mask, month=10)
    assert_close(grid[:, 3, 5], wanted[0], 2e-5)


def test_arrays_may_come_in_any_order_but_the_first_says_where(test_data: Path, weights: Path) -> None:
    datas = worldcereal(test_data, spatial=PointBuffer(5.3265, 50.6335, 20))
    some = [
        get_embedding_from_data("presto", [datas[name] for name in order], checkpoint=str(weights))
        for order in (("s2", "s1"), ("s1", "s2"))
    ]
    assert_close(some[0].data, some[1].data)
    alone = get_embedding_from_data("presto", (datas["s2"],), checkpoint=str(weights))
    assert_close(alone.data, get_embedding_from_data("presto", datas["s2"], checkpoint=str(weights)).data, 1e-7)
    assert alone.meta["modality"] == "s2"


@pytest.mark.parametrize("modality", ["s2+s1+era5+dem", "s1+dem"])
def test_painted_weather_and_relief_go_with_the_sensors(modality: str, weights: Path) -> None:
    place, box = PointBuffer(11.5, 48.1, 60), PointBuffer(11.5, 48.1, 20)
    call: dict[str, Any] = {"temporal": TemporalSpec.range("2022-05-01", "2022-08-01"), "backend": "synthetic"}
    call |= {"checkpoint": str(weights), "output": GRID, "modality": modality}
    large, small = (get_embedding("presto", spatial=each, **call) for each in (place, box))
    assert list(large.meta["inputs"]) == modality.split("+") and np.isfinite(large.values()).all()
    row = round((large.geobox.affine.f - small.geobox.affine.f) / 10)
    column = round((small.geobox.affine.c - large.geobox.affine.c) / 10)
    height, width = small.shape[1:]
    assert_close(large.values()[:, row : row + height, column : column + width], small.values())


def test_backends_without_weather_say_so(weights: Path) -> None:
    call: dict[str, Any] = {"temporal": TemporalSpec.parse("2022"), "checkpoint": str(weights), "modality": "s2+era5"}
    with pytest.raises(ProviderError, match="takes era5 as its input 'era5'"):
        get_embedding("presto", spatial=PointBuffer(11.5, 48.1, 20), backend=Bare(), **call)


class Bare(FakeProvider):
    """A backend of Sentinel-2 alone."""

    def offers(self, sensor: str) -> bool:
        return sensor == "sentinel-2-l2a"
