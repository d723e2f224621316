"""Embedding regions from a product of chips: found in the tables, weighed by shared ground, pooled as they are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from importlib import metadata
from typing import Any, NoReturn

import numpy as np

from rs_embed.core.chips import ChipPool, ChipSet, newest_rows, region_outline, weights_of
from rs_embed.core.embedding import Embedding
from rs_embed.core.errors import ModelError, NoImageryError, ProviderError, RSEmbedError
from rs_embed.core.footprints import region_dict
from rs_embed.core.specs import InputPrepSpec, OutputSpec, SpatialSpec, TemporalSpec, norm_spatial
from rs_embed.inference.calls import progress_bar
from rs_embed.inference.engine import Job
from rs_embed.inference.provenance import LIBRARY, SCHEMA, describe_time, plain, versions_used
from rs_embed.inference.session import Result, Session
from rs_embed.inference.setup import Setup
from rs_embed.providers.products.chip_archive import ChipArchive, Found, Wanted, missing
from rs_embed.providers.products.chips import ChipProvider
from rs_embed.providers.products.parquet import require_pyarrow

__all__ = ["ChipSession", "archive_of", "chip_facts", "middle_of", "open_chip_session"]

_TOGETHER = 4096
"""Regions that are looked for at a time: each row group is read once for all of them."""
_GRID = (
    "{name} holds chips, whose vectors stand for pieces of ground of their own: there is no grid; ask for "
    "OutputSpec.pooled(), or take the chips themselves: read_chips({name!r}, spatial=...)"
)


@dataclass(frozen=True)
class _ChipJob(Job):
    """One region of a product of chips."""

    spatial: Any = None
    temporal: TemporalSpec | None = None


@dataclass(frozen=True)
class _Region:
    """A region that is being embedded."""

    job: _ChipJob
    spec: SpatialSpec
    wanted: Wanted
    centre: tuple[float, float]


def open_chip_session(setup: Setup, output: OutputSpec, prep: InputPrepSpec, precision: str, provider: Any) -> Session:
    """Return the session of a product of chips.

    Raises
    ------
    ModelError
        If a grid is asked for.
    ProviderError
        If the backend is none of chips.
    MissingExtraError
        If pyarrow is not installed.
    """
    name = setup.spec.name
    if output.mode == "grid":
        raise ModelError(_GRID.format(name=name))
    if not isinstance(provider, ChipProvider):
        said = getattr(provider, "name", provider)
        raise ProviderError(f"{name} is read from tables of chips, and the backend {said!r} has none; use 'auto'")
    require_pyarrow()
    opened: Any = provider
    return ChipSession(setup, output, prep, "cpu", precision, None, opened)


def archive_of(provider: ChipProvider, setup: Setup) -> ChipArchive:
    """Return the tables of the variant that is meant."""
    variant = setup.variant
    return provider.archive(tuple(variant.config.get("folders", ("",))), variant.dims["pooled"])


def chip_facts(setup: Setup, provider: ChipProvider) -> dict[str, Any]:
    """Return what all chips of a product share."""
    spec, product = setup.spec, setup.spec.product
    assert product is not None
    return {
        "model": spec.name,
        "variant": setup.variant_name,
        "space": product.space or f"{spec.name}/{setup.variant_name}",
        "type": "precomputed",
        "product": {
            "id": product.sensor.id,
            "collection": setup.variant.config.get("collection", product.sensor.id),
            "version": setup.variant_name,
            "grid": None,
        },
        "backend": provider.name,
        "source": archive_of(provider, setup).source,
        "model_source": spec.source,
        "license": dict(spec.licence),
        "citation": [spec.citation, LIBRARY],
        "attribution": [product.sensor.attribution] if product.sensor.attribution else [],
    }


@dataclass(frozen=True)
class ChipSession(Session):
    """A product of chips with everything else that a call says."""

    @property
    def archive(self) -> ChipArchive:
        """The tables."""
        assert isinstance(self.provider, ChipProvider)
        return archive_of(self.provider, self.setup)

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self.setup.variant.dims["pooled"] * (4 if self.output.pooling == "stats" else 1)

    def runtime(self, setup: Setup | None = None) -> Any:
        """Return nothing: there is no net."""
        return None

    def plan(self, spatial: SpatialSpec, temporal: TemporalSpec | None) -> NoReturn:
        """Refuse: there are no pixels to plan.

        Raises
        ------
        ModelError
            Always.
        """
        raise ModelError(f"{self.setup.spec.name} holds chips, no pixels: read_chips(...) shows what a region has")

    def _job(self, job: Job, spatial: Any, temporal: TemporalSpec | None) -> Job:
        """Return the job with the region itself: it is not planned."""
        return _ChipJob(job.index, job.make_plan, job.provider, job.id, job.labels, job.near, spatial, temporal)

    def _near(self, spatial: Any, temporal: TemporalSpec | None) -> Callable[[], tuple[str, int, int]]:
        """Return by what regions are sorted: the degree in which they lie."""
        return _degree(spatial)

    def stream(self, jobs: Iterator[Job]) -> Iterator[Result]:
        """Yield results block by block of regions, each row group read once a block."""
        self.archive.index(progress_bar(None, "indexing the tables"))
        block: list[_ChipJob] = []
        for job in jobs:
            assert isinstance(job, _ChipJob)
            block.append(job)
            if len(block) == _TOGETHER:
                yield from self._block(block)
                block = []
        yield from self._block(block)

    def _block(self, jobs: Sequence[_ChipJob]) -> Iterator[Result]:
        """Yield the results of some regions."""
        regions: list[_Region] = []
        for job in jobs:
            try:
                regions.append(_region(job))
            except RSEmbedError as error:
                yield job.index, error
        yield from self._together(regions)

    def _together(self, regions: Sequence[_Region]) -> Iterator[Result]:
        """Yield the results of regions that share what is read; where that fails, each has its own chance."""
        try:
            pooled = self._pooled(regions)
        except RSEmbedError as error:
            if len(regions) == 1:
                yield regions[0].job.index, error
                return
            for region in regions:
                yield from self._together([region])
            return
        for region, finish in zip(regions, pooled, strict=True):
            try:
                yield region.job.index, finish()
            except RSEmbedError as error:
                yield region.job.index, error

    def survey(self, jobs: Sequence[Job]) -> list[tuple[Job, Found | RSEmbedError]]:
        """Return the chips that each region would be pooled from, or why it has none; no vector is read."""
        self.archive.index(progress_bar(None, "indexing the tables"))
        results: list[tuple[Job, Found | RSEmbedError]] = []
        for job in jobs:
            assert isinstance(job, _ChipJob)
            try:
                region = _region(job)
                (everything,) = self.archive.find([region.wanted])
                found, _ = _chosen(everything, region.wanted)
                self._require(region, found, everything)
                results.append((job, found))
            except RSEmbedError as error:
                results.append((job, error))
        return results

    def _require(self, region: _Region, found: Found, everything: Found) -> None:
        """Raise `NoImageryError` where a region has no chip."""
        if not len(found.row):
            name = self.setup.spec.name
            raise NoImageryError(missing(self.archive, name, region.wanted, region.centre, everything))

    def _pooled(self, regions: Sequence[_Region]) -> list[Callable[[], Embedding]]:
        """Read and pool the chips of regions; return what makes the embedding of each."""
        everything = self.archive.find([region.wanted for region in regions])
        chosen = [_chosen(found, region.wanted) for found, region in zip(everything, regions, strict=True)]
        pools = [ChipPool(self.output.pooling) for _ in regions]
        for i, rows, vectors in self.archive.vectors([found for found, _ in chosen]):
            found = chosen[i][0]
            chips = found.take(rows).chips
            weight = weights_of(found.chips.footprints, found.areas, regions[i].wanted.outline)[rows]
            pools[i].add(ChipSet(vectors, chips.footprints, chips.dates, chips.ids), weight)
        return [
            partial(self._finished, region, all_found, found, notes, pool)
            for region, all_found, (found, notes), pool in zip(regions, everything, chosen, pools, strict=True)
        ]

    def _finished(
        self, region: _Region, everything: Found, found: Found, notes: list[str], pool: ChipPool
    ) -> Embedding:
        """Return the embedding of a region."""
        self._require(region, found, everything)
        vector, about = pool.result(region.wanted.outline, str(region.spec))
        meta = self._meta(region) | about | {"pooled_shape": list(vector.shape)}
        meta["warnings"] = notes + about["warnings"]
        meta["product"] = {**meta["product"], "files": self.archive.files_of(found)}
        chips = about["chips"]
        meta["scenes"] = {"chips": [{"id": c["id"], "datetime": c["date"], "cloud_cover": None} for c in chips]}
        dates = sorted({c["date"] for c in chips if c["date"] is not None})
        meta["frames"] = {"requested": 1, "found": 1, "times": {"chips": dates}}
        return Embedding(vector, plain(meta))

    def _meta(self, region: _Region) -> dict[str, Any]:
        """Return what is known before a vector is read."""
        assert isinstance(self.provider, ChipProvider) and self.setup.spec.product is not None
        sensor = self.setup.spec.product.sensor
        gsd = sensor.gsd if math.isfinite(sensor.gsd) and sensor.gsd > 0 else None
        facts = chip_facts(self.setup, self.provider)
        return _empty_meta() | {
            **facts,
            "sensor": {"collection": facts["product"]["collection"], "bands": [], "scale_m": gsd},
            "temporal": describe_time(region.job.temporal),
            "pooling": self.output.pooling,
            "grid_orientation": self.output.grid_orientation,
            "input_prep": {"prep_version": 1, "requested_mode": self.prep.mode, "resolved_mode": "chips"},
            "options": dict(self.setup.options),
            "space": f"{facts['space']}/{self.output.pooling}",
            "region": region_dict(region.spec),
            "center": list(region.centre),
            "effective_gsd": gsd,
            "device": self.device,
            "precision": self.precision,
            "versions": dict(_versions()),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "id": region.job.id,
            "labels": dict(region.job.labels),
        }

    def _failed(self, job: Job, error: RSEmbedError, shape: tuple[int, ...] | None) -> Embedding:
        """Return the NaN embedding of a region that failed, as long as the others."""
        assert isinstance(job, _ChipJob)
        said = {"error": f"{type(error).__name__}: {error}", "id": job.id, "labels": dict(job.labels)}
        meta: Mapping[str, Any] = {"model": self.setup.spec.name, "warnings": []}
        with suppress(RSEmbedError):  # a region that is none has no place to tell of
            meta = self._meta(_region(job))
        return Embedding(np.full(shape or (self.dim,), np.nan, np.float32), plain({**meta, **said}))


@cache
def _versions() -> dict[str, str]:
    """Versions of what takes part in the numbers."""
    return versions_used() | {name: metadata.version(name) for name in ("pyarrow", "shapely", "pyproj")}


def _degree(spatial: Any) -> Callable[[], tuple[str, int, int]]:
    """Return by what regions are sorted: the degree in which they lie."""

    def key() -> tuple[str, int, int]:
        try:
            west, south, _, _ = region_outline(norm_spatial(spatial)).bounds
        except RSEmbedError:
            return "", 0, 0  # embedding it will say what is wrong
        return "", math.floor(south), math.floor(west)

    return key


def _region(job: _ChipJob) -> _Region:
    spec = norm_spatial(job.spatial)
    outline = region_outline(spec)
    interval = None if job.temporal is None else job.temporal.interval
    return _Region(job, spec, Wanted(outline, interval), middle_of(outline))


def middle_of(outline: Any) -> tuple[float, float]:
    """Return longitude and latitude of the middle of an outline that is cut at the antimeridian."""
    import shapely

    from rs_embed.core.overlap import bounds_of

    ((west, south, east, north),) = bounds_of(np.array([outline], object))
    if east <= 180:
        point = shapely.centroid(outline)
        return float(point.x), float(point.y)
    return float(((west + east) / 2 + 180) % 360 - 180), float((south + north) / 2)


def _chosen(found: Found, wanted: Wanted) -> tuple[Found, list[str]]:
    """Return the newest chip of each cell, and what a careful reader should know of the choice."""
    dates = found.chips.dates
    rows, stands_for = newest_rows(found.chips.footprints, dates)
    older = int((dates < dates[stands_for]).sum())
    twins = len(found.row) - len(rows) - older
    notes = []
    if older:
        when = "temporal chooses others" if wanted.interval is None else "within the span asked for"
        notes.append(
            f"some cells have chips of several dates: the newest of each were taken ({older} left out; {when})"
        )
    if twins:
        notes.append(f"{twins} chips of the footprint and date of another were left out")
    return (found.take(rows) if notes else found), notes


def _empty_meta() -> dict[str, Any]:
    """Return the keys of metadata that mean nothing of chips."""
    nothing = ("modality", "image_size", "grid_hw", "crs", "geobox", "cell_px", "checkpoint", "clear_fraction")
    return dict.fromkeys((*nothing, "input_check", "export")) | {
        "schema": SCHEMA,
        "output": "pooled",
        "inputs": {},
        "request": {},
        "normalization": {},
        "missing_bands": {},
        "conditioning": {},
        "cls_removed": False,
        "dtype": "float32",
    }
