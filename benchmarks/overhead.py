"""One array in memory: our call beside the bare forward of the tensor that it feeds its net."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.nets import bare_forward, loaded_net, random_checkpoint, watched
from benchmarks.rows import Row, side_by_side
from rs_embed import TemporalSpec, UserData, get_embedding_from_data

__all__ = ["compare", "run", "shares"]

TARGET = 1.02
_S2 = "COPERNICUS/S2_SR_HARMONIZED"
_GALILEO = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")


def shares(call: Callable[[], Any], net: Any, repetitions: int) -> tuple[list[float], list[float]]:
    """Return the seconds of each call that are ours, and those that its net took."""
    ours, inner = [], []
    with watched(net) as watch:
        for _ in range(repetitions):
            watch.seconds.clear()
            watch.calls.clear()
            start = time.perf_counter()
            call()
            inner.append(sum(watch.seconds))
            ours.append(time.perf_counter() - start - inner[-1])
    return ours, inner


def compare(name: str, call: Callable[[], Any], repetitions: int, target: float) -> Iterator[Row]:
    """Yield the call beside its net's forward passes: timed apart in turn, and timed within the call.

    The second has no noise between the two numbers: seconds of the call by seconds that its net took in that call.
    """
    call()
    net = loaded_net()
    with watched(net) as watch:
        call()
    pair = side_by_side(call, bare_forward(net, watch), repetitions)
    yield pair.row(f"{name} ÷ bare forward", target=target)
    ours, inner = shares(call, net, repetitions)
    note = f"ours: median {1e3 * statistics.median(ours):.2f} ms, least {1e3 * min(ours):.2f} ms"
    best = 1 + min(ours) / min(inner)
    median = statistics.median(inner)
    yield Row(f"{name}, within the call", median + statistics.median(ours), "s", median, target, best, note)


def run(quick: bool) -> Iterator[Row]:
    """Yield RemoteCLIP ViT-B/32 at 224 pixels and Galileo base at 64 pixels."""
    repetitions = 10 if quick else 40
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        file = random_checkpoint(Path(folder), "remoteclip", "ViT-B-32", prefix="visual.")
        rgb = UserData(rng.uniform(0, 3000, (3, 224, 224)).astype(np.float32), _S2, bands=("B4", "B3", "B2"))
        yield from compare(
            f"remoteclip ViT-B-32 3x224x224 ({torch.get_num_threads()} threads)",
            lambda: get_embedding_from_data("remoteclip", rgb, checkpoint=file, device="cpu"),
            repetitions,
            TARGET,
        )
        file = random_checkpoint(Path(folder), "galileo", "base")
        pixels = rng.uniform(0, 4000, (10, 64, 64)).astype(np.float32)
        data = UserData(pixels, _S2, bands=_GALILEO, temporal=TemporalSpec.range("2022-06-01", "2022-07-01"))
        yield from compare(
            "galileo base 10x64x64, patch 8",
            lambda: get_embedding_from_data("galileo", data, variant="base", checkpoint=file, device="cpu"),
            repetitions,
            TARGET,
        )
