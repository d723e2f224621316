"""Overviews are read where they are means of the pixels, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from range_server import RangeServer
from rasterio.shutil import copy

from rs_embed.providers import raster, remote
from rs_embed.providers.harmonise import Decoding
from rs_embed.providers.overviews import shows_means

SIDE = 768
ORIGIN = (600000.0, 5200000.0)


def texture() -> np.ndarray:
    random = np.random.default_rng(3)
    spectrum = np.fft.rfft2(random.standard_normal((SIDE, SIDE)))
    radius = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
    smooth = np.fft.irfft2(spectrum / np.maximum(radius, 1 / SIDE) ** 1.2, s=(SIDE, SIDE))
    values = (2000 + 500 * smooth / smooth.std()).clip(1, 9000).astype(np.uint16)
    values[300:520, 100:333] = 0
    return values


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("overviews")
    plain = place / "plain.tif"
    profile = {"driver": "GTiff", "dtype": "uint16", "count": 1, "height": SIDE, "width": SIDE, "nodata": 0}
    with rasterio.open(
        plain, "w", crs="EPSG:32633", transform=Affine(10, 0, ORIGIN[0], 0, -10, ORIGIN[1]), tiled=True,
        blockxsize=128, blockysize=128, compress="deflate", **profile,
    ) as dataset:  # fmt: skip
        dataset.write(texture(), 1)
    for how in ("average", "nearest", "cubic", "bilinear"):
        copy(plain, place / f"{how}.tif", driver="COG", blocksize=128, overview_resampling=how, compress="deflate")
    return place


def lattice(row: int, col: int, height: int, width: int, step: float) -> GeoBox:
    return GeoBox(
        (height, width), Affine(step, 0, ORIGIN[0] + step * col, 0, -step, ORIGIN[1] - step * row), "EPSG:32633"
    )


def read(file: Path, box: GeoBox, **more: object) -> np.ndarray:
    return raster.read_bands(str(file), [1], box, **more)[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("step", [40.0, 60.0, 80.0])
def test_means_give_what_the_pixels_give(folder: Path, step: float) -> None:
    box = lattice(0, 0, int(SIDE * 10 / step), int(SIDE * 10 / step), step)
    fine, coarse = read(folder / "plain.tif", box), read(folder / "average.tif", box)
    assert not np.array_equal(fine, coarse, equal_nan=True), "the overview must have been read"
    inner = np.isfinite(fine) & np.isfinite(coarse) & ~rim(fine)
    assert inner.mean() > 0.8
    assert np.abs(fine - coarse)[inner].max() <= 1.0, "whole numbers in the overview: rounded once a level"
    assert (np.isfinite(fine) != np.isfinite(coarse)).mean() < 0.01  # the rim of what has no data


def rim(values: np.ndarray) -> np.ndarray:
    """Pixels beside one without data: an overview leaves out of its mean what has none."""
    empty = np.pad(np.isnan(values), 1)
    height, width = values.shape
    return np.logical_or.reduce([empty[i : i + height, j : j + width] for i in range(3) for j in range(3)])


@pytest.mark.parametrize("step", [47.0, 93.7])
def test_lattices_askew_come_from_the_pixels(folder: Path, step: float) -> None:
    box = lattice(1, 1, 60, 60, step)
    np.testing.assert_array_equal(read(folder / "average.tif", box), read(folder / "plain.tif", box))


@pytest.mark.parametrize("how", ["nearest", "cubic", "bilinear"])
@pytest.mark.parametrize("step", [40.0, 80.0])
def test_other_overviews_are_not_read(folder: Path, how: str, step: float) -> None:
    box = lattice(0, 0, 60, 60, step)
    np.testing.assert_array_equal(read(folder / f"{how}.tif", box), read(folder / "plain.tif", box))


def test_classes_powers_and_finer_lattices_come_from_the_pixels(folder: Path) -> None:
    box = lattice(2, 3, 60, 60, 40.0)
    for more in ({"classes": True}, {"decoding": Decoding(law="square")}):
        np.testing.assert_array_equal(
            read(folder / "average.tif", box, **more), read(folder / "plain.tif", box, **more)
        )
    for step in (10.0, 20.0, 30.0, 37.0):
        box = lattice(2, 3, 60, 60, step)
        np.testing.assert_array_equal(read(folder / "average.tif", box), read(folder / "plain.tif", box))


@pytest.mark.parametrize("step", [40.0, 80.0, 93.7])
@pytest.mark.parametrize("how", ["average", "nearest"])
def test_a_crop_of_the_lattice_gives_the_crop_of_the_pixels(folder: Path, how: str, step: float) -> None:
    whole = read(folder / f"{how}.tif", lattice(0, 0, 70, 70, step))
    for row, col, height, width in ((0, 0, 1, 1), (20, 5, 30, 40), (33, 60, 9, 10)):
        part = read(folder / f"{how}.tif", lattice(row, col, height, width, step))
        np.testing.assert_array_equal(part, whole[row : row + height, col : col + width])


def test_over_http_the_bits_are_the_same_and_the_bytes_fewer(folder: Path) -> None:
    box = lattice(0, 0, 90, 90, 80.0)
    remote.forget_heads()
    with RangeServer(folder) as server:
        sent = {}
        for how in ("average", "nearest"):
            found = remote.read_bands(server.url(f"{how}.tif"), [1], box)[0]
            np.testing.assert_array_equal(found, read(folder / f"{how}.tif", box))
            sent[how] = server.sent
            server.reset()
            # what was compared once is known from then on
            np.testing.assert_array_equal(remote.read_bands(server.url(f"{how}.tif"), [1], box)[0], found)
            assert server.sent < sent[how]
            sent[how] = server.sent
            server.reset()
        assert sent["average"] < sent["nearest"] / 8


@given(st.sampled_from([2, 4, 8]), st.integers(0, 2**31), st.sampled_from([np.uint16, np.float32]))
def test_means_are_told_from_samples(factor: int, seed: int, dtype: type) -> None:
    random = np.random.default_rng(seed)
    pixels = random.integers(1, 5000, (8 * factor, 8 * factor)).astype(dtype)
    squares = pixels.reshape(8, factor, 8, factor)
    means = squares.astype(float).mean((1, 3))
    means = np.rint(means) if dtype is np.uint16 else means.astype(np.float32)
    assert shows_means(pixels, means, 0, factor)
    assert not shows_means(pixels, squares[:, factor // 2, :, factor // 2], 0, factor)
    assert not shows_means(np.full_like(pixels, 7), np.full((8, 8), 7.0), 0, factor), "a flat block shows nothing"
    one_off = means.copy()
    one_off[3, 3] += 40
    assert not shows_means(pixels, one_off, 0, factor)
