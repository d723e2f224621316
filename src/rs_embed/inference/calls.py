"""What the public calls share: one span of time a region, progress, and running a list of regions."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from rs_embed.core.embedding import Embedding
from rs_embed.core.errors import SpecError
from rs_embed.core.notices import warn_user
from rs_embed.core.region_table import Regions, list_regions, single_region
from rs_embed.core.specs import TemporalSpec
from rs_embed.inference.session import Session
from rs_embed.providers.base import Provider

__all__ = ["check_on_error", "embed_regions", "iter_regions", "one_span_each", "progress_bar", "spans_of"]

DEFAULT_TIME = ("2022-06-01", "2022-09-01")


def one_span_each(temporal: Any, count: int) -> list[TemporalSpec]:
    """Return one span a region."""
    if temporal is None:
        start, end = DEFAULT_TIME
        warn_user(f"temporal=None: using the package's default window {start}..{end}; say temporal (--time) to choose")
        return [TemporalSpec.range(start, end)] * count
    if isinstance(temporal, TemporalSpec):
        return [temporal] * count
    if isinstance(temporal, Sequence) and not isinstance(temporal, str):
        spans = list(temporal)
        if len(spans) != count or not all(isinstance(t, TemporalSpec) for t in spans):
            raise SpecError(f"temporal must be one TemporalSpec or {count} of them, one a region; got {len(spans)}")
        return spans
    raise SpecError(f"temporal={temporal!r} must be a TemporalSpec, such as TemporalSpec.year(2022)")


def progress_bar(show: bool | None, said: str = "embedding") -> Any:
    """Return a wrapper that draws a progress bar on standard error where somebody watches."""

    def draw(results: Iterator[Any], total: int) -> Iterator[Any]:
        if show is False or (show is None and (total < 2 or not sys.stderr.isatty())):
            yield from results
            return
        from rich.console import Console
        from rich.progress import track

        yield from track(results, total=total, description=said, console=Console(stderr=True))

    return draw


def check_on_error(on_error: str) -> None:
    """Raise `SpecError` unless it is one of the two ways of dealing with failures."""
    if on_error not in ("raise", "return"):
        raise SpecError(f"on_error={on_error!r} is not known; accepted: 'raise', 'return'")


def regions_and_spans(
    spatials: Any, temporal: Any, *, single: bool = False
) -> tuple[Sequence[Any], list[TemporalSpec]]:
    """Return the regions and one span each: the call's, else their own, else the default."""
    found = single_region(spatials[0]) if single else list_regions(spatials)
    own = found.temporals if isinstance(found, Regions) else None
    return found, one_span_each(own if temporal is None else temporal, len(found))


def spans_of(
    session: Session, spatials: Any, temporal: Any, *, single: bool = False
) -> tuple[Sequence[Any], Sequence[TemporalSpec | None]]:
    """Return the regions and one span each; of a product without one ``None``, its newest."""
    product = session.setup.spec.product
    if product is None:
        return regions_and_spans(spatials, temporal, single=single)
    found = single_region(spatials[0]) if single else list_regions(spatials)
    own = found.temporals if isinstance(found, Regions) else None
    said = own if temporal is None else temporal
    if said is not None and (product.annual or product.chips):
        return found, one_span_each(said, len(found))
    if product.annual and (product.years is None or len(product.years) > 1):
        warn_user(f"temporal=None: using the newest year that {product.sensor.id} has; say temporal (--time) to choose")
    return found, [None] * len(found)


def embed_regions(
    session: Session,
    provider: Provider,
    spatials: Any,
    temporal: Any,
    on_error: str,
    show_progress: bool | None,
    *,
    single: bool = False,
) -> list[Embedding]:
    """Embed many regions (whatever `norm_regions` takes), in order.

    Raises
    ------
    ModelError
        If ``spatials`` is no list of at least one region.
    """
    check_on_error(on_error)
    found, spans = spans_of(session, spatials, temporal, single=single)
    jobs = list(session.jobs(found, spans, provider))
    return session.collect(jobs, on_error=on_error, progress=progress_bar(show_progress), single=single)


def iter_regions(
    session: Session, provider: Provider, spatials: Any, temporal: Any, on_error: str, show_progress: bool | None
) -> Generator[Embedding, None, None]:
    """Check at once what `embed_regions` checks; return an iterator that embeds as it is asked."""
    check_on_error(on_error)
    found, spans = spans_of(session, spatials, temporal)
    jobs = session.jobs(found, spans, provider)
    return session.ordered(jobs, len(found), on_error=on_error, progress=progress_bar(show_progress))
