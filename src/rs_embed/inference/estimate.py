"""What a call would find, read, run and leave behind: its plans and searches, without a pixel or a weight."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from rs_embed.core.errors import NoImageryError, ProviderError, RSEmbedError, SpecError
from rs_embed.core.imagery import ImageRequest, Interval, Scene
from rs_embed.inference.calibrate import LARGEST, seconds_per_window
from rs_embed.inference.chips import ChipSession
from rs_embed.inference.engine import BATCH, Job
from rs_embed.inference.forwards import count_forwards
from rs_embed.inference.needs import Needs, needs_of
from rs_embed.inference.provenance import plain
from rs_embed.inference.reading import ASSUMED, Reading
from rs_embed.inference.runtime import check_precision, pick_device
from rs_embed.inference.session import Session
from rs_embed.inference.survey import Surveyed, said, searchable, survey
from rs_embed.providers.backends import open_provider
from rs_embed.providers.base import Provider

__all__ = ["Costs", "Estimate", "FoundScenes", "Trouble", "estimate_chips", "estimate_regions", "open_for_estimate"]

SEARCHERS = 8
"""Threads that plan and search."""
RATES = {"local": 15.0, "synthetic": 50.0}
"""Megabytes a second, decoding and resampling, or painting, included: measured on two cores, 7 to 22 and 51."""
RATE = 12.5
"""Of a line of 100 Mbit/s."""
SHARES = {".npy": (1.0, 1.0, 1.0), ".npz": (0.92, 0.35, 0.03), ".parquet": (0.92, 1.8, 0.07), ".tif": (0.9, 2.0, 0)}
"""Bytes in a file of one byte of float32 numbers, of the first embedding's metadata, and of the others', which repeat
most of it."""

_CHIP_META = 3000
"""Bytes of the metadata of an embedding of chips, but for what is told of each."""


@dataclass(frozen=True)
class Costs:
    """How time is estimated."""

    calibrate: bool = False
    """Whether the net is built and timed."""
    bandwidth_mb_s: float | None = None

    def __post_init__(self) -> None:
        rate = self.bandwidth_mb_s
        if rate is not None and not (isinstance(rate, int | float) and math.isfinite(rate) and rate > 0):
            raise SpecError(f"bandwidth_mb_s={rate!r} must be a number of megabytes a second above 0")

    def rate(self, backend: str) -> float:
        """Return bytes a second at which imagery of a backend arrives."""
        return 1e6 * float(self.bandwidth_mb_s or RATES.get(backend, RATE))


@dataclass(frozen=True)
class FoundScenes:
    """What was found of one input in one interval, over all regions."""

    input: str
    start: str
    end: str
    scenes: tuple[Mapping[str, Any], ...]
    """``id``, ``datetime`` and ``cloud_cover`` (percent; None: unknown) by time; a scene of several regions once. A
    scene whose every pixel turns out to be masked is not in an embedding's ``meta["scenes"]``."""
    cloud_min: float | None
    cloud_median: float | None
    regions: int
    empty_regions: int
    """Those without a scene in this interval."""


@dataclass(frozen=True)
class Trouble:
    """A region that would have no embedding."""

    index: int
    id: str | int | None
    error: str
    """Class of the error."""
    message: str


