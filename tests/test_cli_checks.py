"""``inspect``, ``verify``, ``doctor``, ``pull``, ``cache`` and ``demo``."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from commands import PLACE, POINT, Caller
from fakes import FakeProvider
from PIL import Image

import rs_embed
from rs_embed.core import registry
from rs_embed.core.model_spec import Checkpoint
from rs_embed.core.sensors import SENSORS
from rs_embed.inference.doctor import _without_secrets, examine
from rs_embed.inference.quicklook import INVALID, colour_bands, contact_sheet, draw
from rs_embed.providers import backends


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Caller:
    return Caller(capsys)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RS_EMBED_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path / "cache"


@pytest.fixture
def holes() -> Iterator[str]:
    """A backend whose first ten rows have no pixel."""

    def valid(request: Any, stack: Any) -> Any:
        return np.arange(stack.valid.shape[1])[None, :, None] >= 10

    backends.register_provider("holes", lambda: FakeProvider(valid=valid))
    yield "holes"
    del backends._registered["holes"]
    backends._plugin.cache_clear()


def test_imagery_is_reported_and_drawn(command: Caller, tmp_path: Path) -> None:
    picture = tmp_path / "look.png"
    found = json.loads(command.ok("inspect", *PLACE, "--json", "-o", picture).out)
    same = rs_embed.inspect_provider_patch(
        spatial=rs_embed.PointBuffer(11.457, 47.442, 40),
        temporal=rs_embed.TemporalSpec.parse("2022-07"),
        sensor=rs_embed.SensorSpec("s2", ("B4", "B3", "B2")),
        backend="synthetic",
    )
    assert found["report"]["band_mean"] == pytest.approx(same["report"]["band_mean"])
    assert found["artifacts"] == {"picture": "look.png"}
    with Image.open(picture) as image:
        assert image.mode == "RGB"
        assert image.width % found["report"]["shape"][2] == 0
    again = command("inspect", *PLACE, "-o", picture)
    assert again.code == 1
    assert "--overwrite" in again.err
    shown = command.ok("inspect", *PLACE, "-o", picture, "--overwrite", "--collection", "s1", "--bands", "VV").out
    assert "VV" in shown
    assert "no issue" in shown
    assert "picture: look.png" in shown


def test_what_is_not_to_be_expected_is_an_issue(command: Caller) -> None:
    said = command("inspect", *PLACE, "--range", "0", "10")
    assert said.code == 1
    assert "issue: 100.00% of the values lie outside" in said.out


def test_a_models_input_is_reported_frame_by_frame(command: Caller, tmp_path: Path) -> None:
    picture = tmp_path / "frames.png"
    where = (*POINT, "--time", "2022-06-01/2022-09-01", "--backend", "synthetic")
    shown = command.ok("inspect", *where, "--model", "galileo", "--modality", "s2+s1", "-o", picture).out
    assert "galileo would get 6 frames, 0 empty" in shown
    found = json.loads(command.ok("inspect", *where, "--model", "galileo", "--variant", "tiny", "--json").out)
    assert [frame["start"] for frame in found["frames"]] == ["2022-06-01", "2022-07-01", "2022-08-01"]
    with Image.open(picture) as image:
        assert image.width > 2.5 * image.height / 2


def test_invalid_pixels_are_marked_in_the_picture(command: Caller, tmp_path: Path, holes: str) -> None:
    picture = tmp_path / "holes.png"
    where = (*POINT[:3], "--buffer", "150", "--time", "2022", "--backend", holes)
    found = json.loads(command.ok("inspect", *where, "--json", "-o", picture).out)
    height, width = found["report"]["shape"][1:]
    with Image.open(picture) as image:
        pixels = np.asarray(image)
    factor = pixels.shape[0] // height
    assert pixels.shape == (height * factor, width * factor, 3)
    marked = (pixels == INVALID).all(-1)
    assert marked[: 10 * factor].all()
    assert not marked[10 * factor :].any()
    assert found["report"]["valid_frac"] == pytest.approx(1 - 10 / height)


def test_the_stretch_is_of_valid_pixels_of_all_frames() -> None:
    frames = np.zeros((2, 1, 10, 10), np.float32)
    frames[0], frames[1] = 100, 300
    valid = np.ones((2, 10, 10), bool)
    frames[0, 0, 0, 0], valid[0, 0, 0] = 1e6, False
    frames[1, 0, 0, 0] = np.nan
    dark, light = draw(frames, valid)
    assert tuple(dark[0, 0]) == tuple(light[0, 0]) == INVALID
    assert (dark[1:] == 0).all()
    assert (light[1:] == 255).all()
    sheet = contact_sheet([[dark, light], [dark]])
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] > sheet.shape[0] / 1.2


def test_true_colour_is_found_by_wavelength() -> None:
    s2, landsat, s1 = (SENSORS[name] for name in ("sentinel-2-l2a", "landsat-c2-l2", "sentinel-1"))
    assert colour_bands(s2, ("B2", "B3", "B4", "B8")) == [2, 1, 0]
    assert colour_bands(landsat, ("SR_B1", "SR_B2", "SR_B3", "SR_B4")) == [3, 2, 1]
    assert colour_bands(s2, ("B8", "B11", "B12")) == [0, 1, 2]
    assert colour_bands(s1, ("VV", "VH")) == [0]


def test_verify_as_json_and_as_a_table(command: Caller) -> None:
    rows = json.loads(command.ok("verify", "rcf", "imagestats", "--json").out)
    assert {row["model"] for row in rows} == {"rcf", "imagestats"}
    assert all(set(row) == {"model", "case", "output", "error", "tolerance", "ok"} for row in rows)
    assert "agree" in command.ok("verify", "rcf", "--case", "paper*").out
    absent = command("verify", "rfc")
    assert absent.code == 1
    assert "rfc" in absent.out


def test_doctor_finds_this_installation_in_order(command: Caller, cache: Path) -> None:
    findings = {(f["topic"], f["name"]): f for f in json.loads(command.ok("doctor", "--offline", "--json").out)}
    assert findings["software", "rs-embed"]["said"] == rs_embed.__version__
    assert findings["software", "numpy"]["said"] == np.__version__
    assert findings["self-test", "imagestats"]["state"] == "ok"
    assert str(cache) in findings["cache", "folder"]["said"]
    assert not [topic for topic, _ in findings if topic == "network"]
    assert all(f["remedy"] for f in findings.values() if f["state"] == "broken")
    shown = command.ok("doctor", "--offline").out
    assert "nothing is broken" in shown


def test_doctor_fails_where_something_essential_is_broken(
    command: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("no folder")
    monkeypatch.setenv("RS_EMBED_CACHE_DIR", str(file))
    said = command("doctor", "--offline")
    assert said.code == 1
    assert "BROKEN" in said.out
    assert "set RS_EMBED_CACHE_DIR" in said.out
    assert "1 broken" in said.out


def test_doctor_says_which_servers_answer() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        live = f"http://127.0.0.1:{server.server_port}"
        services = {"live": live, "missing": f"{live}/no/such", "nobody": "http://127.0.0.1:9"}
        found = {f.name: f for f in examine(services=services) if f.topic == "network"}
        server.shutdown()
        thread.join()
    assert {name: f.state for name, f in found.items()} == {"live": "ok", "missing": "ok", "nobody": "absent"}
    assert "404" in found["missing"].said
    assert "HTTPS_PROXY" in found["nobody"].remedy


def test_doctor_shows_no_secret(command: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hunter2@proxy.example:3128")
    monkeypatch.setenv("HF_TOKEN", "hf_hunter2")
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/?key=hunter2")
    for arguments in (("doctor", "--offline"), ("doctor", "--offline", "--json")):
        shown = command.ok(*arguments).out
        assert "hunter2" not in shown
        assert "http://proxy.example:3128" in shown
        assert "HF_TOKEN" in shown
    assert _without_secrets("me:hunter2@proxy:3128") == "proxy:3128"
    assert _without_secrets("/etc/ssl/certs") == "/etc/ssl/certs"


def test_doctor_names_broken_plug_ins(command: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site"
    info = package / "broken_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (package / "broken_plugin.py").write_text("import no_such_module_anywhere\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rs_embed.models]\nmine = broken_plugin:MODELS\n")
    done = subprocess_doctor(package)
    finding = next(f for f in json.loads(done) if f["topic"] == "plug-ins")
    assert finding["state"] == "broken"
    assert "no_such_module_anywhere" in finding["said"]


def subprocess_doctor(path: Path) -> str:
    import subprocess

    from commands import COMMAND

    environment = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(
        [*COMMAND, "doctor", "--offline", "--json"], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 1, done.stderr
    return done.stdout


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


CONTENT = b"weights " * 200_000


@pytest.fixture
def published(tmp_path: Path) -> Iterator[str]:
    """A model whose weights lie on a server on loopback: the name of the model."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "small.pt").write_bytes(CONTENT)
    (folder / "other.pt").write_bytes(CONTENT[:-1])
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        digest = hashlib.sha256(CONTENT).hexdigest()
        base = registry.get_spec("rcf")
        default = next(iter(base.variants.values()))
        variants = {
            name: replace(default, checkpoint=Checkpoint(file, url=f"{url}/{file}", sha256=digest, size=len(CONTENT)))
            for name, file in (("small", "small.pt"), ("changed", "other.pt"), ("gone", "gone.pt"))
        }
        unknown = Checkpoint("small.pt", url=f"{url}/small.pt?unpinned")
        variants["unpinned"] = replace(default, checkpoint=unknown)
        variants["free"] = replace(default, checkpoint=None)
        licence = {"code": "MIT", "weights": "CC-BY-4.0"}
        rs_embed.register(replace(base, name="loopback", aliases=(), variants=variants, licence=licence))
        yield "loopback"
        server.shutdown()
        thread.join()
    del registry._registered["loopback"]


