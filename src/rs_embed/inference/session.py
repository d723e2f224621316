"""A loaded model with everything else that a call says, ready to embed any number of regions."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rs_embed.core.embedding import Embedding
from rs_embed.core.errors import BatchError, ModelError, RSEmbedError, SpecError
from rs_embed.core.geometry import locate
from rs_embed.core.model_spec import ModelSpec
from rs_embed.core.region_table import Regions, feature_of
from rs_embed.core.sensors import Sensor
from rs_embed.core.specs import (
    FetchSpec,
    InputPrepSpec,
    OutputSpec,
    SensorSpec,
    SpatialSpec,
    TemporalSpec,
    norm_input_prep,
    norm_spatial,
)
from rs_embed.inference.engine import Job, stream
from rs_embed.inference.meta import base_meta, failed, loud, warn_once
from rs_embed.inference.plan import Plan, make_plan
from rs_embed.inference.products import place_key, plan_product
from rs_embed.inference.runtime import Runtime, load_runtime
from rs_embed.inference.setup import Setup, resolve
from rs_embed.providers.base import Provider

__all__ = ["Session", "open_session"]

Result = tuple[int, Embedding | RSEmbedError]
Progress = Callable[[Iterator[Result], int], Iterator[Result]]


def _no_progress(results: Iterator[Result], total: int) -> Iterator[Result]:
    return results


def _neighbours(jobs: Sequence[Job]) -> Sequence[Job]:
    """Return regions of a product block by block, so that each block is read once; others as they come."""
    if len(jobs) < 2 or any(job.near is None for job in jobs):
        return jobs
    keys = [job.near() for job in jobs if job.near is not None]
    return [jobs[i] for i in sorted(range(len(jobs)), key=lambda i: keys[i])]


@dataclass
class _Notes:
    """What is warned of once, with the names of the regions."""

    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, index: int, embedding: Embedding) -> None:
        """Keep the loud notes of one region."""
        for note in loud(embedding.meta["warnings"]):
            name = embedding.id if embedding.id is not None else index
            self.found.setdefault(note.split(" (")[0], []).append(str(name))


@dataclass(frozen=True)
class Session:
    """What all regions of a call share."""

    setup: Setup
    output: OutputSpec
    prep: InputPrepSpec
    device: str
    precision: str
    batch_size: int | None
    provider: Provider | None = None
    """Where it reads: a product's lattice lies there."""

    def runtime(self, setup: Setup | None = None) -> Runtime:
        """Return the loaded encoder of this session, or of a setup of the same model."""
        return load_runtime(setup or self.setup, self.device, self.precision)

    def plan(self, spatial: SpatialSpec, temporal: TemporalSpec | None) -> Plan:
        """Plan one region."""
        if self.setup.spec.product is not None:
            return plan_product(self.setup, self.provider, spatial, temporal, output=self.output, prep=self.prep)
        region = locate(spatial)
        return make_plan(self.setup, region, temporal=temporal, output=self.output, prep=self.prep)

    def jobs(
        self, spatials: Sequence[Any], temporals: Sequence[TemporalSpec | None], provider: Provider
    ) -> Iterator[Job]:
        """Return one job a region, planned when its turn comes; `Regions` and Features bring name and labels."""
        table = spatials if isinstance(spatials, Regions) else None
        for index, (spatial, temporal) in enumerate(zip(spatials, temporals, strict=True)):

            def planned(spatial: Any = spatial, temporal: TemporalSpec | None = temporal) -> Plan:
                return self.plan(norm_spatial(spatial), temporal)

            if table is None:
                name, labels = feature_of(spatial)
            else:
                name, labels = None if table.ids is None else table.ids[index], table.labels(index)
            yield self._job(
                Job(index, planned, provider, name, labels, self._near(spatial, temporal)), spatial, temporal
            )

    def _job(self, job: Job, spatial: Any, temporal: TemporalSpec | None) -> Job:
        """Return the job of a region, with what a session needs besides."""
        return job

    def _near(self, spatial: Any, temporal: TemporalSpec | None) -> Callable[[], tuple[str, int, int]] | None:
        """Return what tells which block of a product a region reads."""
        if self.setup.spec.product is None:
            return None
        return lambda: place_key(self.setup, self.provider, norm_spatial(spatial), temporal)

    def stream(self, jobs: Iterator[Job]) -> Iterator[Result]:
        """Yield results as regions finish."""
        return stream(jobs, self.runtime, batch_size=self.batch_size)

    def collect(
        self,
        jobs: Sequence[Job],
        *,
        on_error: str = "raise",
        progress: Progress = _no_progress,
        single: bool = False,
    ) -> list[Embedding]:
        """Return all results in order.

        Raises
        ------
        BatchError
            With ``on_error="raise"``, after all other regions are finished, if some failed; with ``single`` the error
            of the only region itself.
        """
        results: list[Embedding | None] = [None] * len(jobs)
        errors: dict[int, RSEmbedError] = {}
        notes = _Notes()
        for index, found in progress(self.stream(iter(_neighbours(jobs))), len(jobs)):
            if isinstance(found, RSEmbedError):
                errors[index] = found
                continue
            results[index] = found
            notes.add(index, found)
        warn_once(notes.found)
        if errors and on_error == "raise":
            if single:
                raise errors[0]
            raise BatchError(list(results), errors)
        shape = next((r.shape for r in results if r is not None), None)
        for index, error in errors.items():
            results[index] = self._failed(jobs[index], error, shape)
        return [r for r in results if r is not None]

    def ordered(
        self, jobs: Iterator[Job], total: int, *, on_error: str = "raise", progress: Progress = _no_progress
    ) -> Generator[Embedding, None, None]:
        """Yield results in order, holding only those that overtook an earlier region.

        Raises
        ------
        RSEmbedError
            With ``on_error="raise"``, the error of the first region that failed, when its turn comes.
        """
        waiting: dict[int, Job] = {}
        ready: dict[int, Embedding | RSEmbedError] = {}
        notes, shape, turn = _Notes(), None, 0

        def remembered() -> Iterator[Job]:
            for job in jobs:
                waiting[job.index] = job
                yield job

        results = progress(self.stream(remembered()), total)
        with closing(results):  # type: ignore[type-var]
            for index, result in results:
                ready[index] = result
                while turn in ready:
                    found, job = ready.pop(turn), waiting.pop(turn)
                    if isinstance(found, RSEmbedError):
                        if on_error == "raise":
                            found.add_note(f"region {turn}{'' if job.id is None else f' (id {job.id!r})'}")
                            raise found
                        found = self._failed(job, found, shape)
                    else:
                        notes.add(turn, found)
                        shape = shape or found.shape
                    turn += 1
                    yield found
        warn_once(notes.found)

    def _failed(self, job: Job, error: RSEmbedError, shape: tuple[int, ...] | None) -> Embedding:
        """Return the NaN embedding of a region that failed, as long as the others."""
        meta: dict[str, Any] = {"model": self.setup.spec.name, "id": job.id, "warnings": []}
        try:
            plan: Plan | None = job.make_plan()
        except RSEmbedError:
            plan = None
        if plan is not None:
            meta |= base_meta(plan, job.provider, None, self.device)
        meta |= {"id": job.id, "labels": dict(job.labels)}
        dims = dict(self.setup.variant.dims)
        if shape is not None and self.output.mode == "grid":
            dims["grid"] = shape[0]
        found = failed(plan, self.output, dims, meta, error)
        if shape is not None and self.output.mode == "pooled":
            found.data = np.full(shape, np.nan, np.float32)
        return found


