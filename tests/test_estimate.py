"""What a call would cost, against what the same call then did."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Caller
from fakes import FakeProvider, PatchMeans, Untouchable, fake_model
from range_server import RangeServer

import rs_embed
from rs_embed import BBox, FetchSpec, InputPrepSpec, OutputSpec, PointBuffer, SensorSpec, TemporalSpec, estimate
from rs_embed.core import registry
from rs_embed.core.imagery import ImageRequest, Interval, Scene
from rs_embed.core.model_spec import Build, Checkpoint, Frames, ModelSpec, Window
from rs_embed.providers.base import SceneProvider
from rs_embed.providers.cache import cached
from rs_embed.providers.failover import FailoverProvider
from rs_embed.providers.local import open_local
from rs_embed.providers.remote import forget_heads
from rs_embed.providers.stac import open_stac
from rs_embed.providers.synthetic import SyntheticProvider

JULY = TemporalSpec.parse("2022-07")
SUMMER = TemporalSpec.range("2022-06-01", "2022-09-01")
AUGUST = TemporalSpec.parse("2023-08")
REAL = (15.66, 46.93)
"""Inside tile 33TWM of the real catalogue, clear on three of five dates."""


@pytest.fixture
def counting() -> Iterator[Any]:
    """Registers a model; returns the encoder that counts its batches once it is built."""
    names: list[str] = []

    def make(window: Window, **more: Any) -> list[PatchMeans]:
        built: list[PatchMeans] = []

        def build(given: Build) -> PatchMeans:
            built.append(PatchMeans(given.variant.window.patch))
            return built[-1]

        spec: ModelSpec = fake_model(window, encoder=build, **more)
        rs_embed.register(spec, replace=True)
        names.append(spec.name)
        return built

    yield make
    rs_embed.reset_runtime()
    for name in set(names):
        del registry._registered[name]


def squares(*halves: float) -> list[PointBuffer]:
    return [PointBuffer(11.5 + 0.01 * i, 48.1, half) for i, half in enumerate(halves)]


RUNS: dict[str, tuple[Window, Sequence[Any], dict[str, Any]]] = {
    "one window": (Window(32, patch=8), squares(150), {}),
    "full and partial batches": (Window(32, patch=8), squares(*[150] * 7), {"batch_size": 3}),
    "windows of any size": (Window(None, patch=8, max=64, multiple=8), squares(100, 150, 290, 100, 2000, 150), {}),
    "tiles": (Window(32, patch=8), squares(900, 1500), {"input_prep": "tile", "batch_size": 10}),
    "tiles that overlap": (
        Window(32, patch=8),
        squares(900, 1500),
        {"input_prep": InputPrepSpec.tile(tile_size=32, tile_stride=16)},
    ),
    "auto": (Window(32, patch=8), squares(100, 1500, 40_000), {"input_prep": "auto"}),
    "a grid": (Window(32, patch=8), squares(500), {"input_prep": "tile", "output": OutputSpec.grid()}),
    "statistics": (Window(32, patch=8), squares(500), {"output": OutputSpec.pooled(pooling="stats")}),
    "old groups": (Window(None, patch=8, max=64, multiple=8), squares(*[100] * 5, *[300] * 300), {"batch_size": 290}),
    "more than is held": (
        Window(1024, patch=256),
        [BBox(11.0, 48.0, 11.6, 48.4)],
        {"input_prep": "tile", "batch_size": 100},
    ),
}


@pytest.mark.filterwarnings("ignore:the effective ground sample distance")
@pytest.mark.parametrize("case", RUNS)
def test_windows_and_forwards_are_those_of_the_run(case: str, counting: Any) -> None:
    window, places, more = RUNS[case]
    built = counting(window)
    told = estimate("fake", spatials=places, temporal=JULY, backend=Untouchable(), show_progress=False, **more)
    found = rs_embed.get_embeddings_batch("fake", spatials=places, temporal=JULY, backend=FakeProvider(), **more)
    (encoder,) = built
    assert (told.windows, told.forwards) == (sum(encoder.batches), len(encoder.batches))
    assert told.output_bytes == sum(each.values().nbytes for each in found)
    assert told.output_shape == (found[0].shape if len({each.shape for each in found}) == 1 else None)
    assert told.intervals is None
    assert told.read_bytes > 0
    assert any("does not tell its scenes" in said for said in told.assumptions)


@pytest.mark.parametrize("output", [OutputSpec.pooled(), OutputSpec.grid()], ids=["pooled", "grid"])
def test_pixel_models_are_counted_by_blocks(output: OutputSpec, counting: Any) -> None:
    built = counting(Window(None), locality="pixel")
    places = squares(100, 2000, 2000)
    told = estimate("fake", spatials=places, temporal=JULY, backend=Untouchable(), output=output)
    found = rs_embed.get_embeddings_batch("fake", spatials=places, temporal=JULY, backend=FakeProvider(), output=output)
    (encoder,) = built
    assert told.windows == sum(encoder.batches) == 1 + 4 + 4
    assert told.forwards == len(encoder.batches) < told.windows
    assert told.output_bytes == sum(each.values().nbytes for each in found)


FRAMES = {
    "acquisitions": Frames("acquisitions", max=40, missing="mask"),
    "months": Frames(step="month", max=12, missing="drop"),
    "repeated months": Frames(step="month", max=12, missing="repeat"),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_frames_without_imagery_count_as_in_the_run(kind: str, counting: Any) -> None:
    built = counting(Window(16, patch=8), frames=FRAMES[kind])
    places = [PointBuffer(lon, lat, 70) for lon, lat in ((11.5, 48.1), (20.5, 10.2), (-60.5, -3.2), (11.51, 48.1))]
    more = {"temporal": SUMMER, "backend": SyntheticProvider(), "fetch": FetchSpec(cloudy_pct=10)}
    told = estimate("fake", spatials=places, **more)
    found = rs_embed.get_embeddings_batch("fake", spatials=places, on_error="return", **more)
    (encoder,) = built
    assert told.forwards > 1 or kind == "repeated months", "regions of one number of frames test nothing"
    assert (told.windows, told.forwards) == (sum(encoder.batches), len(encoder.batches))
    assert [trouble.index for trouble in told.no_imagery] == [i for i, each in enumerate(found) if not each.ok]


def test_scenes_are_those_of_the_embedding(test_data: Path) -> None:
    more: dict[str, Any] = {"temporal": AUGUST, "backend": str(test_data / "s2_stac_catalog")}
    more["sensor"] = SensorSpec("sentinel-2-l2a", ("B4", "B3", "B2"), cloudy_pct=60, scale_m=120)
    told = estimate("imagestats", spatials=[PointBuffer(*REAL, 2000)], **more)
    found = rs_embed.get_embedding("imagestats", spatial=PointBuffer(*REAL, 2000), **more)
    assert told.intervals is not None
    (interval,) = told.intervals
    assert (interval.input, interval.start, interval.end) == ("s2", "2023-08-01", "2023-09-01")
    assert sorted(map(dict, interval.scenes), key=lambda scene: str(scene["id"])) == [
        {key: scene[key] for key in ("id", "datetime", "cloud_cover")} for scene in found.meta["scenes"]["s2"]
    ]
    clouds = [scene["cloud_cover"] for scene in interval.scenes]
    assert (interval.cloud_min, interval.cloud_median) == (min(clouds), float(np.median(clouds)))


def read_so_far() -> int:
    """Bytes that this process has read from files."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="only Linux counts what a process reads")
