"""What ``embed`` is to embed: a place, a table of regions, or rasters of one's own."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rs_embed.cli.app import usage
from rs_embed.cli.options import BUFFER_M, given, one_place, span_of
from rs_embed.cli.printing import note

if TYPE_CHECKING:
    from rs_embed.core.embedding import Embedding
    from rs_embed.core.errors import RSEmbedError
    from rs_embed.core.region_table import Regions
    from rs_embed.providers.arrays import UserData

__all__ = ["Where", "check_rasters", "rasters", "regions"]

TABLES = (".csv", ".geojson", ".json", ".ndjson", ".geojsonl", ".gpkg", ".parquet", ".geoparquet", ".shp", ".zip")
"""Suffixes of tables, which are no rasters."""
AT_ONCE = 16
"""Rasters that are read before they are embedded together."""


@dataclass(frozen=True)
class Where:
    """What the command line says of places and times."""

    point: tuple[float, float] | None
    bbox: tuple[float, float, float, float] | None
    buffer: float | None
    regions: str | None
    columns: dict[str, str | None] = field(default_factory=dict)
    """``id``, ``lon``, ``lat``, ``layer``, ``time_col``."""
    time: str | None = None
    years: str | None = None
    files: tuple[str, ...] = ()
    """Rasters of one's own."""

    def with_files(self, names: Sequence[str]) -> Where:
        """Return the same with rasters of one's own, or, of ``-``, with a table on standard input."""
        if "-" not in names:
            return replace(self, files=tuple(names))
        if len(names) > 1:
            usage("- is standard input, and stands alone")
        if self.regions is not None:
            usage("give one of --regions and -")
        return replace(self, regions="-")

    def places(self) -> list[str]:
        """Return the flags that say where or when imagery is to be fetched."""
        return given(
            point=self.point,
            bbox=self.bbox,
            buffer=self.buffer,
            regions=self.regions,
            years=self.years,
            **self.columns,
        )

    def check(self) -> None:
        """End with exit code 2 where the options contradict each other."""
        places = given(point=self.point, bbox=self.bbox, regions=self.regions)
        if len(places) != 1:
            said = f", got {' and '.join(places)}" if places else ""
            usage(f"give one of --point, --bbox, --regions, FILE and -{said}")
        of_tables = given(**self.columns)
        if of_tables and self.regions is None:
            usage(f"{' and '.join(of_tables)} needs --regions FILE")
        times = given(time=self.time, time_col=self.columns.get("time_col"), years=self.years)
        if len(times) > 1:
            usage(f"give one of {' and '.join(times)}")


def regions(where: Where) -> tuple[Any, Any]:
    """Return the regions of a command and the span of those that have none of their own."""
    where.check()
    span = span_of(where.time)
    if where.regions is None:
        found: Any = [one_place(where.point, where.bbox, where.buffer)]
    else:
        found = _table(where)
    if where.years is not None:
        found = _yearly(found, where.years)
    return found, span


def _years(text: str) -> Any:
    from rs_embed.core.specs import TemporalSpec

    first, dash, last = text.partition("-")
    if not first.strip().isdigit() or (dash and not last.strip().isdigit()):
        usage(f"--years {text!r} must be two years with a dash between them, such as 2018-2024")
    return TemporalSpec.years(int(first), int(last or first))


def _yearly(found: Any, years: str) -> Regions:
    """Return each region once a year; the only region of a command is called by its year."""
    from rs_embed.core.region_table import Regions

    spans = _years(years)
    if isinstance(found, Regions):
        return found.each(spans)
    names = tuple(str(span.interval[0].year) for span in spans)
    return Regions(tuple(found) * len(spans), names, tuple(spans))


def _table(where: Where) -> Regions:
    """Read a table; points without a buffer get the same as ``--point``."""
    from rs_embed.core.errors import SpecError

    assert where.regions is not None
    content = _standard_input() if where.regions == "-" else None
    try:
        return _read(content or where.regions, where, where.buffer)
    except SpecError as error:
        if where.buffer is not None or "buffer_m=" not in str(error):
            raise
    if content is not None:
        content.seek(0)
    return _read(content or where.regions, where, BUFFER_M)


