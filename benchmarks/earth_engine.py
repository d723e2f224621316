"""Earth Engine's composites beside ours, sensor by sensor: its graphs run on painted scenes, by a server on loopback.

No time is measured: the server is a stand-in. A row is the largest difference of a pixel from our own composite of the
same scenes, in the sensor's units.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rows import Row
from rs_embed import BBox, OutputSpec, TemporalSpec, get_embedding

__all__ = ["run"]

TESTS = Path(__file__).parents[1] / "tests"


def _documents() -> Path:
    named = os.environ.get("RS_EMBED_TEST_DATA")
    return (Path(named) if named else TESTS.parents[1] / "shared" / "data") / "earth_engine_rest"


def run(quick: bool) -> Iterator[Row]:
    """Yield a row for each sensor and composite, then AlphaEarth by both roads."""
    rest = _documents()
    if not rest.is_dir():
        print(f"earth_engine: left out, {rest.name} is not among the reference data", file=sys.stderr)
        return
    sys.path[:0] = [str(TESTS), str(TESTS / "providers")]
    import earth_engine_scenes as painted
    from earth_engine_stub import TOKEN, serving
    from google.oauth2.credentials import Credentials

    from rs_embed.providers.earth_engine import EarthEngineProvider

    world = painted.every_collection(rest)
    with serving(world):
        theirs = EarthEngineProvider("my-project", credentials=Credentials(TOKEN), url=world.url)
        ours = painted.PaintedProvider(world.images)
        for name in list(painted.SAME)[:: 4 if quick else 1]:
            for composite in painted.COMPOSITES:
                yield _compared(theirs, ours, name, composite, painted)
    yield from _alphaearth(rest)


def _compared(theirs: Any, ours: Any, name: str, composite: str, painted: Any) -> Row:
    sensor, bands, tolerance, changes = painted.SAME[name]
    request = painted.request(sensor, bands, composite=composite, cloudy_pct=60, **changes)
    start = time.perf_counter()
    (a,), (b,) = (list(provider.load(request, [request.geobox])) for provider in (theirs, ours))
    both = np.broadcast_to((a.valid & b.valid)[:, None], a.pixels.shape)
    apart = float(np.abs(a.pixels - b.pixels)[both].max())
    alone = int((a.valid != b.valid).sum())
    unit = painted.SENSORS[sensor].units
    same = "the same scenes" if a.scenes == b.scenes and a.observations == b.observations else "OTHER SCENES"
    height, width = request.geobox.shape
    note = (
        f"{', '.join(bands)}; {len(a.valid)} x {height} x {width} px, valid in one only: {alone}; {same}; "
        f"{time.perf_counter() - start:.1f} s"
    )
    return Row(f"{name}, {composite}", apart if same != "OTHER SCENES" and not alone else np.inf, unit, None, tolerance,
               note=note)  # fmt: skip


def _alphaearth(rest: Path) -> Iterator[Row]:
    """Yield the largest difference of AlphaEarth through Earth Engine from its mirror."""
    from earth_engine_stub import TOKEN, EarthEngineStub, serving
    from google.oauth2.credentials import Credentials
    from product_images import image_of
    from product_stores import codes, index_aef, paint_aef

    from rs_embed.providers.earth_engine import EarthEngineProvider

    with tempfile.TemporaryDirectory() as folder:
        left, top = 686_080, 5_335_040
        tiles = [
            paint_aef(Path(folder), codes(n, 64, 200, 200), year=2024, epsg=32632, left=left + 2000 * n, top=top)
            for n in range(2)
        ]
        index_aef(Path(folder), tiles)
        world = EarthEngineStub.of(rest)
        world.images = [image_of(tile) for tile in tiles]
        region = BBox(left + 1500, top - 1500, left + 2500, top - 500, crs="EPSG:32632")
        with serving(world):
            gee = EarthEngineProvider("my-project", credentials=Credentials(TOKEN), url=world.url)
            for output in (OutputSpec.grid(), OutputSpec.pooled()):
                call: dict[str, Any] = {"spatial": region, "temporal": TemporalSpec.year(2024), "output": output}
                a, b = (np.asarray(get_embedding("gse", backend=by, **call).data) for by in (gee, folder))
                note = f"{' x '.join(map(str, a.shape))}, across two tiles, beside the open mirror"
                yield Row(f"gse, {output.mode}", float(np.abs(a - b).max()), "", None, 0.0, note=note)
