"""Imagery over HTTP, 30 ms away: seconds, bytes and memory beside odc-stac and beside what is strictly needed."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from benchmarks.memory import forget_peak, peak, resident
from benchmarks.rows import Row
from benchmarks.scenes import ASSETS, Served, items, needed_bytes, paint_scenes, region, served
from rs_embed.core.geometry import footprint_of
from rs_embed.core.imagery import ImageRequest, Interval, Scene
from rs_embed.core.sensors import SENSORS
from rs_embed.providers.base import SceneProvider
from rs_embed.providers.stac_scenes import read_scene, scene_of

__all__ = ["run"]

LATENCY = 0.03
SIDE = 410
S2 = SENSORS["sentinel-2-l2a"]
NAMES = {asset: S2.names()[asset] for asset in ASSETS}
RGB = ("red", "green", "blue")
ASSETS12 = tuple(ASSETS)[:-1]
START = datetime(2023, 1, 1, tzinfo=UTC)


class Items(SceneProvider):
    """The scenes of some STAC items."""

    name = source = "items"
    waits = True
    most_passes = None

    def __init__(self, found: Sequence[dict[str, Any]]) -> None:
        self.scenes = [scene for item in found if (scene := scene_of(item, S2.id)[0]) is not None]

    def offers(self, sensor: str) -> bool:
        return sensor == S2.id

    def search(self, request: ImageRequest, interval: Interval) -> list[Scene]:
        return list(self.scenes)

    def read(self, scene: Scene, bands: Sequence[str], geobox: GeoBox) -> NDArray[np.float32]:
        return read_scene(scene, bands, geobox, signer=None, label=scene.id)


def load(found: Sequence[dict[str, Any]], assets: Sequence[str], box: GeoBox, months: int) -> tuple[float, float]:
    """Return the seconds that a monthly median of the clear pixels takes, by the clock and of the processor."""
    bands = tuple(NAMES[asset] for asset in assets)
    starts = [START + timedelta(days=30 * month) for month in range(months + 1)]
    intervals = tuple(itertools.pairwise(starts))
    request = ImageRequest(S2.id, bands, footprint_of(box), box, intervals, "median", "scl")
    return _timed(Items(found), request, box)


def _timed(provider: Items, request: ImageRequest, box: GeoBox) -> tuple[float, float]:
    start, used = time.perf_counter(), time.process_time()
    (stack,) = provider.load(request, [box])
    assert stack.valid.any()
    return time.perf_counter() - start, time.process_time() - used


def run(quick: bool) -> Iterator[Row]:
    """Yield months of scenes beside odc-stac and beside each other, and the memory of a long median."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        paint_scenes(folder)
        with served(folder, LATENCY) as server:
            repetitions = 3 if quick else 7
            yield from _beside_odc(server, folder, repetitions)
            yield from _years(server, repetitions)
        with served(folder, 0.0) as server:
            yield _long_median(server, 50 if quick else 200, 1024 if quick else 2048)


@dataclass
class _Odc:
    """odc-stac in its interpreter; None where there is none."""

    process: subprocess.Popen[str]

    def load(self, found: Any, assets: Sequence[str], box: GeoBox, pool: int) -> tuple[float, float]:
        asked = {
            "items": found, "bands": list(assets), "crs": str(box.crs), "shape": list(box.shape),
            "transform": list(box.affine[:6]), "pool": pool,
        }  # fmt: skip
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        told = json.loads(self.process.stdout.readline())
        return float(told["seconds"]), float(told["cpu"])


def _odc() -> _Odc | None:
    python = os.environ.get("RS_EMBED_ODC_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import odc.stac"], capture_output=True, check=False).returncode:
        return None
    script = Path(__file__).with_name("odc_reference.py")
    pipe = subprocess.PIPE
    return _Odc(subprocess.Popen([python, str(script)], stdin=pipe, stdout=pipe, text=True))