class _Named(io.BytesIO):
    """A stream that messages call by its name."""

    name = "standard input"


def _standard_input() -> _Named:
    if sys.stdin.isatty():
        note("reading a table of regions from standard input; end it with Ctrl-D")
    return _Named(sys.stdin.buffer.read())


def _read(source: Any, where: Where, buffer: float | None) -> Regions:
    from rs_embed.store.tables import read_regions

    columns = where.columns
    return read_regions(
        source,
        layer=columns.get("layer"),
        id=columns.get("id"),
        lon=columns.get("lon"),
        lat=columns.get("lat"),
        buffer_m=buffer,
        time=columns.get("time_col"),
    )


def check_rasters(files: Sequence[str], collection: str | None, useless: list[str]) -> list[Path]:
    """Return the paths of rasters of one's own, or end with exit code 2.

    Raises
    ------
    SpecError
        If a file is not there, or two have one stem, which is to be their id.
    """
    from rs_embed.core.errors import SpecError

    paths = [Path(name) for name in files]
    for path in paths:
        if path.suffix.lower() in TABLES and collection is None:
            usage(f"{path} looks like a table of regions: give it as --regions {path}")
    if useless:
        usage(f"{' and '.join(useless)} does not go with files of your own, which are embedded as they are")
    if collection is None:
        usage("files of your own need --collection, which says what their pixels are, such as --collection s2")
    seen: dict[str, Path] = {}
    for path in paths:
        if not path.is_file():
            raise SpecError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}; give raster files")
        if path.stem in seen:
            raise SpecError(f"{path} and {seen[path.stem]} would both be called {path.stem!r}; rename one")
        seen[path.stem] = path
    return paths


def rasters(
    model: str, paths: Sequence[Path], about: Mapping[str, Any], arguments: Mapping[str, Any]
) -> Iterator[Embedding]:
    """Yield the embeddings of raster files, some at a time so that memory does not grow with their number."""
    from rs_embed.core.errors import RSEmbedError
    from rs_embed.providers.arrays import UserData

    shape: tuple[int, ...] | None = None
    for start in range(0, len(paths), AT_ONCE):
        read: list[UserData | RSEmbedError] = []
        for path in paths[start : start + AT_ONCE]:
            try:
                read.append(UserData.from_raster(path, **about))
            except RSEmbedError as error:
                read.append(error)
        done = _embedded(model, [data for data in read if isinstance(data, UserData)], arguments)
        shape = next((each.shape for each in done if each.ok), shape)
        rest = iter(done)
        for path, data in zip(paths[start:], read, strict=False):
            found = next(rest) if isinstance(data, UserData) else _unread(model, data, shape, arguments)
            found.meta["id"] = path.stem
            yield found


def _unread(model: str, error: RSEmbedError, shape: tuple[int, ...] | None, arguments: Mapping[str, Any]) -> Embedding:
    """Return the NaN embedding of a file that could not be read, as large as the others."""
    import numpy as np

    from rs_embed.core.describe import describe
    from rs_embed.core.embedding import Embedding
    from rs_embed.core.registry import get_spec

    grid = arguments["output"].mode == "grid"
    size = shape[0] if shape else describe(get_spec(model))["dims"]["grid" if grid else "pooled"]
    data = np.full((size, 1, 1) if grid else size, np.nan, np.float32)
    return Embedding(data, {"model": model, "error": f"{type(error).__name__}: {error}", "warnings": []})


def _embedded(model: str, datas: list[UserData], arguments: Mapping[str, Any]) -> list[Embedding]:
    from rs_embed.api import get_embeddings_batch_from_data

    if not datas:
        return []
    return get_embeddings_batch_from_data(model, datas, on_error="return", show_progress=False, **arguments)