@pytest.mark.parametrize("half", [1000, 20_000])
def test_bytes_to_read_are_read(half: float, test_data: Path) -> None:
    provider = open_local(test_data / "s2_stac_catalog")
    more: dict[str, Any] = {"temporal": AUGUST, "backend": provider}
    more["sensor"] = SensorSpec("sentinel-2-l2a", ("B4", "B3", "B2"), cloudy_pct=100, scale_m=120)
    rs_embed.get_embedding("imagestats", spatial=PointBuffer(REAL[0], REAL[1] - 0.1, 500), **more)  # imports
    told = estimate("imagestats", spatials=[PointBuffer(*REAL, half)], **more)
    before = read_so_far()
    rs_embed.get_embedding("imagestats", spatial=PointBuffer(*REAL, half), **more)
    read = read_so_far() - before
    assert 0.7 < told.read_bytes / read < 1.3, (told.read_bytes, read)


@pytest.mark.filterwarnings("ignore:the effective ground sample distance")
def test_bytes_of_unknown_files_are_assumed_and_said(test_data: Path, counting: Any) -> None:
    """A whole full tile of Earth Search: what the item tells is met, without it a factor of two is."""
    counting(Window(1024, patch=8), bands=("B4", "B8"))
    (file,) = (test_data / "stac_items").rglob("*sentinel-2-c1-l2a/S2B_T24MXV*.json")
    item = json.loads(file.read_text())
    sizes = sum(item["assets"][key]["file:size"] for key in ("red", "nir"))
    for told, how, factor in ((item, "items tell", 1.1), (None, "uncompressed size", 2.2)):
        places = [PointBuffer(11.5, 48.1, 54_900)]
        found = estimate("fake", spatials=places, temporal=JULY, backend=OneScene(told))
        assert any(how in said for said in found.assumptions)
        assert sizes / factor < found.read_bytes < sizes * factor


