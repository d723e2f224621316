"""README and docs: every code block runs, generated pages are those of the catalogue, and the site builds."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from small_models import shallow

from rs_embed import list_models, reset_runtime
from rs_embed.core import registry
from rs_embed.core.registry import get_spec

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SLOW = ("command_line",)
"""A process for each command: run by the full tests."""
MODEL_PAGES = [ROOT / "docs" / "models" / f"{name}.md" for name in list_models()]
COMPUTED_PAGES = [page for page in MODEL_PAGES if get_spec(page.stem).product is None]
"""Those of products read their own stores, which no painted imagery stands for."""
SET_UP = ("pip install ", "make ", "git clone ", "cd ")
"""Lines of shell that the tests of a fresh checkout run, and not these."""

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of a page's code blocks."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def write_examples(folder: Path) -> None:
    """The files that the pages speak of."""
    import rasterio

    rng = np.random.default_rng(5)
    crops = ["maize", "wheat", "grass"]
    places = [(11.40 + 0.01 * i, 47.42 + 0.01 * (i % 4)) for i in range(12)]
    rows = [f"p{i},{lon:.4f},{lat:.4f},{crops[i % 3]}" for i, (lon, lat) in enumerate(places)]
    (folder / "plots.csv").write_text("\n".join(["id,lon,lat,crop", *rows]) + "\n")
    dated = [f"p{i},{lon:.4f},{lat:.4f},2022-0{6 + i % 3}" for i, (lon, lat) in enumerate(places)]
    (folder / "visits.csv").write_text("\n".join(["plot,lon,lat,date", *dated]) + "\n")
    fields = [
        {
            "type": "Feature",
            "properties": {"name": f"field {i}", "owner": "A"},
            "geometry": {
                "type": "Polygon",
                "coordinates": [[(x, 47.44), (x + 0.003, 47.44), (x + 0.002, 47.442), (x, 47.44)]],
            },
        }
        for i, x in enumerate((11.45, 11.46))
    ]
    (folder / "fields.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": fields}))
    bands = ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12"]
    pixels = rng.integers(100, 3000, (len(bands), 64, 64), np.uint16)
    shape: dict[str, Any] = {"count": len(bands), "height": 64, "width": 64, "dtype": "uint16"}
    where: dict[str, Any] = {"crs": "EPSG:32632", "transform": Affine(10, 0, 680_000, 0, -10, 5_260_000)}
    with rasterio.open(folder / "scene.tif", "w", driver="GTiff", **shape, **where) as file:
        file.write(pixels)
        file.descriptions = bands


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with the pages' files; models with weights have random ones and few blocks."""
    pytest.importorskip("torch", reason="the extra torch is not installed")
    from rs_embed.inference.random_weights import with_random_weights

    write_examples(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))  # pages register models of their own
    for name in list_models():
        spec = get_spec(name)
        spec = shallow(spec, spec.default_variant)
        if any(v.checkpoint for v in spec.variants.values()):
            monkeypatch.setitem(registry._registered, name, with_random_weights(spec))
    yield tmp_path
    reset_runtime()


def offline(text: str) -> str:
    """The same with painted imagery in place of a service's."""
    text = re.sub(r'backend="(auto|gee)"', 'backend="synthetic"', text)
    return re.sub(r"--backend (auto|gee)\b", "--backend synthetic", text)


def run_shell(text: str, folder: Path) -> None:
    """Run the commands of a block; those that set a machine up are for the tests of a fresh checkout."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "120"}
    for line in offline(text).replace("\\\n", " ").splitlines():
        if not line.strip() or line.startswith(SET_UP):
            continue
        assert "rs-embed" in shlex.split(line), line
        done = subprocess.run(
            line, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=180
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(
    "page", [pytest.param(p, id=p.stem, marks=[pytest.mark.full] if p.stem in SLOW else []) for p in PAGES]
)
def test_the_blocks_of_a_page_run(page: Path, folder: Path) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    for language, text in blocks(page):
        if language == "python":
            exec(compile(offline(text), page.name, "exec"), names)
        elif language == "bash":
            run_shell(text, folder)


@pytest.mark.filterwarnings("ignore:the effective ground sample:UserWarning")
@pytest.mark.parametrize("page", COMPUTED_PAGES, ids=lambda page: page.stem)
def test_the_example_of_a_model_runs(page: Path, folder: Path) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    (text,) = (text for language, text in blocks(page) if language == "python")
    exec(compile(offline(text), page.name, "exec"), names)
    assert names["vector"].data.ndim == 1 and names["grid"].data.ndim == 3


def test_pages_use_known_languages() -> None:
    told = {language for page in (*PAGES, *MODEL_PAGES) for language, _ in blocks(page)}
    assert told <= {"python", "bash", "bibtex", "toml", "text", "json"}


def test_generated_pages_are_those_of_the_catalogue() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "generate.py"))["pages"]()
    stale = [path.name for path, text in made.items() if path.read_text(encoding="utf-8") != text]
    assert not stale, f"run python docs/generate.py: {stale}"
    assert {path.stem for path in (ROOT / "docs" / "models").glob("*.md")} == set(list_models())


def test_every_link_leads_somewhere() -> None:
    for page in (*PAGES, *MODEL_PAGES):
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.full
def test_the_site_builds_without_warnings(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    assert (tmp_path / "site" / "models" / "galileo" / "index.html").is_file()
