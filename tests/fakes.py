"""A model and a provider that are ours to the last number: first-class implementations of the seams, not patches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from rs_embed.core.encoding import Batch, Encoder, Features
from rs_embed.core.imagery import ImageRequest, ImageStack
from rs_embed.core.model_spec import Build, Frames, InputSpec, ModelSpec, Option, Source, Variant, Window

Loading = Callable[[ImageRequest, GeoBox], None]


def painted(geobox: GeoBox, channels: int) -> NDArray[np.float32]:
    """``(C, H, W)``: a smooth function of the coordinates of pixel centres, on any lattice."""
    a, (height, width) = geobox.affine, geobox.shape
    x = a.c + a.a * (np.arange(width) + 0.5)
    y = a.f + a.e * (np.arange(height) + 0.5)
    waves = [np.sin(x / (310 + 70 * c))[None] * np.cos(y / (290 + 50 * c))[:, None] for c in range(channels)]
    return np.stack([2000 + 1000 * w for w in waves]).astype(np.float32)


class FakeProvider:
    """Answers every request with `painted`; ``loading`` runs before each answer, in the thread that loads."""

    name = "fake"
    source = "fake"

    def __init__(
        self, loading: Loading | None = None, valid: Callable[[ImageRequest, ImageStack], Any] | None = None
    ) -> None:
        self.loading, self.valid = loading, valid
        self.loaded: list[tuple[ImageRequest, GeoBox]] = []
        self.lock = threading.Lock()

    def offers(self, sensor: str) -> bool:
        return True

    def load(self, request: ImageRequest, parts: Sequence[GeoBox]) -> Iterator[ImageStack]:
        for part in parts:
            with self.lock:
                self.loaded.append((request, part))
            if self.loading is not None:
                self.loading(request, part)
            yield self.answer(request, part)

    def answer(self, request: ImageRequest, part: GeoBox) -> ImageStack:
        frames = max(1, len(request.intervals))
        pixels = np.stack([painted(part, len(request.bands)) + 10 * t for t in range(frames)])
        times = np.array([start.replace(tzinfo=None) for start, _ in request.intervals] or ["NaT"], "datetime64[s]")
        valid = np.ones((frames, *part.shape), bool)
        stack = ImageStack(pixels, valid, times, part, (), ((),) * frames, (valid.size, valid.size))
        if self.valid is not None:
            valid &= self.valid(request, stack)
        return stack


class Untouchable(FakeProvider):
    """Fails the test when anything is loaded from it."""

    name = "untouchable"

    def load(self, request: ImageRequest, parts: Sequence[GeoBox]) -> Iterator[ImageStack]:
        raise AssertionError(f"loaded {request}")


class PatchMeans:
    """Means of patches over pixels and frames; writes down the size of every batch."""

    net: Any = None

    def __init__(self, patch: int) -> None:
        self.patch = patch
        self.batches: list[int] = []

    def __call__(self, batch: Batch) -> Features:
        self.batches.append(len(batch))
        (images,) = batch.inputs.values()
        N, _, C, H, W = images.pixels.shape
        p = self.patch
        grid = images.pixels.mean(1).reshape(N, C, H // p, p, W // p, p).mean((3, 5))
        weight = images.valid.any(1).reshape(N, H // p, p, W // p, p).any((2, 4)).astype(np.float32)
        return Features(grid=grid, weight=weight, pooled=images.pixels.mean((1, 3, 4)))

    def head(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return vectors


def fake_model(
    window: Window,
    *,
    frames: Frames | None = None,
    pooled: str = "cells",
    locality: str = "window",
    bands: tuple[str, ...] = ("B4", "B3", "B2"),
    gsd: float = 10.0,
    encoder: Callable[[Build], Encoder] | None = None,
    options: Mapping[str, Option] | None = None,
    **more: Any,
) -> ModelSpec:
    """A model of one Sentinel-2 input whose encoder is `PatchMeans`."""
    return ModelSpec(
        name="fake",
        title="patch means",
        inputs={"s2": InputSpec((Source("sentinel-2-l2a"),), bands, gsd=gsd, frames=frames or Frames())},
        variants={"default": Variant(window, {"pooled": len(bands), "grid": len(bands)})},
        encoder=encoder or (lambda build: PatchMeans(build.variant.window.patch)),
        pooled=pooled,  # type: ignore[arg-type]
        pooled_says="a mean",
        citation="@misc{fake}",
        licence={"code": "none", "weights": "none"},
        source="tests",
        locality=locality,  # type: ignore[arg-type]
        options=options or {},
        **more,
    )
