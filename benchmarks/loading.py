"""Imagery from COGs on this machine: bytes and seconds beside a plain rasterio read of the same windows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.windows import from_bounds

from benchmarks.rows import Row, side_by_side
from rs_embed.core.geometry import footprint_of
from rs_embed.core.imagery import ImageRequest
from rs_embed.providers.local import LocalProvider, open_local

__all__ = ["run"]


def _data() -> Path:
    named = os.environ.get("RS_EMBED_TEST_DATA")
    return Path(named).resolve() if named else Path(__file__).parents[2] / "shared" / "data"


@dataclass(frozen=True)
class _Case:
    """Windows of some scenes, and the files that hold them."""

    name: str
    source: str
    files: str
    bands: tuple[str, ...]
    crs: str
    corner: tuple[float, float]
    pixel: float
    side: int
    across: int
    days: tuple[datetime, datetime]

    def windows(self) -> list[GeoBox]:
        step, (left, top) = self.side * self.pixel, self.corner
        return [
            GeoBox(
                (self.side, self.side),
                Affine(self.pixel, 0, left + step * j, 0, -self.pixel, top - step * i),
                self.crs,
            )
            for i in range(self.across)
            for j in range(self.across)
        ]

    def request(self, window: GeoBox) -> ImageRequest:
        return ImageRequest("sentinel-2-l2a", self.bands, footprint_of(window), window, (self.days,), mask="scl")


_CASES = (
    _Case(
        name="5 dates, 4 bands and SCL, own pixels",
        source="s2_stac_catalog/catalog.json",
        files="s2_stac_catalog/sentinel-2-l2a/*33TWM*/*.tif",
        bands=("B2", "B3", "B4", "B8"),
        crs="EPSG:32633",
        corner=(499980.0 + 120 * 128, 5200020.0 - 120 * 128),
        pixel=120.0,
        side=128,
        across=4,
        days=(datetime(2023, 8, 1, tzinfo=UTC), datetime(2023, 9, 1, tzinfo=UTC)),
    ),
    _Case(
        name="1 date, 12 bands of 100 to 600 m and SCL",
        source="s2_cog_scene",
        files="s2_cog_scene/*.tif",
        bands=("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12"),
        crs="EPSG:32629",
        corner=(0.0, 0.0),
        pixel=100.0,
        side=224,
        across=3,
        days=(datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)),
    ),
)


def _bytes(call: Callable[[], Any]) -> int:
    """Bytes that the process read, whether from a disk or from the system's cache."""

    def told() -> int:
        with open("/proc/self/io", "rb", buffering=0) as stream:
            return int(stream.read().split()[1])

    before = told()
    call()
    return told() - before


def _plain(files: list[Path], windows: list[GeoBox]) -> None:
    """Open each file for each window, and read it."""
    for window in windows:
        for file in files:
            with rasterio.open(file) as dataset:
                dataset.read(1, window=from_bounds(*window.extent.boundingbox.bbox, dataset.transform))


def _load(provider: LocalProvider, case: _Case, windows: list[GeoBox]) -> None:
    for window in windows:
        for _ in provider.load(case.request(window), [window]):
            pass


def _read(provider: LocalProvider, case: _Case, windows: list[GeoBox]) -> None:
    for window in windows:
        for scene in provider.search(case.request(window), case.days):
            if scene.footprint is None or scene.footprint.intersects(case.request(window).footprint):
                provider.read(scene, (*case.bands, "SCL"), window)


def run(quick: bool) -> Iterator[Row]:
    """Yield bytes and seconds of reading alone, and seconds with masks and medians."""
    data = _data()
    if not data.is_dir():
        yield Row("loading from COGs", float("nan"), "s", note=f"left out: {data} is absent (RS_EMBED_TEST_DATA)")
        return
    for case in _CASES:
        files = sorted(data.glob(case.files))
        if case.corner == (0.0, 0.0):
            with rasterio.open(files[1]) as dataset:
                left, top = dataset.transform.c, dataset.transform.f
            case = _Case(**{**vars(case), "corner": (left + 100 * case.pixel, top - 100 * case.pixel)})
        provider, windows = open_local(data / case.source), case.windows()
        ways: tuple[tuple[str, Callable[[], None]], ...] = (
            ("read", lambda p=provider, c=case, w=windows: _read(p, c, w)),  # type: ignore[misc]
            ("load", lambda p=provider, c=case, w=windows: _load(p, c, w)),  # type: ignore[misc]
        )

        def plain(files: list[Path] = files, windows: list[GeoBox] = windows) -> None:
            _plain(files, windows)

        plain()
        ways[0][1]()
        note = f"{len(windows)} windows of {case.side} px, {len(files)} files; {case.name}"
        yield Row("bytes read ÷ plain rasterio", _bytes(ways[0][1]) / 1e6, "MB", _bytes(plain) / 1e6, note=note)
        for name, way in ways:
            pair = side_by_side(way, plain, 3 if quick else 9)
            more = "; with mask, median and search" if name == "load" else ""
            yield pair.row(f"{name} ÷ plain rasterio", note=f"{case.name}{more}")