def open_session(
    model: str | ModelSpec,
    provider: Provider,
    *,
    sensor: SensorSpec | None = None,
    fetch: FetchSpec | None = None,
    modality: str | None = None,
    output: OutputSpec | None = None,
    device: str = "auto",
    input_prep: InputPrepSpec | str | None = None,
    precision: str = "float32",
    batch_size: int | None = None,
    options: Mapping[str, Any] | None = None,
    own: Mapping[str, Sensor] | None = None,
) -> Session:
    """Check what a call says about its model and output; ``own`` are the sensors of the user's own data.

    Raises
    ------
    RSEmbedError
        The most specific one for what is wrong, before anything is loaded.
    """
    if output is not None and not isinstance(output, OutputSpec):
        raise SpecError(f"output={output!r} must be OutputSpec.pooled(...) or OutputSpec.grid(...)")
    if batch_size is not None and (isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1):
        raise ModelError(f"batch_size={batch_size!r} must be a whole number above 0")
    try:
        prep = norm_input_prep(input_prep)
    except SpecError as error:
        raise ModelError(str(error)) from error
    setup = resolve(model, provider, sensor=sensor, fetch=fetch, modality=modality, options=options, own=own)
    output = output or OutputSpec.pooled()
    if setup.spec.product is not None and setup.spec.product.chips:
        from rs_embed.inference.chips import open_chip_session

        return open_chip_session(setup, output, prep, precision, provider)
    return Session(setup, output, prep, device, precision, batch_size, provider)