@pytest.mark.parametrize(("half", "bands"), [(200, ("B4",)), (2000, ("B4", "B3", "B2")), (20_000, ("B2", "B8"))])
def test_bytes_of_a_service_are_told_by_headers(half: float, bands: tuple[str, ...], test_data: Path) -> None:
    """The items say 10980 pixels of 10 m, the files have 915 of 120 m."""
    with RangeServer(test_data / "s2_stac_catalog") as server:
        real = cached(open_stac(server.url("catalog.json")))
        provider = FailoverProvider([Nothing(None), real])
        more: dict[str, Any] = {"temporal": AUGUST, "backend": provider}
        more["sensor"] = SensorSpec("sentinel-2-l2a", bands, cloudy_pct=100, scale_m=120)
        told = estimate("imagestats", spatials=[PointBuffer(*REAL, half)], **more)
        files = {request.path for request in server.requests if request.path.endswith(".tif")}
        assert len(files) == len(bands) + 1
        assert any("the header of one file of each band" in said for said in told.assumptions)
        forget_heads()
        server.reset()
        rs_embed.get_embedding("imagestats", spatial=PointBuffer(*REAL, half), **more)
        read = sum(request.sent for request in server.requests if request.path.endswith(".tif"))
    assert 0.8 < told.read_bytes / read < 2.2, (told.read_bytes, read)


def test_files_that_tell_nothing_are_asked_once(test_data: Path) -> None:
    with RangeServer(test_data / "s2_stac_catalog") as server:
        server.break_("status", status=404, path=r"\.tif")
        more: dict[str, Any] = {"temporal": AUGUST, "backend": open_stac(server.url("catalog.json"))}
        more["sensor"] = SensorSpec("sentinel-2-l2a", ("B4", "B3"), cloudy_pct=100, scale_m=120)
        told = estimate("imagestats", spatials=[PointBuffer(*REAL, 2000)] * 3, **more)
        assert sum(request.path.endswith(".tif") for request in server.requests) == 1
    assert not told.failed and any("uncompressed size" in said for said in told.assumptions)


def test_services_behind_auto_are_searched_in_their_turn() -> None:
    provider = FailoverProvider([Nothing(None), OneScene(None)])
    sensor = SensorSpec("s2", ("B4",), composite="mosaic")
    told = estimate("imagestats", spatials=squares(100), temporal=JULY, backend=provider, sensor=sensor)
    assert told.backend == "auto"
    assert told.intervals is not None
    assert [scene["id"] for scene in told.intervals[0].scenes] == ["one"]
    assert any("a mosaic stops" in said for said in told.assumptions)


