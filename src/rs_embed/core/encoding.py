"""What an encoder gets and returns. Arrays are numpy's, or torch's where the encoder has a ``net``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Batch", "Encoder", "Features", "InputBatch"]

Array = Any
"""A numpy array, or a torch tensor on the encoder's device."""


@dataclass(frozen=True)
class InputBatch:
    """One input of N samples of the same signature."""

    pixels: Array
    """``(N, T, C, H, W)``, after the model's own preprocessing."""
    valid: Array
    """``(N, T, H, W)`` bool."""
    times: NDArray[np.datetime64]
    """``(N, T)`` datetime64[s]; NaT without a date."""
    bands: tuple[str, ...]
    """Canonical names of the C bands."""
    missing_bands: tuple[str, ...]
    """Those of `bands` that the imagery did not have."""
    wavelengths: NDArray[np.float64]
    """``(C,)`` centre wavelengths in µm, as the authors told the net; NaN for radar without such a number."""
    bandwidths: NDArray[np.float64]
    """``(C,)`` in µm; NaN for radar."""
    gsd: NDArray[np.float64]
    """``(N,)`` effective ground sample distance of a pixel, metres."""


@dataclass(frozen=True)
class Batch:
    """N samples (windows) that share shapes, missing bands and the presence of time and place."""

    inputs: Mapping[str, InputBatch]
    coverage: NDArray[np.float32]
    """``(N, h, w)``: area fraction of each cell inside its region."""
    lonlat: NDArray[np.float64]
    """``(N, 2)`` degrees of the windows' centres (of a model that is not told the place: the region's); NaN without."""
    pixel_lonlat: NDArray[np.float64] | None = None
    """``(N, H, W, 2)`` degrees of pixel centres, for models with the condition ``pixel_place``."""

    def __len__(self) -> int:
        return len(self.lonlat)


@dataclass(frozen=True)
class Features:
    """What an encoder makes of a batch."""

    grid: Array | None = None
    """``(N, D, h, w)``, north up, in true order."""
    weight: Array | None = None
    """``(N, h, w)``: how much of a cell was seen; ``None``: all alike."""
    pooled: Array | None = None
    """``(N, D)``: the net's own vector of the window."""


@runtime_checkable
class Encoder(Protocol):
    """From a batch to features.

    An encoder that holds a ``torch.nn.Module`` exposes it as ``net``: its weights are loaded strictly from the
    variant's checkpoint and it gets torch tensors; ``net`` is None for encoders of numpy.
    """

    net: Any

    def __call__(self, batch: Batch) -> Features:
        """Encode; undo the net's own token order and drop its prefix tokens."""
        ...

    def head(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Finish pooled vectors ``(..., D)``: the identity for most models."""
        ...
