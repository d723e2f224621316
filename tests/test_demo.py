"""``rs-embed demo --place``: the demo's picture from imagery of a backend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from commands import Caller
from PIL import Image

import rs_embed
from rs_embed.demo import run_demo_at

FILES = ["embeddings.parquet", "grid.tif", "picture.png"]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Caller:
    return Caller(capsys)


def panels(path: Path) -> list[np.ndarray]:
    """The three pictures side by side, without their frames."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture).astype(int)
    side = pixels.shape[0] - 44 - 16
    return [pixels[44 : 44 + side, 16 + i * (side + 16) :][:, :side] for i in range(3)]


def test_the_picture_of_a_real_place(command: Caller, tmp_path: Path, test_data: Path) -> None:
    where = ("--place", "15.65", "46.55", "--time", "2023-08", "--buffer", "30720")
    said = command.ok("demo", tmp_path, *where, "--backend", test_data / "s2_stac_catalog")
    rows = [line.split() for line in said.out.splitlines() if line.startswith("place-")]
    assert [row[0] for row in rows] == [f"place-{i}" for i in range(1, 10)]
    assert {row[3] for row in rows} <= {"3", "4", "5", "6"}
    assert rows[4][-1] == "1.000"
    assert all(float(row[-1]) < 1 for row in rows if row[0] != "place-5")
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    found = rs_embed.load(tmp_path / "embeddings.parquet")
    assert isinstance(found, list)
    assert all(each.meta["backend"] == "local" and each.meta["input_prep"] is not None for each in found)
    assert found[0].meta["inputs"]["s2"]["bands"] == ["B2", "B3", "B4", "B8"]
    with rasterio.open(tmp_path / "grid.tif") as grid:
        assert grid.crs.to_epsg() == 32633
        assert np.isfinite(grid.read(1)).mean() > 0.95
    colour, components, similarity = panels(tmp_path / "picture.png")
    assert np.median(colour[..., 1]) > np.median(colour[..., 0]), "August in Styria is green"
    assert components.std() > 20
    assert similarity.std() > 20
    middle = slice(similarity.shape[0] // 2 - 4, similarity.shape[0] // 2 + 4)
    assert similarity[middle, middle].mean() > similarity.mean() + 50


def test_a_place_without_imagery_leaves_nothing(command: Caller, tmp_path: Path, test_data: Path) -> None:
    where = ("--place", "100", "10", "--time", "2023-08", "--backend", test_data / "s2_stac_catalog")
    said = command("demo", tmp_path / "out", *where)
    assert said.code == 1
    assert "no sentinel-2-l2a scene" in said.err
    assert ".results" not in said.err, "what a function's caller may do helps nobody at the command line"
    assert not (tmp_path / "out").exists()


def test_it_works_across_the_antimeridian_and_beside_a_pole(tmp_path: Path) -> None:
    for name, place in (("fiji", (179.995, -16.5)), ("svalbard", (15.6, 78.2))):
        run_demo_at(tmp_path / name, place, backend="synthetic", half_m=640)
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == FILES


@pytest.mark.parametrize(
    ("place", "more", "said"),
    [
        (("1500", "46.9"), (), "lon=1500"),
        (("15.6", "146.9"), (), "lat=146.9"),
        (("nan", "46.9"), (), "lon must be finite"),
        (("15.6", "46.9"), ("--buffer", "1e7"), "--buffer 1e+07 around --place 15.6 46.9 is too large"),
        (("15.6", "89.999"), (), "not over a pole"),
        (("15.6", "46.9"), ("--buffer", "0"), "must be above 0 metres"),
    ],
)
def test_places_that_cannot_be_meant(
    command: Caller, tmp_path: Path, place: tuple[str, str], more: tuple[str, ...], said: str
) -> None:
    told = command("demo", tmp_path / "out", "--place", *place, *more, "--backend", "synthetic")
    assert told.code == 1
    assert said in told.err
    assert not (tmp_path / "out").exists()


def test_what_belongs_to_a_place_needs_one(command: Caller, tmp_path: Path) -> None:
    said = command("demo", tmp_path, "--time", "2023-08", "--buffer", "100")
    assert said.code == 2
    assert "--time and --buffer needs --place" in said.err
