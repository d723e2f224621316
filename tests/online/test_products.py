"""The real stores of products, a few pixels each: run with ``-m online``; indexes are some 80 MB the first time."""

from __future__ import annotations

import numpy as np
import pytest

from rs_embed import NoImageryError, OutputSpec, PointBuffer, TemporalSpec, estimate, get_embedding, read_chips

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


@pytest.mark.parametrize(
    ("variant", "dims"), [("ssl4eo-s2l1c", 2048), ("ssl4eo-s1rtc", 2048), ("dinov2-s2rgb", 768), ("siglip-s2rgb", 1152)]
)
def test_major_tom_has_fragments_of_land(variant: str, dims: int) -> None:
    """Reads footers and small columns; vectors only where they are no more than 200 MB."""
    pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    told = estimate("majortom", spatials=[FARM], variant=variant)
    assert not told.failed and not told.no_imagery and told.output_shape == (dims,)
    if told.read_bytes < 200e6:
        chips = read_chips("majortom", spatial=FARM, variant=variant)
        assert chips.dim == dims and np.isfinite(chips.vectors).all() and min(chips.table["overlap_m2"]) > 0
        found = get_embedding("majortom", spatial=FARM, variant=variant)
        assert np.allclose(found.data, chips.newest().pool(FARM).data, atol=1e-5)
