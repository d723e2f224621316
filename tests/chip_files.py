"""Tables of chips, painted small to the layout of Major TOM's, Clay's and Earth Index's files, and the hub's list."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer

REPOSITORIES = {
    "ssl4eo-s2l1c": ("Core-S2L1C-SSL4EO", 2048),
    "ssl4eo-s1rtc": ("Core-S1RTC-SSL4EO", 2048),
    "dinov2-s2rgb": ("Core-S2RGB-DINOv2", 768),
    "siglip-s2rgb": ("Core-S2RGB-SigLIP", 1152),
}
WGS84 = CRS("OGC:CRS84").to_json_dict()
"""As GeoPandas writes it."""


@dataclass
class Painted:
    """Chips as they were written."""

    shapes: list[Any]
    vectors: NDArray[np.float32]
    dates: list[str]
    ids: list[str]
    groups: list[int] = field(default_factory=list)
    """Row group of each, counted over all files."""

    def rows(self, *numbers: int) -> NDArray[np.float32]:
        return self.vectors[list(numbers)]


def vectors(seed: int, count: int, dims: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, dims)).astype(np.float32)


def fragment(lon: float, lat: float, side: float = 2240.0, *, corners_only: bool = True) -> Any:
    """A square of metres in the UTM zone of a place, as a polygon of four corners in degrees, or as curved as it is."""
    epsg = (32600 if lat >= 0 else 32700) + int((lon + 180) // 6) + 1
    there, back = (Transformer.from_crs(*pair, always_xy=True) for pair in ((4326, epsg), (epsg, 4326)))
    x, y = there.transform(lon, lat)
    square = shapely.box(x - side / 2, y - side / 2, x + side / 2, y + side / 2)
    square = square if corners_only else shapely.segmentize(square, 50.0)
    return shapely.Polygon([back.transform(*corner) for corner in square.exterior.coords])


def fragments(lon: float, lat: float, count: int, step: float = 2000.0) -> list[Any]:
    """``count * count`` fragments that overlap by a tenth, the first in the north-west."""
    down, across = step / 111_000, step / (111_000 * np.cos(np.radians(lat)))
    return [fragment(lon + c * across, lat - r * down) for r in range(count) for c in range(count)]


def geo_footer(column: str = "geometry", *, covering: bool = False, crs: Any = WGS84, **more: Any) -> bytes:
    about: dict[str, Any] = {"encoding": "WKB", "geometry_types": [], **more}
    if crs is not None:
        about["crs"] = crs
    if covering:
        sides = ("xmin", "ymin", "xmax", "ymax")
        about["covering"] = {"bbox": {side: ["bbox", side] for side in sides}}
    return json.dumps({"version": "1.1.0", "primary_column": column, "columns": {column: about}}).encode()


def write(
    path: Path, columns: dict[str, Any], *, group: int | None = None, footer: dict[str, bytes] | None = None
) -> None:
    """Write a table with row groups of so many rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns).replace_schema_metadata(footer or {})
    pq.write_table(table, path, row_group_size=group, compression="zstd", data_page_size=2**16)


def wkb(shapes: Sequence[Any]) -> pa.Array:
    return pa.array([None if shape is None else shapely.to_wkb(shape) for shape in shapes], pa.binary())


