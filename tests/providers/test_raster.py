"""Rasters on a lattice: exact where aligned, close to exact sampling elsewhere, and the same whatever the crop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from scipy.ndimage import map_coordinates

from rs_embed.core.errors import ProviderError
from rs_embed.providers.harmonise import Decoding
from rs_embed.providers.raster import describe, read_bands
from rs_embed.providers.resample import Grid, alignment, resample

UTM33 = "EPSG:32633"
SOURCE = GeoBox((90, 80), Affine(10, 0, 500000, 0, -10, 5100000), UTM33)


def write(path: Path, data: np.ndarray, box: GeoBox = SOURCE, **more: object) -> Path:
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=data.shape[1],
        width=data.shape[2],
        count=data.shape[0],
        dtype=data.dtype,
        crs=str(box.crs),
        transform=box.affine,
        **more,
    ) as dataset:
        dataset.write(data)
    return path


def crop(box: GeoBox, row: int, col: int, height: int, width: int) -> GeoBox:
    a = box.affine
    return GeoBox((height, width), Affine(a.a, 0, a.c + a.a * col, 0, a.e, a.f + a.e * row), box.crs)


def numbers(shape: tuple[int, ...] = (1, 90, 80), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 10000, shape).astype(np.uint16)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    data = numbers()
    data[0, 20:30, 10:25] = 0
    return write(tmp_path_factory.mktemp("rasters") / "scene.tif", data, nodata=0), data


def test_aligned_is_a_copy_and_nan_outside(scene: tuple[Path, np.ndarray]) -> None:
    path, data = scene
    out = read_bands(str(path), [1], crop(SOURCE, -3, 70, 40, 20))
    assert out.dtype == np.float32
    expected = np.full((40, 20), np.nan, np.float32)
    expected[3:, :10] = np.where(data[0, :37, 70:] == 0, np.nan, data[0, :37, 70:])
    np.testing.assert_array_equal(out[0], expected)


def test_far_away_is_all_nan(scene: tuple[Path, np.ndarray]) -> None:
    for box in (crop(SOURCE, 1000, 1000, 4, 4), GeoBox((4, 4), Affine(0.1, 0, 60, 0, -0.1, 10), "EPSG:4326")):
        assert np.isnan(read_bands(str(scene[0]), [1], box)).all()


def corner(crs: str, row: float, col: float, step: float) -> tuple[float, float]:
    """A multiple of the step near a pixel of the source."""
    x, y = Transformer.from_crs(UTM33, crs, always_xy=True).transform(500000 + 10 * col, 5100000 - 10 * row)
    return round(x / step) * step, round(y / step) * step


def lattice(crs: str, shape: tuple[int, int], step: float) -> GeoBox:
    x, y = corner(crs, 6, 7, step)
    return GeoBox(shape, Affine(step, 0, x, 0, -step, y), crs)


LATTICES = {
    "half a pixel off": GeoBox((70, 61), Affine(10, 0, 500045, 0, -10, 5099975), UTM33),
    "another zone": lattice("EPSG:32632", (70, 61), 10),
    "degrees": lattice("EPSG:4326", (60, 60), 1e-4),
    "finer": GeoBox((97, 101), Affine(3, 0, 500051, 0, -3, 5099951), UTM33),
    "twice as coarse": GeoBox((40, 38), Affine(20, 0, 500000, 0, -20, 5100000), UTM33),
    "2.5 times as coarse": GeoBox((31, 29), Affine(25, 0, 500010, 0, -25, 5099990), UTM33),
    "4 times, another zone": lattice("EPSG:32632", (20, 17), 40),
    "source aligned": SOURCE,
}


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("name", LATTICES)
@given(data=st.data())
def test_part_is_the_crop_of_the_whole(
    scene: tuple[Path, np.ndarray], name: str, classes: bool, data: st.DataObject
) -> None:
    box = LATTICES[name]
    whole = read_bands(str(scene[0]), [1], box, classes=classes)
    assert np.isfinite(whole).mean() > 0.3
    row = data.draw(st.integers(0, box.shape[0] - 1))
    col = data.draw(st.integers(0, box.shape[1] - 1))
    height = data.draw(st.integers(1, box.shape[0] - row))
    width = data.draw(st.integers(1, box.shape[1] - col))
    part = read_bands(str(scene[0]), [1], crop(box, row, col, height, width), classes=classes)
    np.testing.assert_array_equal(
        part.view(np.int32), np.ascontiguousarray(whole[:, row : row + height, col : col + width]).view(np.int32)
    )


def test_pixels_of_one_size_are_shifted_rather_than_blurred(scene: tuple[Path, np.ndarray]) -> None:
    out = read_bands(str(scene[0]), [1], LATTICES["half a pixel off"])[0]
    at = np.where(scene[1][0, 2:72, 4:65] == 0, np.nan, scene[1][0, 2:72, 4:65])
    np.testing.assert_array_equal(out, at)


@pytest.mark.parametrize("name", ["another zone", "degrees", "finer"])
def test_bilinear_agrees_with_exact_sampling(tmp_path: Path, name: str) -> None:
    box, data = LATTICES[name], numbers()
    out = read_bands(str(write(tmp_path / "a.tif", data)), [1], box)[0]
    a = box.affine
    x, y = np.meshgrid(a.c + a.a * (np.arange(box.shape[1]) + 0.5), a.f + a.e * (np.arange(box.shape[0]) + 0.5))
    x, y = Transformer.from_crs(str(box.crs), UTM33, always_xy=True).transform(x, y)
    at = (5100000 - y) / 10 - 0.5, (x - 500000) / 10 - 0.5
    exact = map_coordinates(data[0].astype(float), at, order=1, mode="constant", cval=np.nan)
    inside = np.isfinite(exact)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(out[inside], exact[inside], atol=2)


def test_coarser_aligned_is_the_mean(tmp_path: Path) -> None:
    data = numbers()
    box = GeoBox((22, 20), Affine(40, 0, 500000, 0, -40, 5100000), UTM33)
    out = read_bands(str(write(tmp_path / "a.tif", data)), [1], box)[0]
    np.testing.assert_allclose(out, data[0, :88].reshape(22, 4, 20, 4).mean(axis=(1, 3)), rtol=1e-6)


def test_coarser_unaligned_is_about_the_mean(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.arange(80.0, dtype=np.float32) * 100, (1, 90, 80))
    box = GeoBox((20, 20), Affine(35, 0, 500035, 0, -35, 5099965), UTM33)
    out = read_bands(str(write(tmp_path / "a.tif", np.ascontiguousarray(ramp))), [1], box)[0]
    centre = (35 + 35 * (np.arange(20) + 0.5)) / 10 - 0.5
    np.testing.assert_allclose(out, np.broadcast_to(centre * 100, (20, 20)), rtol=1e-5)


def test_nodata_never_bleeds(tmp_path: Path) -> None:
    data = np.full((1, 90, 80), 5000, np.uint16)
    data[0, 40:50, 30:40] = 0
    path = str(write(tmp_path / "a.tif", data))
    for box in LATTICES.values():
        out = read_bands(path, [1], box, decoding=Decoding(0.0))
        assert set(np.round(out[np.isfinite(out)], 2)) == {5000.0}
    half = read_bands(path, [1], LATTICES["half a pixel off"], decoding=Decoding(0.0))[0]
    assert np.isnan(half).sum() == 100  # as many pixels as have their centre in the hole


def test_classes_are_nearest(tmp_path: Path) -> None:
    data = (numbers() % 12).astype(np.uint8)
    path = str(write(tmp_path / "a.tif", data))
    for box in LATTICES.values():
        out = read_bands(path, [1], box, classes=True)
        assert set(out[np.isfinite(out)]) <= set(range(12))


def test_georeference_without_an_epsg_code(tmp_path: Path) -> None:
    wkt = (
        'PROJCS["mine",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],'
        'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],'
        'PARAMETER["latitude_of_origin",0],PARAMETER["central_meridian",15],PARAMETER["scale_factor",0.9996],'
        'PARAMETER["false_easting",500000],PARAMETER["false_northing",0],UNIT["metre",1]]'
    )
    data = numbers()
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=90, width=80, count=1, dtype="uint16", crs=wkt, transform=SOURCE.affine
    ) as dataset:
        dataset.write(data)
    np.testing.assert_allclose(read_bands(str(path), [1], SOURCE)[0], data[0], rtol=1e-4)


@pytest.mark.parametrize("keep", [200, 3000])
def test_truncated_file_names_itself_and_the_band(tmp_path: Path, keep: int) -> None:
    path = write(tmp_path / "broken.tif", numbers())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ProviderError, match=r"broken\.tif.*(fetch|download) it again") as caught:
        read_bands(str(path), [1], SOURCE, names=["B4"])
    assert str(tmp_path) not in str(caught.value)


def test_garbage_is_no_raster(tmp_path: Path) -> None:
    (tmp_path / "noise.tif").write_bytes(b"not a raster at all")
    with pytest.raises(ProviderError, match=r"noise\.tif"):
        describe(str(tmp_path / "noise.tif"))


def test_truncated_jpeg2000(test_data: Path, tmp_path: Path) -> None:
    whole = next(test_data.glob("s2_stac_antimeridian/*/*/B04.jp2")).read_bytes()
    (tmp_path / "B04.jp2").write_bytes(whole[: len(whole) // 3])
    box = GeoBox((915, 915), Affine(120, 0, 300000, 0, -120, 7500000), "EPSG:32601")
    with pytest.raises(ProviderError, match=r"B04\.jp2: band B4 cannot be read"):
        read_bands(str(tmp_path / "B04.jp2"), [1], box, names=["B4"])


@given(
    size=st.sampled_from([10.0, 30.0, 0.25, 9.995]),
    origin=st.floats(-1e6, 1e6),
    row=st.integers(-500, 500),
    col=st.integers(-500, 500),
)
def test_alignment_survives_the_noise_of_coordinates(size: float, origin: float, row: int, col: int) -> None:
    grid = Grid(100, 100, Affine(size, 0, origin, 0, -size, origin), None)
    assert alignment(grid, crop(grid.geobox, row, col, 5, 5)) == (1, row, col)


def test_memory_does_not_grow_with_the_lattice(scene: tuple[Path, np.ndarray]) -> None:
    """Coarse pixels of a large source are read a band of rows at a time."""
    seen: list[int] = []
    grid = Grid(8000, 8000, Affine(10, 0, 0, 0, -10, 0), None)

    def read(rows: slice, cols: slice) -> np.ndarray:
        block = np.ones((1, rows.stop - rows.start, cols.stop - cols.start), np.float32)
        seen.append(block.size)
        return block

    out = resample(read, 1, grid, GeoBox((80, 80), Affine(1000, 0, 0, 0, -1000, 0), None))
    assert out.shape == (1, 80, 80) and (out == 1).all()
    assert max(seen) <= 8_000_000 and sum(seen) == 64_000_000


def test_decoding_order_nodata_first() -> None:
    raw = np.array([[0, 500, 1000, 3000]], np.uint16)
    np.testing.assert_array_equal(Decoding(0.0, offset=-1000, floor=0)(raw), [[np.nan, 0, 0, 2000]])
    big = np.array([np.finfo(np.float64).min, np.inf, 1.0])
    np.testing.assert_array_equal(Decoding()(big), [np.nan, np.nan, 1])
