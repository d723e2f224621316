"""The scripts of examples/ run on a machine without a network, and show what they say."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rasterio

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name: str) -> dict[str, Any]:
    """The names that a script defines."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="example")


def test_points_with_labels_make_a_classifier(tmp_path: Path) -> None:
    accuracy = example("land_cover_from_points")["main"](out=str(tmp_path / "plots.parquet"))
    assert accuracy > 0.85  # five classes; the same for all would be 0.25


def test_a_forest_changes_less_than_a_rotation_of_crops() -> None:
    found = example("polygons_by_year")["main"]()
    assert len(found) == 6 and max(found.values()) > 0.999 > 0.95 > min(found.values())


def test_own_rasters_become_grids_in_their_places(tmp_path: Path) -> None:
    script = example("own_rasters")
    paint: Callable[[Path], None] = script["paint"]
    paint(tmp_path)
    written = script["main"](tmp_path)
    assert [file.name for file in written] == ["lake_embedding.tif", "town_embedding.tif"]
    with rasterio.open(tmp_path / "lake.tif") as scene, rasterio.open(written[0]) as grid:
        assert grid.crs == scene.crs and grid.count == 64
        assert grid.transform.a == 4 * scene.transform.a
        assert abs(grid.bounds.left - scene.bounds.left) < 40 and abs(grid.bounds.top - scene.bounds.top) < 40


def test_models_without_weights_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    found = example("compare_models")["main"]({})
    assert {"imagestats", "rcf"} <= set(found)
    assert "remoteclip   needs RemoteCLIP-ViT-B-32.pt" in capsys.readouterr().out