def test_weights_are_pulled_verified_and_found_again(command: Caller, cache: Path, published: str) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    (record,) = json.loads(command.ok("pull", published, "--json").out)
    assert record["sha256"] == digest
    assert record["licence"] == "CC-BY-4.0"
    assert Path(record["path"]).read_bytes() == CONTENT
    assert Path(record["path"]).is_relative_to(cache)
    shown = command.ok("pull", published, "--variant", "small").out
    assert all(part in shown for part in (record["path"], digest, "1.6 MB", "CC-BY-4.0", "hash in the catalogue"))
    info = json.loads(command.ok("cache", "info", "--json").out)
    assert info["folder"] == str(cache)
    assert [(w["model"], w["variant"], w["size_bytes"]) for w in info["weights"]] == [
        (published, "small", len(CONTENT))
    ]
    assert "1.6 MB" in command.ok("cache", "info").out
    found = [f for f in examine(offline=True) if f.name == f"{published} small"]
    assert found
    assert found[0].topic == "cache"


def test_what_has_no_hash_is_held_to_its_first_download(command: Caller, cache: Path, published: str) -> None:
    asked = ("pull", published, "--variant", "unpinned")
    assert "nothing yet" in command.ok(*asked).out
    assert "the hash of the first download" in command.ok(*asked).out
    (path,) = (cache / "weights").rglob("small.pt")
    assert path.stat().st_mode & 0o044 == 0o044  # the cache of a group
    path.write_bytes(CONTENT[:-8] + b"changed.")
    said = command(*asked)
    assert said.code == 1
    assert "not the same file" in said.err