@dataclass(frozen=True)
class Estimate:
    """What a call would cost; from `rs_embed.estimate`."""

    model: str
    variant: str
    backend: str
    device: str
    regions: int
    windows: int
    """What the net gets, of the regions that have imagery."""
    batch_size: int
    forwards: int
    """Forward passes, partial batches included."""
    intervals: tuple[FoundScenes, ...] | None
    """``None``: the backend does not tell its scenes before it loads them."""
    no_imagery: tuple[Trouble, ...]
    failed: tuple[Trouble, ...]
    """Regions that cannot be planned, searched or fed to the model."""
    missing_bands: Mapping[str, Mapping[str, int]]
    """By input and band, in how many regions no scene has it."""
    read_bytes: int
    weights_bytes: int | None
    """To download; ``None``: of unknown size."""
    weights: str
    output_shape: tuple[int, ...] | None
    """Of an embedding, where all regions have the same."""
    output_bytes: int
    """The numbers alone, float32."""
    files: Mapping[str, int]
    """About how large files of the results would be, by suffix."""
    seconds: Mapping[str, float | None]
    """``search`` (with planning, as long as it just took), ``weights``, ``read``, ``encode`` and ``total``, in which
    reading and encoding overlap; None: unknown without ``calibrate``."""
    missing: tuple[str, ...]
    """What this machine lacks for the call, each with its remedy."""
    assumptions: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the estimate as JSON types."""
        found: dict[str, Any] = plain(asdict(self))
        return found


class _NoLogin:
    """Stands for a backend that needs a login: everything is planned, nothing can be searched."""

    source = "unknown without a login"

    def __init__(self, name: str) -> None:
        self.name = name

    def offers(self, sensor: str) -> bool:
        """Whether it may have the sensor: unknown, so yes."""
        return True

    def load(self, request: ImageRequest, parts: Sequence[Any]) -> Iterator[Any]:
        """Refuse: nothing can be loaded."""
        raise ProviderError(f"the backend {self.name!r} needs a login")


def open_for_estimate(backend: Any) -> tuple[Provider, tuple[str, ...]]:
    """Return the provider, and the login that it lacks: without one, ``"gee"`` can still be planned."""
    try:
        return open_provider(backend), ()
    except ProviderError as error:
        if not isinstance(backend, str) or backend.strip().lower().partition(":")[0] != "gee":
            raise
        return _NoLogin("gee"), (str(error),)


def estimate_regions(
    session: Session, provider: Provider, jobs: Sequence[Job], costs: Costs, lacking: tuple[str, ...], progress: Any
) -> Estimate:
    """Plan and search all regions, and add up what they come to.

    Parameters
    ----------
    session, provider, jobs
        As they would be embedded.
    costs
        How time is estimated.
    lacking
        What is already known to be missing.
    progress
        Wraps the results as they come: `rs_embed.inference.calls.progress_bar`.
    """
    check_precision(session.precision)
    needs = needs_of(session.setup, lacking)
    device = pick_device(session.device, torch_needed=needs.torch == "installed")
    batch = session.batch_size or BATCH.get(device.split(":")[0], 16)
    start = time.perf_counter()
    with ThreadPoolExecutor(SEARCHERS, thread_name_prefix="rs-embed-search") as pool:
        results = pool.map(lambda job: survey(provider, job, batch), jobs)
        regions: list[Surveyed] = list(progress(results, len(jobs)))
    elapsed = time.perf_counter() - start
    windows, forwards = count_forwards(load for region in regions for load in region.loads)
    good = [region for region in regions if region.error is None]
    reading = sum((region.reading for region in good), Reading())
    seconds, notes = _seconds(session, good, provider.name, needs, reading, (device, elapsed, windows), costs)
    shapes = {region.shape for region in good}
    none = [r for r in regions if isinstance(r.error, NoImageryError)]
    return Estimate(
        model=session.setup.spec.name,
        variant=session.setup.variant_name,
        backend=provider.name,
        device=device,
        regions=len(jobs),
        windows=windows,
        batch_size=batch,
        forwards=forwards,
        intervals=_by_interval(regions) if searchable(provider) else None,
        no_imagery=tuple(map(_trouble, none)),
        failed=tuple(_trouble(r) for r in regions if r.error is not None and r not in none),
        missing_bands=_missing_bands(regions),
        read_bytes=reading.nbytes,
        weights_bytes=needs.weights_bytes,
        weights=needs.weights,
        output_shape=next(iter(shapes)) if len(shapes) == 1 else None,
        output_bytes=sum(4 * math.prod(region.shape) for region in good),
        files=_files(good),
        seconds=seconds,
        missing=needs.missing,
        assumptions=(*(ASSUMED[key] for key in sorted(reading.how)), *notes),
    )


def estimate_chips(session: Session, jobs: Sequence[Job], costs: Costs) -> Estimate:
    """Look for the chips of all regions, and add up what reading their vectors comes to."""
    assert isinstance(session, ChipSession) and session.provider is not None
    start = time.perf_counter()
    results = session.survey(jobs)
    regions = [
        Surveyed(job, error=found)
        if isinstance(found, RSEmbedError)
        else Surveyed(job, shape=(session.dim,), meta_bytes=_CHIP_META + 160 * len(found.row))
        for job, found in results
    ]
    size = session.archive.size_of([found for _, found in results if not isinstance(found, RSEmbedError)])
    rate, seconds = costs.rate(session.provider.name), {"search": time.perf_counter() - start, "weights": 0.0}
    good = [region for region in regions if region.error is None]
    none = [region for region in regions if isinstance(region.error, NoImageryError)]
    given = "as given" if costs.bandwidth_mb_s else "assumed"
    return Estimate(
        model=session.setup.spec.name,
        variant=session.setup.variant_name,
        backend=session.provider.name,
        device=session.device,
        regions=len(jobs),
        windows=0,
        batch_size=1,
        forwards=0,
        intervals=None,
        no_imagery=tuple(map(_trouble, none)),
        failed=tuple(_trouble(r) for r in regions if r.error is not None and r not in none),
        missing_bands={},
        read_bytes=size,
        weights_bytes=0,
        weights="none: the embeddings are read as they are",
        output_shape=(session.dim,) if good else None,
        output_bytes=4 * session.dim * len(good),
        files=_files(good),
        seconds=seconds | {"read": size / rate, "encode": 0.0, "total": seconds["search"] + size / rate},
        missing=(),
        assumptions=(
            "read: the vectors of every row group that has a chip of a region, once",
            f"time to read: {rate / 1e6:g} MB/s, {given}",
        ),
    )


def _by_interval(regions: Sequence[Surveyed]) -> tuple[FoundScenes, ...]:
    """Join what the regions found, by input and interval."""
    scenes: dict[tuple[str, Interval], dict[str, Scene]] = {}
    asked: Counter[tuple[str, Interval]] = Counter()
    empty: Counter[tuple[str, Interval]] = Counter()
    for region in regions:
        found = {(name, interval): each for name, interval, each in region.found}
        if region.plan is not None and isinstance(region.error, NoImageryError):
            names = zip(region.plan.setup.inputs, region.plan.intervals, strict=True)
            found = {(name, interval): () for name, intervals in names for interval in intervals} | found
        for key, each in found.items():
            asked[key] += 1
            empty[key] += not each
            scenes.setdefault(key, {}).update({scene.id: scene for scene in each})
    order = {name: i for i, (name, _) in enumerate(scenes)}
    listed = []
    for name, interval in sorted(scenes, key=lambda key: (order[key[0]], key[1])):
        known = sorted(scenes[name, interval].values(), key=lambda scene: (scene.time, scene.id))
        clouds = [scene.cloud_cover for scene in known if scene.cloud_cover is not None]
        start, end = (moment.date().isoformat() for moment in interval)
        least, middle = (min(clouds), median(clouds)) if clouds else (None, None)
        counts = asked[name, interval], empty[name, interval]
        listed.append(FoundScenes(name, start, end, tuple(map(said, known)), least, middle, *counts))
    return tuple(listed)


def _missing_bands(regions: Sequence[Surveyed]) -> dict[str, dict[str, int]]:
    """Count the regions that lack a band, by input."""
    found: dict[str, dict[str, int]] = {}
    for region in regions:
        for name, bands in region.missing.items():
            for band in bands:
                count = found.setdefault(name, {})
                count[band] = count.get(band, 0) + 1
    return found


def _trouble(region: Surveyed) -> Trouble:
    error = region.error
    return Trouble(region.job.index, region.job.id, type(error).__name__, str(error))


def _files(regions: Sequence[Surveyed]) -> dict[str, int]:
    """Return about how large the files of all results would be, those that can hold them."""
    if not regions:
        return {}
    numbers = sum(4 * math.prod(region.shape) for region in regions)
    first, others = regions[0].meta_bytes, sum(region.meta_bytes for region in regions[1:])
    grid = len(regions[0].shape) == 3
    suffixes = [".npz", ".tif"] if grid else [".npy", ".npz", ".parquet"]
    return {s: round(float(np.dot(SHARES[s], (numbers, first, others)))) for s in suffixes}


def _seconds(
    session: Session,
    regions: Sequence[Surveyed],
    backend: str,
    needs: Needs,
    reading: Reading,
    known: tuple[str, float, int],
    costs: Costs,
) -> tuple[dict[str, float | None], list[str]]:
    """Return seconds by what takes them, and what was assumed."""
    device, search, windows = known
    rate = costs.rate(backend)
    line = 1e6 * float(costs.bandwidth_mb_s or RATE)
    given = "as given" if costs.bandwidth_mb_s else "assumed"
    notes = [f"time to read: {rate / 1e6:g} MB/s, {given}"]
    weights = None if needs.weights_bytes is None else needs.weights_bytes / line
    encode: float | None = None
    if costs.calibrate and regions and regions[0].plan is not None and needs.torch != "absent":
        each = seconds_per_window(regions[0].plan, regions[0].frames, device=device, precision=session.precision)
        if each is None:
            notes.append(f"time of the net: not tried, it has more than {LARGEST / 1e6:g} million weights")
        else:
            encode = each * windows
            notes.append(f"time of the net: {each:.3g} s a window, timed on {device} with random pixels and weights")
    elif costs.calibrate:
        notes.append(
            "time of the net: not tried, " + ("torch is not installed" if regions else "no region has imagery")
        )
    seconds: dict[str, float | None] = {"search": search, "weights": weights, "read": reading.nbytes / rate}
    seconds["encode"] = encode
    known_parts = weights is not None and encode is not None
    seconds["total"] = search + (weights or 0) + max(reading.nbytes / rate, encode or 0) if known_parts else None
    return seconds, notes