def _beside_odc(server: Served, folder: Path, repetitions: int) -> Iterator[Row]:
    """A month over 4.1 km: all bands and the classes; ours with mask and median, odc-stac loading alone."""
    box, assets, odc = region(SIDE), list(ASSETS), _odc()
    ours, theirs = list[tuple[float, float]](), dict[int, list[tuple[float, float]]]({1: [], 32: []})
    odc_counted = counted = (0, 0)
    load(items(server.root, 30, 5, "warm"), assets[:-1], box, 1)
    for number in range(repetitions):
        for pool in theirs if odc is not None else ():
            server.counts()
            found = items(server.root, 30, 5, f"odc{pool}-{number}")
            theirs[pool].append(odc.load(found, assets, box, pool))
            odc_counted = server.counts()
        server.counts()
        ours.append(load(items(server.root, 30, 5, f"own-{number}"), assets[:-1], box, 1))
        counted = server.counts()
    scenes = len(items("", 30, 5, ""))
    strictly = scenes * sum(needed_bytes(folder, asset, box) for asset in assets)
    said = f"{scenes} scenes × {len(assets)} files, {counted[0]} requests, {_cpu(ours)}"
    if odc is None:
        yield Row("a month over 4.1 km", _wall(ours), "s", note=f"{said}; odc-stac is not installed")
    for pool, runs in theirs.items() if odc is not None else ():
        best = min(seconds for seconds, _ in ours) / min(seconds for seconds, _ in runs)
        more = f"; odc-stac: {odc_counted[0]} requests, {odc_counted[1] / 1e6:.1f} MB, {_cpu(runs)}"
        yield Row(f"a month, odc-stac pool={pool}", _wall(ours), "s", _wall(runs), 0.7, best, said + more)
    yield Row("bytes of it, strictly needed", counted[1] / 1e6, "MB", strictly / 1e6, 1.2)
    if odc is not None:
        odc.process.communicate()


def _wall(runs: Sequence[tuple[float, float]]) -> float:
    return median(seconds for seconds, _ in runs)


def _cpu(runs: Sequence[tuple[float, float]]) -> str:
    return f"{median(used for _, used in runs):.2f} s of processor"


def _years(server: Served, repetitions: int) -> Iterator[Row]:
    """Twelve monthly frames beside one: of a large region, and of a point's."""
    for name, assets, side in (("RGB, 64 px", RGB, 64), ("RGB, 410 px", RGB, SIDE), ("12 bands", ASSETS12, SIDE)):
        one, twelve = list[tuple[float, float]](), list[tuple[float, float]]()
        for number in range(repetitions):
            found = items(server.root, 360, 5, f"one{side}-{len(assets)}-{number}")
            one.append(load(found, assets, region(side), 1))
            found = items(server.root, 360, 5, f"year{side}-{len(assets)}-{number}")
            twelve.append(load(found, assets, region(side), 12))
        note = f"72 scenes, {_cpu(twelve)}; 6 scenes, {_cpu(one)}"
        best = min(seconds for seconds, _ in twelve) / min(seconds for seconds, _ in one)
        yield Row(f"12 frames beside one, {name}", _wall(twelve), "s", _wall(one), 3, best, note)


def _long_median(server: Served, scenes: int, side: int) -> Row:
    """The peak of a median of many scenes, in a process of its own."""
    arguments = [sys.executable, "-m", "benchmarks.remote", server.root, str(scenes), str(side)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    name = f"median of {scenes} scenes, {side} x {side} px"
    if done.returncode:
        return Row(name, float("inf"), "GB", note=(done.stderr.strip().splitlines() or ["killed"])[-1])
    found = json.loads(done.stdout.splitlines()[-1])
    held = 4 * scenes * 3 * side**2 / 1e9
    note = f"{found['seconds']:.0f} s, base {found['base']:.2f} GB; all passes at once: {held:.1f} GB"
    return Row(name, found["peak"], "GB", target=1.0, note=note)


def _child(root: str, scenes: int, side: int) -> dict[str, float]:
    load(items(root, 10, 5, "warm"), ["red", "nir"], region(64), 1)
    found = items(root, 5 * scenes, 5, "long")
    forget_peak()
    base = resident()
    seconds = _one(found, side)
    return {"peak": peak() - base, "base": base, "seconds": seconds}


def _one(found: Sequence[dict[str, Any]], side: int) -> float:
    """Return the seconds of one frame of all scenes."""
    box = region(side, 0)
    whole = (START, START + timedelta(days=20_000))
    request = ImageRequest(S2.id, ("B4", "B8"), footprint_of(box), box, (whole,), "median", "scl")
    return _timed(Items(found), request, box)[0]


if __name__ == "__main__":
    print(json.dumps(_child(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