def test_every_variant_is_pulled_and_those_that_fail_are_told(command: Caller, cache: Path, published: str) -> None:
    said = command("pull", published, "--all")
    assert said.code == 1
    assert len(said.lines) == 2
    assert "not the same file" in said.lines[0]
    assert "404" in said.lines[1]
    assert "nothing to pull" in said.out
    assert len(list((cache / "weights").rglob("*.pt"))) == 2
    assert not list((cache / "weights").rglob("*.part"))


def test_a_download_is_drawn_on_a_terminal(published: str) -> None:
    seen: list[tuple[int, int | None]] = []
    from rs_embed.inference.cached import pull

    pull(published, "small", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_model_without_weights_needs_no_pull(command: Caller) -> None:
    assert "nothing to pull" in command.ok("pull", "rcf", "imagestats").out
    assert json.loads(command.ok("pull", "rcf", "--json").out)[0]["path"] is None
    assert "no weights yet" in command.ok("cache", "info").out


def test_the_demo_leaves_a_table_a_raster_and_a_picture(command: Caller, tmp_path: Path) -> None:
    said = command.ok("demo", tmp_path / "demo")
    assert "place-9-spring" in said.out
    with rasterio.open(tmp_path / "demo" / "grid.tif") as grid:
        assert grid.crs.to_epsg() == 32632
        assert np.isfinite(grid.read(1)).all()
    with Image.open(tmp_path / "demo" / "picture.png") as picture:
        assert picture.width > 3 * 500
        assert np.asarray(picture).std() > 20
    assert sorted(p.name for p in (tmp_path / "demo").iterdir()) == ["embeddings.parquet", "grid.tif", "picture.png"]