def paint_majortom(
    path: Path,
    shapes: Sequence[Any],
    *,
    dims: int = 2048,
    seed: int = 0,
    group: int = 4,
    dates: Sequence[str] | None = None,
    footer: bool = True,
    **other: Any,
) -> Painted:
    """Write a part of Major TOM's tables: https://huggingface.co/datasets/Major-TOM/Core-S2L1C-SSL4EO."""
    count = len(shapes)
    numbers = vectors(seed, count, dims)
    moments = list(dates or [f"2021-0{1 + i % 9}-15 10:30:29+00:00" for i in range(count)])
    ids = [hashlib.sha256(f"{seed}-{i}-{moments[i]}".encode()).hexdigest() for i in range(count)]
    centres = [shape.centroid for shape in shapes]  # as the authors do, also across the antimeridian
    columns = {
        "unique_id": ids,
        "embedding": pa.array(list(numbers), pa.list_(pa.float32())),
        "timestamp": moments,
        "product_id": [f"S2A_MSIL1C_{i:05d}" for i in range(count)],
        "grid_cell": [f"{534 + i}U_{77 + i}R" for i in range(count)],
        "grid_row_u": pa.array([534 + i for i in range(count)], pa.int16()),
        "grid_col_r": pa.array([77 + i for i in range(count)], pa.int16()),
        "geometry": wkb(shapes),
        "centre_lat": pa.array([point.y for point in centres], pa.float32()),
        "centre_lon": pa.array([point.x for point in centres], pa.float32()),
        "utm_footprint": [shapely.to_wkt(shape) for shape in shapes],
        "utm_crs": ["EPSG:32632"] * count,
        "pixel_bbox": pa.array([[0, 0, 224, 224]] * count, pa.list_(pa.int64())),
    } | other
    write(path, columns, group=group, footer={"geo": geo_footer(crs=None)} if footer else None)
    days = [moment[:10] for moment in moments]
    return Painted(list(shapes), numbers, days, ids, [i // group for i in range(count)])


def paint_clay(path: Path, shapes: Sequence[Any], day: str, *, seed: int = 0, group: int | None = None) -> Painted:
    """Write ``{MGRS}_{start}_{end}_v001.gpq`` of Clay v0: https://source.coop/clay/clay-model-v0-embeddings."""
    count = len(shapes)
    numbers = vectors(seed, count, 768)
    columns = {
        "index": pa.array(range(count), pa.int64()),
        "source_url": ["s3://clay/chip.tif"] * count,
        "date": pa.array([date.fromisoformat(day)] * count, pa.date32()),
        "embeddings": pa.array(list(numbers), pa.list_(pa.float32())),
        "geometry": wkb(shapes),
    }
    west, south, east, north = shapely.total_bounds(list(shapes))
    write(path, columns, group=group, footer={"geo": geo_footer(bbox=[west, south, east, north])})
    return Painted(list(shapes), numbers, [day] * count, [f"{path.stem}:{i}" for i in range(count)])


def paint_earth_index(path: Path, points: Sequence[Any], *, seed: int = 0, group: int | None = None) -> Painted:
    """Write a table of Earth Index: https://source.coop/earthgenome/earthindexembeddings."""
    count = len(points)
    numbers = vectors(seed, count, 384)
    ids = [f"{path.stem}_{i:04d}" for i in range(count)]
    columns = {
        "id": ids,
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), 384),
        "geometry": wkb(points),
    }
    about = {
        "version": "0.0.1",
        "model": {"id": "dinov2_vits14_softcon", "source": "https://github.com/zhu-xlab/softcon"},
        "license": "CC-BY-4.0",
        "datetime": "2023-07-02T00:00:00Z",
        "start_datetime": "2023-01-01T00:00:00Z",
        "end_datetime": "2024-01-01T00:00:00Z",
        "embedding_dim": 384,
    }
    emb = json.dumps(about).encode()
    write(path, columns, group=group, footer={"geo": geo_footer(), "emb": emb})
    return Painted(list(points), numbers, ["2023-01-01"] * count, ids)


def list_hub(root: Path, repository: str, files: Sequence[str], *, revision: str = "main") -> None:
    """Write what the hub's tree tells of the files of a repository, below the folder that a server serves."""
    place = root / "api" / "datasets" / repository / "tree" / revision / "embeddings"
    place.parent.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = [{"type": "directory", "oid": "0", "size": 0, "path": "embeddings"}]
    for name in files:
        content = (root / "datasets" / repository / "resolve" / revision / name).read_bytes()
        oid = hashlib.sha256(content).hexdigest()
        entries.append({"type": "file", "oid": oid[:40], "size": len(content), "path": name, "lfs": {"oid": oid}})
    place.write_text(json.dumps(entries))