class OneScene(SceneProvider):
    """One scene of everywhere, whose item may tell sizes, and no pixel."""

    name = source = "one scene"

    def __init__(self, item: Any) -> None:
        self.item = item

    def offers(self, sensor: str) -> bool:
        return sensor == "sentinel-2-l2a"

    def search(self, request: ImageRequest, interval: Interval) -> list[Scene]:
        return [Scene("one", interval[0], frozenset({"B2", "B3", "B4", "B8"}), item=self.item)]

    def read(self, scene: Scene, bands: Sequence[str], geobox: Any) -> Any:
        raise AssertionError("an estimate reads no pixel")


class Nothing(OneScene):
    """No scene at all."""

    name = source = "nothing"

    def search(self, request: ImageRequest, interval: Interval) -> list[Scene]:
        return []


def test_regions_that_fail_are_told_each_with_its_reason() -> None:
    places: list[Any] = [
        PointBuffer(11.5, 48.1, 100),
        PointBuffer(0, 89.9, 100),
        {"type": "Point", "coordinates": [1, 2]},
        PointBuffer(20.5, 10.2, 100),
    ]
    more: dict[str, Any] = {"temporal": TemporalSpec.range("2022-07-01", "2022-07-05"), "backend": "synthetic"}
    more["fetch"] = FetchSpec(cloudy_pct=1)
    told = estimate("rcf", spatials=places, **more)
    found = rs_embed.get_embeddings_batch("rcf", spatials=places, on_error="return", **more)
    errors = {i: each.meta["error"] for i, each in enumerate(found) if not each.ok}
    trouble = {each.index: f"{each.error}: {each.message}" for each in (*told.no_imagery, *told.failed)}
    assert 2 in trouble
    assert trouble == errors
    assert told.regions == 4


def test_bands_that_no_scene_has_are_told_before_the_model_would() -> None:
    told = estimate(
        "rcf", spatials=squares(100, 200), temporal=JULY, backend=OneScene(None), sensor=SensorSpec("s2", ("B4", "B5"))
    )
    assert told.missing_bands == {"s2": {"B5": 2}}
    assert [(each.error, "B5" in each.message) for each in told.failed] == [("ModelError", True)] * 2
    assert told.windows == told.forwards == told.read_bytes == 0
    assert told.files == {}


def test_without_a_login_all_but_the_scenes_is_known() -> None:
    told = estimate("rcf", spatials=squares(100, 200), temporal=JULY, backend="gee")
    assert (told.windows, told.intervals) == (2, None)
    assert any("earthengine authenticate" in said for said in told.missing)
    with pytest.raises(rs_embed.ProviderError, match="synthetic"):
        estimate("rcf", spatials=squares(100), temporal=JULY, backend="synthetik")


def test_weights_that_are_to_come_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counting: Any) -> None:
    monkeypatch.setenv("RS_EMBED_CACHE_DIR", str(tmp_path))
    from dataclasses import replace

    from rs_embed.inference.downloads import place_of

    counting(Window(32, patch=8))
    spec = registry.get_spec("fake")
    checkpoint = Checkpoint("small.pt", url="http://127.0.0.1:9/small.pt", size=12_500_000)
    with_weights = {name: replace(each, checkpoint=checkpoint) for name, each in spec.variants.items()}
    rs_embed.register(replace(spec, variants=with_weights), replace=True)
    more: dict[str, Any] = {"spatials": squares(100), "temporal": JULY, "backend": "synthetic"}
    told = estimate("fake", **more, bandwidth_mb_s=25)
    assert told.weights_bytes == 12_500_000
    assert told.seconds["weights"] == 0.5
    assert any("rs-embed pull fake" in said for said in told.missing)
    place_of(checkpoint).parent.mkdir(parents=True)
    place_of(checkpoint).write_bytes(b"there")
    told = estimate("fake", **more)
    assert (told.weights_bytes, told.missing) == (0, ())


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet", ".tif"])
def test_files_are_about_as_large_as_told(suffix: str, tmp_path: Path) -> None:
    grid = suffix == ".tif"
    places = squares(1200) if grid else squares(*[60] * 30)
    output = OutputSpec.grid() if grid else OutputSpec.pooled()
    more: dict[str, Any] = {"temporal": JULY, "backend": "synthetic", "output": output, "features": 64}
    told = estimate("rcf", spatials=places, **more)
    found = rs_embed.get_embeddings_batch("rcf", spatials=places, **more)
    path = rs_embed.save(found[0] if grid else found, tmp_path / f"out{suffix}")
    assert 0.5 < told.files[suffix] / path.stat().st_size < 2


