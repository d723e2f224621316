"""What authors of plug-ins import, and packages of theirs that are really built, installed and used."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rs_embed
from rs_embed import ModelError, PointBuffer, ProviderError, TemporalSpec, get_embedding, plugin
from rs_embed.core.geometry import locate
from rs_embed.core.imagery import ImageRequest
from rs_embed.core.registry import get_spec
from rs_embed.providers import backends
from rs_embed.providers.backends import open_provider, register_provider
from rs_embed.providers.synthetic import SyntheticProvider

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PLACE, JUNE = PointBuffer(11.5, 48.1, 100), TemporalSpec.range("2022-06-01", "2022-06-20")
BANDS = ("B3", "B4", "B8", "B11")

PUBLIC = """
    SENSORS Affine Array Band Batch Build Certificate Checkpoint CheckpointError Clip Encoder Features Frames GeoBox
    GoldenCase Grid ImageRequest ImageStack InputBatch InputSpec Interval MissingExtraError ModelError ModelSpec
    NoImageryError Normalize Option Provider ProviderError Resize Scene SceneProvider Sensor Source Step Stretch8bit
    Variant Window broken_plugins chip_product raster_product register register_provider resample
""".split()  # noqa: SIM905

FAULTY = {
    "pyproject.toml": """
        [build-system]
        requires = ["setuptools>=77"]
        build-backend = "setuptools.build_meta"
        [project]
        name = "faulty-plugin"
        version = "0.1.0"
        [project.entry-points."rs_embed.models"]
        absent = "faulty_plugin_absent:MODEL"
        clash = "faulty_plugin:CLASH"
        nothing = "faulty_plugin:NOTHING"
        twin = "faulty_plugin:TWIN"
        [project.entry-points."rs_embed.providers"]
        raises = "faulty_plugin:raises"
        odd = "faulty_plugin:odd"
        text = "faulty_plugin:NOTHING"
        [tool.setuptools]
        py-modules = ["faulty_plugin"]
    """,
    "faulty_plugin.py": """
        from dataclasses import replace
        from spectral_indices import MODEL
        CLASH = replace(MODEL, name="mine", aliases=("RCF",))
        NOTHING = "spectral"
        TWIN = replace(MODEL, title="another one of the same name")

        def raises():
            raise KeyError("no token")

        def odd():
            return 3
    """,
}


def test_the_names_are_pinned_and_documented() -> None:
    assert sorted(plugin.__all__) == sorted(PUBLIC)
    assert set(PUBLIC) <= set(dir(plugin))
    for name in PUBLIC:
        assert name in ("Array", "Interval", "SENSORS") or getattr(plugin, name).__doc__.strip(), name
    with pytest.raises(AttributeError, match="has no attribute 'get_embedding'; it has "):
        plugin.get_embedding  # noqa: B018
    assert plugin.register is rs_embed.register


def test_what_a_model_imports_is_light() -> None:
    code = """
        import json, sys
        import numpy
        before = set(sys.modules)
        from rs_embed.plugin import Affine, Clip, Features, InputSpec, ModelSpec, Source, Variant, Window, register
        loaded = {name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names
        from rs_embed.plugin import GeoBox, ImageRequest, Provider, Scene, SceneProvider, register_provider, resample
        print(json.dumps([sorted(loaded), "torch" in sys.modules]))
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == [["numpy", "rs_embed"], False]


@pytest.mark.parametrize("page", ["adding_a_model", "adding_a_provider"])
def test_the_pages_show_the_examples_as_they_are(page: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    kind = page.split("_")[-1]
    (module,) = (EXAMPLES / f"plugin_{kind}").glob("*.py")
    code = module.read_text(encoding="utf-8")
    assert f"```python\n{code}```" in text
    assert len(code.splitlines()) <= 40
    entry = (EXAMPLES / f"plugin_{kind}" / "pyproject.toml").read_text().partition("[project.entry-points")[2]
    assert f"```toml\n[project.entry-points{entry.partition('[tool')[0].strip()}\n```" in text


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip installed both examples and a faulty package, built without an index."""
    folder = tmp_path_factory.mktemp("packages")
    sources = [folder / "faulty"]
    sources[0].mkdir()
    for name, text in FAULTY.items():
        (sources[0] / name).write_text(textwrap.dedent(text))
    for example in ("plugin_model", "plugin_provider"):
        shutil.copytree(EXAMPLES / example, folder / example)
        sources.append(folder / example)
    target = folder / "target"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    command = [*pip, "--no-build-isolation", "--target", str(target), *map(str, sources)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    return target


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Painted scenes as the example provider wants them."""
    folder = tmp_path_factory.mktemp("scenes")
    region, painted = locate(PLACE), SyntheticProvider()
    lattice = region.lattice(10.0, 0.0)
    geobox = lattice.geobox(lattice.cover(region.shape.bounds).pad(5))
    request = ImageRequest("sentinel-2-l2a", BANDS, region.footprint, geobox, (JUNE.interval,))
    for scene in painted.search(request, JUNE.interval):
        bands = [*BANDS, "SCL"]
        np.save(folder / f"{scene.id}.npy", painted.read(scene, bands, geobox))
        about = {"sensor": "sentinel-2-l2a", "time": scene.time.isoformat(), "bands": bands}
        about |= {"crs": str(geobox.crs), "transform": list(geobox.affine[:6])}
        (folder / f"{scene.id}.json").write_text(json.dumps(about))
    return folder


@pytest.fixture(scope="module")
def run(installed: Path) -> Any:
    """Run code in an interpreter that has the packages; return what it prints as JSON."""

    def call(code: str, *arguments: str) -> Any:
        environment = {**os.environ, "PYTHONPATH": str(installed)}
        command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    return call


USE = """
    import json, sys
    from rs_embed import FetchSpec, PointBuffer, TemporalSpec, describe_model, get_embedding, list_models
    from rs_embed.testing import check_model, check_provider
    place, june = PointBuffer(11.5, 48.1, 100), TemporalSpec.range("2022-06-01", "2022-06-20")
    backend = f"npy:{sys.argv[1]}"
    call = {"spatial": place, "temporal": june, "fetch": FetchSpec(cloudy_pct=100)}  # .npy says nothing of clouds
    found = get_embedding("Spectral-Indices", backend=backend, **call)
    drawn = get_embedding("spectral-indices", backend="synthetic", **call)
    model = check_model("spectral-indices")
    provider = check_provider(
        backend, spatial=place, temporal=june, bands=["B3", "B4", "B8"], elsewhere=PointBuffer(-60, -20, 100)
    )
    print(json.dumps({
        "models": list_models(), "facts": describe_model("spectral-indices"), "meta": found.meta,
        "vector": found.values().tolist(), "drawn": drawn.values().tolist(),
        "model": [[c.name, c.status] for c in model.checks],
        "provider": {c.name: c.status for c in provider.checks}, "torch": "torch" in sys.modules,
    }))
"""


def test_installed_plugins_are_models_and_backends_like_ours(run: Any, scenes: Path) -> None:
    found = run(USE, str(scenes))
    assert {"spectral-indices", "rcf", "galileo"} <= set(found["models"]) and "mine" not in found["models"]
    assert found["facts"]["dims"] == {"pooled": 6, "grid": 3} and found["facts"]["title"].startswith("NDVI")
    assert found["meta"]["backend"] == "npy" and found["meta"]["source"] == scenes.name
    assert [scene["id"] for scene in found["meta"]["scenes"]["s2"]]
    assert found["vector"] == found["drawn"]  # from memory and through .npy: the same to the last bit
    assert len(found["vector"]) == 6 and all(-1 <= value <= 1 for value in found["vector"])
    assert {status for _, status in found["model"]} == {"passed"}
    assert found["provider"].pop("missing band") == "passed"
    assert set(found["provider"].values()) == {"passed"}
    assert not found["torch"]


BROKEN = """
    import json
    from rs_embed import PointBuffer, RSEmbedError, TemporalSpec, get_embedding, list_models
    from rs_embed.plugin import broken_plugins
    said = {}
    calls = [("absent", "synthetic"), ("spectra", "synthetic"), ("rcf", "raises"), ("rcf", "odd"), ("rcf", "npi")]
    calls += [("rcf", "npy"), ("rcf", "npy:/no/where")]
    place, year = PointBuffer(11.5, 48.1, 50), TemporalSpec.year(2022)
    for model, backend in calls:
        try:
            get_embedding(model, spatial=place, temporal=year, backend=backend)
        except RSEmbedError as error:
            said[f"{model} {backend}"] = f"{type(error).__name__}: {error}"
    get_embedding("rcf", spatial=place, temporal=year, backend="synthetic")
    print(json.dumps({"broken": broken_plugins(), "models": list_models(), "said": said}))
"""


def test_broken_plugins_are_told_and_break_nothing(run: Any) -> None:
    found = run(BROKEN)
    broken, said = found["broken"], found["said"]
    assert set(broken) == {"absent", "clash", "nothing", "twin", "text (backend)"} or set(broken) == {
        *("absent", "clash", "nothing", "spectral-indices", "text (backend)"),
    }  # of two packages with one name, the one that is found first counts
    assert broken["absent"] == "ModuleNotFoundError: No module named 'faulty_plugin_absent'"
    assert broken["clash"] == "ValueError: its model 'mine' takes the name 'RCF', which rs-embed has already"
    assert broken["nothing"] == "TypeError: it names a str, not a ModelSpec or a sequence of them"
    (twin,) = (reason for name, reason in broken.items() if name in ("twin", "spectral-indices"))
    assert twin.startswith("the model name 'spectral-indices' is taken by the plug-in ")
    assert broken["text (backend)"] == "TypeError: it names a str, not a class or function that makes a provider"
    assert "mine" not in found["models"] and "spectral-indices" in found["models"]
    assert "the plug-in 'absent' failed: ModuleNotFoundError" in said["absent synthetic"]
    assert said["spectra synthetic"].startswith("ModelError: Unknown model 'spectra'; did you mean 'spectral-indices'")
    assert "plug-ins that failed: " in said["spectra synthetic"]
    assert said["rcf raises"].startswith("ProviderError: backend 'raises' could not be opened: KeyError: 'no token'")
    assert "'odd' made an object of type int, no Provider: it has no name, source, offers, load" in said["rcf odd"]
    assert "did you mean 'npy'" in said["rcf npi"] and "synthetic, npy, odd, raises" in said["rcf npi"]
    assert "the plug-in 'text' failed: TypeError" in said["rcf npi"]
    assert "missing 1 required positional argument" in said["rcf npy"] and 'backend="npy:argument"' in said["rcf npy"]
    assert said["rcf npy:/no/where"] == "ProviderError: where holds no scene: a .json beside every .npy"


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Registered providers do not outlive a test."""
    monkeypatch.setattr(backends, "_registered", {})
    backends._plugin.cache_clear()
    yield
    backends._plugin.cache_clear()


class Named(SyntheticProvider):
    def __init__(self, name: str = "nameless") -> None:
        self.name = name


@pytest.mark.usefixtures("clean")
def test_a_provider_is_registered_for_a_process() -> None:
    register_provider(" Painted ", Named)
    assert open_provider("painted").name == "nameless"
    assert open_provider("PAINTED:of mine").name == "of mine"
    assert open_provider("painted:x") is open_provider("painted:x")
    found = get_embedding("rcf", spatial=PLACE, temporal=JUNE, backend="painted:here", features=8)
    assert found.meta["backend"] == "here"
    with pytest.raises(ProviderError, match="'painted' exists already; pass replace=True"):
        register_provider("painted", Named)
    register_provider("painted", lambda: Named("another"), replace=True)
    assert open_provider("painted").name == "another"
    with pytest.raises(ProviderError, match="takes 0 positional arguments but 1 was given"):
        open_provider("painted:x")


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("name", ["gee", " Synthetic", "a:b", "", 3])
def test_names_that_no_provider_can_have(name: Any) -> None:
    with pytest.raises(ProviderError, match="cannot be named"):
        register_provider(name, Named)


@pytest.mark.usefixtures("clean")
def test_a_provider_must_be_made_by_something() -> None:
    with pytest.raises(ProviderError, match="is no class or function"):
        register_provider("mine", SyntheticProvider())  # type: ignore[arg-type]


def test_only_specs_are_registered() -> None:
    with pytest.raises(ModelError, match="register takes a ModelSpec, got a str"):
        plugin.register("rcf")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="'rcf' exists already"):
        plugin.register(dataclasses.replace(get_spec("rcf"), title="mine"))
