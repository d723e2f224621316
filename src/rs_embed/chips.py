"""Embeddings that somebody made of pieces of imagery, read in place: see `read_chips`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rs_embed.core.chips import ChipSet
from rs_embed.core.specs import TemporalSpec

if TYPE_CHECKING:
    from rs_embed.providers.base import Provider

__all__ = ["read_chips"]


def read_chips(
    source: str | Path,
    *,
    spatial: Any = None,
    temporal: TemporalSpec | None = None,
    nearest: int | None = None,
    variant: str | None = None,
    backend: str | Provider = "auto",
    vector: str | None = None,
    date: str | None = None,
    id: str | None = None,
    columns: Sequence[str] | None = None,
    show_progress: bool | None = None,
) -> ChipSet:
    """Return precomputed embeddings of pieces of imagery, with their footprints and dates.

    Of files behind URLs, only the footers, and of the row groups that may lie in the region only the columns that are
    wanted are fetched. What lies where is learnt once from the footers and kept in the cache folder.

    Parameters
    ----------
    source
        A product of chips (``"majortom"``), or the path or URL of a Parquet file of embeddings or of a folder of them,
        or of a data set on Hugging Face. A file has a column of vectors (lists of numbers), and geometries (WKB or
        WKT, polygons or points) or the longitude and latitude of its chips' middles, which are then points.
    spatial
        Only chips that share ground with this region, and points within it; ``None``: all.
    temporal
        Only chips of these dates; one whose date is unknown is then left out. ``None``: all dates.
    nearest
        Instead of those in the region, so many chips nearest to its middle, nearest first.
    variant, backend
        Of a product: as in `get_embedding`.
    vector, date, id
        Columns of vectors, dates and names; ``None`` takes ``embedding`` or ``embeddings``; ``timestamp``,
        ``datetime``, ``date``, ``start_datetime``, ...; ``unique_id`` or ``id``.
    columns
        Other columns for ``.table``; ``None``: all that are plain, an empty list none, which reads less.
    show_progress
        ``None`` draws a progress bar where standard error is a terminal.

    Returns
    -------
    ChipSet
        Its table has ``overlap_m2`` (square metres of each chip within the region), or with ``nearest`` ``distance_m``.

    Raises
    ------
    NoImageryError
        If there is no such chip; the message names the nearest one, or the dates that there are.
    ProviderError
        If a file cannot be read, or lacks a column; the message lists those that it has.
    SpecError
        If a place or number cannot be meant, or all of a large store is asked for.
    MissingExtraError
        If pyarrow is not installed.

    Examples
    --------
    >>> chips = read_chips("majortom", spatial=PointBuffer(11.5, 48.1, 5000))  # doctest: +SKIP
    >>> chips.newest().pool(PointBuffer(11.5, 48.1, 1000))  # doctest: +SKIP
    """
    from rs_embed.inference.chip_sets import read_chip_set
    from rs_embed.providers.products.chip_columns import Named

    return read_chip_set(
        source,
        spatial=spatial,
        temporal=temporal,
        nearest=nearest,
        variant=variant,
        backend=backend,
        named=Named(vector, date, id),
        columns=columns,
        show_progress=show_progress,
    )