def test_a_calibration_times_the_net_without_its_weights(counting: Any) -> None:
    more: dict[str, Any] = {"spatials": squares(100, 200), "temporal": JULY, "backend": "synthetic"}
    told = estimate("galileo", **more, variant="nano", calibrate=True)
    assert told.seconds["encode"] is not None
    assert told.seconds["total"] is not None
    assert 0 < told.seconds["encode"] <= told.seconds["total"]
    assert any("random pixels and weights" in said for said in told.assumptions)
    plain = estimate("galileo", **more, variant="nano")
    assert plain.seconds["encode"] is plain.seconds["total"] is None
    large = estimate("prithvi", **more, variant="v2_600", calibrate=True)
    assert large.seconds["encode"] is None
    assert any("not tried" in said for said in large.assumptions)


def test_the_estimate_is_json_and_bad_arguments_are_told_first() -> None:
    told = estimate("rcf", spatials=squares(100), temporal=JULY, backend="synthetic")
    found = json.loads(json.dumps(told.to_dict(), allow_nan=False))
    assert found["intervals"][0]["scenes"][0]["id"].startswith("SYN-S2-")
    assert found["read_bytes"] == told.read_bytes
    for wrong in (0, -1, float("nan"), "fast"):
        with pytest.raises(rs_embed.SpecError, match="bandwidth_mb_s"):
            estimate("rcf", spatials=squares(1), temporal=JULY, backend="synthetic", bandwidth_mb_s=wrong)  # type: ignore[arg-type]
    with pytest.raises(rs_embed.ModelError, match="int8"):
        estimate("rcf", spatials=squares(100), temporal=JULY, backend="synthetic", precision="int8")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Caller:
    return Caller(capsys)


PLACE = ("--point", "11.5", "48.1", "--backend", "synthetic")


def test_the_command_says_what_the_function_says(command: Caller) -> None:
    place = PointBuffer(11.5, 48.1, 640)
    told = estimate("rcf", spatials=[place], temporal=JULY, backend="synthetic").to_dict()
    found = json.loads(command.ok("estimate", "rcf", *PLACE, "--time", "2022-07", "--json").out)
    assert {k: v for k, v in found.items() if k != "seconds"} == {k: v for k, v in told.items() if k != "seconds"}
    shown = command.ok("estimate", "rcf", *PLACE, "--time", "2022-07", "--calibrate").out
    assert "1 in 1 forward pass" in shown
    assert str(len(told["intervals"][0]["scenes"])) in shown.splitlines()[2].split()
    assert "random pixels and weights" in shown
    assert "give one of --grid" in command("estimate", "rcf", *PLACE, "--grid", "--pooling", "max").err


def test_the_command_ends_with_1_where_a_region_has_no_imagery(command: Caller, tmp_path: Path) -> None:
    table = tmp_path / "places.csv"
    table.write_text("id,lon,lat\nhere,11.5,48.1\n" + "".join(f"far-{i},{i},-80.5\n" for i in range(7)))
    where = ("--regions", table, "--time", "2022-07-01/2022-07-03", "--cloudy", "0", "--backend", "synthetic")
    said = command("estimate", "rcf", *where)
    missed = json.loads(command("estimate", "rcf", *where, "--json").out)["no_imagery"]
    assert said.code == 1
    assert len(missed) > 5, "the painted sky is to be cloudy or without a scene"
    assert f"region {missed[0]['id']}: no sentinel-2-l2a scene" in said.out
    assert f"and {len(missed) - 5} more" in said.out
