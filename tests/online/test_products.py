"""The real stores of products, a few pixels each: run with ``-m online``; indexes are some 80 MB the first time."""

from __future__ import annotations

import numpy as np
import pytest

from rs_embed import NoImageryError, OutputSpec, PointBuffer, TemporalSpec, get_embedding

pytestmark = pytest.mark.online
FARM = PointBuffer(11.55, 48.15, 50)
GRID = OutputSpec.grid()


def test_alphaearth_has_vectors_of_length_one() -> None:
    found = get_embedding("gse", spatial=FARM, temporal=TemporalSpec.year(2022), output=GRID)
    assert found.shape[0] == 64 and min(found.shape[1:]) >= 10 and found.meta["effective_gsd"] == 10
    assert np.abs(np.linalg.norm(found.values(), axis=0) - 1).max() < 0.05
    with pytest.raises(NoImageryError, match="there are"):
        get_embedding("gse", spatial=FARM, temporal=TemporalSpec.year(2001))


def test_tessera_has_tiles_of_version_1() -> None:
    found = get_embedding("tessera", spatial=FARM, temporal=TemporalSpec.year(2024), output=GRID)
    assert found.shape[0] == 128 and np.isfinite(found.values()).any()


def test_zarr_stores_have_what_tiles_and_files_have() -> None:
    pytest.importorskip("zarr", reason="the extra zarr is not installed")
    call = {"spatial": FARM, "temporal": TemporalSpec.year(2024), "output": GRID}
    tiles = get_embedding("tessera", **call)
    zarrs = get_embedding("tessera", backend="https://data.source.coop/tessera/tessera/zarr/v1", **call)
    assert tiles.meta["geobox"] == zarrs.meta["geobox"]
    assert np.allclose(tiles.values(), zarrs.values(), atol=1e-6, equal_nan=True)
    assert np.isfinite(get_embedding("tessera", variant="v1.1-dclimate", **call).values()).any()
    mosaic = get_embedding("gse", backend="https://data.source.coop/tge-labs/aef-mosaic", **call)
    assert mosaic.crs == "EPSG:4326"
    assert np.abs(np.linalg.norm(mosaic.values(), axis=0) - 1).max() < 0.05


def test_copernicus_has_the_cell_of_munich() -> None:
    found = get_embedding("copernicus", spatial=FARM)
    assert found.shape == (768,) and np.isfinite(found.data).all()
