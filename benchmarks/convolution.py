"""The responses of rcf beside a plain numpy convolution: unfold the image, one product of matrices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from benchmarks.rows import Row, side_by_side
from rs_embed import OutputSpec, UserData, get_embedding_from_data
from rs_embed.models._filters import responses

__all__ = ["run"]

BANDS, FILTERS, KERNEL = 10, 256, 3
_NAMES = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")

Singles = NDArray[np.float32]


def unfolded(image: Singles) -> Singles:
    """Return the values that each pixel sees, ``(C k k, pixels)``."""
    windows = sliding_window_view(image, (KERNEL, KERNEL), axis=(1, 2)).transpose(0, 3, 4, 1, 2)
    return np.ascontiguousarray(windows).reshape(image.shape[0] * KERNEL**2, -1)


def run(quick: bool) -> Iterator[Row]:
    """Yield rcf's own function beside the plain ways, then the whole road beside the function."""
    repetitions, side = (3, 258) if quick else (9, 514)
    rng = np.random.default_rng(0)
    image = rng.random((BANDS, side, side), np.float32)
    filters = rng.standard_normal((FILTERS, BANDS, KERNEL, KERNEL)).astype(np.float32)
    matrix = filters.reshape(FILTERS, -1)
    columns = unfolded(image)
    out = np.empty((2 * FILTERS, side - 2, side - 2), np.float32)

    def ours() -> Singles:
        return responses(image, filters, out=out)

    def plain() -> Singles:
        return matrix @ unfolded(image)

    def plain_features() -> Singles:
        y = matrix @ unfolded(image)
        return np.concatenate([np.maximum(y, 0), np.maximum(-y, 0)])

    assert np.allclose(ours().reshape(2 * FILTERS, -1), plain_features(), atol=1e-3)
    what = f"{BANDS} x {side} x {side}, {FILTERS} filters of {KERNEL} x {KERNEL}"
    for name, reference in (
        ("plain convolution with both signs", plain_features),
        ("plain convolution alone", plain),
        ("bare GEMM", lambda: matrix @ columns),
    ):
        pair = side_by_side(ours, reference, repetitions)
        fraction = min(pair.reference) / min(pair.measured)
        yield pair.row(f"rcf responses ÷ {name}", note=f"{what}; runs at {fraction:.0%} of its speed")
    data = UserData((image * 3000)[:, :256, :256], "COPERNICUS/S2_SR_HARMONIZED", bands=_NAMES)
    padded = np.pad(image[:, :256, :256], ((0, 0), (1, 1), (1, 1)))
    for name, output in (("pooled", OutputSpec.pooled()), ("grid", OutputSpec.grid())):
        pair = side_by_side(
            lambda output=output: get_embedding_from_data("rcf", data, output=output),  # type: ignore[misc]
            lambda: responses(padded, filters),
            repetitions,
        )
        yield pair.row(f"rcf {name} of an array ÷ its responses", note="256 x 256 px, the whole road")
