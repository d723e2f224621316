"""The command line as a user runs it: a process, its output and its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

import rs_embed

PLACE = ("--point", "11.457", "47.442", "--buffer", "100", "--time", "2022-07", "--backend", "synthetic")
BOX = ("--bbox", "11.45", "47.43", "11.452", "47.432", "--time", "2022-07", "--backend", "synthetic")
FEW = ("--option", "features=4")
TRIANGLE = {
    "type": "Feature",
    "id": "field-7",
    "properties": {},
    "geometry": {"type": "Polygon", "coordinates": [[[11.45, 47.43], [11.46, 47.43], [11.455, 47.44], [11.45, 47.43]]]},
}


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rs_embed", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


def test_help_version_and_models() -> None:
    shown = run("--help")
    assert shown.returncode == 0
    assert all(name in shown.stdout for name in ("models", "describe", "embed", "verify", "demo"))
    assert run("--version").stdout.strip() == rs_embed.__version__
    listed = run("models", "--json")
    assert sorted(json.loads(listed.stdout)) == rs_embed.list_models()
    assert all(name in run("models").stdout for name in rs_embed.list_models())


def test_describe_prints_facts_and_the_citation_alone() -> None:
    assert json.loads(run("describe", "mosaiks").stdout) == rs_embed.describe_model("rcf")
    assert run("describe", "rcf", "--cite").stdout.startswith("@article{")


def test_a_point_is_a_line_of_json_that_the_library_would_give() -> None:
    done = run("embed", "rcf", *PLACE, *FEW)
    assert done.returncode == 0
    assert not done.stderr
    line = json.loads(done.stdout)
    same = rs_embed.get_embedding(
        "rcf",
        spatial=rs_embed.PointBuffer(11.457, 47.442, 100),
        temporal=rs_embed.TemporalSpec.parse("2022-07"),
        backend="synthetic",
        features=4,
    )
    assert np.allclose(line["embedding"], same.data, rtol=1e-6)


def test_a_box_becomes_a_geotiff_once(tmp_path: Path) -> None:
    out = tmp_path / "grid.tif"
    done = run("embed", "rcf", *BOX, *FEW, "--grid", "-o", str(out))
    assert done.returncode == 0, done.stderr
    with rasterio.open(out) as file:
        assert file.crs.to_epsg() == 32632
        assert file.count == 4
        assert json.loads(file.tags()["rs_embed_meta"])["model"] == "rcf"
    again = run("embed", "rcf", *BOX, *FEW, "--grid", "-o", str(out))
    assert again.returncode == 1
    assert "--overwrite" in again.stderr
    assert run("embed", "rcf", *BOX, *FEW, "--grid", "-o", str(out), "--overwrite").returncode == 0


def test_polygons_come_through_standard_input_with_their_ids(tmp_path: Path) -> None:
    text = json.dumps({"type": "FeatureCollection", "features": [TRIANGLE, TRIANGLE | {"id": "field-8"}]})
    common = ("--regions", "-", "--time", "2022-07", "--backend", "synthetic")
    done = run("embed", "imagestats", *common, stdin=text)
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == ["field-7", "field-8"]
    table = tmp_path / "table.parquet"
    assert run("embed", "imagestats", *common, "-o", str(table), stdin=text).returncode == 0
    assert table.stat().st_size > 1000


WRONG = {
    "an unknown model": (("embed", "rfc", *PLACE), 1, "did you mean 'rcf'"),
    "an unknown option": (("embed", "rcf", *PLACE, "--option", "feature=8"), 1, "'features'"),
    "an option without a value": (("embed", "rcf", *PLACE, "--option", "features"), 1, "NAME=VALUE"),
    "two places": (("embed", "rcf", *PLACE, "--bbox", "1", "2", "3", "4"), 1, "--point and --bbox"),
    "no place": (("embed", "rcf", "--backend", "synthetic"), 1, "--regions"),
    "a latitude of 95": (("embed", "rcf", "--point", "1", "95", "--backend", "synthetic"), 1, "95"),
    "no such time": (("embed", "rcf", "--point", "1", "5", "--time", "June"), 1, "2022-06"),
    "an unknown suffix": (("embed", "rcf", *PLACE, "-o", "x.xyz"), 1, ".parquet"),
    "a folder that is not there": (("embed", "rcf", *PLACE, "-o", "no/such/x.npy"), 1, "does not exist"),
    "a raster of a vector": (("embed", "rcf", *PLACE, "-o", "x.tif"), 1, "--grid"),
    "no such flag": (("embed", "rcf", "--pint", "3"), 2, "--point"),
    "no such folder of golden files": (("verify", "--golden", "no/such"), 1, "no/such"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_line_with_the_remedy(name: str) -> None:
    arguments, code, part = WRONG[name]
    done = run(*arguments)
    assert done.returncode == code
    assert part in done.stderr
    assert "Traceback" not in done.stderr
    if code == 1:
        assert len(done.stderr.strip().splitlines()) == 1


def test_debug_shows_the_traceback() -> None:
    assert "Traceback" in run("--debug", "embed", "rfc", *PLACE).stderr


def test_verify_prints_json_and_a_table() -> None:
    done = run("verify", "rcf", "imagestats", "--json")
    rows = json.loads(done.stdout)
    assert done.returncode == 0
    assert {row["model"] for row in rows} == {"rcf", "imagestats"}
    assert all(set(row) == {"model", "case", "output", "error", "tolerance", "ok"} for row in rows)
    assert "agree" in run("verify", "rcf", "--case", "paper*").stdout
    absent = run("verify", "rfc")
    assert absent.returncode == 1
    assert "rfc" in absent.stdout


def test_the_demo_leaves_a_table_a_raster_and_a_picture(tmp_path: Path) -> None:
    done = run("demo", str(tmp_path / "demo"))
    assert done.returncode == 0, done.stderr
    assert "place-9-spring" in done.stdout
    with rasterio.open(tmp_path / "demo" / "grid.tif") as grid, rasterio.open(tmp_path / "demo" / "grid.tif") as again:
        assert grid.crs.to_epsg() == 32632
        assert np.isfinite(again.read(1)).all()
    from PIL import Image

    with Image.open(tmp_path / "demo" / "picture.png") as picture:
        assert picture.width > 3 * 500
        assert np.asarray(picture).std() > 20
    assert sorted(p.name for p in (tmp_path / "demo").iterdir()) == ["embeddings.parquet", "grid.tif", "picture.png"]
