"""Chips themselves, out of a product of the catalogue or of anybody's Parquet files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import shapely

from rs_embed.core.chips import ChipSet, check_count, region_outline
from rs_embed.core.errors import ModelError, NoImageryError, SpecError
from rs_embed.core.registry import get_spec
from rs_embed.core.specs import TemporalSpec, norm_spatial
from rs_embed.inference.calls import progress_bar
from rs_embed.inference.chips import archive_of, chip_facts, middle_of
from rs_embed.inference.products import open_backend
from rs_embed.inference.setup import resolve
from rs_embed.providers.products.chip_archive import ChipArchive, Wanted, missing
from rs_embed.providers.products.chip_columns import Named
from rs_embed.providers.products.chip_folders import is_table, open_folder
from rs_embed.providers.products.chips import ChipProvider

__all__ = ["read_chip_set"]

_MOST = 2**32
"""Bytes of vectors that are read without a region at most."""


def read_chip_set(
    source: str | Path,
    *,
    spatial: Any,
    temporal: TemporalSpec | None,
    nearest: int | None,
    variant: str | None,
    backend: Any,
    named: Named,
    columns: Sequence[str] | None,
    show_progress: bool | None,
) -> ChipSet:
    """Return chips; see `rs_embed.read_chips`."""
    if temporal is not None and not isinstance(temporal, TemporalSpec):
        raise SpecError(f"temporal={temporal!r} must be a TemporalSpec, such as TemporalSpec.year(2022)")
    if isinstance(columns, str):
        raise SpecError(f"columns={columns!r} must be a list of names, such as [{columns!r}]")
    if nearest is not None and spatial is None:
        raise SpecError(f"nearest={nearest!r} needs spatial: the place to be near to, such as PointBuffer(lon, lat, 1)")
    count = None if nearest is None else check_count("nearest", nearest)
    region = None if spatial is None else norm_spatial(spatial)
    name, archive, facts = _open(source, variant, backend, named)
    archive.index(progress_bar(show_progress, "indexing the tables"))
    wanted = Wanted(
        shapely.box(-180, -90, 180, 90) if region is None else region_outline(region),
        None if temporal is None else temporal.interval,
    )
    extra: dict[str, list[Any]] = {}
    if count is not None:
        found, metres = archive.nearest(*middle_of(wanted.outline), count, interval=wanted.interval, others=columns)
        extra = {"distance_m": metres.tolist()}
    elif region is None:
        _check_size(name, archive)
        found = archive.everything(wanted.interval, columns)
    else:
        (found,) = archive.find([wanted], columns)
        extra = {"overlap_m2": found.areas.tolist()}
    if not len(found.row):
        raise NoImageryError(missing(archive, name, wanted, middle_of(wanted.outline), found))
    chips = archive.chip_set(found, facts)
    return replace(chips, table={**chips.table, **extra})


def _open(
    source: str | Path, variant: str | None, backend: Any, named: Named
) -> tuple[str, ChipArchive, Mapping[str, Any]]:
    """Return the tables of a source, what they are called, and what all of their rows share."""
    text = str(source).strip()
    if isinstance(source, Path) or "://" in text or is_table(text) or Path(text).expanduser().is_dir():
        if variant is not None or backend != "auto":
            raise SpecError(
                f"variant and backend belong to a model's name, and {Path(text).name!r} is a file or folder"
            )
        archive = ChipArchive(open_folder(text), named)
        archive.index()
        first = archive.file(0)
        facts = {"model": first.name.rpartition(".")[0], **first.facts, "source": archive.source}
        facts.setdefault("space", f"{facts['model']}/default")
        return archive.source.rstrip("/").rpartition("/")[2], archive, facts
    spec = get_spec(text)
    if spec.product is None or not spec.product.chips:
        raise ModelError(f"{spec.name} is no product of chips; get_embedding({spec.name!r}, ...) gives its embeddings")
    if named != Named():
        raise SpecError(f"vector, date and id name columns of files of your own; those of {spec.name} are known")
    provider = open_backend(spec, backend)
    assert isinstance(provider, ChipProvider)
    setup = resolve(spec, provider, options={} if variant is None else {"variant": variant})
    return spec.name, archive_of(provider, setup), chip_facts(setup, provider)


def _check_size(name: str, archive: ChipArchive) -> None:
    """Refuse to read all of a large store."""
    first = archive.file(0)
    rows = int(archive.index().rows.sum())
    size = 4 * rows * first.table.width(first.columns.vector)
    if size > _MOST:
        raise SpecError(
            f"{name} holds {rows} chips, {size / 1e9:.0f} GB of vectors: say which with spatial=..., or spatial and "
            "nearest"
        )
