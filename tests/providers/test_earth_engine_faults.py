"""Earth Engine against a server that answers wrongly, late or by halves; places and processes at the edge."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import earth_engine_scenes as painted
import ee
import numpy as np
import pytest
from earth_engine_stub import TOKEN, Broken, EarthEngineStub, Stored, error_body, serving
from google.oauth2.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from rs_embed import BatchError, PointBuffer, ProviderError, TemporalSpec, get_embedding, get_embeddings_batch
from rs_embed.core.imagery import ImageRequest, ImageStack
from rs_embed.providers.backends import open_provider
from rs_embed.providers.base import Provider
from rs_embed.providers.earth_engine import EarthEngineProvider
from rs_embed.providers.earth_engine_login import find_login
from rs_embed.providers.earth_engine_rest import _read_npy

PIXELS, VALUES = "image:computePixels", "value:compute"
S2 = "COPERNICUS/S2_SR_HARMONIZED"


@pytest.fixture(scope="module")
def images() -> list[Stored]:
    return painted.optical(S2, dates=2)


@pytest.fixture
def world(test_data: Path, images: list[Stored]) -> Iterator[EarthEngineStub]:
    made = EarthEngineStub.of(test_data / "earth_engine_rest")
    made.images = list(images)
    with serving(made):
        yield made


pytestmark = pytest.mark.usefixtures("nowhere")


def provider_of(world: EarthEngineStub, **options: Any) -> EarthEngineProvider:
    given = {"credentials": Credentials(TOKEN), "url": world.url, "attempts": 2} | options
    return EarthEngineProvider("my-project", **given)


def red(**changes: Any) -> ImageRequest:
    return painted.request("sentinel-2-l2a", ("B4",), **({"radius": 60} | changes))


def one(provider: Provider, request: ImageRequest) -> ImageStack:
    assert request.geobox is not None
    (found,) = provider.load(request, [request.geobox])
    return found


# Answers that are none --------------------------------------------------------------------------------------------

KINDS = np.dtype([("B4", "<f4"), ("valid", "|u1"), ("clear", "<u2"), ("total", "<u2"), ("used_0", "<f4")])
SHAPE = tuple(int(side) for side in red().geobox.shape)  # type: ignore[union-attr]


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as inside:
        inside.writestr("arr_0.npy", npy(np.zeros(SHAPE, KINDS)))
    return file.getvalue()


WHOLE = npy(np.zeros(SHAPE, KINDS))
WRONG_PIXELS: dict[str, tuple[bytes, str]] = {
    "of another shape": (npy(np.zeros((2, 3), KINDS)), r"pixels of the shape \(2, 3\), not"),
    "of three dimensions": (npy(np.zeros((1, *SHAPE), KINDS)), "pixels of the shape"),
    "a number": (npy(np.float32(1)), r"pixels of the shape \(\)"),
    "without bands": (npy(np.zeros(SHAPE, np.float32)), "without the band 'B4'"),
    "without a band": (npy(np.zeros(SHAPE, KINDS[["B4", "valid", "clear", "used_0"]])), "without the band 'total'"),
    "words": (npy(np.zeros(SHAPE, [(n, "U3" if n == "B4" else KINDS[n]) for n in KINDS.names or ()])), "B4.*no number"),
    "objects": (npy(np.zeros(SHAPE, object), allow_pickle=True), "cut off or damaged"),
    "cut off": (WHOLE[:-1], "cut off or damaged"),
    "with more behind": (WHOLE + b"\0", "cut off or damaged"),
    "half a header": (WHOLE[:20], "no NPY array"),
    "nothing": (b"", "no NPY array"),
    "an archive": (archive(), "no NPY array"),
    "a pickle": (b"\x80\x04N.", "no NPY array"),
    "of a size that no memory holds": (
        WHOLE.replace(str(SHAPE).encode(), b"(9999999, 999)")[: len(WHOLE)],
        "cut off or damaged|no NPY array",
    ),
    "a page": (b"<!DOCTYPE html><html>Sign in</html>", "did not answer with JSON.*browser"),
    "JSON": (b'{"result": 1}', "did not answer with JSON"),
}


@pytest.mark.parametrize("name", WRONG_PIXELS)
def test_pixels_that_are_none(world: EarthEngineStub, name: str) -> None:
    body, words = WRONG_PIXELS[name]
    world.broken = [Broken(PIXELS, 200, body, mime="application/octet-stream")]
    with pytest.raises(ProviderError, match=words) as caught:
        one(provider_of(world), red())
    assert "backend='auto'" in str(caught.value) and S2 in str(caught.value)


@given(at=st.integers(0, len(WHOLE) - 1), byte=st.integers(0, 255), cut=st.integers(0, 200))
def test_any_damage_is_told_or_harmless(at: int, byte: int, cut: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[at] = byte
    damaged = damaged[: len(damaged) - cut]
    try:
        found = _read_npy(bytes(damaged))
    except ValueError:
        return
    assert found.nbytes <= len(WHOLE)


def listed(**changes: Any) -> Any:
    """What a list of one scene says, but for changes; None leaves something out."""
    told = {"index": "X", "time": 1_654_200_000_000, "bands": ["B4", "SCL"]} | changes
    properties = {k: v for k, v in told.items() if v is not None}
    return {"result": {"type": "FeatureCollection", "features": [{"geometry": None, "properties": properties}]}}


WRONG_LISTS: dict[str, Any] = {
    "no result": {"done": True},
    "an error with 200": {"error": {"code": 500}},
    "null": {"result": None},
    "a number": {"result": 3},
    "a list": {"result": [1, 2]},
    "no features": {"result": {"features": None}},
    "features that are none": {"result": {"features": ["X"]}},
    "a scene without bands": listed(bands=None),
    "a time that is none": listed(time="yesterday"),
    "clouds that are no number": listed(CLOUDY_PIXEL_PERCENTAGE="many"),
}


@pytest.mark.parametrize("name", WRONG_LISTS)
def test_lists_that_are_none(world: EarthEngineStub, name: str) -> None:
    world.broken = [Broken(VALUES, 200, json.dumps(WRONG_LISTS[name]), after=1)]
    with pytest.raises(ProviderError, match=rf"Earth Engine \(scenes of {S2}\)") as caught:
        one(provider_of(world), red())
    assert "backend='auto'" in str(caught.value)


WRONG_GRIDS: dict[str, Any] = {
    "null": None,
    "too few": [],
    "no bands": [{"id": "X"}] * 4,
    "another band": [{"bands": [{"id": "B9", "crs": "EPSG:32632", "crs_transform": [10, 0, 0, 0, -10, 0]}]}] * 4,
    "no transform": [{"bands": [{"id": "B4", "crs": "EPSG:32632"}, {"id": "SCL", "crs": "EPSG:32632"}]}] * 4,
    "half a transform": [{"bands": [{"id": n, "crs": "EPSG:32632", "crs_transform": [10]} for n in ("B4", "SCL")]}] * 4,
}


@pytest.mark.parametrize("name", WRONG_GRIDS)
def test_places_of_pixels_that_are_none(world: EarthEngineStub, name: str) -> None:
    world.broken = [Broken(VALUES, 200, json.dumps({"result": WRONG_GRIDS[name]}), after=2)]
    with pytest.raises(ProviderError, match=r"Earth Engine \(where pixels lie\)"):
        one(provider_of(world), red())


# Answers that come late, or end early -----------------------------------------------------------------------------


def test_a_connection_that_ends_within_an_answer_is_tried_once_more(world: EarthEngineStub) -> None:
    wanted = one(provider_of(world), red())
    world.broken = [Broken(PIXELS, 200, WHOLE, times=1, cut=True)]
    assert np.array_equal(one(provider_of(world), red()).pixels, wanted.pixels)
    world.broken = [Broken(PIXELS, 200, WHOLE, cut=True)]
    with pytest.raises(ProviderError, match=r"cannot be reached.*check the network.*backend='auto'"):
        one(provider_of(world), red())


@pytest.mark.parametrize("after", ["0", "soon", "-3", "Wed, 21 Oct 2015 07:28:00 GMT", "1e9", ""])
def test_a_pause_that_the_server_asks_for(world: EarthEngineStub, after: str) -> None:
    busy = error_body(429, "Too Many Requests")
    world.broken = [Broken(PIXELS, 429, busy, times=1, headers={"Retry-After": after})]
    assert one(provider_of(world), red()).valid.any()


def test_a_quota_that_stays_used_up_is_told_after_some_attempts(world: EarthEngineStub) -> None:
    world.broken = [Broken(PIXELS, 429, error_body(429, "Quota exceeded for quota metric 'compute'"))]
    before = world.broken[0].times
    with pytest.raises(ProviderError, match=r"quota of the project 'my-project' is used up.*iam-admin/quotas"):
        one(provider_of(world, attempts=3), red())
    assert before - world.broken[0].times == 3


def test_a_login_that_ends_midway(world: EarthEngineStub) -> None:
    provider = provider_of(world)
    assert one(provider, red()).valid.any()
    world.broken = [Broken(PIXELS, 401, error_body(401, "Request had invalid authentication credentials."))]
    with pytest.raises(ProviderError, match=r"expired or was revoked.*earthengine authenticate"):
        one(provider, red())
    world.broken = []
    assert one(provider, red()).valid.any(), "the same provider goes on after the login is renewed"


def test_the_other_regions_of_a_batch_are_unharmed(world: EarthEngineStub) -> None:
    places = [PointBuffer(painted.LON + i / 1e3, painted.LAT, 40) for i in range(3)]
    call: dict[str, Any] = {"temporal": TemporalSpec.parse("2022-06"), "backend": provider_of(world, attempts=1)}
    wanted = get_embeddings_batch("imagestats", spatials=places, **call)
    world.broken = [Broken(PIXELS, 503, error_body(503, "The service is unavailable."), times=1)]
    with pytest.raises(BatchError) as caught:
        get_embeddings_batch("imagestats", spatials=places, **call)
    (failed,) = caught.value.errors
    assert "try again later" in str(caught.value.errors[failed])
    for index, (a, b) in enumerate(zip(caught.value.results, wanted, strict=True)):
        assert (a is None) == (index == failed) and (a is None or np.array_equal(a.data, b.data))


@pytest.mark.parametrize(
    ("status", "message", "words"),
    [
        (403, "Project 'x' is not registered to use Earth Engine. Visit …", r"not registered.*code\.earthengine"),
        (403, "The earthengine.googleapis.com API requires a quota project, which is not set.", "names no project"),
        (403, "Permission denied.", "refused"),
        (404, "Project 'my-project' not found or deleted", "does not exist, or this login may not use it"),
        (400, "Request payload size exceeds the limit: 10485760 bytes.", "too many scenes in one frame.*shorter time"),
        (400, "Expression is too large to evaluate.", "too many scenes in one frame"),
        (400, "Pixel grid dimensions (9x9) must be less than or equal to 2.", "too much for one request"),
        (400, "Total request size (9 bytes) must be less than or equal to 5 bytes.", "too much for one request"),
        (400, "User memory limit exceeded.", "too much for one request.*smaller region"),
        (413, "Request Entity Too Large", "refused .413"),
        (504, "Deadline exceeded.", "too much for one request"),
    ],
)
def test_refusals_in_words(world: EarthEngineStub, status: int, message: str, words: str) -> None:
    world.broken = [Broken(PIXELS, status, error_body(status, message))]
    with pytest.raises(ProviderError, match=f"(?s){words}") as caught:
        one(provider_of(world), red())
    assert "backend='auto'" in str(caught.value)


@pytest.mark.parametrize("body", ["null", "[]", '{"error": null}', '{"error": "no"}', '{"error": {}}', "", "{"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
def test_refusals_without_words(world: EarthEngineStub, status: int, body: str) -> None:
    world.broken = [Broken(PIXELS, status, body)]
    with pytest.raises(ProviderError, match="backend='auto'"):
        one(provider_of(world, attempts=1), red())


def test_half_a_setup_is_none(world: EarthEngineStub) -> None:
    """The discovery document comes, the list of functions does not."""
    ee.Reset()
    world.broken = [Broken("algorithms", 500, error_body(500, "Internal"))]
    with pytest.raises(ProviderError, match=r"could not be set up.*backend='auto'"):
        one(provider_of(world), red())
    world.broken = []
    assert one(provider_of(world), red()).valid.any()


# Logins -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("project", ["", "  ", "my project", "a/b", "../other", "projects/mine", "-mine", "m?x=1", "ä"])
def test_projects_that_are_none(project: str, world: EarthEngineStub, nowhere: Path) -> None:
    with pytest.raises(ProviderError, match=r"no id of a Google Cloud project.*gee:my-project"):
        EarthEngineProvider(project, credentials=Credentials(TOKEN), url=world.url)
    file = nowhere / ".config" / "earthengine" / "credentials"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"refresh_token": "r", "project": project}))
    if project.strip():
        with pytest.raises(ProviderError, match="no id of a Google Cloud project"):
            find_login()
    assert world.requests == []


def test_a_project_of_the_environment_goes_with_credentials(
    world: EarthEngineStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ProviderError, match="no Google Cloud project to count requests on"):
        EarthEngineProvider(credentials=Credentials(TOKEN), url=world.url)
    monkeypatch.setenv("EARTHENGINE_PROJECT", " example.com:old-project ")
    provider = EarthEngineProvider(credentials=Credentials(TOKEN), url=world.url, attempts=1)
    assert one(provider, red()).valid.any()
    assert all(path.startswith("/v1/projects/example.com:old-project/") for path, _, _ in world.requests)


WRONG_KEYS: dict[str, Any] = {
    "empty": {},
    "of a project only": {"project_id": "p"},
    "a list": "[1]",
    "a number": "7",
    "of another kind": {"type": "external_account", "project_id": "proj"},
    "without its parts": {"type": "service_account", "project_id": "proj"},
    "of a person without a token": {"type": "authorized_user", "project_id": "proj"},
}


@pytest.mark.parametrize("name", WRONG_KEYS)
def test_keys_that_are_none(name: str, world: EarthEngineStub) -> None:
    with pytest.raises(ProviderError, match=r"holds no credentials|cannot be used|cannot be read") as caught:
        one(EarthEngineProvider("proj", key=WRONG_KEYS[name], url=world.url, attempts=1), red())
    assert "earthengine authenticate" in str(caught.value) and world.requests == []


@pytest.mark.parametrize("content", [b"\xff\xfe\x00binary", b"", b"null", b'"words"', b"{" * 5000])
def test_files_of_keys_that_are_none(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key.json"
    file.write_bytes(content)
    for key in (str(tmp_path), str(tmp_path / "no" / "file"), str(file)):
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", key)
        with pytest.raises(ProviderError, match="GOOGLE_APPLICATION_CREDENTIALS") as caught:
            open_provider("gee")
        assert str(tmp_path) not in str(caught.value)


def test_a_key_that_may_not_be_read(open_folder: Path, as_nobody: Callable[[], AbstractContextManager[None]]) -> None:
    file = open_folder / "key.json"
    file.write_text("{}")
    file.chmod(0)
    with as_nobody(), pytest.raises(ProviderError, match=r"cannot be read \(Permission denied\)"):
        find_login(key=file)


def test_a_key_with_a_mark_of_its_encoding(tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    file.write_text(json.dumps({"type": "service_account", "private_key": "k", "project_id": "p"}), "utf-8-sig")
    found = find_login(key=file)
    assert found is not None and found.project == "p"


# Threads and processes --------------------------------------------------------------------------------------------


def test_eight_threads_log_in_once(world: EarthEngineStub) -> None:
    ee.Reset()
    provider, ready = provider_of(world), Barrier(8)

    def load(number: int) -> ImageStack:
        ready.wait()
        return one(provider, red(lon=painted.LON + number / 1e5))

    with ThreadPoolExecutor(8) as pool:
        assert all(found.valid.any() for found in pool.map(load, range(8)))
    logins = [body for body in world.posted(VALUES) if body["expression"].get("values", {}).keys() == {"0"}]
    assert sum("constantValue" in body["expression"]["values"]["0"] for body in logins) == 1
    assert sum("algorithms" in path for path in world.gets) == 1


def test_two_projects_at_a_time(world: EarthEngineStub) -> None:
    ee.Reset()
    ready = Barrier(2)

    def load(project: str) -> ImageStack:
        provider = EarthEngineProvider(project, credentials=Credentials(TOKEN), url=world.url, attempts=3)
        ready.wait()
        return one(provider, red())

    with ThreadPoolExecutor(2) as pool:
        a, b = pool.map(load, ("one-project", "other-project"))
    assert np.array_equal(a.pixels, b.pixels)
    assert {path.split("/")[3] for path, _, _ in world.requests} >= {"one-project", "other-project"}


FORK = """
import os, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[2])
import earth_engine_scenes as painted
from google.oauth2.credentials import Credentials
from rs_embed.providers.earth_engine import EarthEngineProvider
provider = EarthEngineProvider("p", credentials=Credentials("stub-token"), url=sys.argv[1], attempts=1)
request = painted.request("sentinel-2-l2a", ("B4",), radius=60)
load = lambda: next(iter(provider.load(request, [request.geobox])))
before = load()
child = os.fork()
after = load()
assert (before.pixels == after.pixels).all()
if child:
    assert os.waitpid(child, 0)[1] == 0
    print("both")
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system has no fork")
def test_a_fork_has_a_connection_of_its_own(world: EarthEngineStub) -> None:
    command = [sys.executable, "-u", "-c", FORK, world.url, str(Path(painted.__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "both", done.stderr
    bodies = [body["expression"] for body in world.posted(VALUES)]
    assert sum(len(body["values"]) == 1 for body in bodies) == 2, "each process logs in"


HELD = """
import os, sys, threading, time, warnings
warnings.simplefilter("ignore")
from rs_embed.providers.memo import Memo
memo, begun = Memo(4), threading.Event()
memo.get("done", lambda: 1)
def slowly():
    begun.set()
    time.sleep(60)
threading.Thread(target=memo.get, args=("coming", slowly), daemon=True).start()
begun.wait()
child = os.fork()
if not child:
    print(memo.get("done", lambda: 2), memo.get("coming", lambda: 3), flush=True)
    os._exit(0)
os.waitpid(child, 0)
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system has no fork")
def test_a_fork_waits_for_no_thread_of_its_parent() -> None:
    done = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.split() == ["1", "3"], done.stderr


# Places and times at the edge -------------------------------------------------------------------------------------


def test_an_interval_without_scenes_is_a_frame_without_pixels(world: EarthEngineStub, images: list[Stored]) -> None:
    later = painted.JUNE[1], painted.JUNE[1] + timedelta(days=30)
    request = red(intervals=(painted.JUNE, later, painted.JUNE))
    theirs, ours = one(provider_of(world), request), one(painted.PaintedProvider(images), request)
    assert theirs.valid.any((1, 2)).tolist() == [True, False, True]
    assert np.array_equal(theirs.valid, ours.valid) and theirs.scenes == ours.scenes and theirs.scenes[1] == ()
    assert np.array_equal(theirs.pixels[0], theirs.pixels[2])


def test_a_pixel_that_no_scene_shows_clear(world: EarthEngineStub, images: list[Stored]) -> None:
    request = red(radius=300, composite="mosaic", cloudy_pct=15)
    theirs, ours = one(provider_of(world), request), one(painted.PaintedProvider(images), request)
    assert np.array_equal(theirs.valid, ours.valid) and 0 < theirs.valid.mean() < 1
    assert (theirs.pixels[:, 0][~theirs.valid] == 0).all()


@pytest.mark.parametrize("composite", ["median", "mean", "mosaic"])
def test_a_region_across_the_antimeridian(test_data: Path, composite: str) -> None:
    images = painted.optical(S2, dates=3, crs="EPSG:32660", lon=179.999)
    assert max(image.footprint.bounds[2] for image in images) > 180
    world = EarthEngineStub.of(test_data / "earth_engine_rest")
    world.images = images
    request = painted.request("sentinel-2-l2a", ("B4", "B8"), lon=179.999, composite=composite, cloudy_pct=60)
    assert request.footprint.geom_type == "MultiPolygon"
    with serving(world):
        theirs = one(provider_of(world), request)
    ours = one(painted.PaintedProvider(images), request)
    assert np.array_equal(theirs.valid, ours.valid) and theirs.valid.mean() > 0.5
    seen = np.broadcast_to(ours.valid[:, None], ours.pixels.shape)
    assert np.array_equal(theirs.pixels[seen], ours.pixels[seen]) and theirs.scenes == ours.scenes


def western_half(image: Stored) -> Stored:
    """The same scene, whose pixels end in its middle."""
    bands = {}
    for name, band in image.bands.items():
        kept = slice(0, band.values.shape[1] // 2)
        bands[name] = replace(band, values=band.values[:, kept], known=band.known[:, kept])
    return replace(image, bands=bands)


@pytest.mark.parametrize("composite", ["median", "mosaic"])
def test_a_region_across_the_border_of_two_zones(test_data: Path, composite: str) -> None:
    """West of the border tiles of zone 32, east of it those of zone 33, in one pass."""
    lon = 11.9995
    own, other = (painted.optical(S2, dates=2, holes=False, crs=f"EPSG:326{zone}", lon=lon) for zone in (32, 33))
    east = [replace(image, id=f"{image.id}_33") for image in other if image.id.endswith("_T0")]
    images = [western_half(image) for image in own if image.id.endswith("_T0")] + east
    world = EarthEngineStub.of(test_data / "earth_engine_rest")
    world.images = images
    request = painted.request("sentinel-2-l2a", ("B4",), lon=lon, mask=None, composite=composite)
    with serving(world):
        theirs = one(provider_of(world), request)
    ours = one(painted.PaintedProvider(images), request)
    assert (theirs.valid == ours.valid).mean() > 0.99 and theirs.valid.mean() > 0.9
    apart = np.abs(theirs.pixels - ours.pixels)[0, 0][(theirs.valid & ours.valid)[0]]
    assert (apart == 0).mean() > 0.3 and np.quantile(apart, 0.95) < 0.5
    assert {scene["id"].endswith("_33") for scene in theirs.scenes[0]} == {True, False}
    assert theirs.scenes == ours.scenes


def test_the_same_number_by_get_embedding(world: EarthEngineStub, images: list[Stored]) -> None:
    call: dict[str, Any] = {
        "spatial": PointBuffer(painted.LON, painted.LAT, 60),
        "temporal": TemporalSpec.parse("2022-06"),
    }
    theirs = get_embedding("imagestats", backend=provider_of(world), **call)
    ours = get_embedding("imagestats", backend=painted.PaintedProvider(images), **call)
    np.testing.assert_allclose(theirs.data, ours.data, rtol=1e-4)
