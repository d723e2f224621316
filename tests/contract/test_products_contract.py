"""What every precomputed product of the catalogue keeps to, on a store painted to its layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chip_files import fragments, paint_clay, paint_majortom
from product_stores import codes, index_aef, paint_aef, paint_tessera

from rs_embed import BBox, OutputSpec, PointBuffer, TemporalSpec, get_embedding, list_models, save
from rs_embed.core.registry import get_spec
from rs_embed.providers.products.memory import MEMORY
from rs_embed.testing import check_model

LEFT, TOP, UTM = 686_080, 5_335_040, "EPSG:32632"
REGION = BBox(LEFT + 505, TOP - 735, LEFT + 800, TOP - 500, crs=UTM)
YEAR = TemporalSpec.year(2022)

Call = dict[str, Any]


def paint_gse(folder: Path) -> Call:
    tile = paint_aef(folder, codes(0, 64, 512, 512), year=2022, epsg=32632, left=LEFT, top=TOP)
    index_aef(folder, [tile])
    return {"spatial": REGION}


def paint_one_of_tessera(folder: Path) -> Call:
    tile = paint_tessera(folder, 11.55, 48.15, year=2022, side=(450, 450))
    left, top = tile.affine.c + 1005, tile.affine.f - 1000
    return {"spatial": BBox(left, top - 235, left + 295, top, crs=f"EPSG:{tile.epsg}")}


def paint_fragments(folder: Path) -> Call:
    paint_majortom(folder / "part_00001-00050.parquet", fragments(11.48, 48.12, 6))
    return {"spatial": PointBuffer(11.5, 48.1, 2500), "temporal": TemporalSpec.year(2021)}


STORES: dict[str, Callable[[Path], Call]] = {
    "gse": paint_gse,
    "tessera": paint_one_of_tessera,
    "majortom": paint_fragments,
}


@pytest.fixture(autouse=True)
def nothing_in_memory() -> None:
    MEMORY.clear()


def failures(model: str, **call: Any) -> list[str]:
    report = check_model(model, raises=False, **{"temporal": YEAR, **call})
    return [line for line in str(report).splitlines() if line.strip().startswith("failed")]


def test_every_product_is_tried() -> None:
    """All but copernicus: the contract's places are whole pixels of metres, and its cells are of degrees."""
    products = {name for name in list_models() if get_spec(name).product is not None}
    assert products - {"copernicus"} == set(STORES)


@pytest.mark.parametrize("model", STORES)
def test_a_product_keeps_the_contract_of_models(model: str, tmp_path: Path) -> None:
    call = STORES[model](tmp_path)
    assert not failures(model, backend=str(tmp_path), **call)


def test_files_of_ones_own_keep_it_too(tmp_path: Path) -> None:
    paint_gse(tmp_path / "store")
    whole = BBox(LEFT + 200, TOP - 4000, LEFT + 4000, TOP - 200, crs=UTM)
    grid = get_embedding("gse", spatial=whole, temporal=YEAR, output=OutputSpec.grid(), backend=str(tmp_path / "store"))
    save(grid, tmp_path / "mine.tif")
    assert not failures(str(tmp_path / "mine.tif"), spatial=REGION, backend="auto")
    paint_clay(tmp_path / "chips.gpq", fragments(11.48, 48.12, 6), "2022-06-10")
    assert not failures(str(tmp_path / "chips.gpq"), spatial=PointBuffer(11.5, 48.1, 2500), backend="auto")
